"""What a case may do: run docker commands, each recorded with its exit code and normalised output, and say what must
be true. A record is compared between the two runtimes; an expectation must hold for each on its own."""

import errno
import os
import pty
import re
import select
import signal
import struct
import subprocess
import fcntl
import termios
import time

import normalise

CASES = []


def case(group, remap=False, v1=False):
    """Registers a case. `remap`: it runs under a daemon with user namespaces. `v1`: it is about cgroup version 1, or
    needs controllers that a version 2 view of a hybrid host does not have."""
    def register(function):
        name = group + "." + function.__name__
        if any(c["name"] == name for c in CASES):
            raise ValueError(f"two cases are called {name}")
        CASES.append({"name": name, "function": function, "remap": remap, "v1": v1})
        return function
    return register


# A shell that a test types at. Not an interactive one: that draws its prompt anew when the terminal's size comes late.
TYPED = ["sh", "-c", "echo ready; while read line; do eval \"$line\"; echo ready; done"]


# Takes memory without end. Its own bound keeps the host whole if the runtime sets no limit: it then ends with 2, not 137.
HOG = "ulimit -v 400000; x=a; while :; do x=$x$x; done"


class Skip(Exception):
    """The host can not do it, whatever the runtime."""


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return self.out + self.err


class Context:
    """One case on one side."""

    def __init__(self, docker, daemon, literal, scratch):
        self.docker, self.daemon, self.literal, self.scratch = docker, daemon, literal, scratch
        self.records, self.failures, self.raw = [], [], []
        self.env = {**os.environ, "DOCKER_HOST": daemon.host, "DOCKER_CLI_HINTS": "false", "LC_ALL": "C", "TZ": "UTC"}
        self.env["HOME"] = scratch
        self.children = []

    # ---- what a case says

    def want(self, truth, text):
        if not truth:
            self.failures.append(text)

    def note(self, name, value, expected=None):
        """Records a fact that the case itself worked out."""
        self.records.append({"note": name, "value": self.clean(str(value))})
        if expected is not None:
            self.want(value == expected, f"{name}: {value!r} instead of {expected!r}")

    def clean(self, value, norm=None):
        if norm:
            value = norm(value)
        return normalise.text(value, self.literal)

    def path(self, name):
        return os.path.join(self.scratch, name)

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)
        os.chmod(path, mode)
        return path

    def folder(self, name, mode=0o755):
        path = self.path(name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        return path

    # ---- docker commands

    def d(self, *args, code=0, has=None, err=None, norm=None, norm_err=None, stdin=None, timeout=60, record=True,
          env=None):
        """`docker ARGS`. code: the exit code that must come (None: any). has, err: expressions that must be found in
        the output, the error output."""
        process = subprocess.Popen([self.docker, *args], env={**self.env, **(env or {})}, stdout=subprocess.PIPE,
                                   stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, start_new_session=True)
        self.children.append(process)
        try:
            out, error = process.communicate(stdin, timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            status = "timeout"
        self.children.remove(process)
        return self._finish(args, status, out, error, code, has, err, norm, record, norm_err)

    def _finish(self, args, status, out, error, code=0, has=None, err=None, norm=None, record=True,
                norm_err=None):
        result = Result(status, out.decode("utf-8", "replace"), error.decode("utf-8", "replace"))
        line = "docker " + " ".join(args)
        self.raw.append({"command": line, "code": status, "out": result.out[:20000], "err": result.err[:20000]})
        if record:
            self.records.append({"command": self.clean(line), "code": status, "out": self.clean(result.out, norm),
                                 "err": self.clean(result.err, norm_err)})
        short = self.clean(line)
        if len(short) > 160:
            short = short[:160] + "..."
        if status == "timeout":
            self.failures.append(f"{short}: no end within the time limit")
        elif code is not None and status != code and not (isinstance(code, tuple) and status in code):
            self.failures.append(f"{short}: exit {status} instead of {code}: {result.text.strip()[-400:]}")
        for pattern, where, what in ((has, result.out, "output"), (err, result.err, "error output")):
            for p in [pattern] if isinstance(pattern, str) else pattern or []:
                if not re.search(p, where, re.M):
                    self.failures.append(f"{short}: {what} lacks /{p}/: {where.strip()[-400:]!r}")
        return result

    def run(self, *args, net="none", **kw):
        """`docker run` without a network (that is a third of its time), unless the case is about one."""
        return self.d("run", *(["--network", net] if net else []), *args, **kw)

    def rm(self, *args, **kw):
        """`docker run --rm busybox`: options come first, then `--`, then the program."""
        split = args.index("--")
        return self.run("--rm", *args[:split], "busybox", *args[split + 1:], **kw)

    def sh(self, script, *options, **kw):
        return self.run("--rm", *options, "busybox", "sh", "-c", script, **kw)

    def sleeper(self, name, *options, **kw):
        """A container that only waits, and ends at once when asked."""
        return self.run("-d", "--name", name, *options, "busybox", "sh", "-c",
                        "trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done", **kw)

    def until(self, pattern, *args, timeout=15, record=True):
        """Repeats a command until its output matches; only the last try is recorded."""
        end = time.monotonic() + timeout
        while True:
            result = self.d(*args, code=None, record=False)
            if re.search(pattern, result.out, re.M) or time.monotonic() > end:
                break
            time.sleep(0.1)
        if record:
            self.records.append({"command": self.clean("docker " + " ".join(args)), "code": result.code,
                                 "out": self.clean(result.out), "err": self.clean(result.err)})
        self.want(re.search(pattern, result.out, re.M),
                  f"docker {' '.join(args)}: never gave /{pattern}/, at last {result.text.strip()!r}")
        return result

    def start(self, *args):
        """Starts a client in the background; `ended` waits for it."""
        process = subprocess.Popen([self.docker, *args], env=self.env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.children.append(process)
        process.words = args
        return process

    def ended(self, process, timeout=30, **kw):
        try:
            out, error = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            status = "timeout"
        self.children.remove(process)
        return self._finish(process.words, status, out, error, **kw)

    def terminal(self, *args, talk=(), size=(40, 132), code=0, timeout=30, norm=None, has=None):
        """A client on a pseudo terminal. `talk`: pairs of an expression to wait for and what is then typed."""
        pid, fd = pty.fork()
        if pid == 0:
            # The slave got no size yet: the client reads it at its start.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execve(self.docker, [self.docker, *args], self.env)
        seen, mark, end = b"", 0, time.monotonic() + timeout
        talk = list(talk)
        status = None
        while time.monotonic() < end:
            if talk:
                found = re.search(talk[0][0].encode(), seen[mark:])
                if found:
                    mark += found.end()
                    action = talk.pop(0)[1]
                    if callable(action):
                        action(fd)
                    else:
                        os.write(fd, action.encode("latin-1"))
                    continue
            ready, _, _ = select.select([fd], [], [], 0.1)
            if ready:
                try:
                    data = os.read(fd, 65536)
                except OSError as e:
                    if e.errno != errno.EIO:
                        raise
                    data = b""
                if not data:
                    break
                seen += data
        else:
            status = "timeout"
            os.kill(pid, signal.SIGKILL)
        _, raw = os.waitpid(pid, 0)
        os.close(fd)
        if status is None:
            status = os.waitstatus_to_exitcode(raw)
        for pattern, _ in talk:
            self.failures.append(f"terminal: /{pattern}/ was never seen")
        # Escape sequences are the shell's asking for the cursor; the container's tty is what counts.
        clear = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).replace(b"\r", b"")
        return self._finish(args, status, clear, b"", code=code, has=has, norm=norm)

    def inspect(self, name, template, **kw):
        return self.d("inspect", "-f", template, name, **kw)

    def host_pid(self, name):
        out = self.d("inspect", "-f", "{{.State.Pid}}", name, record=False).out.strip()
        return int(out or 0)

    # ---- the end of a case

    def close(self):
        for process in self.children:
            process.kill()
            process.wait()
        self.children.clear()
        for trouble in self.daemon.remove_containers():
            self.failures.append("after the case: " + trouble)
        self.leftovers()

    def leftovers(self):
        """Nothing of a container may outlive it: the runtime's state, cgroups of any hierarchy."""
        end = time.monotonic() + 5
        while True:
            found = self._leftovers()
            if self.daemon.left.issuperset(found) or time.monotonic() > end:
                break
            time.sleep(0.05)
        # Once: what stays for good would spoil every later case.
        found = [path for path in found if path not in self.daemon.left]
        self.daemon.left.update(found)
        self.records.append({"note": "left behind", "value": self.clean("\n".join(found))})
        self.want(not found, "left behind: " + ", ".join(found[:6]))

    def _leftovers(self):
        import sandbox  # the library's folder is on the path of the process that runs cases
        found = []
        for h in sandbox.hierarchies():
            top = os.path.join(h, self.daemon.cgroup_parent)
            if os.path.isdir(top):
                found += [e.path for e in os.scandir(top) if e.is_dir() and re.search(r"[0-9a-f]{64}$", e.name)]
        state = os.path.join(self.daemon.exec_root, "runtime-tested", "moby")
        alternatives = [state, os.path.join(self.daemon.exec_root, "runtime-runc", "moby")]
        for folder in alternatives:
            if os.path.isdir(folder):
                found += [e.path for e in os.scandir(folder) if re.search(r"[0-9a-f]{64}$", e.name)]
        with open("/proc/self/mounts", encoding="utf-8") as f:
            for line in f:
                point = line.split()[1]
                if point.endswith("/merged") or "/containers/" in point:
                    found.append("mount " + point)
        return found
