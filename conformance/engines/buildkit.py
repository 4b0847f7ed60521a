"""BuildKit as dockerd has it built in, by the client docker-buildx. It takes the `runc` of its PATH, which is the runtime here."""

import normalise
from docker_engine import Docker, Dockerd
from engine import operation


class BuildKit(Docker):
    def build(self, text, *options, **kw):
        self.write("context/Dockerfile", text)
        if "norm_err" not in kw:
            kw["norm_err"] = normalise.build
        return self.do(self.engine.tool, "build", "--progress", "plain", "--no-cache", "--load", "-t", "built", *options,
                       self.path("context"), timeout=120, **kw)


class Direct(Dockerd):
    operations, package = BuildKit, "docker-buildx"
    program = "usr/libexec/docker/cli-plugins/docker-buildx"


ENGINE = Direct


@operation
def build(c):
    """RUN: output, user, directory, environment; the image that comes out"""
    c.build("FROM busybox\nRUN echo built >/made && cat /made\nENV A=b\nWORKDIR /srv\nRUN pwd; echo $A\nRUN echo err >&2\nUSER alice\n"
            "RUN id; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; umask\nRUN [\"sh\", \"-c\", \"echo exec form\"]\n",
            err=["built$", "/srv$", "uid=1000", "exec form"])
    c.docker("run", "--rm", "--network", "none", "built", "sh", "-c", "cat /made; pwd; id -u", has="^built\n/srv\n1000$")


@operation
def inside(c):
    """what a RUN sees: mounts, devices, file descriptors, cgroups"""
    c.build("FROM busybox\nRUN cat /proc/self/mountinfo | cut -d' ' -f5- | sed 's/[a-z]*dir=[^, ]*//g; s/master:[0-9]*/master/' | sort | grep -v cgroup/\n"
            "RUN ls -l /dev | sed 's/ *[A-Z][a-z][a-z] .*:.. / /'; ls /proc/self/fd; ulimit -n; hostname\n")


@operation
def failure(c):
    """a RUN that fails, is killed, has no program"""
    c.build("FROM busybox\nRUN echo before; exit 7\n", code=1, err="exit code: 7")
    c.build("FROM busybox\nRUN kill -9 $$; sleep 1; kill -9 -1\n", code=None)
    c.build("FROM busybox\nRUN [\"no-such-program\"]\n", code=1, err="executable file not found")


@operation
def mounts(c):
    """RUN --mount: bind, cache, tmpfs, secret"""
    c.write("secret", "hidden\n")
    c.write("context/file", "of the context\n")
    c.build("FROM busybox\nRUN --mount=type=bind,source=file,target=/f cat /f; touch /f || true\nRUN --mount=type=cache,target=/c echo x >>/c/y; ls /c\n"
            "RUN --mount=type=tmpfs,target=/t grep ' /t ' /proc/self/mounts | cut -d' ' -f2,3\nRUN --mount=type=secret,id=s,mode=0444 cat /run/secrets/s\n"
            "RUN --mount=type=bind,from=busybox,source=/srv,target=/other ls /other\nRUN ls /f /c /run/secrets 2>&1 | sort\n",
            "--secret", "id=s,src=" + c.path("secret"), err=["of the context", "hidden", "/t tmpfs"])


@operation
def network(c):
    """a RUN's network: bridge, none, host; --add-host"""
    c.build("FROM busybox\nRUN ip -o link | wc -l\n", "--network", "none")
    c.build("FROM busybox\nRUN ip -o -4 addr show eth0 | wc -l; cat /etc/hosts | grep named\n", "--add-host", "named:192.0.2.7",
            err="192.0.2.7")
    c.build("FROM busybox\nRUN readlink /proc/self/ns/net | sed 's/[0-9]*//g'; hostname\n", "--network", "host")


@operation
def stages(c):
    """stages that are built at the same time; COPY --from"""
    rows = ["FROM busybox AS s%d\nRUN echo %d >/made; sleep 1" % (n, n) for n in range(6)]
    rows.append("FROM busybox\n" + "\n".join("COPY --from=s%d /made /made%d" % (n, n) for n in range(6)) + "\nRUN cat /made?")
    c.build("\n".join(rows) + "\n", norm_err=lambda v: "")
    c.docker("run", "--rm", "--network", "none", "built", "sh", "-c", "cat /made?", has="^0\n1\n2\n3\n4\n5$")


@operation
def limits(c):
    """--ulimit, --shm-size, --cgroup-parent as far as the builder has them"""
    c.build("FROM busybox\nRUN df -k /dev/shm | tail -1 | sed 's/  */ /g' | cut -d' ' -f2; ulimit -n\n"
            "RUN cut -d: -f2- /proc/self/cgroup | grep pids | sed 's,/[^/]*$,,'\n",
            "--shm-size", "8m", "--ulimit", "nofile=64:128", "--cgroup-parent", "/" + c.engine.group + "/build", code=None)
