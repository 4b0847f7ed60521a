"""Buildah: RUN of a Dockerfile and `buildah run`, with --isolation oci."""

import os
import re
import subprocess

import images
import normalise
import sandbox
from engine import Engine, Operation, first_line, operation


class Buildah(Operation):
    called = "buildah "

    def __init__(self, engine, literal, scratch):
        super().__init__(engine, literal, scratch)
        self.prefix = engine.command

    def build(self, text, *options, **kw):
        self.write("context/Dockerfile", text)
        # What the steps print is compared, not the names of layers.
        def steps(value):
            return re.sub(r"(?m)^(-->|[0-9a-f]{12}|Successfully|COMMIT|Getting|Copying|Writing|Storing).*\n", "", value)
        return self.do("build", "--runtime", self.engine.runtime, "--isolation", "oci", "--cgroup-parent", "/" + self.engine.group, "--network", "none",
                       "--no-cache", "-t", "built", *options, self.path("context"), norm=steps, norm_err=steps, timeout=120, **kw)

    def run(self, *words, options=(), **kw):
        return self.do("run", "--runtime", self.engine.runtime, "--isolation", "oci", "--network", "none", *options, *words, **kw)


class Direct(Engine):
    operations, programs = Buildah, ("buildah",)

    def start(self):
        self.command = ["buildah", "--root", self.path("root"), "--runroot", self.path("run"), "--storage-driver", "overlay"]
        os.makedirs(self.path("tmp"))
        self.env = {"TMPDIR": self.path("tmp")}
        tar = self.path("busybox.tar")
        images.busybox_tar(tar)
        archive = images.archive(tar, "localhost/busybox:latest", self.path("image.tar"), {"Cmd": ["sh"], "Env": ["PATH=/bin"]})
        subprocess.run([*self.command, "pull", "-q", "docker-archive:" + archive], check=True, capture_output=True, timeout=120)

    def version(self):
        return "buildah " + first_line("buildah", "--version").split()[2]

    def after_each(self):
        subprocess.run([*self.command, "rm", "-a"], capture_output=True, timeout=60)
        for hierarchy in sandbox.hierarchies():
            for folder, _, _ in os.walk(os.path.join(hierarchy, self.group)):
                if os.path.basename(folder).startswith("buildah-"):
                    yield f"left behind: {folder}"


ENGINE = Direct


@operation
def build(c):
    """RUN: output, user, directory, environment; the image that comes out"""
    c.build("FROM localhost/busybox\nRUN echo built >/made && cat /made\nENV A=b\nWORKDIR /srv\nRUN pwd; echo $A; echo err >&2\nUSER alice\n"
            "RUN id; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status\nRUN [\"sh\", \"-c\", \"echo exec form\"]\n",
            has=["^built$", "^/srv$", "uid=1000", "exec form"])
    name = c.do("from", "built", record=False).out.strip()
    c.run(name, "cat", "/made", norm=None, has="built") if name else c.want(False, "no container")


@operation
def failure(c):
    """a RUN that fails; a missing program"""
    c.build("FROM localhost/busybox\nRUN echo before; exit 7\n", code=None, err="(?s)exit status 7")
    c.build("FROM localhost/busybox\nRUN [\"no-such-program\"]\n", code=None, err="executable file not found", record=False)


@operation
def mounts(c):
    """RUN --mount: bind, cache, tmpfs, secret"""
    c.write("secret", "hidden\n")
    c.write("context/file", "of the context\n")
    c.build("FROM localhost/busybox\nRUN --mount=type=bind,source=file,target=/f cat /f\nRUN --mount=type=cache,target=/c echo x >/c/y; ls /c\n"
            "RUN --mount=type=tmpfs,target=/t grep ' /t ' /proc/self/mounts | cut -d' ' -f2,3\nRUN --mount=type=secret,id=s cat /run/secrets/s\n"
            "RUN ls /f /c /run/secrets 2>&1 | sort\n", "--secret", "id=s,src=" + c.path("secret"), has=["of the context", "hidden", "/t tmpfs"])


@operation
def limits(c):
    """build with limits, capabilities, ulimits, a volume"""
    c.folder("v")
    c.write("v/file", "host\n")
    c.build("FROM localhost/busybox\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /sys/fs/cgroup/cpu/cpu.shares\n"
            "RUN grep ^CapEff /proc/self/status; ulimit -n; cat /v/file\n", "--memory", "64m", "--cpu-shares", "512", "--cap-add", "NET_ADMIN",
            "--cap-drop", "CHOWN", "--ulimit", "nofile=64:128", "--ulimit", "nproc=500:500", "--volume", c.path("v") + ":/v:ro",
            has=["^67108864$", "^512$", "^host$"])


@operation
def run(c):
    """buildah run: exit code, input, user, environment, mounts, terminal"""
    name = c.do("from", "localhost/busybox", record=False).out.strip()
    c.run(name, "sh", "-c", "echo out; echo err >&2; exit 7", code=7, has="^out$")
    c.run(name, "cat", stdin=b"given\n", has="given")
    c.run(name, "sh", "-c", "id; echo $A; pwd", options=["--user", "1000:2000", "--env", "A=b", "--workingdir", "/srv"], has=["uid=1000", "^b$", "^/srv$"])
    c.run(name, "cat", "/proc/self/mountinfo", norm=lambda v: re.sub(r"(lowerdir|upperdir|workdir|context)=[^, ]*", r"\1=<DIR>", re.sub(
        r"buildah\d+", "buildah<N>", normalise.mountinfo(v))))
    c.run(name, "sh", "-c", "hostname; ls -l /dev; ls -l /proc/self/fd | grep -v /proc", options=["--hostname", "named"],
          norm=lambda v: normalise.numbers(normalise.listing(v)))
    c.terminal("run", "--runtime", c.engine.runtime, "--isolation", "oci", "--network", "none", "-t", name,
               "sh", "-c", "tty; exit 4", code=4, has="/dev/pts/0")
    c.run(name, "no-such-program", code=None, err="executable file not found", record=False)


@operation
def commit(c):
    """from, run, config, commit"""
    name = c.do("from", "--name", "work", "localhost/busybox", record=False).out.strip()
    c.run(name, "sh", "-c", "echo made >/made; chown 1000 /made")
    c.do("config", "--cmd", "cat /made", name)
    c.do("commit", "-q", name, "localhost/committed", norm=lambda v: "")
    again = c.do("from", "localhost/committed", record=False).out.strip()
    c.run(again, "ls", "-l", "/made", has="alice|1000", norm=normalise.listing)
