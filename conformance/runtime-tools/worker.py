"""Runs inside of the sandbox: the programs one after the other, a JSON line each on the descriptor given.

worker.py SUITE RUNTIME PROGRAMS(JSON) LOGS RESULTS-FD"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import sandbox  # noqa: E402
import tap  # noqa: E402

LIMIT = 180
# Fixed names, and the ids that the programs make up, which a container without cgroupsPath has as its cgroup.
CGROUPS = re.compile(r"testdir|cgrouptest|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def program(suite, name, wrapper, scratch):
    """Runs it; returns (exit code, or None after LIMIT; stdout; stderr)."""
    temporary = os.path.join(scratch, "tmp")
    os.makedirs(temporary, exist_ok=True)
    env = dict(os.environ, RUNTIME=wrapper, TMPDIR=temporary)
    streams = [open(os.path.join(scratch, part), "w+b") for part in ("out", "err")]
    child = subprocess.Popen([os.path.join(suite, "t", name)], cwd=suite, env=env, stdin=subprocess.DEVNULL,
                             stdout=streams[0], stderr=streams[1], start_new_session=True)
    try:
        code = child.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        code = None
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read().decode(errors="replace"))
        stream.close()
    return code, *texts


def clean(wrapper, scratch):
    """Ends what a failed case left: containers, their cgroups, bundles."""
    root = os.path.join(scratch, "root")
    for name in os.listdir(root) if os.path.isdir(root) else []:
        subprocess.run([wrapper, "delete", "--force", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    shutil.rmtree(os.path.join(scratch, "tmp"), ignore_errors=True)
    for hierarchy in sandbox.hierarchies():
        for name in os.listdir(hierarchy):
            if CGROUPS.fullmatch(name):
                sandbox.remove_cgroup(name)


def main():
    suite, runtime, names, logs, results = sys.argv[1:]
    scratch = os.environ["RUNDLET_SCRATCH"]
    wrapper = os.path.join(scratch, "runtime")
    with open(wrapper, "w", encoding="utf-8") as f:
        f.write(f"#!/bin/sh\nexec '{runtime}' --root '{scratch}/root' \"$@\"\n")
    os.chmod(wrapper, 0o755)
    # A second interface, which a program about network priorities takes for granted.
    subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], stderr=subprocess.DEVNULL, check=False)
    for name, attempts in json.loads(names):
        began = time.monotonic()
        for attempt in range(1, attempts + 1):
            code, out, err = program(suite, name, wrapper, scratch)
            with open(os.path.join(logs, name + ".tap"), "w", encoding="utf-8") as f:
                f.write(f"{out}\n# stderr\n{err}\n# exit code {code}\n")
            clean(wrapper, scratch)
            why, cases, skipped = tap.judge(out, err, code)
            if not why:
                break
        line = {"name": name, "why": why, "cases": cases, "skipped": skipped, "attempt": attempt,
                "seconds": round(time.monotonic() - began, 1)}
        os.write(int(results), json.dumps(line).encode() + b"\n")


main()
