"""Podman with everything of its own below the sandbox's folder: of root, and of a user that the sandbox's /etc has."""

import os
import subprocess

import images
import sandbox
from engine import SLEEP, Engine, Operation, first_line

USER = 4321
SUBORDINATE = (500000, 65536)
IMAGE, PAUSE = "localhost/busybox", "localhost/pause"


class Podman(Operation):
    called = "podman "

    def __init__(self, engine, literal, scratch):
        super().__init__(engine, literal, scratch)
        self.prefix = engine.command
        os.chmod(scratch, 0o777)

    @property
    def rootless(self):
        return self.engine.rootless

    def run(self, *options, **kw):
        """`podman run OPTIONS -- WORDS`, in the sandbox's cgroup and without a network unless one is named."""
        return self.do("run", *self.engine.run_options(options), *options, **kw)

    def sh(self, text, *options, **kw):
        return self.run("--rm", *options, IMAGE, "sh", "-c", text, **kw)

    def sleeper(self, name, *options):
        return self.run("-d", "--name", name, *options, IMAGE, "sh", "-c", SLEEP)

    def inspect(self, name, template, **kw):
        return self.do("inspect", "-f", template, name, **kw)


class Root(Engine):
    operations, rootless, programs = Podman, False, ("podman", "conmon")

    def options(self):
        return ["--root", self.path("root"), "--runroot", self.path("run"), "--tmpdir", self.path("tmp"), "--storage-driver", "overlay",
                "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", self.runtime]

    def run_options(self, options):
        network = [] if any(o.startswith(("--network", "--pod", "-p")) for o in options) else ["--network", "none"]
        return ["--log-driver", "k8s-file", "--cgroup-parent", "/" + self.group, *network]

    def start(self):
        os.chmod(self.folder, 0o755)
        self.command = ["podman", *self.options()]
        self.load()

    def load(self):
        tar = self.path("busybox.tar")
        images.busybox_tar(tar)
        for name, config in ((IMAGE, {"Cmd": ["sh"], "Env": ["PATH=/bin"]}), (PAUSE, {"Entrypoint": ["sh", "-c", SLEEP], "Env": ["PATH=/bin"]})):
            archive = images.archive(tar, name + ":latest", self.path("image.tar"), config)
            os.chmod(archive, 0o644)
            self.podman("load", "-q", "-i", archive, check=True)

    def podman(self, *words, check=False):
        done = subprocess.run([*self.command, *words], env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, cwd="/")
        if check and done.returncode:
            raise RuntimeError(f"podman {words}: {done.stderr}")
        return done.stdout + done.stderr

    def version(self):
        return ", ".join(first_line(name, "--version").replace("version ", "") for name in ("podman", "conmon"))

    def literal(self):
        return [(self.path("root"), "<ROOT>")]

    def after_each(self):
        self.podman("pod", "rm", "-a", "-f", "-t", "0")
        self.podman("rm", "-a", "-f", "-t", "0")
        self.podman("volume", "prune", "-f")
        for name in self.podman("ps", "-aq").split():
            yield f"podman rm left {name}"
        for state in (f"/run/{os.path.basename(self.runtime)}", "/run/runc", "/run/rundlet", f"/run/user/{USER}/runc", f"/run/user/{USER}/rundlet"):
            for name in os.listdir(state) if os.path.isdir(state) else []:
                if len(name) == 64:
                    yield f"left behind: {state}/{name}"
        for hierarchy in sandbox.hierarchies():
            for folder, _, _ in os.walk(os.path.join(hierarchy, self.group)):
                if os.path.basename(folder).startswith("libpod-") and not os.path.basename(folder).startswith("libpod-conmon"):
                    yield f"left behind: {folder}"

    def stop(self):
        self.podman("rm", "-a", "-f", "-t", "0")


class Rootless(Root):
    rootless, programs = True, ("podman", "conmon", "newuidmap")

    def options(self):
        return ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", self.runtime]

    def run_options(self, options):
        network = [] if any(o.startswith(("--network", "--pod", "-p")) for o in options) else ["--network", "none"]
        return ["--log-driver", "k8s-file", *network]

    def start(self):
        home, run = self.path("home"), f"/run/user/{USER}"
        for folder in (home, run):
            os.makedirs(folder)
            os.chown(folder, USER, USER)
            os.chmod(folder, 0o700)
        os.chmod(self.folder, 0o755)
        # The sandbox has an /etc of its own.
        for name, line in (("passwd", f"pod:x:{USER}:{USER}::{home}:/bin/sh"), ("group", f"pod:x:{USER}:"),
                           ("subuid", f"pod:{SUBORDINATE[0]}:{SUBORDINATE[1]}"), ("subgid", f"pod:{SUBORDINATE[0]}:{SUBORDINATE[1]}")):
            with open("/etc/" + name, "a", encoding="utf-8") as f:
                f.write(line + "\n")
        self.command = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "env", "-u", "DBUS_SESSION_BUS_ADDRESS",
                        f"HOME={home}", f"XDG_RUNTIME_DIR={run}", "USER=pod", "podman", *self.options()]
        self.load()
