"""What a case may do with docker."""

import os
import re
import time

from commands import Commands, Skip  # noqa: F401

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


class Context(Commands):
    """One case on one side."""

    called = "docker "

    def __init__(self, docker, daemon, literal, scratch):
        super().__init__(literal, scratch, {"DOCKER_HOST": daemon.host, "DOCKER_CLI_HINTS": "false"})
        self.prefix, self.daemon = [docker], daemon

    def d(self, *args, **kw):
        """`docker ARGS`."""
        return self.do(*args, **kw)

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

    def inspect(self, name, template, **kw):
        return self.d("inspect", "-f", template, name, **kw)

    def host_pid(self, name):
        out = self.d("inspect", "-f", "{{.State.Pid}}", name, record=False).out.strip()
        return int(out or 0)

    # ---- the end of a case

    def close(self):
        super().close()
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
