"""containerd, started by hand with everything of its own, for ctr.py and for cri_pods.py."""

import os
import re
import signal
import socket
import subprocess
import time

import debs
import images
import sandbox
from engine import Engine, Skip, first_line

BUSYBOX, PAUSE = "localhost/busybox:latest", "localhost/pause:latest"
ADDRESS = "/run/containerd/containerd.sock"

# The same for both versions of the configuration but for names; README.md shows it.
OLD = """version = 2
root = "{root}"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
        BinaryName = "{runtime}"
"""
NEW = """version = 3
root = "{root}"
state = "/run/containerd"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    {bin_dirs} = {bin_dirs_value}
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.tested]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.tested.options]
        BinaryName = "{runtime}"
"""
NETWORK = """{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.232.0.0/16"}}]}
"""


class Containerd(Engine):
    process, programs = None, ("containerd", "ctr", "runc")

    def start(self):
        self.bin = "/usr/bin"
        if self.suite:
            unpacked = debs.unpacked(self.suite, "containerd")
            if unpacked is None:
                raise Skip(f"containerd of {self.suite} cannot be fetched")
            self.bin = os.path.join(unpacked, "usr/bin")
        # The shim is looked for in PATH.
        self.env = {"PATH": self.bin + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                    "CONTAINERD_ADDRESS": ADDRESS}
        self.number = re.split("[~+]", first_line(os.path.join(self.bin, "containerd"), "--version").split()[2])[0]
        new = int(self.number.split(".")[0]) >= 2
        network = self.write("cni/10-pods.conflist", NETWORK)
        plural = new and int(self.number.split(".")[1]) >= 1
        text = (NEW if new else OLD).format(
            root=self.path("root"), cni=os.path.dirname(network), pause=PAUSE, runtime=self.runtime,
            bin_dirs="bin_dirs" if plural else "bin_dir", bin_dirs_value='["/usr/lib/cni"]' if plural else '"/usr/lib/cni"')
        self.config = self.write("containerd.toml", text)
        self.launch()
        tar = self.path("busybox.tar")
        images.busybox_tar(tar)
        for name, config in ((BUSYBOX, {"Cmd": ["sh"], "Env": ["PATH=/bin"]}),
                             (PAUSE, {"Entrypoint": ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done"],
                                      "Env": ["PATH=/bin"]})):
            archive = images.archive(tar, name, self.path("image.tar"), config)
            for namespace in ("default", "k8s.io"):
                subprocess.run(["ctr", "-n", namespace, "images", "import", archive], check=True, timeout=120, env=self.full_env(),
                               stdout=subprocess.DEVNULL)

    def full_env(self):
        return {**os.environ, **self.env}

    def launch(self):
        with open(self.path("containerd.log"), "ab") as log:
            self.process = subprocess.Popen([os.path.join(self.bin, "containerd"), "--config", self.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.full_env(), start_new_session=True)
        end = time.monotonic() + 60
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(ADDRESS)
                if subprocess.run(["ctr", "version"], env=self.full_env(), capture_output=True, timeout=20).returncode == 0:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("containerd did not become ready:\n" + self.log_tail())
            time.sleep(0.1)

    def log_tail(self, lines=15):
        with open(self.path("containerd.log"), encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(30)

    def version(self):
        return f"containerd {self.number}"

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def left(self):
        """State of containers and cgroups that nothing uses any more."""
        found = []
        for name in ("default", "k8s.io"):
            state = os.path.join("/run/containerd/runc", name)
            if os.path.isdir(state):
                found += [e.path for e in os.scandir(state)]
        for hierarchy in sandbox.hierarchies():
            top = os.path.join(hierarchy, self.group)
            for folder, _, _ in os.walk(top):
                if folder != top and os.path.basename(folder) not in ("pods", "ctr"):
                    found.append(folder)
        return found

    def wait_for_nothing_left(self):
        """What is left after some seconds is reported once."""
        end = time.monotonic() + 5
        while True:
            found = [f for f in self.left() if f not in self.reported]
            if not found or time.monotonic() > end:
                self.reported.update(found)
                return [f"left behind: {f}" for f in found]
            time.sleep(0.05)

    @property
    def reported(self):
        return self.__dict__.setdefault("_reported", set())
