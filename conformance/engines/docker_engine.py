"""dockerd for compose.py, swarm.py, buildkit.py and docker_restart.py: that of conformance/docker, by ../lib/dockerd.py."""

import os
import re

import debs
import dockerd
import images
from engine import Engine, Operation, Skip, first_line


class Docker(Operation):
    def docker(self, *words, **kw):
        return self.do(dockerd.client(), *words, **kw)

    def inspect(self, name, template, **kw):
        return self.docker("inspect", "-f", template, name, **kw)


class Dockerd(Engine):
    operations, live_restore, programs = Docker, False, ("dockerd", "docker", "iptables")
    # A Debian package of `suite` with a program of the client's side.
    package = program = None

    def start(self):
        self.tool = None
        if self.package:
            unpacked = debs.unpacked(self.suite, self.package)
            if unpacked is None:
                raise Skip(f"{self.package} of {self.suite} cannot be fetched")
            self.tool = os.path.join(unpacked, self.program)
            self.tool_version = debs.version(unpacked)
        self.daemon = dockerd.Daemon(self.path("d"), self.runtime, self.group, live=self.live_restore)
        os.makedirs(self.daemon.folder)
        self.daemon.start()
        tar = self.path("busybox.tar")
        images.busybox_tar(tar)
        self.daemon.load(tar, "busybox", ['CMD ["sh"]', "ENV PATH=/bin"])
        self.env = {"DOCKER_HOST": self.daemon.host, "DOCKER_CLI_HINTS": "false"}

    def version(self):
        number = re.search(r"version ([^ ,+]+)", first_line("dockerd", "--version")).group(1)
        return f"dockerd {number}" + (f", {self.package} {self.tool_version}" if self.tool else "")

    def after_each(self):
        yield from self.daemon.remove_containers()

    def stop(self):
        if getattr(self, "daemon", None):
            try:
                self.daemon.remove_containers()
            except OSError:
                pass
            self.daemon.stop()
