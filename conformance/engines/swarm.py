"""Docker Swarm: a manager of its own that runs services."""

import os
import re
import signal
import subprocess
import time

import dockerd
from docker_engine import Docker, Dockerd
from engine import SLEEP, operation


class Swarm(Docker):
    def service(self, name, *words, options=()):
        # The names of its tasks' containers are random.
        self.docker("service", "create", "--name", name, "--no-resolve-image", "-d", "--stop-grace-period", "10s", *options, "busybox", *words,
                    norm=lambda v: "")

    def tasks(self, name, state="Running", count=1):
        """Waits until so many tasks of the service are in the state; -> ids of the containers that run."""
        end = time.monotonic() + 60
        while True:
            said = self.docker("service", "ps", name, "--format", "{{.CurrentState}}", record=False, code=None).out
            found = len(re.findall(rf"(?m)^{state}\b", said))
            if found >= count or time.monotonic() > end:
                break
            time.sleep(0.2)
        self.note(f"tasks of {name} that are {state}", found >= count, True)
        return self.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={name}", record=False).out.split()

    def close(self):
        names = self.docker("service", "ls", "-q", record=False).out.split()
        if names:
            self.docker("service", "rm", *names, record=False)
        self.until("^$", self.engine.client, "ps", "-q", "--filter", "label=com.docker.swarm.service.name", record=False, timeout=40)
        super().close()


class Direct(Dockerd):
    operations = Swarm

    def start(self):
        super().start()
        self.client = dockerd.client()
        subprocess.run([self.client, "swarm", "init", "--advertise-addr", "127.0.0.1"], check=True, capture_output=True, timeout=60,
                       env={**os.environ, **self.env})


ENGINE = Direct
FOREVER = ("sh", "-c", SLEEP)


@operation
def create(c):
    """service create, ps, logs, inspect of a task, rm"""
    c.service("one", "sh", "-c", "echo said by $(hostname); " + SLEEP, options=["--hostname", "task-{{.Task.Slot}}", "--env", "A=b", "--replicas", "2"])
    ids = c.tasks("one", count=2)
    c.until("said by task-1", c.engine.client, "service", "logs", "--raw", "one", record=False)
    c.until("said by task-2", c.engine.client, "service", "logs", "--raw", "one", record=False)
    for container in ids:
        c.docker("exec", container, "sh", "-c", "echo $A; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status", has="^b$")
    c.docker("service", "rm", "one")


@operation
def settings(c):
    """limits, user, capabilities, mounts, secrets, configs, read-only, sysctls"""
    c.do("sh", "-c", f"echo hidden | {c.engine.client} secret create s -; echo public | {c.engine.client} config create f -", norm=lambda v: "")
    c.service("one", *FOREVER, options=[
        "--limit-memory", "64m", "--limit-cpu", "0.5", "--limit-pids", "60", "--reserve-memory", "32m", "--user", "1000", "--cap-drop", "CHOWN",
        "--cap-add", "NET_ADMIN", "--mount", "type=tmpfs,target=/t", "--mount", "type=volume,source=kept,target=/kept", "--secret", "s", "--config",
        "source=f,target=/f", "--read-only", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--ulimit", "nofile=64:128", "--init"])
    for container in c.tasks("one"):
        c.docker("exec", container, "sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max; id -u; cat "
                 "/run/secrets/s /f /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -n; grep ^Cap /proc/self/status; touch /x; touch /t/x",
                 has="^67108864\n50000\n60\n1000\nhidden\npublic\n80\n64$")
    c.docker("service", "rm", "one")
    c.docker("secret", "rm", "s", code=None, record=False)


@operation
def scale(c):
    """scale, update of the environment, rollback"""
    c.service("one", *FOREVER)
    c.tasks("one")
    c.docker("service", "scale", "-d", "one=3", norm=lambda v: "")
    c.tasks("one", count=3)
    c.docker("service", "update", "-d", "--env-add", "B=new", "--replicas", "1", "--update-delay", "0s", "one", norm=lambda v: "")
    c.tasks("one", "Shutdown", 1)
    c.until("B=new", c.engine.client, "ps", "-a", "--filter", "label=com.docker.swarm.service.name=one", "--format", "B=new", record=False)
    c.docker("service", "rollback", "-d", "one", norm=lambda v: "")
    c.tasks("one")


@operation
def restarts(c):
    """a task that is killed, that ends with an error, or whose health check fails, is started anew"""
    c.service("killed", *FOREVER, options=["--restart-delay", "0s"])
    (container,) = c.tasks("killed")
    c.docker("kill", container, record=False)
    c.tasks("killed", "Failed")
    c.tasks("killed")
    c.service("ends", "sh", "-c", "exit 3", options=["--restart-condition", "on-failure", "--restart-max-attempts", "2", "--restart-delay", "0s"])
    c.tasks("ends", "Failed", 3)
    c.service("ill", *FOREVER, options=["--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "1", "--restart-delay", "0s"])
    c.tasks("ill", "(Failed|Complete|Shutdown)")


@operation
def jobs(c):
    """a job, a global service, an error: no such program"""
    c.service("job", "sh", "-c", "echo done", options=["--mode", "replicated-job", "--replicas", "2"])
    c.tasks("job", "Complete", 2)
    c.service("everywhere", *FOREVER, options=["--mode", "global"])
    c.tasks("everywhere")
    c.service("bad", "no-such-program", options=["--restart-condition", "none"])
    c.tasks("bad", "(Failed|Rejected)")
    c.docker("service", "ps", "--no-trunc", "bad", "--format", "{{.Error}}", has="executable file not found in \\$PATH", norm=lambda v: "")


@operation
def stack(c):
    """stack deploy from a Compose file, stack rm"""
    c.write("stack.yaml", "version: '3.8'\nservices:\n  web:\n    image: busybox\n    command: [httpd, -f, -p, '80', -h, /srv/data]\n    deploy: {replicas: 1, "
            "endpoint_mode: dnsrr}\n    networks: [hostnet]\nnetworks: {hostnet: {external: true, name: host}}\n")
    c.docker("stack", "deploy", "--resolve-image", "never", "-c", c.path("stack.yaml"), "s", norm=lambda v: "", norm_err=lambda v: "")
    c.tasks("s_web")
    c.until("from the image", "sh", "-c", "wget -q -O - http://127.0.0.1/file 2>/dev/null || busybox wget -q -O - http://127.0.0.1/file", record=False)
    c.docker("stack", "rm", "s", norm=lambda v: "", norm_err=lambda v: "")


@operation
def overlay(c):
    """an overlay network: services find each other by name"""
    c.docker("network", "create", "-d", "overlay", "--attachable", "over", norm=lambda v: "")
    for name in ("web", "asks"):
        c.service(name, *(["httpd", "-f", "-p", "80", "-h", "/srv/data"] if name == "web" else FOREVER),
                  options=["--network", "over", "--endpoint-mode", "dnsrr"])
    c.tasks("web")
    (container,) = c.tasks("asks")
    c.until("from the image", c.engine.client, "exec", container, "wget", "-q", "-O", "-", "http://web/file", record=False)
    c.docker("service", "rm", "web", "asks")
    c.until("^0$", "sh", "-c", f"{c.engine.client} ps -q | wc -l", record=False, timeout=40)
    c.until("over", c.engine.client, "network", "rm", "over", record=False)


@operation
def restart(c):
    """dockerd is killed and started again: the services come back"""
    c.service("one", *FOREVER, options=["--restart-delay", "0s"])
    c.tasks("one")
    c.engine.daemon.process.send_signal(signal.SIGKILL)
    c.engine.daemon.process.wait(20)
    c.engine.daemon.launch()
    c.until("one", c.engine.client, "service", "ls", "--format", "{{.Name}}", record=False, timeout=60)
    c.until("^[0-9a-f]", c.engine.client, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=one", record=False, timeout=60)
