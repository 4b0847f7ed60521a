"""Many containers at the same time, and what a host shows of containers afterwards: nothing.

What is left is judged by snapshots before and after, taken from outside of the containers; the sandbox's own pid and
mount namespaces make them exact while other work runs.
"""

import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import sandbox
from world import Failed, equal

PARALLEL = 50


def snapshot(w):
    """What a host shows of containers. Everything in it is of this sandbox, so all of it counts."""
    own = w.daemon.cgroup_parent.split("/")[0]
    seen = {"processes": [], "mounts": [], "cgroups": [], "state": [], "interfaces": []}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        name = "zombie" if state == "Z" else words
        seen["processes"].append(re.sub(r"\s+", " ", name)[:120])
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        seen["mounts"] = [line.split()[4] for line in f]
    with subprocess.Popen(["ip", "-o", "link"], stdout=subprocess.PIPE, text=True) as p:
        seen["interfaces"] = [re.sub(r"@.*", "", line.split(": ")[1]) for line in p.stdout]
    for h in sandbox.hierarchies():
        for folder, _, _ in os.walk(h):
            # Our own group, and an id of a container at any other place but the groups of sandboxes beside this one.
            if own in folder or (sandbox.PREFIX not in folder and re.search(r"[0-9a-f]{64}", folder)):
                seen["cgroups"].append(folder)
    for top in (w.daemon.exec_root, "/run", os.path.join(w.daemon.folder, "data/containers")):
        for folder, folders, files in os.walk(top):
            seen["state"] += [os.path.join(folder, n) for n in folders + files]
    return {k: sorted(v) for k, v in seen.items()}


def settled(w):
    """A snapshot after a first container: what stays by the engine's will (its own groups, sockets, folders) is in it."""
    w.d("run", "--rm", "--name", "warm", "-m", "64m", "busybox", "true")
    w.d("run", "--rm", "--name", "warm", "busybox", "true")
    time.sleep(1)
    return snapshot(w)


def nothing_left(w, before):
    equal(w.out("ps", "-aq"), "", "containers left")
    end = time.monotonic() + 15
    while True:
        after = snapshot(w)
        left = {}
        for kind, rows in after.items():
            rest = list(rows)
            for row in before[kind]:
                if row in rest:
                    rest.remove(row)
            # The engine's own: sockets, and files of ended network namespaces, which it collects once a minute (that they
            # are no mounts any more is seen among the mounts).
            rest = [r for r in rest if not (kind == "state" and re.search(r"/(containerd/s|containerd/containerd\.sock|libnetwork/[0-9a-f]+\.sock|network/files|exec/netns/[0-9a-f]{12}$)", r))]
            if rest:
                left[kind] = rest
        if not left:
            return
        if time.monotonic() > end:
            raise Failed("left behind: " + json.dumps({k: v[:10] for k, v in left.items()}))
        time.sleep(0.3)


def fifty(w):
    before = settled(w)

    def one(i):
        name = f"many-{i}"
        kind = i % 5
        if kind == 0:
            out = w.d("run", "--rm", "--name", name, "-m", "32m", "--pids-limit", "20", "busybox", "echo", str(i), timeout=180).stdout
            equal(out, f"{i}\n", name)
        elif kind == 1:
            w.d("run", "--rm", "--name", name, "--network", "none", "busybox", "sh", "-c", f"exit {i}", code=i, timeout=180)
        elif kind == 2:
            w.d("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000", timeout=180)
            w.d("exec", name, "true", timeout=180)
            w.d("exec", "-d", name, "sleep", "1000", timeout=180)
            w.d("rm", "-f", name, timeout=180)
        elif kind == 3:
            w.d("run", "-d", "--name", name, "--pid", "host", "--network", "none", "busybox", "sh", "-c", "sleep 1001 & sleep 1002", timeout=180)
            w.d("kill", name, timeout=180)
            w.d("rm", "-f", name, timeout=180)
        else:
            w.d("run", "-d", "--name", name, "--tmpfs", "/t", "-v", f"{w.daemon.folder}:/b:ro", "busybox", "nosuchprogram", code=127, timeout=180)
            w.d("rm", "-f", name, timeout=180)
        return i
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(PARALLEL)))
    w.d("volume", "prune", "-f")
    nothing_left(w, before)
