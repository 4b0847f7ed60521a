"""containerd by its client ctr, which names the runtime with --runc-binary."""

import os
import re
import subprocess

import normalise
import sandbox
from containerd import BUSYBOX, Containerd
from engine import SLEEP, Operation, Skip, operation


class Ctr(Operation):
    def ctr(self, *words, **kw):
        return self.do("ctr", *words, **kw)

    def run(self, name, *words, options=(), **kw):
        return self.ctr("run", "--runc-binary", self.engine.runtime, "--cgroup", f"/{self.engine.group}/ctr/{name}", *options, BUSYBOX,
                        name, *words, **kw)

    def sleeper(self, name="one", *options):
        self.run(name, "sh", "-c", SLEEP, options=("-d", *options))

    def state(self, name, state):
        return self.until(rf"^{name} +\d+ +{state}", "ctr", "tasks", "ls", record=False)

    def pid(self, name):
        said = self.ctr("tasks", "ls", record=False).out
        return int(re.search(rf"(?m)^{name} +(\d+)", said).group(1))


class Direct(Containerd):
    operations = Ctr

    def after_each(self):
        def ctr(*words):
            return subprocess.run(["ctr", *words], env=self.full_env(), capture_output=True, text=True, timeout=60).stdout
        for name in ctr("tasks", "ls", "-q").split():
            ctr("tasks", "delete", "--force", name)
        for name in ctr("containers", "ls", "-q").split():
            ctr("containers", "delete", name)
        yield from self.wait_for_nothing_left()


ENGINE = Direct


@operation
def run(c):
    """run: output, exit codes, errors, environment, directory, user"""
    c.run("one", "sh", "-c", "echo out; echo err >&2; exit 7", options=["--rm"], code=7, has="^out$", err="^err$")
    c.run("two", "no-such-program", options=["--rm"], code=1, err="executable file not found in \\$PATH", norm_err=lambda v: "")
    c.run("three", "sh", "-c", "echo $A; pwd; id; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status",
          options=["--rm", "--env", "A=b", "--cwd", "/tmp"], has=["^b$", "^/tmp$", "uid=0"])
    c.run("four", "cat", "/proc/self/mountinfo", options=["--rm"], norm=normalise.mountinfo)


@operation
def flags(c):
    """flags: seccomp, read-only, privileged, mounts, host network, devices"""
    c.run("one", "grep", "^Seccomp:", "/proc/self/status", options=["--rm", "--seccomp"], has="2")
    c.run("two", "touch", "/x", options=["--rm", "--read-only"], code=1, err="Read-only file system")
    c.run("three", "sh", "-c", "grep ^CapEff /proc/self/status; ls /dev | grep -c .", options=["--rm", "--privileged"], norm=lambda v: v[:20])
    c.write("file", "host\n")
    c.run("four", "sh", "-c", "cat /file; echo x >/file", code=1, has="host", options=[
        "--rm", f"--mount=type=bind,src={c.path('file')},dst=/file,options=rbind:ro"])
    c.run("five", "readlink", "/proc/self/ns/net", options=["--rm", "--net-host"], norm=normalise.numbers, has=re.escape(os.readlink("/proc/self/ns/net")))
    c.run("six", "ls", "-l", "/dev/kmsg", options=["--rm", "--device", "/dev/kmsg"], has="^crw", norm=normalise.listing)
    c.run("seven", "sh", "-c", "ulimit -n; hostname", options=["--rm"])


@operation
def life(c):
    """exec, ps, pause, resume, kill, delete, metrics"""
    c.sleeper("one", "--memory-limit", str(64 << 20), "--cpus", "0.5")
    c.state("one", "RUNNING")
    c.ctr("tasks", "exec", "--exec-id", "e1", "one", "sh", "-c", "echo inside; exit 9", code=9, has="inside")
    c.ctr("tasks", "exec", "--exec-id", "e2", "--user", "7", "--cwd", "/bin", "one", "sh", "-c", "id -u; pwd", has=["^7$", "^/bin$"])
    c.ctr("tasks", "exec", "--exec-id", "e3", "one", "no-such-program", code=1, err="executable file not found", norm_err=lambda v: "")
    c.ctr("tasks", "ps", "one", record=False, has=str(c.pid("one")))
    c.ctr("tasks", "metrics", "one", record=False, has="memory.*limit|memory.usage")
    c.ctr("tasks", "pause", "one")
    c.state("one", "PAUSED")
    c.ctr("tasks", "resume", "one")
    c.state("one", "RUNNING")
    c.ctr("tasks", "kill", "-s", "TERM", "one")
    c.state("one", "STOPPED")
    c.ctr("tasks", "delete", "one")
    c.ctr("containers", "delete", "one")


@operation
def limits(c):
    """cgroup and limits"""
    c.sleeper("one", "--memory-limit", str(64 << 20), "--cpus", "0.5", "--cpu-shares", "512")
    pid = c.pid("one")
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        rows = dict(line.strip().split(":", 2)[1:] for line in f)
    c.note("cgroups", "\n".join(sorted(f"{k} {v}" for k, v in rows.items())))
    for controller, name in (("memory", "memory.limit_in_bytes"), ("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.shares")):
        with open(f"{sandbox.CGROUP_ROOT}/{controller}{rows[controller]}/{name}", encoding="utf-8") as f:
            c.note(name, f.read().strip())


@operation
def kill_all(c):
    """kill --all ends what exec started"""
    c.sleeper()
    c.ctr("tasks", "exec", "-d", "--exec-id", "e1", "one", "sleep", "1000")
    c.ctr("tasks", "kill", "-a", "-s", "KILL", "one")
    c.state("one", "STOPPED")


@operation
def terminal(c):
    """a terminal and its size, of run and of exec"""
    say = "tty; until [ \"$(stty size 2>/dev/null)\" = '40 132' ]; do usleep 50000; done; stty size; exit 4"
    c.terminal("ctr", "run", "--rm", "-t", "--runc-binary", c.engine.runtime, "--cgroup", f"/{c.engine.group}/ctr/tty", BUSYBOX, "tty",
               "sh", "-c", say, code=4, has=["/dev/pts/0", "40 132"])
    c.sleeper()
    c.terminal("ctr", "tasks", "exec", "-t", "--exec-id", "e1", "one", "sh", "-c", say, code=4, has=["/dev/pts/", "40 132"])


@operation
def user_namespace(c):
    """user namespace: --uidmap, --gidmap"""
    said = c.ctr("run", "--help", record=False).out
    if "--uidmap" not in said:
        raise Skip("this ctr has no --uidmap")
    c.run("one", "sh", "-c", "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox", has="200000",
          options=["--rm", "--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"])


@operation
def restart(c):
    """containerd is killed and started again: the container stays"""
    c.sleeper()
    c.engine.kill()
    c.engine.launch()
    c.state("one", "RUNNING")
    c.ctr("tasks", "exec", "--exec-id", "e1", "one", "echo", "alive", has="alive")
    c.ctr("tasks", "kill", "-s", "TERM", "one")
    c.state("one", "STOPPED")
