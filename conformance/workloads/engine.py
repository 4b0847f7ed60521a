"""Services that talk to the engine itself: a registry, two web pages over docker.sock, a Compose file."""

import json
import os

from world import FILES, Failed, Workload, contains, equal, get

SOCKET = "/var/run/docker.sock"


class Registry(Workload):
    title, package, containers = "docker registry", "services:docker-registry", {"registry": 2}
    place = "127.0.0.1:15000"

    def create(self):
        self.w.d("run", "-d", "--name", "registry", "-p", f"{self.place}:5000", "-v", "registry:/srv/registry", "--read-only", "--cap-drop", "ALL",
                 "-v", f"{FILES}/registry.yml:/etc/registry.yml:ro", "services", "docker-registry", "serve", "/etc/registry.yml")

    def answers(self):
        return get(f"http://{self.place}/v2/") == "{}"

    def image(self, token):
        return f"{self.place}/lib/kept:{token}"

    def write(self, token):
        """An image with a layer of its own is pushed, and gone from the engine afterwards."""
        self.w.d("run", "--name", "layer", "--network", "none", "busybox", "sh", "-c", f"echo {token} >/token")
        self.w.d("commit", "layer", self.image(token))
        self.w.d("rm", "layer")
        self.w.d("push", self.image(token))
        self.w.d("rmi", self.image(token))

    def read(self):
        if not self.kept:
            return []
        newest = self.image(self.kept[-1])
        self.w.d("pull", newest)
        equal(self.w.out("run", "--rm", "--network", "none", newest, "cat", "/token"), self.kept[-1], "what is in the pulled image")
        self.w.d("rmi", newest)
        tags = json.loads(get(f"http://{self.place}/v2/lib/kept/tags/list"))["tags"]
        return sorted(tags, key=lambda t: self.kept.index(t) if t in self.kept else -1)

    def speak(self, token):
        try:
            get(f"http://{self.place}/v2/{token}/tags/list")
        except Failed:
            pass  # there is no such image
        return "registry", token


class Panel(Workload):
    title, package, containers = "web page that starts containers over docker.sock", "services:python3-docker", {"panel": 143}
    url = "http://127.0.0.1:18085/"

    def create(self):
        self.w.d("run", "-d", "--init", "--name", "panel", "-u", "www-data", "--group-add", str(self.w.daemon.GROUP), "-p", "127.0.0.1:18085:8000",
                 "-v", f"{self.w.daemon.socket}:{SOCKET}", "-v", f"{FILES}/panel.py:/panel.py:ro", "services", "python3", "-u", "/panel.py")

    def answers(self):
        return "<td>panel</td><td>running</td>" in get(self.url)

    def more(self):
        contains(get(self.url), "<td>panel-first</td><td>exited</td>", "page after a container was started from it")

    def write(self, token):
        equal(get(self.url + "run", token.encode(), timeout=60), token + "\n", "output of the container that the page started")

    def read(self):
        return get(self.url + "kept", timeout=60).split()

    def speak(self, token):
        get(f"{self.url}?{token}")
        return "panel", f"GET /.{token} HTTP"

    def remove(self):
        self.w.d("rm", "-f", *[f"panel-{token}" for token in self.kept])
        super().remove()


class Netdata(Workload):
    neighbour = ""
    title, package, containers = "Netdata, which gets the names from docker.sock", "services:netdata-core", {"netdata": 0}
    url = "http://127.0.0.1:18087/"

    def create(self):
        # Left to itself it takes version 2 on a host that has both, where the controllers are with version 1.
        unified = "no" if os.path.isdir("/sys/fs/cgroup/cpuacct") else "yes"
        self.w.d("run", "-d", "--name", "netdata", "-p", "127.0.0.1:18087:19999", "--pid", "host", "--cap-add", "SYS_PTRACE",
                 "--security-opt", "apparmor=unconfined", "-v", "/proc:/host/proc:ro", "-v", "/sys:/host/sys:ro",
                 "-v", f"{self.w.daemon.socket}:{SOCKET}:ro", "-v", f"{FILES}/netdata.conf:/etc/netdata/netdata.conf:ro", "services",
                 "netdata", "-D", "-s", "/host", "-W", "set", "plugin:cgroups", "use unified cgroups", unified)

    def answers(self):
        contains(get(self.url), "<title>netdata", "dashboard")
        charts = json.loads(get(self.url + "api/v1/charts"))["charts"]
        mine = [name for name in charts if name.startswith("cgroup_netdata.")]
        return mine and json.loads(get(f"{self.url}api/v1/data?chart={mine[0]}&after=-5&points=1"))["data"]

    def write(self, token):
        """It keeps nothing."""

    def read(self):
        return list(self.kept)

    def speak(self, token):
        """It asks the engine for the name of a container that it had not seen yet."""
        self.w.d("run", "-d", "--name", token, "--network", "none", "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
        self.neighbour = token
        return "netdata", f"is named '{token}'"

    def remove(self):
        self.w.d("rm", "-f", self.neighbour)
        super().remove()


class Compose(Workload):
    title, package = "Compose file: web, app, database", "services:docker-compose"
    containers = {"shop_db_1": 0, "shop_app_1": 143, "shop_web_1": 0}
    url = "http://127.0.0.1:18086/"

    def compose(self, *words):
        """docker-compose is itself in a container, which has the engine's socket."""
        return self.w.out("run", "--rm", "--network", "none", "-v", f"{self.w.daemon.socket}:{SOCKET}", "-v", f"{FILES}:{FILES}:ro", "-w", FILES,
                          "services", "docker-compose", "-p", "shop", *words)

    def create(self):
        self.compose("up", "-d")

    def answers(self):
        return get(self.url).startswith("rows:")

    def more(self):
        seen = self.compose("ps", "--services", "--filter", "status=running").split()
        equal(sorted(seen), ["app", "db", "web"], "services that run")
        equal(self.w.out("exec", "shop_web_1", "sh", "-c", "getent hosts db | wc -l"), "1", "addresses of the service db by name")

    def write(self, token):
        get(self.url, token.encode())

    def read(self):
        return get(self.url).split()[1:]

    def speak(self, token):
        get(f"{self.url}?{token}")
        return "shop_web_1", f"GET /.{token} HTTP"

    def start_all(self):
        self.compose("start")

    def stop_all(self):
        self.compose("stop", "-t", "60")

    def kill_all(self):
        self.compose("kill")

    def remove(self):
        self.compose("down", "-v")


ALL = [Registry, Panel, Netdata, Compose]
