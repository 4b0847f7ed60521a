"""Commands that a test runs, each recorded with its exit code and normalised output, and what must be true of them. A record
is compared between two runtimes; an expectation must hold for each on its own."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import normalise


class Skip(Exception):
    """The host can not do it, whatever the runtime."""


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return self.out + self.err


class Commands:
    """What one case does on one side."""

    # What every command begins with, and how that is called in records.
    prefix, called = [], ""

    def __init__(self, literal, scratch, env):
        self.literal, self.scratch = literal, scratch
        self.records, self.failures, self.raw = [], [], []
        self.env = {**os.environ, **env, "LC_ALL": "C", "TZ": "UTC", "HOME": scratch}
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

    # ---- commands

    def do(self, *args, code=0, has=None, err=None, norm=None, norm_err=None, stdin=None, timeout=60, record=True,
          env=None):
        """code: the exit code that must come (None: any). has, err: expressions that must be found in
        the output, the error output."""
        process = subprocess.Popen([*self.prefix, *args], env={**self.env, **(env or {})}, stdout=subprocess.PIPE,
                                   stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, start_new_session=True)
        self.children.append(process)
        return self._finish(args, *self._end(process, timeout, stdin), code, has, err, norm, record, norm_err)

    def _end(self, process, timeout, stdin=None):
        """-> exit code or "timeout", output, error output"""
        try:
            out, error = process.communicate(stdin, timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            status = "timeout"
        self.children.remove(process)
        return status, out, error

    def _finish(self, args, status, out, error, code=0, has=None, err=None, norm=None, record=True,
                norm_err=None):
        result = Result(status, out.decode("utf-8", "replace"), error.decode("utf-8", "replace"))
        line = self.called + " ".join(args)
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

    def until(self, pattern, *args, timeout=15, record=True):
        """Repeats a command until its output matches; only the last try is recorded."""
        end = time.monotonic() + timeout
        while True:
            result = self.do(*args, code=None, record=False)
            if re.search(pattern, result.out, re.M) or time.monotonic() > end:
                break
            time.sleep(0.1)
        if record:
            self.records.append({"command": self.clean(self.called + " ".join(args)), "code": result.code,
                                 "out": self.clean(result.out), "err": self.clean(result.err)})
        self.want(re.search(pattern, result.out, re.M),
                  f"{self.called}{' '.join(args)}: never gave /{pattern}/, at last {result.text.strip()!r}")
        return result

    def start(self, *args):
        """Starts a client in the background; `ended` waits for it."""
        process = subprocess.Popen([*self.prefix, *args], env=self.env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.children.append(process)
        process.words = args
        return process

    def ended(self, process, timeout=30, **kw):
        return self._finish(process.words, *self._end(process, timeout), **kw)

    def terminal(self, *args, talk=(), size=(40, 132), code=0, timeout=30, norm=None, has=None, record=True):
        """A client on a pseudo terminal. `talk`: pairs of an expression to wait for and what is then typed."""
        pid, fd = pty.fork()
        if pid == 0:
            # The slave got no size yet: the client reads it at its start.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            words = [*self.prefix, *args]
            os.execvpe(words[0], words, self.env)
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
        return self._finish(args, status, clear, b"", code=code, has=has, norm=norm, record=record)

    # ---- the end of a case

    def close(self):
        for process in self.children:
            process.kill()
            process.wait()
        self.children.clear()
