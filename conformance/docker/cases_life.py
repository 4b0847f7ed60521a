"""exec, stop, kill, restart, pause, top, logs, wait, rename, inspect, rm, events, build, user namespaces."""

import re
import time

import normalise
from cases_inside import STATUS
from harness import HOG, TYPED, case


def processes(value):
    """`docker top` without pids."""
    return normalise.lines_sorted(re.sub(r"(?m)^\d+ +", "", value))


@case("exec")
def codes(c):
    c.sleeper("one")
    c.d("exec", "one", "true")
    c.d("exec", "one", "sh", "-c", "exit 33", code=33)
    c.d("exec", "one", "sh", "-c", "kill -9 $$", code=137)
    c.d("exec", "one", "nosuchprogram", code=(126, 127))
    c.d("exec", "one", "/no/such", code=(126, 127))
    c.d("exec", "one", "/plain", code=126)
    c.d("exec", "one", "/etc", code=126)
    c.d("exec", "one", "/bin/badinterp", code=None)
    c.d("exec", "one", "/bin/noformat", code=None)
    c.inspect("one", "{{.State.Running}}", has="true")


@case("exec")
def input_and_output(c):
    c.sleeper("one")
    c.d("exec", "-i", "one", "sh", "-c", "cat; echo end >&2", stdin=b"given\n", has="^given$", err="^end$")
    c.d("exec", "one", "cat", stdin=b"not passed")
    c.d("exec", "one", "seq", "1", "50000", norm=lambda v: str(len(v)), has="^50000$")


@case("exec")
def terminal(c):
    c.sleeper("one", "--hostname", "box")
    c.terminal("exec", "-it", "one", *TYPED, talk=[("ready", "tty; echo $TERM\n"), ("xterm\r\nready", "exit 7\n")], code=7)
    c.terminal("exec", "-t", "-u", "alice", "one", "sh", "-c", "ls -ln $(tty); echo x > $(tty); echo $TERM", has="^x$",
               norm=lambda v: re.sub(r"136, \d <DATE> /dev/pts/\d", "<PTY>", normalise.listing(v)))
    c.terminal("exec", "-it", "one", "nosuch", code=(126, 127))


@case("exec")
def terminal_size(c):
    c.sleeper("one")
    c.terminal("exec", "-it", "one", "sh", "-c",
               "n=0; while [ \"$(stty size)\" != '40 132' ] && [ $n -lt 50 ]; do n=$((n+1)); usleep 100000; done 2>/dev/null; stty size", has="^40 132$")


@case("exec")
def terminal_in_terminal_container(c):
    c.d("run", "-dt", "--name", "one", "--network", "none", "busybox", "sh", "-c", "tty; exec sleep 1000")
    c.terminal("exec", "-it", "one", "sh", "-c", "tty; ls /dev/pts", has="/dev/pts/1")
    c.until("pts/0", "logs", "one")
    c.d("rm", "-f", "one")


@case("exec")
def detached(c):
    c.sleeper("one")
    c.d("exec", "-d", "one", "sh", "-c", "usleep 200000; echo done > /tmp/done")
    c.until("done", "exec", "one", "sh", "-c", "cat /tmp/done 2>/dev/null")
    c.d("exec", "-d", "one", "nosuch", code=None)


@case("exec")
def user(c):
    c.sleeper("one")
    c.d("exec", "-u", "alice", "one", "id", has="uid=1000\\(alice\\).*crew")
    c.d("exec", "-u", "1234:4321", "one", "id", has="uid=1234 gid=4321")
    c.d("exec", "-u", "nosuch", "one", "id", code=(1, 126))


@case("exec")
def user_of_container(c):
    c.sleeper("one", "-u", "alice")
    c.d("exec", "one", "sh", "-c", STATUS + "; id", has="uid=1000")
    c.d("exec", "-u", "0", "one", "sh", "-c", STATUS + "; id", has="uid=0")


@case("exec")
def working_folder(c):
    c.sleeper("one", "-w", "/srv")
    c.d("exec", "one", "pwd", has="^/srv$")
    c.d("exec", "-w", "/srv/data", "one", "pwd", has="^/srv/data$")
    c.d("exec", "-w", "/no/such", "one", "pwd", code=(126, 127))
    c.d("exec", "-w", "/plain", "one", "pwd", code=(126, 127))
    c.d("exec", "-u", "alice", "-w", "/closed", "one", "pwd", code=None)


@case("exec")
def environment(c):
    c.sleeper("one", "-e", "A=of run", "--hostname", "box")
    c.d("exec", "-e", "B=of exec", "-e", "A=changed", "one", "env", norm=normalise.lines_sorted, has=["^A=changed$", "^B=of exec$"])
    c.d("exec", "-u", "alice", "one", "env", norm=normalise.lines_sorted, has="^HOME=/home/alice$")


@case("exec")
def inside(c):
    c.sleeper("one", "-m", "64m", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--oom-score-adj", "77")
    c.d("exec", "one", "sh", "-c", STATUS, has="NoNewPrivs:\t1")
    c.d("exec", "one", "sh", "-c", "cat /proc/self/cgroup; cat /proc/self/oom_score_adj", has="^77$")
    c.d("exec", "one", "sh", "-c", "for i in mnt uts ipc pid net user cgroup; do [ $(readlink /proc/1/ns/$i) = $(readlink /proc/self/ns/$i) ] && echo $i; done",
        code=None)
    c.d("exec", "one", "sh", "-c", "ls -l /proc/self/fd", norm=lambda v: normalise.numbers(normalise.listing(v)))


@case("exec")
def rlimits(c):
    c.sleeper("one", "--ulimit", "nofile=64:128", "--ulimit", "memlock=32768:65536")
    c.d("exec", "one", "sh", "-c", "ulimit -Sn; ulimit -Hn; grep locked /proc/self/limits", has=["^64\n128$", "32768 +65536"])


@case("exec")
def not_running(c):
    c.run("--name", "one", "busybox", "true")
    c.d("exec", "one", "true", code=1)
    c.d("exec", "nosuch", "true", code=1)


@case("exec")
def dies_with_container(c):
    c.sleeper("one")
    p = c.start("exec", "one", "sleep", "1000")
    c.until("sleep 1000", "top", "one", "-o", "pid,args", record=False)
    time.sleep(0.2)
    c.d("kill", "one")
    c.ended(p, code=137)


@case("exec")
def many_at_once(c):
    c.sleeper("one")
    processes = [c.start("exec", "one", "sh", "-c", f"echo {i}; exit {i}") for i in range(8)]
    for i, p in enumerate(processes):
        c.ended(p, code=i, has=f"^{i}$")


@case("life")
def create_and_start(c):
    c.d("create", "--name", "one", "--network", "none", "busybox", "sh", "-c", "echo run; exit 4")
    c.inspect("one", "{{.State.Status}} {{.State.Pid}}", has="^created 0$")
    c.d("start", "-a", "one", code=4, has="run")
    c.d("start", "-a", "one", code=4, has="run")
    c.d("logs", "one", has="run\nrun")


@case("life")
def stop(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "trap 'echo term; exit 7' TERM; echo ready; while :; do usleep 50000; done")
    c.until("ready", "logs", "one", record=False)
    c.d("stop", "one")
    c.inspect("one", "{{.State.Status}} {{.State.ExitCode}}", has="^exited 7$")
    c.d("stop", "one")
    c.d("logs", "one", has="term")


@case("life")
def stop_then_kill(c):
    c.run("-d", "--name", "one", "busybox", "sleep", "1000")
    c.d("stop", "-t", "1", "one")
    c.inspect("one", "{{.State.ExitCode}}", has="^137$")


@case("life")
def kill(c):
    c.sleeper("one")
    c.d("kill", "one")
    c.d("wait", "one", has="^137$")
    c.d("kill", "one", code=1)


@case("life")
def kill_signals(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c",
          "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'echo rt; exit 5' 40; echo ready; while :; do usleep 50000; done")
    c.until("ready", "logs", "one", record=False)
    for name, shown in (("USR1", "usr1"), ("SIGHUP", "hup"), ("40", "rt")):
        c.d("kill", "-s", name, "one")
        c.until(shown, "logs", "one", record=False)
    c.d("wait", "one", has="^5$")
    c.d("kill", "-s", "NOSUCH", "one", code=1)


@case("life")
def restart(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "echo up; touch /kept; trap 'exit 0' TERM; while :; do usleep 50000; done")
    c.until("up", "logs", "one", record=False)
    c.d("restart", "one")
    c.until("up\nup", "logs", "one", record=False)
    c.inspect("one", "{{.State.Running}} {{.RestartCount}}", has="^true 0$")


@case("life")
def restart_killed(c):
    c.sleeper("one")
    c.d("kill", "one")
    c.d("wait", "one")
    c.d("start", "one")
    c.d("exec", "one", "echo", "again", has="again")


@case("life", v1=True)
def pause(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "while :; do date +%s%N > /tick; usleep 20000; done")
    c.d("pause", "one")
    c.inspect("one", "{{.State.Status}} {{.State.Paused}}", has="^paused true$")
    c.d("exec", "one", "true", code=1, err="paused")
    c.d("pause", "one", code=1)
    with open(f"/proc/{c.host_pid('one')}/cgroup", encoding="utf-8") as f:
        path = re.search(r"freezer:(.*)", f.read()).group(1)
    with open(f"/sys/fs/cgroup/freezer{path}/freezer.state", encoding="utf-8") as f:
        c.note("freezer", f.read(), "FROZEN\n")
    c.d("top", "one", "-o", "pid,comm", norm=lambda v: str("sh" in v), has="sh")
    c.d("unpause", "one")
    c.d("exec", "one", "true")
    c.d("unpause", "one", code=1)


@case("life")
def pause_then_end(c):
    c.sleeper("one")
    c.d("pause", "one")
    c.d("rm", "-f", "one")
    c.sleeper("two")
    c.d("pause", "two")
    c.d("kill", "two", code=None)
    c.d("unpause", "two", code=None)
    c.sleeper("three")
    c.d("pause", "three")
    c.d("stop", "-t", "1", "three", code=None)
    c.inspect("three", "{{.State.Status}}")


@case("life")
def top(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "sleep 987 & sleep 988")
    c.until("sleep 988", "exec", "one", "ps", "-o", "args", record=False)
    c.d("top", "one", "-o", "pid,user,args", norm=processes, has=["sleep 987", "sleep 988"])
    c.d("top", "one", norm=lambda v: str(len(v.splitlines())), has="987")


@case("life")
def logs(c):
    c.run("--name", "one", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; usleep 300000; echo bad >&2")
    c.d("logs", "one", has="line 5", err="bad")
    c.d("logs", "--tail", "2", "one")
    c.d("logs", "-t", "--tail", "1", "one")


@case("life")
def logs_followed(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; usleep 100000; done; exit 2")
    c.d("logs", "-f", "one", has="^1\n2\n3$")
    c.d("wait", "one", has="^2$")


@case("life")
def rename(c):
    c.sleeper("one")
    c.d("rename", "one", "two")
    c.d("exec", "two", "true")
    c.d("ps", "--format", "{{.Names}} {{.Image}} {{.State}}", has="^two busybox running$")


@case("life", v1=True)
def inspect(c):
    c.sleeper("one", "-m", "64m", "--cpu-shares", "100", "--cap-add", "NET_ADMIN", "--read-only")
    c.inspect("one", "{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.Restarting}} {{.State.OOMKilled}} {{.State.Dead}} {{if .State.Pid}}true{{end}} "
              "{{.State.ExitCode}} [{{.State.Error}}] {{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.CapAdd}} {{.HostConfig.ReadonlyRootfs}} "
              "{{.HostConfig.Runtime}} {{.Driver}} {{.Path}}", has="^running true false false false false true 0 \\[\\] 67108864")
    c.d("kill", "one")
    c.d("wait", "one")
    c.inspect("one", "{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}} [{{.State.Error}}]", has="^exited false 0 137")


@case("life")
def remove(c):
    c.sleeper("one")
    c.d("rm", "one", code=1)
    c.d("rm", "-f", "one")
    c.d("rm", "one", code=1)
    c.d("ps", "-aq")


@case("life")
def events(c):
    began = time.time()
    c.sleeper("one")
    c.d("exec", "one", "true")
    c.d("pause", "one")
    c.d("unpause", "one")
    c.d("restart", "one")
    c.d("stop", "one")
    c.d("rm", "one")
    args = ("events", "--since", f"{began:.6f}", "--until", f"{time.time():.6f}", "--filter", "type=container", "--format", "{{.Action}}")
    out = c.d(*args, record=False).out
    # exec_die comes on its own time.
    c.note("events", "\n".join(line for line in out.splitlines() if line != "exec_die"))
    c.want("exec_die" in out and "destroy" in out, "events lack exec_die or destroy: " + out)


@case("life", v1=True)
def events_of_oom(c):
    began = time.time()
    c.run("--name", "one", "-m", "20m", "--memory-swap", "20m", "busybox", "sh", "-c", HOG, code=137)
    time.sleep(0.5)
    out = c.d("events", "--since", f"{began:.6f}", "--until", f"{time.time():.6f}", "--filter", "type=container", "--format", "{{.Action}}",
              record=False).out.splitlines()
    c.note("events", "\n".join(sorted(set(out))))
    c.want("oom" in out, f"no oom event: {out}")


@case("life")
def prune(c):
    c.run("--name", "one", "busybox", "true")
    c.d("container", "prune", "-f", norm=lambda v: re.sub(r"(?m)^Total.*", "", v), has="Deleted")


@case("life")
def version_and_info(c):
    c.d("info", "--format", "{{.DefaultRuntime}} {{.CgroupDriver}} {{.CgroupVersion}} {{json .Warnings}} {{.Containers}}", has="^tested cgroupfs")


FILE = """FROM busybox
ENV WHO=world
RUN echo "hello $WHO" > /greeting && id -u > /uid
WORKDIR /work
COPY given .
USER alice
RUN whoami > /tmp/who; pwd >> /tmp/who; cat given >> /tmp/who
ENTRYPOINT ["cat"]
CMD ["/greeting", "/uid", "/tmp/who"]
"""


def build(c, buildkit):
    env = {"DOCKER_BUILDKIT": "1" if buildkit else "0"}
    norm = normalise.build if buildkit else None
    c.write("build/given", "given\n")
    c.write("build/Dockerfile", FILE)
    c.d("build", "--no-cache", "--network", "none", "--progress" if buildkit else "--force-rm", *(["plain"] if buildkit else []),
        "-t", "built", c.path("build"), env=env, norm=norm, norm_err=norm, timeout=120)
    c.run("--rm", "built", has="^hello world\n0\nalice\n/work\ngiven$")
    for name, step in (("fails", "exit 5"), ("missing", None), ("inside", "cat /proc/self/status | grep -E 'Cap|Seccomp:|NoNewPrivs'; cat /proc/self/mountinfo; "
                                                                "cat /proc/self/cgroup; ls /dev; env | sort; id")):
        run = f"RUN {step}" if step else "RUN [\"/no/such\"]"
        c.write("build2/Dockerfile", f"FROM busybox\n{run}\n")

        def only(v, kit=buildkit):
            v = normalise.build(v) if kit else v
            return v if not re.search(r"(?m)^\d+ \d+ 0:\d+ ", v) else normalise.mountinfo(v)
        c.d("build", "--no-cache", "--network", "none", *(["--progress", "plain"] if buildkit else []), "-t", "built2", c.path("build2"), env=env,
            code=0 if name == "inside" else None, norm=only, norm_err=norm, timeout=120, record=name != "inside" or not buildkit)
        if name == "inside" and buildkit:
            # BuildKit prints its progress as errors.
            last = c.raw[-1]
            c.note("inside of a step", only(last["out"] + last["err"]))
        if name != "inside":
            c.want(c.raw[-1]["code"] != 0, f"the build with {run} failed")
    c.d("rmi", "-f", "built", "built2", record=False)


@case("build")
def legacy(c):
    build(c, False)


@case("build")
def buildkit(c):
    build(c, True)


@case("remap", remap=True)
def identity(c):
    c.sh("id; cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups; stat -c '%u %g' / /etc/passwd /proc /dev/null", has="100000")
    c.sh(STATUS, has="Seccomp:\t2")


@case("remap", remap=True)
def users(c):
    c.sh("id; cat /home/alice/own; touch /home/alice/x; ls -n /home/alice", "-u", "alice", has="uid=1000", norm=normalise.listing)


@case("remap", remap=True)
def mounts(c):
    c.rm("--", "cat", "/proc/self/mountinfo", net=None, norm=normalise.mountinfo)
    c.sh("ls -ln /dev", norm=normalise.listing)


@case("remap", remap=True)
def execs(c):
    c.sleeper("one")
    c.d("exec", "one", "sh", "-c", "id; cat /proc/self/uid_map", has="uid=0")
    c.d("exec", "-u", "alice", "one", "sh", "-c", STATUS, has="Uid:\t1000")
    c.terminal("exec", "-it", "one", "sh", "-c", "tty; ls -ln $(tty)", has="pts/0", norm=normalise.listing)
    with open(f"/proc/{c.host_pid('one')}/status", encoding="utf-8") as f:
        c.note("uid on the host", re.search(r"Uid:\s+(\d+)", f.read()).group(1), "100000")


@case("remap", remap=True)
def terminal(c):
    c.terminal("run", "-it", "--rm", "--network", "none", "--hostname", "box", "busybox", *TYPED,
               talk=[("ready", "tty; ls -ln /dev/console | cut -c 1-30\n"), ("pts/0[^#]*ready", "exit 9\n")], code=9)


@case("remap", remap=True)
def volumes(c):
    c.sh("touch /v/x; ls -ln /v", "-v", "rv:/v", norm=normalise.listing)
    c.d("volume", "rm", "rv")
    folder = c.folder("rootowned")
    c.sh("touch /s/x", "-v", folder + ":/s", code=1, err="ermission denied")


@case("remap", remap=True, v1=True)
def limits_and_oom(c):
    c.sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max", "-m", "64m", "--pids-limit", "9", has="^67108864\n9$")


@case("remap", remap=True)
def userns_host(c):
    c.sh("cat /proc/self/uid_map", "--userns", "host", has="0 +0 +4294967295")


@case("remap", remap=True)
def network(c):
    c.sh("ip -4 addr show eth0; cat /proc/sys/net/ipv4/ip_forward", net="bridge", norm=normalise.addresses, has="10.231.1")


@case("remap", remap=True)
def failures(c):
    c.rm("--", "nosuch", code=127)
    c.rm("--", "/plain", code=126)
