"""Operations of containerd by the CRI: pods, containers and streams. See cri_engine.py for the words that are used here."""

import json
import os
import re
import time

import cri
from engine import SLEEP, operation



def namespaces(c, container):
    """Of its init, as the host sees them."""
    folder = f"/proc/{c.pid(container)}/ns"
    return {name: os.readlink(f"{folder}/{name}") for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")}


@operation
def status(c):
    """version and status"""
    c.call("Version", {"version": "v1"}, show=lambda a: {k: v for k, v in a.items() if k != "runtime_version"})
    answer = c.call("Status", show=lambda a: a["status"])
    if answer["runtime_handlers"]:
        c.note("features of the handler", json.dumps([h for h in answer["runtime_handlers"] if h["name"] == "tested"]))


@operation
def sandbox(c):
    """pod sandbox: run, status, list, stop, remove"""
    pod, _ = c.pod()

    def shown(a):
        return {k: a["status"][k] for k in ("state", "metadata", "labels", "runtime_handler")}
    answer = c.call("PodSandboxStatus", {"pod_sandbox_id": pod}, show=shown)["status"]
    c.want(answer["state"] == cri.READY, "the pod is not ready")
    c.want(answer["network"]["ip"].startswith("10.232."), f"address of the pod: {answer['network']}")
    c.want([p["id"] for p in c.call("ListPodSandbox")["items"]] == [pod], "the pod is not the only one of the list")
    c.call("StopPodSandbox", {"pod_sandbox_id": pod})
    c.call("StopPodSandbox", {"pod_sandbox_id": pod})
    c.call("PodSandboxStatus", {"pod_sandbox_id": pod}, show=shown)
    c.call("RemovePodSandbox", {"pod_sandbox_id": pod})
    c.call("PodSandboxStatus", {"pod_sandbox_id": pod}, fails="not found")


@operation
def life(c):
    """container: create, start, log, stop, exit code, remove"""
    pod = c.pod()
    container = c.create(pod, ["sh", "-c", "echo out; echo err >&2; " + SLEEP], labels={"a": "b"})
    c.want(c.status(container)["state"] == cri.CREATED, "not created")
    c.call("StartContainer", {"container_id": container})
    c.wait_state(container, cri.RUNNING)
    c.call("StartContainer", {"container_id": container}, fails="container is in CONTAINER_RUNNING state")
    c.wait_output("main.log", "out")
    out, err = c.wait_output("main.log", "err")
    c.record("log", 0, out, has="^out$", error=err)
    c.call("ReopenContainerLog", {"container_id": container})
    c.call("StopContainer", {"container_id": container, "timeout": 10})
    c.want(c.status(container)["exit_code"] == 0, "the trap for SIGTERM was not run")
    c.call("RemoveContainer", {"container_id": container})
    c.call("ContainerStatus", {"container_id": container}, fails="not found")


@operation
def exit_codes(c):
    """exit codes, kill after the grace period, restarts by a new attempt"""
    pod = c.pod()
    c.script(pod, "exit 7", code=7)
    c.script(pod, "kill -9 $$", code=0)  # process 1 cannot
    stubborn = c.run(pod, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], name="stubborn")
    c.wait_output("stubborn.log", "ready")
    c.call("StopContainer", {"container_id": stubborn, "timeout": 1})
    c.want(c.status(stubborn)["exit_code"] == 137, "not killed")
    again = c.sleeper(pod, name="stubborn", attempt=1)
    c.wait_state(again, cri.RUNNING)


@operation
def errors(c):
    """errors: no such program, not executable, no such directory, unknown handler"""
    pod = c.pod()
    for command in (["no-such-program"], ["/no/such"], ["/plain"], ["/etc"]):
        container = c.create(pod, command, name="bad" + str(c.count))
        c.count += 1
        c.call("StartContainer", {"container_id": container},
               fails="executable file not found in \\$PATH|no such file or directory|permission denied|is a directory")
        status = c.status(container)
        c.want(status["exit_code"] == 128 and status["reason"] == "StartError", f"status: {status}")
        c.call("RemoveContainer", {"container_id": container})
    container = c.create(pod, ["true"], name="folder", working_dir="/plain/below")
    c.call("StartContainer", {"container_id": container}, fails=".")
    c.call("RunPodSandbox", {"config": c.pod_config("other"), "runtime_handler": "no-such"}, fails="no runtime for .no-such")


@operation
def handler(c):
    """RuntimeClass: the handler's runtime is called, the default handler's runs beside it"""
    tested = c.pod(name="tested")
    default = c.pod(name="default", handler="")
    one, two = c.sleeper(tested), c.sleeper(default)
    for what in (one, two):
        c.exec_sync(what, "cat", "/proc/1/comm", has="sh")
    # The shim keeps its options in the bundle; the runtime's name is in them.
    for pod, wanted in ((tested, c.engine.runtime), (default, None)):
        folder = os.path.join("/run/containerd/io.containerd.runtime.v2.task/k8s.io", pod[0])
        said = ""
        for name in ("options.json", "shim-binary-path"):
            if os.path.exists(os.path.join(folder, name)):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    said += f.read()
        if wanted:
            c.want(json.dumps(wanted)[1:-1] in said, f"the runtime of the handler: {said}")


@operation
def shared_namespaces(c):
    """shared namespaces of a pod: net, ipc, uts; pid by choice (pod, container, target)"""
    pod = c.pod(hostname="shared")
    sleeper, other = c.sleeper(pod, name="sleeper"), c.sleeper(pod, name="other")
    one, two = namespaces(c, sleeper), namespaces(c, other)
    c.note("not shared", " ".join(sorted(n for n in one if one[n] != two[n])), "mnt pid")
    for container in (sleeper, other):
        c.exec_sync(container, "hostname", has="shared")
    options = {"pid": cri.TARGET, "target_id": sleeper, "network": cri.POD, "ipc": cri.POD}
    c.script(pod, "tr '\\0' ' ' </proc/1/cmdline; echo; echo $$", name="debugger", has="trap",
             norm=lambda v: re.sub(r"(?m)^\d+$", "<PID>", v), security={"namespace_options": options})
    c.script(pod, "echo >/dev/shm/of-the-pod; ls /dev/shm", name="writer", has="of-the-pod")
    c.script(pod, "ls /dev/shm", name="reader", has="of-the-pod")


@operation
def shared_pid(c):
    """a pod with one pid namespace (shareProcessNamespace)"""
    options = {"pid": cri.POD}
    pod = c.pod(security={"namespace_options": options})
    one = c.sleeper(pod, name="one", security={"namespace_options": options})
    c.script(pod, "ps -o args | grep -c '[t]rap'; [ $$ != 1 ] && echo not 1", name="two", has="not 1",
             security={"namespace_options": options})
    c.call("StopContainer", {"container_id": one, "timeout": 10})
    c.status(one)


@operation
def host_namespaces(c):
    """hostNetwork, hostPID, hostIPC"""
    options = {"network": cri.NODE, "pid": cri.NODE, "ipc": cri.NODE}
    pod = c.pod(security={"namespace_options": options}, hostname="")
    container = c.sleeper(pod, name="sleeper", security={"namespace_options": options})
    said = namespaces(c, container)
    for name in ("ipc", "net", "pid"):
        c.want(said[name] == os.readlink(f"/proc/1/ns/{name}"), f"{name} is not the host's")
    # All processes of it end with it though there is no pid namespace that ends.
    child = c.run(pod, ["sh", "-c", "sleep 4321 & sleep 4321"], name="parent", security={"namespace_options": options})
    c.call("StopContainer", {"container_id": child, "timeout": 1})
    c.wait_state(child, cri.EXITED)
    c.exec_sync(container, "sh", "-c", "pgrep -f '^sleep 4321' | wc -l", has="^0$")


@operation
def exec_sync(c):
    """ExecSync: output, exit codes, time limit, errors"""
    pod = c.pod()
    container = c.sleeper(pod, security={"run_as_user": {"value": 1000}}, envs=[{"key": "A", "value": "of the container"}])
    c.exec_sync(container, "sh", "-c", "id; echo $A; echo err >&2; exit 9", code=9, has=["uid=1000", "of the container"])
    c.exec_sync(container, "sh", "-c", "seq 1 20000 | tail -1", has="20000")
    c.call("ExecSync", {"container_id": container, "cmd": ["sleep", "100"], "timeout": 1}, fails="timeout|deadline")
    c.call("ExecSync", {"container_id": container, "cmd": ["no-such-program"]}, fails="executable file not found in \\$PATH")
    c.call("ExecSync", {"container_id": container, "cmd": ["/plain"]}, fails="permission denied")
    c.call("StopContainer", {"container_id": container, "timeout": 10})
    c.call("ExecSync", {"container_id": container, "cmd": ["true"]}, fails="not.*running|is in CONTAINER_EXITED|not found")


def stream(c, method, **values):
    url = c.call(method, values, record=method != "PortForward")["url"]
    return cri.Stream(url + ("?port=8080" if method == "PortForward" else ""))


@operation
def exec_stream(c):
    """exec: input, output, error output, exit code, terminal and its size"""
    container = c.sleeper(c.pod())
    s = stream(c, "Exec", container_id=container, cmd=["sh", "-c", "read a; echo got $a; echo err >&2; exit 5"], stdin=True,
               stdout=True, stderr=True)
    s.send(b"typed\n")
    out, err, code = s.finish()
    c.record("exec with input", code, out, code=5, has="^got typed$", error=err)
    s = stream(c, "Exec", container_id=container, tty=True, stdin=True, stdout=True, cmd=[
        "sh", "-c", "tty; until [ \"$(stty size 2>/dev/null)\" = '33 77' ]; do usleep 50000; done; stty size; read a; echo got $a; exit 3"])
    s.resize(33, 77)
    c.want(s.until(b"33 77"), f"the size never came: {s.seen}")
    s.send(b"line\n")
    out, _, code = s.finish()
    c.record("exec with a terminal", code, out, code=3, has=["^/dev/pts/0", "^got line"])
    s = stream(c, "Exec", container_id=container, cmd=["no-such-program"], stdout=True, stderr=True)
    out, err, code = s.finish()
    c.want("executable file not found" in str(code), f"exec of a missing program: {code}")


@operation
def attach(c):
    """attach: input and output of a container, with a terminal and without"""
    pod = c.pod()
    loop = ["sh", "-c", "while read a; do echo got $a; [ $a = end ] && exit 6; done"]
    for name, tty in (("plain", False), ("terminal", True)):
        container = c.create(pod, loop, name=name, stdin=True, tty=tty)
        c.call("StartContainer", {"container_id": container})
        s = stream(c, "Attach", container_id=container, stdin=True, stdout=True, stderr=not tty, tty=tty)
        s.send(b"one\n")
        c.want(s.until(b"got one"), f"no answer: {s.seen}")
        s.send(b"end\n")
        c.want(s.until(b"got end"), f"no answer: {s.seen}")
        c.want(c.wait_state(container, cri.EXITED)["exit_code"] == 6, "exit code")
        s.close()


@operation
def port_forward(c):
    """port-forward"""
    pod = c.pod()
    c.run(pod, ["httpd", "-f", "-p", "8080", "-h", "/srv/data"])
    answer, end = b"", time.monotonic() + 20
    while b"image" not in answer and time.monotonic() < end:
        s = stream(c, "PortForward", pod_sandbox_id=pod[0], port=[8080])
        try:
            s.send(b"GET /file HTTP/1.0\r\n\r\n")
            s.until(b"from the image", channel=0, timeout=5)
        except OSError:
            pass  # not yet listening
        answer = s.seen.get(0, b"")[2:]
        s.close()
    c.note("answer", answer.decode().splitlines()[-1:], ["from the image"])


@operation
def network(c):
    """pods reach each other over the CNI bridge; DNS, host ports are the engine's"""
    one = c.pod(name="one", more={"dns_config": {"servers": ["192.0.2.1"], "searches": ["a.example"]}})
    address = c.call("PodSandboxStatus", {"pod_sandbox_id": one[0]}, record=False)["status"]["network"]["ip"]
    c.run(one, ["httpd", "-f", "-p", "80", "-h", "/srv/data"])
    two = c.pod(name="two")
    c.script(two, f"until wget -q -O - http://{address}/file 2>/dev/null; do usleep 100000; done; hostname", has=["from the image", "two"])
    c.script(one, "cat /etc/resolv.conf; ip -o addr show eth0 | wc -l; cat /etc/hostname", name="dns", has=["192.0.2.1", "a.example"])
