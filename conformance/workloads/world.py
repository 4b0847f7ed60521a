"""What a workload is, and the docker commands that it is made of.

A workload says how it comes up, how one sees that it serves, and how data gets in and is found again; run.py leads all of
them through the same operations, which are the methods of `Workload` here.
"""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")
PATIENCE = 120  # seconds for what takes a second or two on an idle machine


class Failed(Exception):
    pass


def equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got!r} instead of {wanted!r}")


def contains(text, part, what):
    if part not in text:
        raise Failed(f"{what}: no {part!r} in {text[-600:]!r}")


def get(url, data=None, timeout=5):
    """The page at `url`; with `data`, what a POST of it answers."""
    try:
        with urllib.request.urlopen(url, data=data, timeout=timeout) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as e:
        raise Failed(f"{url}: {e.code}: {e.read().decode(errors='replace')[-600:]}") from e


class World:
    """One docker daemon, asked by its command line client."""

    def __init__(self, daemon, docker):
        self.daemon, self.docker = daemon, docker
        self.env = {**os.environ, "DOCKER_HOST": daemon.host, "LC_ALL": "C", "HOME": daemon.folder}

    def d(self, *args, code=0, timeout=PATIENCE, stdin=None):
        """`docker ARGS`; `code`: the exit code that must come (None: any)."""
        line = re.sub(r"\s+", " ", f"docker {' '.join(args)}")[:160]
        try:
            done = subprocess.run([self.docker, *args], env=self.env, capture_output=True, timeout=timeout, text=True, input=stdin, check=False)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{line}: no end within {timeout} s") from e
        if code is not None and done.returncode != code:
            raise Failed(f"{line}: exit {done.returncode} instead of {code}: {(done.stdout + done.stderr).strip()[-600:]}")
        return done

    def out(self, *args, **more):
        return self.d(*args, **more).stdout.strip()

    def inspect(self, name, template):
        return self.out("inspect", "-f", template, name)

    def address(self, name):
        return self.inspect(name, "{{.NetworkSettings.IPAddress}}")

    def until(self, what, probe, timeout=PATIENCE):
        """Repeats `probe` until it gives a value that counts as true; what it raises meanwhile is no failure."""
        end, last = time.monotonic() + timeout, None
        while True:
            try:
                last = probe()
                if last:
                    return last
            except (OSError, Failed) as e:
                last = e
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {timeout} s; at last: {last}")
            time.sleep(0.2)


class Workload:
    """One service, in one container or more."""

    containers = {}  # name -> exit code after `docker stop`; in the order in which they start
    package = ""  # IMAGE:PACKAGE whose version stands in the table
    title = ""

    def __init__(self, world):
        self.w, self.kept, self.running = world, [], {}

    @classmethod
    def name(cls):
        return cls.__name__.lower()

    # ---- what each says for itself

    def create(self):
        """Creates and starts the containers."""
        raise NotImplementedError

    def answers(self):
        """Whether the service does its work; may raise as long as it does not."""
        raise NotImplementedError

    def write(self, token):
        """Keeps `token` in the service."""
        raise NotImplementedError

    def read(self):
        """All that was kept, in order."""
        raise NotImplementedError

    def speak(self, token):
        """Makes the service log something -> (container, expression for the line)."""
        raise NotImplementedError

    def more(self):
        """What else is to be seen of it once, while it runs."""

    def start_all(self):
        for name in self.containers:
            self.w.d("start", name)

    def stop_all(self):
        for name in reversed(self.containers):
            self.w.d("stop", "-t", "60", name)

    def kill_all(self):
        self.w.d("kill", *self.containers)

    def remove(self):
        self.w.d("rm", "-f", "-v", *self.containers)

    # ---- the operations, in the order in which they come

    def serves(self):
        self.create()
        self._served("first")
        self.more()

    def stop(self):
        self.stop_all()
        self._ended(self.containers)

    def start(self):
        self.start_all()
        self._served("started")

    def kill(self):
        self.kill_all()
        for name in self.containers:
            self.w.d("wait", name)
        self._ended(dict.fromkeys(self.containers, 137))

    def start_again(self):
        self.start_all()
        self._served("killed")
        self.running = self._processes()

    def outlived(self, token):
        """After a new daemon: the same processes, still serving."""
        equal(self._processes(), self.running, "processes after the daemon's restart")
        self._served(token)

    def restarted(self):
        self.outlived("restarted")

    def crashed(self):
        self.outlived("crashed")

    def exec(self):
        """What docker says of the container after that is true of its process 1."""
        for name, (pid, _) in self.running.items():
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                inner = pid if self.w.inspect(name, "{{.HostConfig.PidMode}}") == "host" else "1"
                equal(self.w.out("exec", name, "cat", f"/proc/{inner}/comm"), f.read().strip(), f"main process of {name}, seen by exec")
            for kind in ("net", "pid", "mnt", "ipc"):
                theirs = self.w.out("exec", name, "readlink", f"/proc/self/ns/{kind}")
                equal(theirs, os.readlink(f"/proc/{pid}/ns/{kind}"), f"{kind} namespace of exec in {name}")
            contains(self.w.out("top", name, "-o", "pid"), pid, f"docker top {name}")

    def logs(self):
        """A line that is written after the daemon's restart comes to docker logs."""
        token = f"mark{time.time_ns()}"
        since = str(int(time.time()) - 1)
        name, pattern = self.speak(token)
        self.w.until(f"{pattern} in the log of {name}", lambda: re.search(pattern, _both(self.w.d("logs", "--since", since, name))))

    def pause(self):
        for name in self.containers:
            self.w.d("pause", name)
            equal(self.w.inspect(name, "{{.State.Status}}"), "paused", f"status of {name}")
        for name in self.containers:
            self.w.d("unpause", name)
        self._served("unpaused")

    def update(self):
        """`docker update` reaches the cgroup: the container itself reads the new value."""
        for name in self.containers:
            self.w.d("update", "--pids-limit", "777", name)
            pid = self.running[name][0]
            equal(_pids_limit(pid), "777", f"pids limit of {name}")
        self._served("updated")

    def stop_after(self):
        self.stop()
        self.remove()

    # ---- parts of them

    def _served(self, token):
        """It answers, has all that was kept, and keeps one thing more."""
        self.w.until(f"{self.title} answers", self.answers)
        equal(self.read(), self.kept, "what was kept")
        self.write(token)
        self.kept.append(token)
        equal(self.read(), self.kept, "what was kept, with the newest")

    def _ended(self, codes):
        for name, code in codes.items():
            state = json.loads(self.w.inspect(name, "{{json .State}}"))
            seen = (state["Status"], state["ExitCode"], state["OOMKilled"], state["Error"])
            equal(seen, ("exited", code, False, ""), f"state of {name}")

    def _processes(self):
        """Container -> number and start time of its process 1, as the kernel has them."""
        found = {}
        for name in self.containers:
            pid = self.w.inspect(name, "{{.State.Pid}}")
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                    found[name] = (pid, f.read().rsplit(")", 1)[1].split()[19])
            except OSError:
                raise Failed(f"{name} has no process {pid}: {self.w.inspect(name, '{{json .State}}')}") from None
        return found


def _both(done):
    return done.stdout + done.stderr


def _pids_limit(pid):
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        rows = [line.rstrip("\n").split(":", 2) for line in f]
    version_1 = next((r[2] for r in rows if "pids" in r[1].split(",")), None)
    path = f"/sys/fs/cgroup/pids{version_1}" if version_1 else f"/sys/fs/cgroup{rows[0][2]}"
    with open(os.path.join(path, "pids.max"), encoding="utf-8") as f:
        return f.read().strip()
