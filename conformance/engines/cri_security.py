"""Operations of containerd by the CRI: what a container may do and use; the engine's restart. See cri_engine.py for the words
that are used here."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import cri
import normalise
from cri_engine import PID_OF_ITS_OWN
from engine import SLEEP, Skip, operation

STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status; umask"


def cgroup_file(c, pid, controller, name):
    """A file of the container's cgroup, of either version."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        rows = [line.strip().split(":", 2) for line in f]
    for number, names, path in rows:
        if controller in names.split(","):
            with open(f"/sys/fs/cgroup/{controller}{path}/{name}", encoding="utf-8") as f:
                return f.read().strip()
    raise Skip(f"no {controller} hierarchy of version 1")


@operation
def security(c):
    """user, groups, capabilities, no_new_privs, read-only root, masked and read-only paths"""
    pod = c.pod()
    c.script(pod, STATUS)
    c.script(pod, STATUS + "; id; touch /tmp/x", code=1, has=["NoNewPrivs:\t1", "uid=1000.*3000", "CapEff:\t0000000000000000"], security={
        "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "supplemental_groups": [3000], "no_new_privs": True,
        "readonly_rootfs": True, "capabilities": {"drop_capabilities": ["ALL"]}})
    c.script(pod, STATUS + "; id", has="uid=1000\\(alice\\)", security={"run_as_username": "alice"})
    c.script(pod, STATUS, security={"capabilities": {"add_capabilities": ["NET_ADMIN", "SYS_TIME"], "drop_capabilities": ["CHOWN"]}})
    c.script(pod, "cat /srv/data/file | wc -c; echo x >/srv/data/file; ls -l /srv/data | wc -l", has="^0$",
             security={"masked_paths": ["/srv/data/file"], "readonly_paths": ["/srv"]}, code=None)


@operation
def defaults(c):
    """mounts, devices and paths as containerd asks for them by default"""
    pod = c.pod()
    c.script(pod, "ls -l /dev; ls -l /proc/self/fd | grep -v /proc", norm=lambda v: normalise.numbers(normalise.listing(v)))

    def mounts(value):
        return re.sub(r"(lowerdir|upperdir|workdir)=[^, ]*", r"\1=<DIR>",
                      re.sub(r"/sandboxes/\w+", "/sandboxes/<ID>", normalise.mountinfo(value)))
    c.script(pod, "cat /proc/self/mountinfo", norm=mounts)
    c.script(pod, "cat /proc/self/oom_score_adj; ulimit -n; cat /proc/1/cgroup | cut -d: -f2-; env", norm=lambda v: normalise.lines_sorted(
        re.sub(r"KUBERNETES\S+", "", v)))


@operation
def privileged(c):
    """privileged"""
    pod = c.pod(security={"privileged": True})
    c.script(pod, STATUS + "; ls /dev | grep -c .; touch /proc/sys/kernel/domainname", security={"privileged": True},
             has="Seccomp:\t0", norm=normalise.numbers)


@operation
def seccomp(c):
    """seccomp: the engine's default, unconfined, a profile of the node"""
    profile = c.write("profile.json", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}))
    pod = c.pod(security={"seccomp": {"profile_type": cri.RUNTIME_DEFAULT}})
    text = "grep ^Seccomp: /proc/self/status; mkdir /tmp/x; unshare -r true"
    for name, values, wanted in (("default", {"profile_type": cri.RUNTIME_DEFAULT}, "Seccomp:\t2"),
                                 ("unconfined", {"profile_type": cri.UNCONFINED}, "Seccomp:\t0"),
                                 ("local", {"profile_type": cri.LOCALHOST, "localhost_ref": "localhost/" + profile}, "mkdir: can't create")):
        if name == "local" and c.engine.number >= "1.7":
            values["localhost_ref"] = profile
        c.script(pod, text, name=name, code=None, **{"err" if name == "local" else "has": wanted}, security={"seccomp": values})


@operation
def mounts(c):
    """volumes: read-only, file, propagation; a device; environment and working directory"""
    pod = c.pod()
    c.folder("v/below")
    c.write("v/file", "host\n")
    volume = {"container_path": "/v", "host_path": c.path("v")}
    c.script(pod, "cat /v/file; echo new >/v/new; cat /v/new", mounts=[volume], has=["host", "new"])
    c.script(pod, "echo x >/v/x; cat /f", has="host", err="Read-only file system", mounts=[
        {**volume, "readonly": True}, {"container_path": "/f", "host_path": c.path("v/file"), "readonly": True}])
    c.do("mount", "-t", "tmpfs", "shared", c.path("v"), record=False)
    try:
        c.do("mount", "--make-shared", c.path("v"), record=False)
        for number in range(3):
            c.script(pod, "grep ' /v ' /proc/self/mountinfo | sed 's/.* \\/v //; s/ - .*//; s/:[0-9]*//g'", mounts=[{**volume, "propagation": number}],
                     has=("rw", "master", "shared")[number])
    finally:
        c.do("umount", c.path("v"), record=False)
    c.script(pod, "ls -l /dev/mine; head -c 3 /dev/mine | wc -c; pwd; echo $ONE", has=["crw", "^3$", "^/srv$"],
             norm=normalise.listing, working_dir="/srv", envs=[{"key": "ONE", "value": "two words"}],
             devices=[{"container_path": "/dev/mine", "host_path": "/dev/zero", "permissions": "rw"}])


@operation
def recursive_read_only(c):
    """a volume that is read-only with the mounts below it"""
    c.needs((2, 0), "recursive read-only mounts")
    c.folder("v/below")
    c.do("mount", "-t", "tmpfs", "below", c.path("v/below"), record=False)
    try:
        volume = {"container_path": "/v", "host_path": c.path("v"), "readonly": True, "recursive_read_only": True}
        c.script(c.pod(), "touch /v/below/x", mounts=[volume], code=1, err="Read-only file system")
    finally:
        c.do("umount", c.path("v/below"), record=False)


@operation
def sysctls(c):
    """sysctls of a pod, host name"""
    pod = c.pod(hostname="named", sysctls={"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "12345"})
    c.script(pod, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; hostname", has=["^80$", "^12345$", "named"])


@operation
def resources(c):
    """limits of memory, CPU and cpuset; UpdateContainerResources; stats"""
    pod = c.pod()
    container = c.sleeper(pod, resources={"memory_limit_in_bytes": 64 << 20, "cpu_shares": 512, "cpu_period": 100000, "cpu_quota": 50000,
                                          "cpuset_cpus": "0", "oom_score_adj": 900})
    files = (("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares"), ("cpu", "cpu.cfs_quota_us"), ("cpuset", "cpuset.cpus"))
    pid = c.pid(container)
    c.note("limits", " ".join(cgroup_file(c, pid, *f) for f in files), f"{64 << 20} 512 50000 0")
    c.exec_sync(container, "cat", "/proc/1/oom_score_adj", has="900")
    c.call("UpdateContainerResources", {"container_id": container, "linux": {
        "memory_limit_in_bytes": 96 << 20, "cpu_shares": 256, "cpu_quota": 25000, "cpuset_cpus": "0-1"}})
    c.note("updated", " ".join(cgroup_file(c, pid, *f) for f in files), f"{96 << 20} 256 25000 0-1")
    stats = c.call("ContainerStats", {"container_id": container})["stats"]
    c.want(stats["memory"]["working_set_bytes"]["value"] > 0 and stats["cpu"]["usage_core_nano_seconds"]["value"] > 0, f"stats: {stats}")


@operation
def out_of_memory(c):
    """a container that takes too much memory: OOMKilled"""
    pod = c.pod()
    container = c.run(pod, ["sh", "-c", "tail -c 100m /dev/zero; sleep 1; exit 9"], resources={"memory_limit_in_bytes": 16 << 20})
    status = c.wait_state(container, cri.EXITED)
    c.want(status["exit_code"] == 9 and status["reason"] == "OOMKilled", f"status: {status}")


@operation
def many(c):
    """six pods at once"""
    trouble = []

    def one(number):
        try:
            config = c.pod_config(f"pod{number}")
            pod = c.engine.client.call("RunPodSandbox", {"config": config, "runtime_handler": "tested"})["pod_sandbox_id"]
            values = {"metadata": {"name": "main"}, "image": {"image": "localhost/busybox:latest"}, "command": ["sh", "-c", SLEEP],
                      "log_path": f"main{number}.log", "linux": {"security_context": PID_OF_ITS_OWN}}
            container = c.engine.client.call("CreateContainer", {"pod_sandbox_id": pod, "config": values, "sandbox_config": config})["container_id"]
            c.engine.client.call("StartContainer", {"container_id": container})
            answer = c.engine.client.call("ExecSync", {"container_id": container, "cmd": ["hostname"], "timeout": 20})
            if answer["stdout"].decode().strip() != f"pod{number}":
                trouble.append(str(answer))
            c.engine.client.call("StopPodSandbox", {"pod_sandbox_id": pod})
        except cri.CallFailed as e:
            trouble.append(str(e))
    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    c.want(not trouble, "; ".join(trouble))


@operation
def restart(c):
    """containerd is killed and started again: pods and containers stay, exits meanwhile are seen"""
    pod = c.pod()
    stays = c.sleeper(pod, name="stays")
    ends = c.run(pod, ["sh", "-c", "until [ -e /tmp/end ]; do usleep 50000; done; exit 4"], name="ends")
    pid = c.pid(ends)
    c.engine.client.close()
    c.engine.kill(signal.SIGKILL)
    with open(f"/proc/{pid}/root/tmp/end", "w", encoding="utf-8"):
        pass
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/root/tmp") and time.monotonic() < end:
        time.sleep(0.05)
    c.engine.launch()
    c.want(c.wait_state(stays, cri.RUNNING)["state"] == cri.RUNNING, "the container did not stay")
    c.wait_state(ends, cri.EXITED)
    c.exec_sync(stays, "echo", "alive", has="alive")
    c.call("StopContainer", {"container_id": stays, "timeout": 10})
    c.status(stays)


def userns_pod(c, **kw):
    c.needs((1, 7), "user namespaces")
    ids = [{"host_id": 200000, "container_id": 0, "length": 65536}]
    options = {"pid": cri.CONTAINER, "userns_options": {"mode": cri.POD, "uids": ids, "gids": ids}}
    return c.pod(security={"namespace_options": options}, **kw), {"namespace_options": options}


@operation
def user_namespace(c):
    """a pod in a user namespace (hostUsers: false)"""
    pod, security = userns_pod(c)
    c.script(pod, "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox; touch /made; stat -c %u /made", has=["200000", "^0$"], security=security)
    container = c.sleeper(pod, security={**security, "run_as_user": {"value": 1000}})
    c.note("uid on the host", os.stat(f"/proc/{c.pid(container)}").st_uid, 201000)
    c.exec_sync(container, "id", "-u", has="^1000$")


@operation
def user_namespace_volume(c):
    """a volume of a pod in a user namespace, id-mapped"""
    c.needs((2, 0), "id-mapped volumes")
    c.write("v/file", "host\n")
    os.chown(c.path("v/file"), 5, 6)
    pod, security = userns_pod(c)
    ids = security["namespace_options"]["userns_options"]["uids"]
    volume = {"container_path": "/v", "host_path": c.path("v"), "uidMappings": ids, "gidMappings": ids}
    c.script(pod, "stat -c %u:%g /v/file; touch /v/new; chown 7:8 /v/new", mounts=[volume], has="^5:6$", security=security)
    c.note("owner on the host", os.stat(c.path("v/new")).st_uid, 7)


@operation
def checkpoint(c):
    """checkpoint of a running container"""
    c.needs((2, 0), "CheckpointContainer")
    if subprocess.run(["criu", "check"], capture_output=True, timeout=60).returncode != 0:
        raise Skip("this CRIU does not work on this kernel")
    container = c.sleeper(c.pod())
    c.call("CheckpointContainer", {"container_id": container, "location": c.path("saved.tar"), "timeout": 60}, timeout=90)
    c.do("sh", "-c", f"tar -tf {c.path('saved.tar')} | grep -c '^checkpoint/core-'", has="^[1-9]", norm=normalise.numbers)
    c.exec_sync(container, "echo", "alive", has="alive")
