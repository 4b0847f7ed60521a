#!/usr/bin/env python3
"""The smallest memory limit with which a runtime still starts a program, and what is charged once it runs.

    minimum.py [--systemd] [--program FILE] RUNTIME...       as root; FILE is static and prints `started`

Without --program it is one of 170 bytes that writes the word and ends: what is measured is then the runtime and the kernel.
For each runtime and shape of container the limit is halved down to 4 KiB; it counts when the program starts in five runs out of
five. `held` is what the container's cgroup is charged with while such a program sleeps, without a limit.
Uses the cgroup /rundlet-minimum (v1: of the memory hierarchy too), with --systemd (the systemd driver, cgroup v2) the unit
rundlet-minimum.scope, and a temporary directory; leaves none of them.
"""
import json, os, struct, subprocess, sys, time

CAPS = ["CAP_" + c for c in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
        "SYS_CHROOT KILL AUDIT_WRITE".split()]
GROUP, UNIT = "/rundlet-minimum", "system.slice:rundlet:minimum"
RUNS = 5


def elf(code):
    """A static x86-64 program of one segment."""
    base = 0x400000
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = 120 + len(code)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code


def tiny(then):
    """write(1, "started\\n", 8), then exit_group(0) or pause() for ever."""
    code = bytes.fromhex("b801000000bf01000000488d3515000000ba080000000f05") + bytes.fromhex(then)
    return elf(code.ljust(38, b"\x90") + b"started\n")


EXIT = "b8e700000031ff0f05"
SLEEP = "b8220000000f05ebf7"


def mounts():
    flags = ["nosuid", "noexec", "nodev"]
    yield "/proc", "proc", []
    yield "/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]
    yield "/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    yield "/dev/shm", "tmpfs", flags + ["mode=1777", "size=65536k"]
    yield "/dev/mqueue", "mqueue", flags
    yield "/sys", "sysfs", flags + ["ro"]
    yield "/sys/fs/cgroup", "cgroup", flags + ["relatime", "ro"]


def config(shape, limit, path):
    linux = {
        "cgroupsPath": path,
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }
    if limit:
        linux["resources"]["memory"] = {"limit": limit, "swap": limit}
    if shape == "user namespace":
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    if shape == "seccomp":
        linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": [name], "action": "SCMP_ACT_ERRNO"} for name in ("kexec_load", "reboot", "swapon", "add_key", "bpf")]}
    return {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/program"], "env": ["PATH=/bin"], "cwd": "/",
                    "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")}, "noNewPrivileges": True},
        "root": {"path": "rootfs"}, "hostname": "inside",
        "mounts": [{"destination": d, "type": t, "source": t, "options": o} for d, t, o in mounts()],
        "linux": linux,
    }


class Bench:
    def __init__(self, runtime, directory, systemd):
        self.runtime, self.dir, self.systemd = runtime, directory, systemd
        self.said = ""

    def call(self, *args):
        # Files, not pipes: a container keeps its output open.
        with open(self.dir + "/out", "w+") as out, open(self.dir + "/err", "w+") as err:
            driver = ["--systemd-cgroup"] if self.systemd else []
            code = subprocess.run([self.runtime, "--root", self.dir + "/state", *driver, *args], stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=err, timeout=60).returncode
            out.seek(0), err.seek(0)
            return code, out.read(), err.read()

    def write(self, shape, limit):
        with open(self.dir + "/config.json", "w") as file:
            json.dump(config(shape, limit, UNIT if self.systemd else GROUP), file)

    def starts(self, shape, limit):
        self.write(shape, limit)
        for _ in range(RUNS):
            code, out, err = self.call("run", "--bundle", self.dir, "minimum")
            if code != 0 or "started" not in out:
                self.said = (err.strip().splitlines() or [f"exit code {code}"])[-1]
                self.call("delete", "--force", "minimum")
                return False
        return True

    def minimum(self, shape):
        low, high = 0, 64 << 10
        while not self.starts(shape, high << 10):
            low, high = high, high * 2
            if high > 1 << 20:
                return None
        while high - low > 4:
            middle = (low + high) // 8 * 4
            if self.starts(shape, middle << 10):
                high = middle
            else:
                low = middle
        return high

    def held(self, shape):
        self.write(shape, None)
        self.call("run", "--detach", "--bundle", self.dir, "minimum")
        time.sleep(0.3)
        files = ["/sys/fs/cgroup/system.slice" + GROUP + ".scope/memory.current",
                 "/sys/fs/cgroup" + GROUP + "/memory.current",
                 "/sys/fs/cgroup/memory" + GROUP + "/memory.usage_in_bytes"]
        usage = [int(open(f).read()) >> 10 for f in files if os.path.exists(f)]
        self.call("delete", "--force", "minimum")
        return usage[0] if usage else None


def main():
    args = sys.argv[1:]
    program, systemd = None, args[:1] == ["--systemd"]
    args = args[systemd:]
    if args[:1] == ["--program"]:
        program, args = args[1], args[2:]
    if not args or args[0].startswith("-"):
        sys.exit(__doc__)
    print(f"{'runtime':24} {'container':16} {'minimum':>9} {'held':>9}   error below the minimum")
    for runtime in args:
        for shape in ("plain", "user namespace", "seccomp"):
            directory = f"/var/tmp/minimum-{os.getpid()}"  # python3-minimal has no tempfile
            try:
                for name in ("proc", "dev", "sys"):
                    os.makedirs(f"{directory}/rootfs/{name}")
                target = directory + "/rootfs/program"

                def put(data):
                    with open(target, "wb") as file:
                        file.write(data)
                    os.chmod(target, 0o755)

                put(open(program, "rb").read() if program else tiny(EXIT))
                bench = Bench(runtime, directory, systemd)
                least = bench.minimum(shape)
                said = bench.said
                put(tiny(SLEEP))
                held = bench.held(shape)
                print(f"{os.path.basename(runtime):24} {shape:16} {least or '-':>5} KiB {held or '-':>5} KiB   {said[-150:]}",
                      flush=True)
            finally:
                subprocess.run(["rm", "-rf", directory], check=True)


main()
