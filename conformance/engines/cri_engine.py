"""containerd's CRI plugin as the kubelet talks to it: what an operation can do. The operations are in cri_*.py."""

import json
import os
import re
import time

import cri
from containerd import ADDRESS, BUSYBOX, Containerd
from engine import SLEEP, Operation, Skip


# The kubelet's default; the CRI's own is the pod's.
PID_OF_ITS_OWN = {"namespace_options": {"pid": cri.CONTAINER}}


class Pods(Operation):
    """Every call is recorded with what the answer says of the container, and with errors as the kubelet sees them."""

    def __init__(self, engine, literal, scratch):
        super().__init__(engine, literal, scratch)
        self.count = 0
        self.logs = os.path.join(scratch, "logs")

    def call(self, method, values=None, fails=None, record=True, timeout=60, show=None):
        """fails: an expression that the error must match. show: what of the answer is recorded (default: nothing)."""
        try:
            answer, error = self.engine.client.call(method, values, timeout), None
        except cri.CallFailed as e:
            answer, error = None, e
        if record:
            said = "" if answer is None or show is None else json.dumps(show(answer), indent=1, sort_keys=True)
            self.records.append({"command": method, "code": error.code if error else 0, "out": self.clean(said),
                                 "err": self.clean(error.details) if error else ""})
            self.raw.append({"command": method, "values": str(values), "error": str(error), "answer": str(answer)[:5000]})
        if fails is None and error is not None:
            raise RuntimeError(f"{method}: {error}")
        if fails is not None:
            self.want(error is not None, f"{method} should have failed")
            if error is not None:
                self.want(re.search(fails, error.details), f"{method}: the error lacks /{fails}/: {error.details}")
        return answer

    def pod_config(self, name="pod", **linux):
        os.makedirs(self.logs, exist_ok=True)
        self.count += 1
        security = {**PID_OF_ITS_OWN, **linux.pop("security", {})}
        return {"metadata": {"name": name, "uid": f"uid-{name}-{self.count}", "namespace": "tests", "attempt": 0},
                "hostname": linux.pop("hostname", name), "log_directory": self.logs, "labels": {"app": name},
                **linux.pop("more", {}),
                "linux": {"cgroup_parent": f"/{self.engine.group}/pods", "security_context": security, **linux}}

    def pod(self, config=None, handler="tested", **kw):
        config = config or self.pod_config(**kw)
        return self.call("RunPodSandbox", {"config": config, "runtime_handler": handler})["pod_sandbox_id"], config

    def create(self, pod, command, name="main", mounts=(), security=None, resources=None, fails=None, attempt=0, **more):
        pod_id, config = pod
        values = {"metadata": {"name": name, "attempt": attempt}, "image": {"image": BUSYBOX}, "command": command,
                  "log_path": f"{name}.log", "mounts": list(mounts),
                  "linux": {"resources": resources or {}, "security_context": {**PID_OF_ITS_OWN, **(security or {})}}, **more}
        answer = self.call("CreateContainer", {"pod_sandbox_id": pod_id, "config": values, "sandbox_config": config}, fails=fails)
        return answer and answer["container_id"]

    def run(self, pod, command, **kw):
        container = self.create(pod, command, **kw)
        self.call("StartContainer", {"container_id": container})
        return container

    def sleeper(self, pod, **kw):
        return self.run(pod, ["sh", "-c", SLEEP], **kw)

    def status(self, container, record=True):
        return self.call("ContainerStatus", {"container_id": container}, record=record,
                         show=lambda a: a["status"])["status"]

    def wait_state(self, container, state, timeout=20):
        end = time.monotonic() + timeout
        while self.status(container, record=False)["state"] != state:
            if time.monotonic() > end:
                self.failures.append(f"the container's state never became {state}")
                break
            time.sleep(0.05)
        return self.status(container)

    def output(self, log):
        """What a container's log has of its output and of its error output, without times."""
        streams = {"stdout": "", "stderr": ""}
        with open(os.path.join(self.logs, log), encoding="utf-8") as f:
            for line in f:
                _, name, part, text = line.rstrip("\n").split(" ", 3)
                streams[name] += text + ("\n" if part.startswith("F") else "")
        return streams["stdout"], streams["stderr"]

    def wait_output(self, log, pattern, timeout=20):
        end = time.monotonic() + timeout
        while not re.search(pattern, "".join(self.output(log))):
            if time.monotonic() > end:
                self.failures.append(f"the log never had {pattern}")
                break
            time.sleep(0.05)
        return self.output(log)

    def script(self, pod, text, code=0, has=None, err=None, norm=None, name="main", **kw):
        """Runs a shell script as a container to its end; its log and exit code are recorded."""
        self.count += 1
        log = f"{name}.{self.count}.log"
        container = self.run(pod, ["sh", "-c", text], name=name, log_path=log, **kw)
        status = self.wait_state(container, cri.EXITED)
        out, error = self.output(log)
        self._finish(["log of " + text], status["exit_code"], out.encode(), error.encode(), code=code, has=has, err=err, norm=norm, norm_err=norm)
        self.call("RemoveContainer", {"container_id": container})
        return out

    def record(self, what, status, said, norm=None, code=0, has=None, error=""):
        self._finish([what], status, said.encode(), error.encode(), code=code, has=has, norm=norm)

    def exec_sync(self, container, *command, code=0, has=None, norm=None, timeout=20):
        answer = self.call("ExecSync", {"container_id": container, "cmd": list(command), "timeout": timeout}, record=False)
        self.record("ExecSync " + " ".join(command), answer["exit_code"], answer["stdout"].decode(), norm, code, has,
                    answer["stderr"].decode())
        return answer["stdout"].decode()

    def pid(self, container):
        info = self.call("ContainerStatus", {"container_id": container, "verbose": True}, record=False)["info"]
        return int(json.loads(info["info"])["pid"])

    def needs(self, version, what):
        if tuple(map(int, self.engine.number.split(".")[:2])) < version:
            raise Skip(f"containerd {self.engine.number} has no {what}")


class Cri(Containerd):
    operations = Pods

    def launch(self):
        super().launch()
        self.client = cri.Client(ADDRESS)
        end = time.monotonic() + 60
        while True:
            try:
                status = self.client.call("Status")["status"]
                if all(c["status"] for c in status["conditions"]):
                    return
                problem = str(status)
            except cri.CallFailed as e:
                problem = str(e)
            if time.monotonic() > end:
                raise RuntimeError("the CRI plugin did not become ready: " + problem + "\n" + self.log_tail())
            time.sleep(0.1)

    def after_each(self):
        for pod in self.client.call("ListPodSandbox")["items"]:
            try:
                self.client.call("StopPodSandbox", {"pod_sandbox_id": pod["id"]})
                self.client.call("RemovePodSandbox", {"pod_sandbox_id": pod["id"]})
            except cri.CallFailed as e:
                yield str(e)
        yield from self.wait_for_nothing_left()

    def stop(self):
        try:
            self.client.close()
        except AttributeError:
            pass
        super().stop()
