"""The complaints: one function each, which tries it with one runtime and says what came of it. The first lines of a function are
the complaint in one sentence."""

import collections
import json
import os
import re
import select
import shutil
import socket
import subprocess
import time

import bpf
from world import Skip, read, until, write

CASES = []
MIB = 1 << 20
PROFILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/fixtures/seccomp/docker.json")


class Case:
    def __init__(self, threads, tried, shown_by, function):
        self.threads, self.tried, self.shown_by, self.function = threads, tried, shown_by, function
        self.name, self.complaint = function.__name__, " ".join(function.__doc__.split())


def case(threads, tried, shown_by):
    """`function(side)` -> (lines that tell what the runtime said or did, whether the complaint holds for it). `shown_by`: the
    runtimes that are known to show it."""
    def add(function):
        CASES.append(Case(threads, tried, shown_by, function))
        return function
    return add


def limit(number):
    return lambda config: config["linux"]["resources"].update(memory={"limit": number, "swap": number})


@case("opencontainers/runc#4021", "`create`, and what of the runtime's memory is in the container's cgroup then (`total_rss`)", ["runc"])
def own_memory(side):
    """The runtime's own process is charged to the container, so engines demand 6 MiB of every memory limit for it."""
    side.must(side.create(side.bundle("true")))
    stat = dict(line.split() for line in read(side.cgroup("memory") + "/memory.stat").splitlines())
    much = int(stat["total_rss"]) > MIB
    return ["more than 1 MiB" if much else "less than 1 MiB"], much


@case("opencontainers/runc#3986, #1980, #4427", "`run` of `true` with `memory.limit` of 1 MiB", ["runc"])
def small_limit(side):
    """A container with a small memory limit dies before its program starts: the runtime's init needs more than the program."""
    said = side.run(side.bundle("true", edit=limit(MIB)))
    return ended(side, said), said.code != 0


@case("opencontainers/runc#2812; containers/crun#635",
      "`update --memory 4096` of a container that uses more, then `run` with `memory.limit` of 64 KiB", ["crun"])
def limit_too_low(side):
    """A memory limit that is too low ends in EBUSY or a lost connection; the user should read that it is too low, and by how much."""
    side.running(side.bundle("sleep", "1000"), "u")
    update = side.call("update", "--memory", "4096", "u")
    start = side.run(side.bundle("true", edit=limit(64 << 10)))
    useful = "current usage" in update.last and re.search(r"\b65536\b", start.last)
    return [*ended(side, update), *ended(side, start)], not useful


@case("opencontainers/runc#5040, #4951, #4928", "`run` in the user namespace that the runtime is in already; the last line", ["runc"])
def last_line(side):
    """Engines show the last line of what the runtime prints, and the kernel's reason is in an earlier one."""
    def edit(config):
        config["linux"]["namespaces"].append({"type": "user", "path": "/proc/1/ns/user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    said = side.run(side.bundle("true", edit=edit))
    return ended(side, said), "invalid argument" not in said.last.lower()


KILLER = """#!/bin/sh
exec 2>/dev/null
kill -9 "$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')"
sleep 0.2
"""


@case("opencontainers/runc#4790, #4699",
      "`run` where a createRuntime hook kills the init, then `run` with a filter that refuses `close` and `fcntl`", ["runc", "crun"])
def already_dead(side):
    """`container process is already dead`, or a broken pipe, is all that is said of an init that died; nothing says of what."""
    killer = side.folder + "/killer"
    write(killer, KILLER)
    os.chmod(killer, 0o755)
    killed = side.run(side.bundle("true", edit=lambda config: config.update(hooks={"createRuntime": [{"path": killer}]})), "k")
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["close", "fcntl"], "action": "SCMP_ACT_ERRNO"}]}
    refused = side.run(side.bundle("true", edit=lambda config: config["linux"].update(seccomp=profile)), "f")
    useless = [said for said in (killed, refused) if said.code != 0 and "SIGKILL" not in said.last]
    return [*ended(side, killed), *ended(side, refused)], bool(useless)


RULE = '{"devices": [{"allow": true, "type": "c", "major": 242, "minor": 7, "access": "rw"}]}'


@case("opencontainers/runc#3401; containers/crun#1191; moby/moby#42255",
      "`update -r -` with an allow rule for c 242:7, and what opening that device in the running container gives before and after (no "
      "driver has it: an open that is allowed ends in ENXIO)", ["runc"])
def device_rules(side):
    """The device rules of a running container cannot be changed: `update` takes them and does nothing."""
    def edit(config):
        config["linux"]["devices"] = [{"path": "/dev/new", "type": "c", "major": 242, "minor": 7, "fileMode": 0o666}]
    side.running(side.bundle("sleep", "1000", edit=edit))
    lines, opened = [], None
    for step in ("before", "after"):
        said = side.call("exec", "c", "cat", "/dev/new")
        opened = "No such device or address" in said.err
        lines.append(f"{step}: {said.err.strip().splitlines()[-1]}")
        if step == "before":
            lines.append(f"update: exit {side.call('update', '-r', '-', 'c', stdin=RULE).code}")
    return lines, not opened


MASKED = ["/proc/acpi", "/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/sys/firmware"]


@case("opencontainers/runc#5275, #5262; kubernetes/kubernetes#138512",
      "a container with six masked directories; the file systems over them", ["runc", "crun"])
def masked_directories(side):
    """Every masked directory is a tmpfs of its own, which is slow on hosts with many CPUs."""
    def edit(config):
        config["linux"].update(maskedPaths=MASKED, readonlyPaths=[])
    side.running(side.bundle("sleep", "1000", edit=edit))
    rows = [line.split() for line in read(f"/proc/{side.state()['pid']}/mountinfo").splitlines()]
    found = [row[2] for row in rows if row[4] in MASKED]
    count = len(set(found))
    return [f"{len(found)} masks, {count} file system{'s' * (count > 1)}"], count > 1


CALLS = {"futex": 202, "openat": 257, "clone": 56, "socket": 41}


@case("moby/moby#41389; podman-container-tools/podman#13467; opencontainers/runc#2430",
      "Docker's profile: the filter that the kernel has for the container, and how many of its instructions one call executes",
      ["runc", "crun"])
def filter_cost(side):
    """The seccomp filter is one long list that is walked for every call: expensive to load, and for each call whose rule is far down."""
    if os.uname().machine != "x86_64":
        raise Skip("the numbers of the calls are those of x86_64")
    with open(PROFILE, encoding="utf-8") as f:
        profile = json.load(f)
    side.running(side.bundle("sleep", "1000", edit=lambda config: config["linux"].update(seccomp=profile)))
    program = bpf.of(side.state()["pid"])
    cost = {name: bpf.steps(program, number) for name, number in CALLS.items()}
    lines = [f"{len(program)} instructions", ", ".join(f"{name} {count}" for name, count in cost.items())]
    return lines, len(program) > 500 or max(cost.values()) > 50


@case("opencontainers/runc#3307; containerd/containerd#12189",
      "`--timings FILE run`: the first and the last of the phases in the file", ["runc", "crun"])
def phases(side):
    """Where the time of a start goes, phase by phase, cannot be seen."""
    file = side.folder + "/timings"
    said = side.call("--timings", file, "run", "--bundle", side.bundle("true"), "t")
    if said.code != 0:
        return [side.plain(said.first)], True
    names = collections.defaultdict(list)
    for span in json.loads(read(file))["spans"]:
        names[span["process"]].append(span["name"])
    lines = [f"{process}: {found[0]} ... {found[-1]}" for process, found in names.items()]
    return lines, not all(len(names[process]) > 5 for process in ("runtime", "init"))


@case("kubernetes/kubernetes#82440; opencontainers/runc#4624",
      "`exec` of busybox's `true`: system calls (strace, rounded to one digit), the program's own included", ["runc", "crun"])
def exec_cost(side):
    """Exec probes take a third of a node's CPU: one `exec` costs far more than the program that it starts."""
    side.running(side.bundle("sleep", "1000"))
    trace = side.folder + "/trace"
    said = side.call("exec", "c", "true", prefix=["strace", "-f", "-qq", "-o", trace])
    side.must(said)
    count = len(re.findall(r"^\d+ +\w+\(", read(trace), re.M))
    digit = 10 ** (len(str(count)) - 1)
    return [f"about {round(count / digit) * digit}"], count > 400


@case("containers/crun#868; opencontainers/runc#4040, #2344",
      "`delete --force` of a container whose processes cannot die (a freezer cgroup above it is frozen by someone else), and whether "
      "`list` has it then", ["runc", "crun"])
def cannot_die(side):
    """`delete` of a container with processes that do not die loops, forgets them, or does not say what holds it up."""
    parent = f"/{side.group}/{side.name}-frozen"
    freezer = "/sys/fs/cgroup/freezer" + parent
    os.makedirs(freezer)
    side.running(side.bundle("sleep", "1000", edit=lambda config: config["linux"].update(cgroupsPath=parent + "/c")), "c")
    write(freezer + "/freezer.state", "FROZEN")
    try:
        said = side.call("delete", "--force", "c", timeout=45)
        listed = "c" in side.call("list", "-q").out.split()
    finally:
        write(freezer + "/freezer.state", "THAWED")
    lines = [*ended(side, said), "still listed" if listed else "no longer listed, and its process is there"]
    return lines, not (listed and said.code and "sleep, state" in said.last)


LAST_CALLS = 20


@case("opencontainers/runc#2828, #2586, #4534",
      f"`create`, killed at each of its last {LAST_CALLS} system calls in turn, then `delete --force`; how often the init is "
      "still there", ["crun"])
def init_forgotten(side):
    """A `create` that is killed late leaves an init that waits on the exec fifo for ever, and `delete --force` does not find it."""
    if side.name == "runc":
        raise Skip("its threads make system calls in another order each time")
    trace = side.folder + "/trace"
    side.must(side.create(side.bundle("true"), "whole", prefix=["strace", "-qq", "-o", trace]))
    calls = re.findall(r"^(\w+)\(", read(trace), re.M)
    seen, left = collections.Counter(), 0
    for place, name in enumerate(calls):
        seen[name] += 1
        if place < len(calls) - LAST_CALLS:
            continue
        killed = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={seen[name]}"]
        ident = f"k{place}"
        side.create(side.bundle("sleep", "1000"), ident, prefix=killed)
        side.call("delete", "--force", ident)
        left += not until(lambda: not side.processes(), seconds=2)
        side.kill_left()
    return [f"{left} of {LAST_CALLS} times"], left > 0


@case("youki-dev/youki#2307, #987; opencontainers/runc#2821",
      "a bind mount with `uidMappings` 1000 -> 2000; the owner of a file of user 1000 in it", ["runc"])
def idmapped(side):
    """Id-mapped mounts: the fields are in the specification, and the runtime does not look at them."""
    source = side.folder + "/source"
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source], check=True, timeout=10)
    try:
        write(source + "/file", "")
        os.chown(source + "/file", 1000, 1000)
        mapping = [{"containerID": 1000, "hostID": 2000, "size": 1}]
        mount = {"destination": "/mnt", "source": source, "options": ["bind"], "uidMappings": mapping, "gidMappings": mapping}
        said = side.run(side.bundle("busybox", "stat", "-c", "%u", "/mnt/file", edit=lambda config: config["mounts"].append(mount)))
    finally:
        subprocess.run(["umount", source], check=True, timeout=10)
    owner = said.out.strip()
    return [f"owner {owner}" if said.code == 0 else side.plain(said.last)], owner != "2000"


@case("opencontainers/runc#4045; containerd/containerd#9175", "`run --pidfd-socket`: what comes over the socket", ["runc", "crun"])
def pidfd(side):
    """Engines get process ids, which may be someone else's by the time that they are used, instead of a pidfd."""
    path = side.folder + "/pidfd"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with server:
        server.bind(path)
        server.listen()
        side.ids.append("c")
        said = side.call("run", "--detach", "--pidfd-socket", path, "--bundle", side.bundle("sleep", "1000"), "c")
        if said.code != 0:
            return [side.plain(said.first)], True
        stream, _ = server.accept()
        with stream:
            _, fds, _, _ = socket.recv_fds(stream, 4096, 1)
    pid = re.search(r"^Pid:\s*(\d+)", read(f"/proc/self/fdinfo/{fds[0]}"), re.M)[1]
    init = int(pid) == side.state()["pid"]
    side.must(side.call("kill", "c", "KILL"))
    ended_seen = bool(select.select([fds[0]], [], [], 20)[0])
    os.close(fds[0])
    line = f"a pidfd of {'the init' if init else 'another process'}, {'readable' if ended_seen else 'not readable'} at its end"
    return [line], not (init and ended_seen)


@case("google/gvisor#12052; opencontainers/runtime-tools#317",
      "a config.json with `process.noNewPrivilegs` and `linux.readonlyPath`: `check --strict` where the runtime has that verb, `run` where "
      "not", ["runc", "crun"])
def typos(side):
    """A misspelt field of config.json is ignored without a word, and with it the protection that was asked for."""
    def edit(config):
        del config["process"]["noNewPrivileges"]
        config["process"]["noNewPrivilegs"] = True
        config["linux"]["readonlyPath"] = config["linux"].pop("readonlyPaths")
    bundle = side.bundle("busybox", "grep", "NoNewPrivs", "/proc/self/status", edit=edit)
    check = side.call("check", "--strict", bundle)
    warnings = [line for line in check.out.splitlines() if line.startswith("warning: ")]
    if check.code != 0 and len(warnings) == 2:
        return warnings, False
    said = side.run(bundle)
    return [*ended(side, said), said.out.strip().replace("\t", " ")], said.code == 0 and not said.err


def ended(side, said):
    """The end of a command in one line."""
    code = "no end" if said.code is None else f"exit {said.code}"
    return [f"{code}: {side.plain(said.last)}" if said.err.strip() else code]
