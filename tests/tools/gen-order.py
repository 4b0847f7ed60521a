#!/usr/bin/env python3
"""Writes .cargo/order.ld: the functions that run in every command, in the order in which they first do.

    CARGO_PROFILE_RELEASE_STRIP=none make static
    tests/tools/gen-order.py target/x86_64-unknown-linux-musl/release/rundlet > order && mv order .cargo/order.ld
    touch src/main.rs       # for cargo, which does not know of the file

As root on x86_64, on a host with cgroup v2 mounted somewhere. Runs the commands one instruction at a time (ptrace(2)), itself and
all that it clones, which takes minutes. Names are written without the hashes of crates, which change with each compiler; one that
is no more is passed over by the linker, so the file need not be made again for each change.
"""
import bisect, ctypes, json, os, re, signal, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../conformance/bench"))
sys.dont_write_bytecode = True
import bench  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE = LIBC.ptrace
PTRACE.restype, PTRACE.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
TRACEME, PEEKUSER, CONT, STEP, DETACH, SETOPTIONS = 0, 3, 7, 9, 17, 0x4200
FORKS_CLONES_EXECS_KILL = 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
RIP, EVENT_EXEC, WALL = 128, 4, 0x40000000


def mapped(pid, name):
    """Where the program lies in a process; None where it is another program."""
    try:
        lines = [line.split() for line in open(f"/proc/{pid}/maps")]
    except OSError:
        return None
    own = [line[0].split("-") for line in lines if len(line) > 5 and os.path.basename(line[5]) == name]
    return (int(own[0][0], 16), int(own[-1][1], 16)) if own else None


def step(argv, seen, directory="/"):
    """Adds offsets of the code that runs."""
    name, first = os.path.basename(argv[0]), os.fork()
    if not first:
        PTRACE(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0), os.dup2(null, 1)
        os.chdir(directory)
        os.execv(argv[0], argv)
    os.waitpid(first, 0)
    PTRACE(SETOPTIONS, first, None, FORKS_CLONES_EXECS_KILL)
    PTRACE(CONT, first, None, None)
    places, end, quiet = {}, time.time() + 120, None
    # A container that is created goes on waiting, and is seen again with what starts it.
    while time.time() < end and (quiet is None or time.time() < quiet):
        try:
            pid, status = os.waitpid(-1, WALL | (0 if quiet is None else os.WNOHANG))
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.01)
            continue
        quiet = quiet and time.time() + 0.5
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if pid == first:
                quiet = time.time() + 0.5
            continue
        sig, event, deliver = os.WSTOPSIG(status), status >> 16, 0
        if event == EVENT_EXEC or pid not in places:
            places[pid] = mapped(pid, name)
            if event == EVENT_EXEC and not places[pid]:
                PTRACE(DETACH, pid, None, None)
                del places[pid]
                continue
        if sig == signal.SIGTRAP:
            at = PTRACE(PEEKUSER, pid, RIP, None) & (1 << 64) - 1
            low, high = places[pid] or (0, 0)
            if low <= at < high:
                seen.setdefault(at - low)
        elif sig != signal.SIGSTOP:
            deliver = sig
        PTRACE(STEP, pid, None, deliver)


def names(binary, seen):
    """Of the functions at these places; of each all its names, for its section has one of them."""
    out = subprocess.run(["nm", "--defined-only", binary], capture_output=True, text=True, check=True).stdout
    symbols = {}
    for address, kind, name in (line.split(None, 2) for line in out.splitlines()):
        if kind in "tTwW":
            symbols.setdefault(int(address, 16), []).append(name)
    starts = sorted(symbols)
    for at in seen:
        for name in symbols[starts[bisect.bisect_right(starts, at) - 1]]:
            name = re.sub(r"\.llvm\.\d+$", "*", name)
            yield re.sub(r"Cs[0-9a-zA-Z]{9,14}_", "Cs*_", name)


def as_spec_writes(all_of_it, rt):
    """A bundle as people begin with one."""
    path = all_of_it.work + "/written"
    os.mkdir(path)
    subprocess.run([rt.path, "spec", "--bundle", path], check=True)
    config = json.load(open(path + "/config.json"))
    config["process"] |= {"terminal": False, "args": ["/bin/tiny"]}
    config["root"]["path"] = all_of_it.rootfs
    json.dump(config, open(path + "/config.json", "w"))
    return path


def main():
    binary = os.path.abspath(sys.argv[1])
    bench.own_world()
    args = bench.argparse.Namespace(n=0, gap=0, runtime=[binary])
    work = bench.tempfile.mkdtemp(prefix="rundlet-order.")
    os.chmod(work, 0o755)
    seen = {}
    try:
        all_of_it = bench.Bench(args, work)
        rt = all_of_it.runtimes[0]
        ident = all_of_it.ident()
        all_of_it.call(rt, rt.run("create", "sleep", ident))
        # The small commands first: what they share lies in front.
        for verb, *rest in (("state",), ("start",), ("state",), ("kill", "CONT")):
            step(rt.verb(verb, ident, *rest), seen)
        step([rt.path, "--root", rt.root, "list"], seen)
        step(rt.verb("kill", ident, "KILL"), seen)
        time.sleep(0.3)
        bench.reap()
        step(rt.verb("delete", ident), seen)
        step([rt.path, "--version"], seen)
        step(rt.run("run", "tiny", all_of_it.ident()), seen)
        step([rt.path, "--root", rt.root, "run", all_of_it.ident()], seen, as_spec_writes(all_of_it, rt))
        ident = all_of_it.ident()
        step(rt.run("create", "sleep", ident), seen)
        step(rt.verb("delete", ident, "--force"), seen)
        ident = all_of_it.up(rt)
        step(rt.verb("exec", ident, "/bin/tiny"), seen)
        all_of_it.down(rt, ident)
        profile = json.load(open(bench.PROFILE))
        for name, program in (("sc tiny", ["/bin/tiny"]), ("sc sleep", ["/bin/sleep", "1000"])):
            all_of_it.bundle(name, program, edit=lambda config: config["linux"].update(seccomp=profile))
        step(rt.run("run", "sc tiny", all_of_it.ident()), seen)
        ident = all_of_it.up(rt, "sc sleep")
        step(rt.verb("exec", ident, "/bin/tiny"), seen)
        all_of_it.down(rt, ident)
    finally:
        bench.leave_nothing(work)
    print("/* The functions that run in every command, in the order in which they first do: what lies together is read from the\n"
          "   file and mapped together. Written by tests/tools/gen-order.py; a name that is no more is passed over. */\n"
          "SECTIONS\n{\n  .text.first :\n  {")
    for name in dict.fromkeys(names(binary, seen)):
        # What libc has in assembly is in no section of its own.
        print(f"    *(.text.{name} .text.unlikely.{name})" + ("" if name.startswith("_R") else f" *{name}.lo(.text)"))
        if name == "rundlet_start":
            print("    *crt1.o(.text .text.*)")
    print("  }\n}\nINSERT BEFORE .text;\n"
          "/* 55 KB that a container without a filter never reads. */\n"
          "SECTIONS\n{\n  .rodata.last : { *(.rodata.*7rundlet7seccomp6tables*) }\n}\nINSERT AFTER .rodata;\n"
          "/* Behind all other data: src/sys/arena.rs. */\n"
          "SECTIONS\n{\n  .bss.last (NOLOAD) : { *(.bss.rundlet_arena) }\n}\nINSERT AFTER .bss;")


if __name__ == "__main__":
    main()
