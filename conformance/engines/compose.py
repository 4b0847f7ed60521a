"""Docker Compose: services of a project."""

import os
import re

from docker_engine import Docker, Dockerd
from engine import SLEEP, operation

SERVICES = f"""services:
  web:
    image: busybox
    command: ["httpd", "-f", "-p", "80", "-h", "/srv/data"]
    healthcheck: {{test: ["CMD", "test", "-e", "/tmp/well"], interval: 200ms, timeout: 10s, retries: 100}}
    volumes: ["kept:/kept", "./folder:/folder:ro"]
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 60
  worker:
    image: busybox
    command: ["sh", "-c", "{SLEEP.replace('$', '$$')}"]
    depends_on: {{web: {{condition: service_started}}}}
    environment: {{A: of the file}}
    user: "1000:2000"
    cap_drop: [ALL]
    read_only: true
    tmpfs: [/tmp]
    security_opt: ["no-new-privileges"]
    sysctls: {{net.ipv4.ip_unprivileged_port_start: "80"}}
    ulimits: {{nofile: {{soft: 64, hard: 128}}}}
    secrets: [one]
    stop_grace_period: 10s
  beside:
    image: busybox
    command: ["sh", "-c", "{SLEEP.replace('$', '$$')}"]
    network_mode: "service:worker"
    pid: "service:worker"
    ipc: "service:worker"
    depends_on: [worker]
volumes: {{kept: }}
secrets: {{one: {{file: ./secret}}}}
"""


class Compose(Docker):
    def __init__(self, engine, literal, scratch):
        super().__init__(engine, literal, scratch)
        self.write("compose.yaml", SERVICES.replace("worker:\n    image", "worker:\n    ipc: shareable\n    image"))
        self.write("secret", "hidden\n")
        self.folder("folder")
        self.write("folder/file", "host\n")

    def compose(self, *words, **kw):
        # Progress goes to standard error, in an order of its own.
        return self.do(self.engine.tool, "-p", "project", "-f", self.path("compose.yaml"), *words, norm_err=lambda v: "", timeout=120, **kw)

    def up(self, *words):
        self.compose("up", "-d", "--quiet-pull", *words)

    def close(self):
        self.compose("down", "-v", "-t", "0", record=False)
        super().close()


class Direct(Dockerd):
    operations, package = Compose, "docker-compose"
    program = "usr/libexec/docker/cli-plugins/docker-compose"


ENGINE = Direct


@operation
def up(c):
    """up, ps, logs, down"""
    c.up()
    c.compose("ps", "-a", "--format", "{{.Service}} {{.State}}", has=["web running", "worker running", "beside running"])
    c.compose("exec", "-T", "worker", "wget", "-q", "-O", "-", "http://web/file", has="from the image")
    c.compose("logs", "--no-log-prefix", "web")
    c.compose("down", "-v", "-t", "10")
    c.docker("ps", "-aq", has="^$")


@operation
def settings(c):
    """limits, users, capabilities, volumes, secrets, sysctls as the file says"""
    c.up("web", "worker")
    c.compose("exec", "-T", "web", "sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max; cat /folder/file; "
              "echo x >/kept/x; echo x >/folder/x", code=1, has="^67108864\n50000\n60\nhost$")
    c.compose("exec", "-T", "worker", "sh", "-c", "id; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ulimit -n; cat /run/secrets/one; echo $A; touch /x; "
              "touch /tmp/x; cat /proc/sys/net/ipv4/ip_unprivileged_port_start", has=["uid=1000", "^64$", "^hidden$", "^of the file$", "^80$"])


@operation
def exec_(c):
    """exec and run: codes, terminal"""
    c.up("worker")
    c.compose("exec", "-T", "worker", "sh", "-c", "exit 9", code=9)
    c.compose("exec", "-T", "-u", "0", "-e", "B=c", "-w", "/srv", "worker", "sh", "-c", "id -u; echo $B; pwd", has="^0\nc\n/srv$")
    c.compose("exec", "-T", "worker", "no-such-program", code=(126, 127))
    c.compose("run", "--rm", "-T", "worker", "sh", "-c", "echo run; exit 5", code=5, has="^run$")
    c.terminal(c.engine.tool, "-p", "project", "-f", c.path("compose.yaml"), "exec", "worker", "sh", "-c", "tty; exit 4", code=4, has="/dev/pts/0")


exec_.__name__ = "exec"


@operation
def life(c):
    """stop, start, restart, pause, kill, scale, top, events of health"""
    c.up("web", "worker")
    c.compose("exec", "-T", "web", "touch", "/tmp/well")
    c.until("healthy", c.engine.tool, "-p", "project", "-f", c.path("compose.yaml"), "ps", "--format", "{{.Service}} {{.Health}}", "web")
    for words in (["stop", "worker"], ["start", "worker"], ["restart", "-t", "10", "worker"], ["pause", "worker"], ["unpause", "worker"], ["kill", "worker"]):
        c.compose(*words)
        c.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "project-worker-1")
    c.up("--scale", "worker=3", "worker")
    c.compose("ps", "--format", "{{.Name}} {{.State}}", "worker", norm=lambda v: "\n".join(sorted(v.splitlines())), has="project-worker-3 running")


@operation
def shared(c):
    """services that share network, pid and ipc namespaces"""
    c.up("worker", "beside")
    for name in ("net", "ipc", "pid", "uts", "mnt"):
        pids = [c.inspect(f"project-{s}-1", "{{.State.Pid}}", record=False).out.strip() for s in ("worker", "beside")]
        found = [os.readlink(f"/proc/{pid}/ns/{name}") for pid in pids]
        c.note(name, found[0] == found[1], name in ("net", "ipc", "pid"))
    c.compose("exec", "-T", "beside", "sh", "-c", "ps -o args | grep -c '[t]rap'", has="^2$")


@operation
def recreate(c):
    """up again: unchanged services stay, changed ones are made anew"""
    c.up("web", "worker")
    before = [c.inspect(f"project-{s}-1", "{{.Id}}", record=False).out for s in ("web", "worker")]
    text = open(c.path("compose.yaml"), encoding="utf-8").read()
    c.write("compose.yaml", re.sub("of the file", "changed", text))
    c.up("web", "worker")
    after = [c.inspect(f"project-{s}-1", "{{.Id}}", record=False).out for s in ("web", "worker")]
    c.note("stay", [a == b for a, b in zip(before, after)], [True, False])
    c.compose("exec", "-T", "worker", "sh", "-c", "echo $A", has="^changed$")
