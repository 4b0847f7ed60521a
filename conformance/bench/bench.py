#!/usr/bin/env python3
"""Compares runtimes with each other and with the floor (floor.c): `make bench`, as root.

    bench.py [--n ROUNDS] [--cases WORD,...] [--gap MS] [--write] [--loaded] [RUNTIME...]

RUNTIME is a path; the first is the base of the ratios (`make bench` gives rundlet's static binary). runc and crun are added where
they are in PATH. Every round runs each runtime once, in an order shuffled anew, so what slows the machine down slows all alike;
read the medians as ratios. --gap rests so long before each call (cold caches, an idle RCU: the usual state of a node).
--loaded does not ask for SCHED_FIFO, which otherwise keeps other work out of the figures. --write puts table and plot into
README.md and conformance/bench/plot.svg.

Works in a mount namespace of its own, with cgroup v2 alone on /sys/fs/cgroup and a tmpfs on /run; leaves no process, no mount,
no cgroup and no file. Needs cc; strace for the counts of system calls (instructions need counters that virtual machines
rarely have, and are left out where `perf stat` has none).
"""
import argparse, copy, ctypes, json, os, random, re, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import report  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
SXD = ["nosuid", "noexec", "nodev"]
PROFILE = os.path.join(HERE, "../../tests/fixtures/seccomp/docker.json")
SPEC = {
    "ociVersion": "1.0.2",
    "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "noNewPrivileges": True,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]},
    "root": {"readonly": True}, "hostname": "bench",
    "mounts": [{"destination": d, "type": t, "source": t, "options": o} for d, t, o in (
        ("/proc", "proc", []), ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", SXD + ["mode=1777", "size=65536k"]), ("/dev/mqueue", "mqueue", SXD),
        ("/sys", "sysfs", SXD + ["ro"]), ("/sys/fs/cgroup", "cgroup", SXD + ["relatime", "ro"]))],
    "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]},
              "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
              "maskedPaths": ["/proc/" + p for p in "acpi asound kcore keys latency_stats timer_list timer_stats sched_debug "
                              "scsi".split()] + ["/sys/firmware"],
              "readonlyPaths": ["/proc/" + p for p in "bus fs irq sys sysrq-trigger".split()]}}
# crun 1.8 gives up where it may not raise RLIMIT_MEMLOCK: for it that call is always a success.
PRELOAD = "int setrlimit(int r, const void *l) { (void)r; (void)l; return 0; }\nint setrlimit64(int r, const void *l) { return setrlimit(r, l); }\n"


def tiny(path):
    """The smallest program that exits with 0."""
    import struct
    code = bytes.fromhex("b8e700000031ff0f05")
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 129, 129, 4096) + code)
    os.chmod(path, 0o755)


class Runtime:
    def __init__(self, bench, path):
        self.path, self.floor = path, os.path.basename(path) == "floor"
        self.name = os.path.basename(path)
        self.root, self.env, self.bench = f"/run/bench/{self.name}", dict(os.environ), bench
        os.makedirs(self.root)

    def run(self, verb, bundle, ident):
        """`run` or `create` of a bundle; the floor has no config.json, only flags."""
        if self.floor:
            b = self.bench.bundles[bundle]
            return [self.path, verb, *b["floor"], self.root, self.bench.rootfs, ident, *b["config"]["process"]["args"]]
        return [self.path, "--root", self.root, verb, "--bundle", f"{self.bench.work}/{bundle}", ident]

    def verb(self, verb, ident, *args, flags=()):
        if self.floor:
            number = [str(int(getattr(signal, "SIG" + a)) if verb == "kill" else a) for a in args]
            return [self.path, verb, *flags, self.root, ident, *number]
        return [self.path, "--root", self.root, verb, ident, *args]


class Left(Exception):
    pass


class Bench:
    def __init__(self, args, work):
        self.args, self.work, self.seq = args, work, 0
        self.rootfs, self.bundles, self.times = f"{work}/rootfs", {}, {}
        os.makedirs(self.rootfs + "/bin")
        for name in ("proc", "dev", "sys", "mnt", "etc"):
            os.mkdir(f"{self.rootfs}/{name}")
        shutil.copy("/bin/busybox", self.rootfs + "/bin/busybox")
        for name in ("true", "sleep"):
            os.symlink("busybox", f"{self.rootfs}/bin/{name}")
        tiny(self.rootfs + "/bin/tiny")
        self.err = open(f"{work}/err", "w+b")
        floor = f"{work}/floor"
        subprocess.run(["cc", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o", floor,
                        f"{HERE}/floor.c"], check=True)
        found = [shutil.which(n) for n in ("runc", "crun")]
        given = [self.installed(path) for path in args.runtime]
        paths = given + [p for p in found if p and os.path.basename(p) not in map(os.path.basename, given)]
        self.runtimes = [Runtime(self, p) for p in paths + [floor]]
        self.bundle("true"), self.bundle("tiny", args=["/bin/tiny"]), self.bundle("sleep", args=["/bin/sleep", "1000"])
        self.prepare()

    def installed(self, path):
        """A copy, as `make install` and packages write a program: in one piece. The kernel keeps and maps such a file in larger pieces
        than what a linker has written here and there, and a start of it takes 0.1 ms less."""
        directory = tempfile.mkdtemp(dir=self.work)
        return shutil.copy(path, directory)

    def prepare(self):
        """Leaves out what cannot run the plainest container here."""
        for rt in list(self.runtimes):
            if not self.works(rt) and rt.name.startswith("crun"):
                source, library = f"{self.work}/preload.c", f"{self.work}/preload.so"
                open(source, "w").write(PRELOAD)
                subprocess.run(["cc", "-shared", "-fPIC", "-fno-builtin", "-w", "-o", library, source], check=True)
                rt.env["LD_PRELOAD"] = library
            if not self.works(rt):
                print(f"# {rt.name} left out: {self.said()}", file=sys.stderr)
                self.runtimes.remove(rt)

    def works(self, rt):
        try:
            self.call(rt, rt.run("run", "true", self.ident()))
            return True
        except Left:
            return False

    def said(self):
        self.err.seek(0)
        return self.err.read()[-300:].decode(errors="replace").strip()

    def bundle(self, name, args=None, floor=(), edit=None):
        config = copy.deepcopy(SPEC)
        config["root"]["path"] = self.rootfs
        if args:
            config["process"]["args"] = args
        if edit:
            edit(config)
        os.mkdir(f"{self.work}/{name}")
        json.dump(config, open(f"{self.work}/{name}/config.json", "w"), indent="\t")
        self.bundles[name] = {"config": config, "floor": list(floor)}

    def ident(self):
        self.seq += 1
        return f"bench{os.getpid()}x{self.seq}"

    def spawn(self, rt, argv):
        null, err = os.open("/dev/null", os.O_RDWR), self.err.fileno()
        try:
            self.err.seek(0), self.err.truncate()
            return os.posix_spawn(argv[0], argv, rt.env, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0),
                                  (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, err, 2)])
        finally:
            os.close(null)

    def call(self, rt, argv, must=True):
        """Milliseconds of one call."""
        begin = time.perf_counter_ns()
        pid = self.spawn(rt, argv)
        status = os.waitpid(pid, 0)[1]
        took = (time.perf_counter_ns() - begin) / 1e6
        if status and must:
            raise Left(f"{rt.name}: {' '.join(argv[1:])}: {status}: {self.said()}")
        return took

    def rounds(self, each):
        """`each(runtime)` gives {case: milliseconds}; the first two rounds warm up."""
        left = set()
        for number in range(self.args.n + 2):
            for rt in random.sample(self.runtimes, len(self.runtimes)):
                if rt.name in left:
                    continue
                if self.args.gap:
                    time.sleep(self.args.gap / 1e3)
                try:
                    for case, took in each(rt).items():
                        if number >= 2:
                            self.times.setdefault(case, {}).setdefault(rt.name, []).append(took)
                except Left as error:
                    left.add(rt.name)
                    print(f"# left out: {error}", file=sys.stderr)
                reap()

    def simple(self, case, bundle="true"):
        self.rounds(lambda rt: {case: self.call(rt, rt.run("run", bundle, self.ident()))})

    # ---- the cases ---------------------------------------------------------------------------------------------------
    def version(self):
        self.rounds(lambda rt: {"version": self.call(rt, [rt.path, "version" if rt.floor else "--version"])})

    def run(self):
        self.simple("run")
        self.simple("run tiny", "tiny")

    def seccomp(self):
        """The floor loads the filter that the first runtime has compiled: rundlet keeps it beside its record."""
        first = self.runtimes[0]
        profile = json.load(open(PROFILE))
        self.bundle("sc", edit=lambda c: c["linux"].update(seccomp=profile))
        self.bundle("sc sleep", ["/bin/sleep", "1000"], edit=lambda c: c["linux"].update(seccomp=profile))
        ident, flags = self.up(first, "sc sleep"), []
        stored = f"{first.root}/{ident}/seccomp"
        if os.path.exists(stored):
            raw = open(stored, "rb").read()
            open(f"{self.work}/filter", "wb").write(raw[24:])
            flags = [f"--seccomp={self.work}/filter"]
        self.down(first, ident)
        for name in ("sc", "sc sleep"):
            self.bundles[name]["floor"] = flags
        self.simple("run, seccomp", "sc")
        self.running({"exec, seccomp": lambda rt, i: rt.verb("exec", i, "/bin/true", flags=flags)}, "sc sleep")

    def userns(self):
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]

        def edit(config):
            config["linux"]["namespaces"].append({"type": "user"})
            config["linux"].update(uidMappings=ids, gidMappings=ids)
        self.bundle("userns", floor=["--userns"], edit=edit)
        self.simple("run, user namespace", "userns")

    def life(self):
        def each(rt):
            ident, took = self.ident(), {}
            took["create"] = self.call(rt, rt.run("create", "true", ident))
            init = children()
            begin = time.perf_counter_ns()
            took["start"] = self.call(rt, rt.verb("start", ident))
            for pid in init:  # ours, as a shim's
                os.waitpid(pid, 0)
            took["start to exit"] = (time.perf_counter_ns() - begin) / 1e6
            took["delete"] = self.call(rt, rt.verb("delete", ident))
            return took
        self.rounds(each)

    def exec(self):
        self.running({"exec": lambda rt, i: rt.verb("exec", i, "/bin/true"), "exec tiny": lambda rt, i: rt.verb("exec", i, "/bin/tiny"),
                      "state": lambda rt, i: rt.verb("state", i), "kill": lambda rt, i: rt.verb("kill", i, "CONT")})

    def list(self):
        up = {rt.name: [self.up(rt) for _ in range(100)] for rt in self.runtimes}
        self.rounds(lambda rt: {"list of 100": self.call(rt, [rt.path, "list", rt.root] if rt.floor else
                                                          [rt.path, "--root", rt.root, "list"])})
        for rt in self.runtimes:
            for ident in up[rt.name]:
                self.down(rt, ident)

    def mounts(self):
        source = f"{self.work}/source"
        os.mkdir(source)
        for i in range(1000):
            os.mkdir(f"{self.rootfs}/mnt/{i}")
        for n in (10, 100, 1000):
            extra = [{"destination": f"/mnt/{i}", "type": "bind", "source": source, "options": ["bind"]} for i in range(n)]
            self.bundle(f"binds{n}", floor=[f"--binds={n}", f"--source={source}"], edit=lambda c, e=extra: c["mounts"].extend(e))
            self.simple(f"run, {n} bind mounts", f"binds{n}")

    def hostmounts(self):
        base, made = f"{self.work}/host", 0
        os.mkdir(base)
        for n in (100, 1000):
            for i in range(made, n):
                os.mkdir(f"{base}/{i}")
                LIBC.mount(b"none", f"{base}/{i}".encode(), b"tmpfs", 0, None)
            made = n
            self.simple(f"run, {n} more mounts on the host")
        for i in range(made):
            LIBC.umount2(f"{base}/{i}".encode(), 2)

    def parallel(self):
        for n in (2, 8):
            def each(rt):
                calls = [rt.run("run", "true", self.ident()) for _ in range(n)]
                begin = time.perf_counter_ns()
                pids = [self.spawn(rt, c) for c in calls]
                if any([os.waitpid(p, 0)[1] for p in pids]):
                    raise Left(f"{rt.name}: {n} at a time: {self.said()}")
                return {f"{n} at a time, each": (time.perf_counter_ns() - begin) / 1e6 / n}
            self.rounds(each)

    def growth(self):
        """With 400 containers that live, all of the first runtime."""
        up = [self.up(self.runtimes[0]) for _ in range(400)]
        self.simple("run, 400 containers live")
        for ident in up:
            self.down(self.runtimes[0], ident)

    # ---- what does not depend on the time ------------------------------------------------------------------------------
    def counts(self):
        """{what: {runtime: number}}: system calls by strace, peaks of memory, sizes."""
        found = {}
        for rt in self.runtimes:
            found.setdefault("binary, MiB", {})[rt.name] = os.path.getsize(rt.path) / 2**20
            ident = self.up(rt)
            calls = {"run": rt.run("run", "true", self.ident()), "exec": rt.verb("exec", ident, "/bin/true"),
                     "state": rt.verb("state", ident)}
            for what, argv in calls.items():
                peaks = []
                for _ in range(5):
                    again = argv[:-1] + [self.ident()] if what == "run" and not rt.floor else argv
                    self.call(rt, [self.runtimes[-1].path, "rss", f"{self.work}/rss", *again])
                    peaks.append(int(open(f"{self.work}/rss").read()))
                found.setdefault(f"peak RSS of {what}, MiB", {})[rt.name] = statistics.median(peaks) / 1024
            if shutil.which("strace"):
                created = self.ident()
                calls["create"] = rt.run("create", "sleep", created)
                calls["start"], calls["kill"] = rt.verb("start", created), rt.verb("kill", created, "KILL")
                calls["delete"] = rt.verb("delete", created)
                for what in ("run", "create", "start", "state", "exec", "kill", "delete"):
                    found.setdefault(f"system calls: {what}", {})[rt.name] = self.traced(rt, calls[what])
                    time.sleep(0.05 if what == "kill" else 0)
                    reap()
            self.down(rt, ident)
        if not shutil.which("strace"):
            print("# system calls are not counted: strace is not installed", file=sys.stderr)
        return found

    def traced(self, rt, argv):
        """Those of the call and of all that it starts, until it ends."""
        log = f"{self.work}/strace"
        pid = self.spawn(rt, [shutil.which("strace"), "-I2", "-f", "-o", log, *argv])
        end, lines = time.monotonic() + 20, []
        while time.monotonic() < end:
            lines = open(log).read().splitlines() if os.path.exists(log) else []
            if lines and any(re.match(lines[0].split()[0] + r"\s+\+\+\+ ", line) for line in lines[-50:]):
                break
            time.sleep(0.005)
        try:
            os.kill(pid, signal.SIGTERM)  # what a create leaves goes on
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)
        os.unlink(log)
        return sum(1 for line in lines if not re.match(r"\d+\s+(\+\+\+|---|<\.\.\.)", line))

    # ---- containers ----------------------------------------------------------------------------------------------------
    def up(self, rt, bundle="sleep"):
        ident = self.ident()
        self.call(rt, rt.run("create", bundle, ident))
        self.call(rt, rt.verb("start", ident))
        return ident

    def down(self, rt, ident):
        before = children()
        self.call(rt, rt.verb("kill", ident, "KILL"), must=False)
        end = time.monotonic() + 5
        while children() == before and time.monotonic() < end:
            reap()
            time.sleep(0.001)
        for _ in range(50):
            if self.works_verb(rt, ident):
                break
            time.sleep(0.01)
        reap()

    def works_verb(self, rt, ident):
        try:
            self.call(rt, rt.verb("delete", ident))
            return True
        except Left:
            return False

    def running(self, cases, bundle="sleep"):
        up = {}
        for rt in self.runtimes:
            try:
                up[rt.name] = self.up(rt, bundle)
            except Left as error:
                print(f"# left out: {error}", file=sys.stderr)
        for case, argv in cases.items():
            self.rounds(lambda rt: {case: self.call(rt, argv(rt, up[rt.name]))} if rt.name in up else {})
        for rt in self.runtimes:
            if rt.name in up:
                self.down(rt, up[rt.name])


def leave_nothing(work):
    """Of containers that a runtime could not finish."""
    for pid in children():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for name in os.listdir("/sys/fs/cgroup"):
        if name.startswith(f"bench{os.getpid()}x"):
            os.rmdir(f"/sys/fs/cgroup/{name}")
    shutil.rmtree(work, ignore_errors=True)


def children():
    return sorted(map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split()))


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


CASES = "version run seccomp userns life exec list mounts hostmounts parallel growth".split()


def own_world():
    def must(ret, what):
        if ret:
            sys.exit(f"bench: {what}: {os.strerror(ctypes.get_errno())}")
    must(LIBC.unshare(0x00020000), "unshare the mount namespace")
    must(LIBC.mount(None, b"/", None, 0x4000 | 1 << 18, None), "make it private")
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        must(LIBC.mount(b"none", b"/sys/fs/cgroup", b"cgroup2", 0, None), "mount cgroup v2")
    must(LIBC.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755"), "mount a tmpfs on /run")
    LIBC.prctl(36, 1, 0, 0, 0)  # the containers' processes become ours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime", nargs="*")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--cases", default=",".join([*CASES, "counts"]))
    parser.add_argument("--gap", type=float, default=0)
    parser.add_argument("--loaded", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    args.runtime = [os.path.abspath(path) for path in args.runtime]
    own_world()
    if not args.loaded:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError as error:
            print(f"# without SCHED_FIFO: {error}", file=sys.stderr)
    work = tempfile.mkdtemp(prefix="rundlet-bench.")
    os.chmod(work, 0o755)
    bench, counts = None, {}
    try:
        bench = Bench(args, work)
        for case in args.cases.split(","):
            if case == "counts":
                counts = bench.counts()
            else:
                getattr(bench, case)()
    finally:
        if bench and bench.times:
            names = [rt.name for rt in bench.runtimes]
            report.show(names, bench.times, counts)
            if args.write:
                report.write(names, bench.times, counts, bench.runtimes, args)
        leave_nothing(work)


if __name__ == "__main__":
    main()
