"""conmon without an engine: this script does what Podman and CRI-O do around it (sync pipes, exit files, attach sockets)."""

import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import time

import images
import normalise
from engine import SLEEP, Engine, Operation, first_line, operation


class Conmon(Operation):
    """Each container has a folder with its bundle, log, exit file and pid files."""

    def folder_of(self, name):
        return os.path.join(self.scratch, name)

    def create(self, name, words, terminal=False, stdin=False, change=None):
        """conmon with `create`; the error of the runtime comes through the sync pipe. -> what it said"""
        folder = self.folder_of(name)
        os.makedirs(folder + "/exits")
        rootfs = folder + "/rootfs"
        subprocess.run(["cp", "-a", self.engine.path("rootfs"), rootfs], check=True, timeout=20)
        subprocess.run(["/usr/sbin/runc", "spec", "--bundle", folder], check=True, timeout=20)
        with open(folder + "/config.json", encoding="utf-8") as f:
            config = json.load(f)
        config["process"].update(args=words, terminal=terminal, env=["PATH=/bin", "TERM=xterm"], rlimits=[])
        config["root"]["readonly"] = False
        config["linux"]["cgroupsPath"] = f"/{self.engine.group}/{name}"
        if change:
            change(config)
        with open(folder + "/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        return self.conmon(name, ["--bundle", folder, "--container-pidfile", folder + "/pid", "--exit-dir", folder + "/exits",
                                  "--conmon-pidfile", folder + "/conmon.pid", "--persist-dir", folder, "--full-attach",
                                  "--socket-dir-path", self.engine.sockets, "--log-path", "k8s-file:" + folder + "/log",
                                  *(["-t"] if terminal else []), *(["-i"] if stdin else [])])

    def conmon(self, name, words, start=True):
        """-> what conmon writes to its sync pipe: the pid as `data`, or a negative number and `message`; for exec the exit code at last"""
        read, write = os.pipe()
        gate, go = os.pipe()
        command = ["conmon", "--api-version", "1", "--cid", self.engine.cid(name), "--cuuid", self.engine.cid(name), "--name", name,
                   "--runtime", self.engine.runtime, "--runtime-arg=--root=" + self.engine.path("state"), *words]
        env = {**self.env, "_OCI_SYNCPIPE": str(write), "_OCI_STARTPIPE": str(gate)}
        process = subprocess.Popen(command, env=env, pass_fds=[write, gate], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, start_new_session=True)
        os.close(write)
        os.close(gate)
        if start:
            os.write(go, b"\0")
        os.close(go)
        with os.fdopen(read, encoding="utf-8") as f:
            lines = f.readlines() if "--exec" in words else [f.readline()]
        # conmon leaves its first process at once.
        _, error = process.communicate(timeout=30)
        self.raw.append({"command": " ".join(command), "code": process.returncode, "out": str(lines), "err": error.decode(errors="replace")})
        said = {}
        for line in lines:
            said.update(json.loads(line or "{}"))
        return said

    def runtime(self, *words, **kw):
        return self.do(self.engine.runtime, "--root", self.engine.path("state"), *words, **kw)

    def wait_exit(self, name, code):
        """The exit code that conmon notes."""
        path = os.path.join(self.folder_of(name), "exits", self.engine.cid(name))
        end = time.monotonic() + 20
        while not (os.path.exists(path) and os.path.getsize(path)) and time.monotonic() < end:
            time.sleep(0.05)
        said = open(path, encoding="utf-8").read() if os.path.exists(path) else "none"
        self.note(f"exit file of {name}", said, str(code))

    def log(self, name):
        with open(self.folder_of(name) + "/log", encoding="utf-8") as f:
            return "".join(" ".join(line.split(" ")[1:]) for line in f)

    def attach(self, name):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(20)
        s.connect(self.folder_of(name) + "/attach")
        return s

    def read_until(self, s, pattern):
        """Packets begin with the number of the stream."""
        seen = b""
        try:
            while not re.search(pattern, seen):
                data = s.recv(8193)
                if not data:
                    break
                seen += data[1:]
        except TimeoutError:
            pass
        self.want(re.search(pattern, seen), f"attach never gave {pattern}: {seen}")
        return seen


class Direct(Engine):
    operations, count, programs = Conmon, 0, ("conmon", "runc")

    def start(self):
        tar = self.path("busybox.tar")
        images.busybox_tar(tar)
        with tarfile.open(tar) as f:
            f.extractall(self.path("rootfs"))
        for name in ("proc", "sys", "dev", "run"):
            os.makedirs(os.path.join(self.path("rootfs"), name), exist_ok=True)
        # Paths of sockets are short.
        self.sockets = "/run/conmon"
        os.makedirs(self.sockets)

    def cid(self, name):
        return f"{name}-{self.count}"

    def version(self):
        return first_line("conmon", "--version").replace("version ", "")

    def after_each(self):
        state = self.path("state")
        for name in os.listdir(state) if os.path.isdir(state) else []:
            subprocess.run([self.runtime, "--root", state, "delete", "--force", name], capture_output=True, timeout=60)
        for name in os.listdir(state) if os.path.isdir(state) else []:
            yield f"left behind: {name}"
        self.count += 1


ENGINE = Direct


@operation
def life(c):
    """create, start, log, exit file, delete"""
    said = c.create("one", ["sh", "-c", "echo out; echo err >&2; exit 7"])
    c.want(said.get("data", -1) > 0, f"sync pipe: {said}")
    with open(c.folder_of("one") + "/pid", encoding="utf-8") as f:
        c.want(int(f.read()) == said["data"], "pid file")
    c.runtime("state", c.engine.cid("one"), norm=lambda v: json.loads(v)["status"], has='"created"')
    c.runtime("start", c.engine.cid("one"))
    c.wait_exit("one", 7)
    c.note("log", normalise.lines_sorted(c.log("one")))
    c.want("stdout F out" in c.log("one") and "stderr F err" in c.log("one"), c.log("one"))
    c.runtime("delete", c.engine.cid("one"))


@operation
def signals(c):
    """kill: the exit file says the signal"""
    c.create("one", ["sleep", "1000"])
    c.runtime("start", c.engine.cid("one"))
    c.runtime("kill", c.engine.cid("one"), "KILL")
    c.wait_exit("one", 137)
    c.runtime("delete", c.engine.cid("one"))


@operation
def errors(c):
    """errors of create come through the sync pipe"""
    for n, (words, wanted) in enumerate(((["no-such-program"], "executable file not found in \\$PATH"), (["/plain"], "(?i)permission denied"))):
        said = c.create(f"bad{n}", words)
        c.want(said.get("data", 0) < 0 and re.search(wanted, said.get("message", "")), f"sync pipe: {said}")
        c.note("instead of a pid", said.get("data"))
    said = c.create("mount", ["true"], change=lambda d: d["mounts"].append({"destination": "/x", "source": "/no/such", "type": "bind", "options": ["bind"]}))
    c.want("no such file" in said.get("message", "").lower(), f"sync pipe: {said}")


@operation
def attach(c):
    """attach: input and output"""
    c.create("one", ["sh", "-c", "while read a; do echo got $a; [ $a = end ] && exit 6; done"], stdin=True)
    c.runtime("start", c.engine.cid("one"))
    s = c.attach("one")
    s.send(b"one\n")
    c.read_until(s, b"got one")
    s.send(b"end\n")
    c.read_until(s, b"got end")
    c.wait_exit("one", 6)


@operation
def terminal(c):
    """a terminal: console socket, its size by the control pipe"""
    c.create("one", ["sh", "-c", "tty; until [ \"$(stty size 2>/dev/null)\" = '33 77' ]; do usleep 50000; done; stty size; read a; exit 5"],
             terminal=True, stdin=True)
    s = c.attach("one")
    c.runtime("start", c.engine.cid("one"))
    c.read_until(s, b"/dev/pts/0")
    with open(c.folder_of("one") + "/ctl", "wb", buffering=0) as f:
        f.write(b"1 33 77\n")
    c.read_until(s, b"33 77")
    s.send(b"end\n")
    c.wait_exit("one", 5)


@operation
def exec_(c):
    """exec: process file, exit code, error"""
    c.create("one", ["sh", "-c", SLEEP])
    c.runtime("start", c.engine.cid("one"))
    for name, words, code in (("good", ["sh", "-c", "id -u; exit 9"], 9), ("bad", ["no-such-program"], None)):
        folder = c.folder("exec-" + name)
        os.makedirs(folder + "/exits")
        process = {"args": words, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 7, "gid": 8}, "terminal": False,
                   "capabilities": {k: [] for k in ("bounding", "effective", "permitted")}}
        spec = c.write(f"exec-{name}/process.json", json.dumps(process))
        said = c.conmon("one", ["--bundle", c.folder_of("one"), "--exec", "--exec-process-spec", spec, "--container-pidfile",
                                    folder + "/pid", "--exit-dir", folder + "/exits", "--socket-dir-path", sockets_of(c, name), "--log-path",
                                    "k8s-file:" + folder + "/log", "--full-attach"])
        if code is None:
            c.want(re.search("executable file not found in \\$PATH", str(said.get("message"))), f"sync pipe: {said}")
            c.note("instead of a pid", said.get("data"))
            continue
        c.note("exit code of exec", said.get("data"), code)
        with open(folder + "/log", encoding="utf-8") as f:
            c.want("stdout F 7" in f.read(), "output of exec")


exec_.__name__ = "exec"


def sockets_of(c, name):
    folder = f"{c.engine.sockets}/{name}-{c.engine.count}"
    os.makedirs(folder, exist_ok=True)
    return folder


@operation
def out_of_memory(c):
    """a container that runs out of memory: conmon notes it"""
    def change(config):
        config["linux"]["resources"] = {**config["linux"].get("resources", {}), "memory": {"limit": 16 << 20, "swap": 16 << 20}}
    c.create("one", ["sh", "-c", "tail -c 100m /dev/zero"], change=change)
    c.runtime("start", c.engine.cid("one"))
    c.wait_exit("one", 137)
    c.want(os.path.exists(c.folder_of("one") + "/oom"), "no file `oom`")


@operation
def killed(c):
    """conmon is killed: the container can be deleted"""
    c.create("one", ["sleep", "1000"])
    c.runtime("start", c.engine.cid("one"))
    with open(c.folder_of("one") + "/conmon.pid", encoding="utf-8") as f:
        os.kill(int(f.read()), signal.SIGKILL)
    c.runtime("delete", "--force", c.engine.cid("one"))
    c.runtime("state", c.engine.cid("one"), code=1, err="does not exist", norm_err=lambda v: "")
