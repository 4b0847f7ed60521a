"""What a case of demand has to work with: a runtime with a state root of its own, bundles, and what is asked of the kernel."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import time

FLAGS = ["nosuid", "noexec", "nodev"]
MOUNTS = [("/proc", "proc", []), ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
          ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
          ("/dev/shm", "tmpfs", FLAGS + ["mode=1777", "size=65536k"]), ("/dev/mqueue", "mqueue", FLAGS),
          ("/sys", "sysfs", FLAGS + ["ro"]), ("/sys/fs/cgroup", "cgroup", FLAGS + ["relatime", "ro"])]
CONFIG = {
    "ociVersion": "1.0.2",
    "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": True,
                "env": ["PATH=/bin"], "args": ["sleep", "1000"],
                "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}},
    "root": {"path": "rootfs"}, "hostname": "inside",
    "mounts": [{"destination": d, "type": t, "source": t, "options": o} for d, t, o in MOUNTS],
    "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]},
              "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
              "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
              "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys"]},
}


class Skip(Exception):
    """This runtime, or this machine, is no place for the case."""


class Said:
    """How a command ended, and what it printed. `code` is None where it did not end within its time."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def lines(self):
        return self.err.strip().splitlines() or self.out.strip().splitlines() or [""]

    @property
    def first(self):
        """Where a usage text comes after the error."""
        return bare(self.lines()[0])

    @property
    def last(self):
        """What an engine shows its user."""
        return bare(self.lines()[-1])


def bare(line):
    """Without the decoration of a log."""
    found = re.search(r'msg="(.*)"$', line)
    return found[1].replace('\\"', '"') if found else line


class Side:
    """One runtime in one case. What it made is gone after `close`."""

    def __init__(self, path, folder, group):
        self.path, self.name = path, os.path.basename(path)
        self.folder, self.group = os.path.join(folder, self.name), group
        self.root, self.started, self.ids, self.bundles = self.folder + "/state", [], [], 0
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.root)
        os.makedirs(self.folder + "/rootfs/bin")
        for name in ("proc", "dev", "sys", "mnt", "etc"):
            os.mkdir(f"{self.folder}/rootfs/{name}")
        shutil.copy("/bin/busybox", self.folder + "/rootfs/bin/busybox")
        for name in ("sh", "sleep", "true", "cat"):
            os.symlink("busybox", f"{self.folder}/rootfs/bin/{name}")

    def bundle(self, *args, edit=None):
        """A bundle of the root file system that all of this side share -> its path."""
        config = copy.deepcopy(CONFIG)
        self.bundles += 1
        path = f"{self.folder}/b{self.bundles}"
        os.mkdir(path)
        config["root"]["path"] = self.folder + "/rootfs"
        config["linux"]["cgroupsPath"] = f"/{self.group}/{self.name}-{self.bundles}"
        if args:
            config["process"]["args"] = list(args)
        if edit:
            edit(config)
        with open(path + "/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        return path

    def cgroup(self, controller=""):
        """Of the newest bundle, as the host sees it."""
        return os.path.join("/sys/fs/cgroup", controller, self.group, f"{self.name}-{self.bundles}")

    def processes(self):
        """In the cgroup of the newest bundle."""
        path = self.cgroup("pids") + "/cgroup.procs"
        return read(path).split() if os.path.exists(path) else []

    def kill_left(self):
        for pid in self.processes():
            os.kill(int(pid), signal.SIGKILL)

    def words(self, *args):
        return [self.path, "--root", self.root, *args]

    def call(self, *args, stdin=None, timeout=60, prefix=()):
        """Files, not pipes: a container keeps what it was given open."""
        with open(self.folder + "/out", "w+b") as out, open(self.folder + "/err", "w+b") as err:
            process = subprocess.Popen([*prefix, *self.words(*args)], stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                       stdout=out, stderr=err, start_new_session=True)
            try:
                process.communicate(stdin and stdin.encode(), timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                process.returncode = None
            out.seek(0), err.seek(0)
            return Said(process.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace"))

    def create(self, bundle, ident="c", *flags, **how):
        self.ids.append(ident)
        return self.call("create", "--bundle", bundle, *flags, ident, **how)

    def running(self, bundle, ident="c"):
        """A container that must come to run: what is tried comes after it."""
        self.ids.append(ident)
        self.must(self.call("run", "--detach", "--bundle", bundle, ident))

    def run(self, bundle, ident="c", **how):
        self.ids.append(ident)
        return self.call("run", "--bundle", bundle, ident, **how)

    def must(self, said):
        if said.code != 0:
            raise RuntimeError(f"{self.name}: exit {said.code}: {said.err}{said.out}")
        return said

    def state(self, ident="c"):
        return json.loads(self.must(self.call("state", ident)).out)

    def plain(self, text):
        """Without what is this run's alone: places, process ids, how much memory is used."""
        text = text.replace(self.folder, "DIR").replace(self.group, "GROUP").replace(self.path, self.name)
        text = re.sub(r"(usage: )\d+", r"\1N", text)
        return re.sub(r"\b\d+( \(sleep, state \w), waiting in `\w+`", r"PID\1, waiting in `WHERE`", text)

    def close(self):
        for ident in self.ids:
            self.call("delete", "--force", ident)
        self.kill_left()
        shutil.rmtree(self.folder)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    return condition()


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
