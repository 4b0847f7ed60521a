"""Podman of root: the operations, which podman_rootless.py runs as a user."""

import re
import subprocess

import normalise
from engine import SLEEP, Skip, operation
from podman_engine import IMAGE, PAUSE, Root

ENGINE = Root
STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status; umask"


def root_only(c, why):
    if c.rootless:
        raise Skip("for root: " + why)


@operation
def info(c):
    """the engine uses the runtime"""
    c.do("info", "-f", "{{.Host.OCIRuntime.Path}} {{.Host.CgroupManager}} {{.Host.Security.Rootless}}", has=re.escape(c.engine.runtime))


@operation
def run(c):
    """run: output, input, exit codes, errors"""
    c.sh("echo out; echo err >&2; exit 7", code=7, has="^out$", err="^err$")
    c.run("--rm", "-i", IMAGE, "cat", stdin=b"given\n", has="^given$")
    for words, code, said in ((["no-such-program"], 127, "executable file not found in \\$PATH"), (["/plain"], 126, "(?i)permission denied"),
                              (["/etc"], 126, "(?i)permission denied|is a directory"), (["/no/such"], 127, "(?i)no such file")):
        c.run("--rm", IMAGE, *words, code=code, err=said, norm_err=lambda v: "")
    c.sh("echo $A; pwd; id; hostname", "-e", "A=b c", "-w", "/srv", "-u", "alice", "--hostname", "named", has=["^b c$", "^/srv$", "uid=1000", "named"])


@operation
def inside(c):
    """what a container sees: mounts, devices, capabilities, file descriptors"""
    c.sh(STATUS)
    c.sh("cat /proc/self/mountinfo", norm=mounts)
    c.sh("ls -l /dev; ls -l /proc/self/fd | grep -v /proc", norm=lambda v: normalise.numbers(normalise.listing(v)))
    c.sh("ulimit -n; ulimit -u; cat /proc/self/oom_score_adj; env; tr '\\0' ' ' </proc/1/cmdline", norm=lambda v: normalise.lines_sorted(
        re.sub(r"HOSTNAME=\w+", "", v)))


def mounts(value):
    value = normalise.mountinfo(value)
    value = re.sub(r"(lowerdir|upperdir|workdir|context)=[^, ]*", r"\1=<DIR>", value)
    return re.sub(r"/(overlay-containers|containers)/\w+", r"/\1/<ID>", value)


@operation
def flags(c):
    """flags: read-only, capabilities, no-new-privileges, seccomp, ulimits, sysctls, tmpfs, devices, privileged"""
    c.sh("touch /x; touch /tmp/y", "--read-only", err="Read-only")
    c.sh(STATUS, "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt", "no-new-privileges")
    c.sh(STATUS, "--security-opt", "seccomp=unconfined", has="Seccomp:\t0")
    c.sh("ulimit -Sn; ulimit -Hn", "--ulimit", "nofile=64:128", "--ulimit", "nproc=500:500", has="^64\n128$")
    c.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80", has="^80$")
    c.sh("grep ' /t ' /proc/self/mountinfo; touch /t/x", "--tmpfs", "/t:size=64k", norm=mounts, has="size=64k")
    c.sh("ls -l /dev/mine; head -c 3 /dev/mine | wc -c", "--device", "/dev/zero:/dev/mine", norm=normalise.listing, has="^3$")
    c.sh("cat /plain 2>&1; ls /srv", "--security-opt", "mask=/srv/data")
    c.sh("tr '\\0' ' ' </proc/1/cmdline", "--init", code=None)


@operation
def privileged(c):
    """--privileged"""
    c.sh(STATUS, "--privileged", has="Seccomp:\t0")


@operation
def life(c):
    """stop, start, restart, kill, pause, wait, rm; states"""
    c.sleeper("one", "--stop-timeout", "10")
    c.inspect("one", "{{.State.Status}} {{.State.Running}} {{.OCIRuntime}}")
    c.do("stop", "one")
    c.inspect("one", "{{.State.Status}} {{.State.ExitCode}}", has="^exited 0$")
    c.do("start", "one")
    c.do("restart", "-t", "10", "one")
    c.do("kill", "-s", "KILL", "one")
    c.do("wait", "one", has="^137$")
    c.do("rm", "one")
    c.run("-d", "--name", "two", IMAGE, "sh", "-c", "echo said; exit 3")
    c.do("wait", "two", has="^3$")
    c.do("logs", "two", has="^said$")


@operation
def pause(c):
    """pause and unpause"""
    root_only(c, "a user has no freezer on cgroup v1")
    c.sleeper("one")
    c.do("pause", "one")
    c.inspect("one", "{{.State.Status}}", has="^paused$")
    c.do("exec", "one", "true", code=255, err=".")
    c.do("unpause", "one")
    c.do("exec", "one", "echo", "alive", has="alive")


@operation
def exec_(c):
    """exec: codes, user, directory, environment, input, detached, errors"""
    c.sleeper("one", "-u", "alice")
    c.do("exec", "one", "sh", "-c", "id; exit 9", code=9, has="uid=1000")
    c.do("exec", "-u", "7:8", "-w", "/srv", "-e", "A=b", "one", "sh", "-c", "id -u; pwd; echo $A", has=["^7$", "^/srv$", "^b$"])
    c.do("exec", "-i", "one", "cat", stdin=b"given\n", has="given")
    c.do("exec", "one", "no-such-program", code=127, err="executable file not found", norm_err=lambda v: "")
    c.do("exec", "one", "/plain", code=126, err="(?i)permission denied", norm_err=lambda v: "")
    c.do("exec", "-d", "one", "sh", "-c", "echo made >/tmp/made")
    c.until("made", "exec", "one", "cat", "/tmp/made")
    c.do("exec", "--privileged", "-u", "0", "one", "sh", "-c", STATUS)
    c.do("top", "one", "-eo", "args", code=None, norm=lambda v: "")


exec_.__name__ = "exec"


@operation
def terminal(c):
    """a terminal and its size, of run, exec and attach"""
    say = "tty; until [ \"$(stty size 2>/dev/null)\" = '40 132' ]; do usleep 50000; done; stty size; exit 4"
    c.terminal("run", *c.engine.run_options([]), "--rm", "-it", IMAGE, "sh", "-c", say, code=4, has=["/dev/pts/0", "40 132"])
    c.sleeper("one")
    c.terminal("exec", "-it", "one", "sh", "-c", say, code=4, has=["/dev/pts/", "40 132"])
    c.run("-dit", "--name", "two", IMAGE, "sh", "-c", "while read a; do echo got $a; [ $a = end ] && exit 6; done")
    # The screen shows what is typed before the answer.
    c.terminal("attach", "two", talk=[("", "one\n"), ("got one", "end\n")], code=None, has="got one", record=False)
    c.do("wait", "two", has="^6$")


@operation
def pod(c):
    """pod: shared namespaces, start, stop, ps, rm"""
    network = ["--network", "none"]
    c.do("pod", "create", "--name", "p", *network, *([] if c.rootless else ["--cgroup-parent", "/" + c.engine.group]), "--share", "ipc,net,uts",
         "--infra-image", PAUSE)
    c.run("-d", "--pod", "p", "--name", "one", IMAGE, "sh", "-c", SLEEP)
    c.run("-d", "--pod", "p", "--name", "two", IMAGE, "sh", "-c", SLEEP)
    found = [dict(line.split() for line in c.do("exec", name, "sh", "-c", "for i in ipc mnt net pid uts; do echo $i $(readlink /proc/self/ns/$i); done",
                                               record=False).out.splitlines()) for name in ("one", "two")]
    c.note("not shared", " ".join(sorted(n for n in found[0] if found[0][n] != found[1][n])), "mnt pid")
    c.do("pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}", has="^p Running 3$")
    c.do("pod", "stop", "-t", "10", "p")
    c.do("pod", "start", "p")
    c.do("pod", "rm", "-f", "-t", "0", "p")


@operation
def limits(c):
    """limits and update"""
    root_only(c, "a user has no cgroups on cgroup v1")
    c.sleeper("one", "--memory", "64m", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "50")
    files = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpuset/cpuset.cpus pids/pids.max"
    c.do("exec", "one", "sh", "-c", files, has="^67108864\n50000\n0\n50$")
    c.do("update", "--memory", "96m", "--cpus", "0.25", "one")
    c.do("exec", "one", "sh", "-c", files, has="^100663296\n25000\n0\n")
    c.do("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "one", norm=normalise.numbers, has="one")
    c.run("--name", "two", "--memory", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c", "tail -c 100m /dev/zero; exit 3", code=(3, 137))
    c.inspect("two", "{{.State.OOMKilled}}", norm=lambda v: "")


@operation
def files(c):
    """volumes, cp, diff, commit, export"""
    c.folder("v", 0o777)
    c.write("v/file", "host\n")
    c.sh("cat /v/file; echo x >/v/made; cat /v/made", "-v", c.path("v") + ":/v", has=["host", "^x$"])
    c.sh("echo x >/v/file", "-v", c.path("v") + ":/v:ro", code=1, err="Read-only")
    c.do("volume", "create", "named")
    c.sh("echo kept >/v/kept", "-v", "named:/v")
    c.sh("cat /v/kept; ls -ld /v", "-v", "named:/v:nosuid,nodev", has="kept", norm=normalise.listing)
    c.run("--name", "one", IMAGE, "sh", "-c", "echo made >/made")
    c.do("diff", "one", norm=normalise.lines_sorted, has="A /made")
    c.do("cp", "one:/made", c.path("v/copied"))
    c.do("commit", "-q", "one", "localhost/committed", norm=lambda v: "")
    c.run("--rm", "localhost/committed", "cat", "/made", has="^made$")
    c.do("rmi", "-f", "localhost/committed", norm=lambda v: "", norm_err=lambda v: "")


@operation
def user_namespaces(c):
    """user namespaces: --uidmap, --userns=auto, keep-id, nomap"""
    text = "cat /proc/self/uid_map | tr -s ' '; id -u; stat -c %u /bin/busybox"
    if c.rootless:
        c.sh(text, "--userns", "keep-id", has="^4321$")
        c.sh(text, "--userns", "nomap")
    else:
        c.sh(text, "--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000", has="200000")
        with open("/etc/subuid", "a", encoding="utf-8") as a, open("/etc/subgid", "a", encoding="utf-8") as b:
            for f in (a, b):
                f.write("containers:600000:10000\n")
        c.sh(text, "--userns", "auto:size=2000", has="2000")


@operation
def network(c):
    """a bridge: containers reach each other, a published port"""
    root_only(c, "slirp4netns is not among the packages of the test")
    address = "{{.NetworkSettings.IPAddress}}"
    c.run("-d", "--name", "one", "--network", "podman", "-p", "127.0.0.1:8090:80", IMAGE, "httpd", "-f", "-p", "80", "-h", "/srv/data")
    where = c.inspect("one", address, record=False).out.strip()
    c.sh(f"until wget -q -O - http://{where}/file; do usleep 100000; done 2>/dev/null", "--network", "podman", has="from the image",
         norm_err=lambda v: "") if where else c.want(False, "no address")
    c.run("--rm", "--network", "container:one", IMAGE, "ip", "-o", "-4", "addr", "show", "eth0", has="inet ", norm=normalise.numbers)
    c.run("--rm", "--network", "host", IMAGE, "ip", "-o", "link", "show", "lo", has="lo")


@operation
def kube(c):
    """generate kube, play kube, generate systemd"""
    c.run("-d", "--name", "one", "-e", "A=b", IMAGE, "sh", "-c", SLEEP)
    made = c.do("generate", "kube", "one", record=False).out
    c.want("kind: Pod" in made, made)
    c.do("generate", "systemd", "--name", "one", norm=lambda v: re.sub(r"(?m)^#.*$", "", v), has="podman start one", norm_err=lambda v: "")
    text = ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: played\nspec:\n  hostNetwork: true\n  containers:\n  - name: main\n    image: " + IMAGE +
            ":latest\n    imagePullPolicy: Never\n    command: [sh, -c, \"" + SLEEP + "\"]\n    securityContext:\n      capabilities:\n        drop: [ALL]\n")
    c.write("pod.yaml", text, 0o644)
    # The pod's own container is made from an image that podman builds of itself, with catatonit in it, which may be missing here.
    done = c.do("play", "kube", c.path("pod.yaml"), code=None, record=False)
    if done.code != 0 and "catatonit" in done.text:
        c.note("play kube", "needs catatonit")
        return
    c.want(done.code == 0, done.text)
    c.do("exec", "played-main", "grep", "^CapEff", "/proc/self/status", has="0000000000000000")
    c.do("play", "kube", "--down", c.path("pod.yaml"), norm=lambda v: "")


@operation
def health(c):
    """a health check, by exec"""
    c.sleeper("one", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
    c.do("healthcheck", "run", "one", code=1)
    c.do("exec", "one", "touch", "/tmp/well")
    c.do("healthcheck", "run", "one")


@operation
def checkpoint(c):
    """checkpoint and restore"""
    root_only(c, "CRIU's")
    if subprocess.run(["criu", "check"], capture_output=True, timeout=60).returncode != 0:
        raise Skip("this CRIU does not work on this kernel")
    c.sleeper("one")
    c.do("checkpoint", "one")
    c.do("restore", "one")
    c.do("exec", "one", "echo", "alive", has="alive")


@operation
def many(c):
    """six at once"""
    jobs = [c.start("run", *c.engine.run_options([]), "--rm", IMAGE, "echo", str(n)) for n in range(6)]
    for n, job in enumerate(jobs):
        c.ended(job, timeout=60, has=f"^{n}$")
