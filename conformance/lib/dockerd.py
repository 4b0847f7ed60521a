"""One dockerd of its own, started by hand; meant to run inside of a sandbox (sandbox.py).

The runtime is given to it BY PATH ALONE, as the default runtime. BuildKit does not look at that setting: it takes
the first `runc` of PATH, so the daemon also gets a folder with a link of that name in front of its PATH.

`live`: as Debian's docker.socket and `live-restore` make it: the socket outlives the daemon, which gets it as a descriptor,
and so do the containers. `restart` is for that.

By hand:  dockerd.py RUNTIME [COMMAND...]    runs COMMAND (default: a shell) with DOCKER_HOST set and the images
                                             `busybox` and `debian` loaded, and takes everything away afterwards.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import images  # noqa: E402
import sandbox  # noqa: E402

# systemd's way to hand a socket over: descriptor 3, and the number of the process that it is meant for.
ACTIVATE = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
            "os.execvp(sys.argv[2], sys.argv[2:])")
BRIDGE = "10.231.1.1/24"
REMAP = (100000, 65536)


def client():
    """The docker client. Debian's own comes first: it has the version of its daemon."""
    for path in (os.environ.get("DOCKER_CLI"), "/usr/bin/docker", shutil.which("docker")):
        if path and os.access(path, os.X_OK):
            return path
    sys.exit("no docker client found")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    GROUP = 2375  # may use the socket of a `live` daemon, as Debian's group docker may

    def __init__(self, folder, runtime, cgroup_parent, remap=False, live=False):
        self.folder, self.runtime, self.cgroup_parent, self.remap, self.live = folder, runtime, cgroup_parent, remap, live
        self.socket = os.path.join(folder, "docker.sock")
        self.host = "unix://" + self.socket
        self.exec_root = os.path.join(folder, "exec")
        self.log = os.path.join(folder, "dockerd.log")
        self.process = self.listener = None
        self.left = set()  # what cases left behind

    def config(self):
        config = {
            "data-root": os.path.join(self.folder, "data"),
            "exec-root": self.exec_root,
            "pidfile": os.path.join(self.folder, "docker.pid"),
            "hosts": [self.host],
            "runtimes": {"tested": {"path": self.runtime}},
            "default-runtime": "tested",
            "storage-driver": "overlay2",
            "bip": BRIDGE,
            "cgroup-parent": "/" + self.cgroup_parent,
            "shutdown-timeout": 3,
        }
        if self.remap:
            config["userns-remap"] = "nobody:nogroup"
        if self.live:
            config.update({"hosts": ["fd://"], "live-restore": True})
        return config

    def start(self, deadline=60.0):
        os.makedirs(self.exec_root, mode=0o755)
        # State on tmpfs, as /run is on most machines.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.exec_root], check=True, timeout=10)
        if self.remap:
            for name in ("/etc/subuid", "/etc/subgid"):
                mine = os.path.join(self.folder, os.path.basename(name))
                with open(mine, "w", encoding="utf-8") as f:
                    f.write(f"nobody:{REMAP[0]}:{REMAP[1]}\nnogroup:{REMAP[0]}:{REMAP[1]}\n")
                open(name, "a", encoding="utf-8").close()
                subprocess.run(["mount", "--bind", mine, name], check=True, timeout=10)
        with open(os.path.join(self.folder, "daemon.json"), "w", encoding="utf-8") as f:
            json.dump(self.config(), f, indent=2)
        shims = os.path.join(self.folder, "path")
        os.makedirs(shims)
        os.symlink(self.runtime, os.path.join(shims, "runc"))
        if self.live:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(self.socket)
            os.chown(self.socket, 0, self.GROUP)
            os.chmod(self.socket, 0o660)
            self.listener.listen(128)
        return self._launch(deadline)

    def _launch(self, deadline):
        env = {**os.environ, "PATH": os.path.join(self.folder, "path") + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
        env.pop("DOCKER_HOST", None)
        command = ["dockerd", "--config-file", os.path.join(self.folder, "daemon.json")]
        passed = [self.listener.fileno()] if self.live else []
        if self.live:
            command = [sys.executable, "-c", ACTIVATE, str(passed[0]), *command]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, pass_fds=passed,
                                            start_new_session=True)
        end = time.monotonic() + deadline
        while True:
            try:
                if self.request("GET", "/_ping", timeout=2)[0] == 200:
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                tail = self.log_tail()
                self.stop()
                raise RuntimeError(f"dockerd did not become ready:\n{tail}")
            time.sleep(0.1)

    def log_tail(self, lines=15):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def request(self, method, path, body=None, timeout=60):
        connection = UnixConnection(self.socket, timeout)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            data = reply.read()
            return reply.status, data
        finally:
            connection.close()

    def load(self, tar, name, changes=()):
        """Imports a root file system as image `name`."""
        query = "".join(f"&changes={quote(c)}" for c in changes)
        connection = UnixConnection(self.socket, 300)
        try:
            with open(tar, "rb") as f:
                connection.request("POST", f"/v1.40/images/create?fromSrc=-&repo={quote(name)}&tag=latest{query}", f,
                                   {"Content-Type": "application/x-tar", "Content-Length": str(os.stat(tar).st_size)})
                reply = connection.getresponse()
                data = reply.read()
        finally:
            connection.close()
        if reply.status != 200 or b'"error"' in data:
            raise RuntimeError(f"import of {name}: {reply.status} {data.decode(errors='replace')}")

    def remove_containers(self):
        status, data = self.request("GET", "/v1.40/containers/json?all=1")
        if status != 200:
            raise RuntimeError(f"list of containers: {status} {data!r}")
        trouble = []
        for entry in json.loads(data):
            code, reply = self.request("DELETE", f"/v1.40/containers/{entry['Id']}?force=1&v=1")
            if code not in (204, 404, 409):
                trouble.append(reply.decode(errors="replace").strip())
        return trouble

    def restart(self, number, deadline=120.0):
        """Ends the daemon with signal `number`, waits until its containerd is gone too, and starts both anew."""
        contained = self._containerd()
        self.process.send_signal(number)
        self.process.wait(60)
        end = time.monotonic() + 60
        while contained is not None and os.path.exists(f"/proc/{contained}/exe"):
            if time.monotonic() > end:
                raise RuntimeError(f"containerd {contained} outlives its dockerd")
            time.sleep(0.05)
        return self._launch(deadline)

    def _containerd(self):
        """The number of the daemon's containerd, if that runs."""
        try:
            with open(os.path.join(self.exec_root, "containerd/containerd.pid"), encoding="utf-8") as f:
                pid = int(f.read())
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                return pid if self.exec_root.encode() in f.read() else None
        except (OSError, ValueError):
            return None

    def stop(self):
        if self.process is None:
            return
        contained = self._containerd()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if contained is not None and self._containerd() == contained:
            os.kill(contained, signal.SIGKILL)
        self.process = None
        if self.listener is not None:
            self.listener.close()
        subprocess.run(["umount", "-l", self.exec_root], check=False, timeout=10)


def _by_hand():
    runtime = os.path.abspath(sys.argv[1])
    command = sys.argv[2:] or [os.environ.get("SHELL", "/bin/sh")]
    folder = os.environ["RUNDLET_SCRATCH"]
    daemon = Daemon(os.path.join(folder, "d"), runtime, os.environ["RUNDLET_CGROUP"])
    os.makedirs(daemon.folder)
    daemon.start()
    try:
        tar = os.path.join(folder, "busybox.tar")
        images.busybox_tar(tar)
        daemon.load(tar, "busybox")
        if os.environ.get("RUNDLET_DEBIAN_TAR"):
            daemon.load(os.environ["RUNDLET_DEBIAN_TAR"], "debian")
        terminal = int(os.environ["RUNDLET_TERMINAL"])
        return subprocess.run(command, env={**os.environ, "DOCKER_HOST": daemon.host}, stdin=terminal,
                              check=False).returncode
    finally:
        daemon.remove_containers()
        daemon.stop()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if os.environ.get("RUNDLET_SCRATCH"):
        sys.exit(_by_hand())
    # The shell's terminal passes the sandbox by a number: its standard input is closed there.
    terminal = os.dup(0)
    os.set_inheritable(terminal, True)
    os.environ["RUNDLET_TERMINAL"] = str(terminal)
    os.environ["RUNDLET_DEBIAN_TAR"] = images.debian_tar() if not os.environ.get("NO_DEBIAN") else ""
    world = sandbox.Sandbox([sys.executable, os.path.abspath(__file__), *sys.argv[1:]], "hand", 86400, keep=[terminal])
    try:
        code = world.wait()
    except KeyboardInterrupt:
        code = 130
    finally:
        world.stop()
    sys.exit(code)


if __name__ == "__main__":
    main()
