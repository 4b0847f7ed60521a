"""Docker with live-restore: its containers outlive the daemon. The other commands of docker are in conformance/docker."""

import os
import signal
import time

import dockerd
from docker_engine import Dockerd
from engine import SLEEP, operation


class Direct(Dockerd):
    live_restore = True


ENGINE = Direct
FOREVER = ["busybox", "sh", "-c", SLEEP]


def gone(c, number, containerd=False):
    """The daemon (and its containerd) end."""
    daemon = c.engine.daemon
    with open(os.path.join(daemon.exec_root, "containerd/containerd.pid"), encoding="utf-8") as f:
        pid = int(f.read())
    daemon.process.send_signal(number)
    daemon.process.wait(30)
    if containerd and os.path.exists(f"/proc/{pid}"):
        os.kill(pid, signal.SIGKILL)
    if number == signal.SIGTERM or containerd:
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < end:
            time.sleep(0.05)


def pid_of(c, name):
    return c.inspect(name, "{{.State.Pid}}", record=False).out.strip()


def outlives(c, number, containerd=False):
    c.docker("run", "-d", "--name", "stays", "--restart", "always", "-m", "64m", *FOREVER)
    c.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "until [ -e /end ]; do usleep 50000; done; exit 4")
    c.docker("run", "-d", "--name", "paused", "--network", "none", *FOREVER)
    c.docker("pause", "paused")
    before, ends = pid_of(c, "stays"), pid_of(c, "ends")
    gone(c, number, containerd)
    with open(f"/proc/{ends}/root/end", "w", encoding="utf-8"):
        pass
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{ends}/root/end") and time.monotonic() < end:
        time.sleep(0.05)
    c.engine.daemon.launch()
    c.note("the same process", pid_of(c, "stays") == before, True)
    c.until("exited", dockerd.client(), "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends")
    c.docker("exec", "stays", "sh", "-c", "echo alive; cat /sys/fs/cgroup/memory/memory.limit_in_bytes", has="^alive\n67108864$")
    c.docker("update", "--memory", "96m", "--memory-swap", "96m", "stays")
    c.docker("exec", "stays", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes", has="^100663296$")
    c.inspect("paused", "{{.State.Status}}", has="paused")
    c.docker("unpause", "paused")
    c.docker("exec", "paused", "echo", "thawed", has="thawed")
    c.docker("restart", "-t", "10", "stays")
    c.inspect("stays", "{{.State.Status}}", has="running")
    c.docker("stop", "-t", "10", "paused")
    c.inspect("paused", "{{.State.ExitCode}}", has="^0$")
    c.docker("rm", "-f", "stays", "ends", "paused")


@operation
def stopped(c):
    """dockerd is asked to end and started again"""
    outlives(c, signal.SIGTERM)


@operation
def killed(c):
    """dockerd is killed and started again"""
    outlives(c, signal.SIGKILL)


@operation
def both(c):
    """dockerd and containerd are killed and started again"""
    outlives(c, signal.SIGKILL, containerd=True)
