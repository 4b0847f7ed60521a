#!/usr/bin/env python3
"""Runs the OCI runtime-tools validation suite against a runtime and compares with expected.json.

run.py [options] [RUNTIME]     as root; RUNTIME is a path, by default the project's static binary

A line for each program: `ok`, `expected` (it does not pass, for the reason in the table) or `FAIL` (not what the table says).
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import expected  # noqa: E402
import sandbox  # noqa: E402
import suite  # noqa: E402

# Each program has a limit of its own; this is for a sandbox that is stuck.
DEADLINE = 3 * 3600


def verdict(entry, line):
    """-> (word for the line and the count, text after the name)."""
    if line["why"]:
        if entry.verdict == "pass":
            return "FAIL", line["why"]
        return "expected", f"{line['why']}\n         {entry.reason}"
    if entry.verdict == "fail":
        return "FAIL", f"passes, and the table says that it can not: {entry.reason}"
    tries = f", attempt {line['attempt']}" if line["attempt"] > 1 else ""
    skipped = f", {line['skipped']} skipped" if line["skipped"] else ""
    return "ok", f"({line['cases']} cases{skipped}, {line['seconds']} s{tries})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime", nargs="?", default=os.path.join(HERE, f"../../target/{os.uname().machine}-unknown-linux-musl/release/rundlet"))
    parser.add_argument("--only", default="", help="expression that names of programs must contain")
    parser.add_argument("--cgroup", choices=["", "v1", "v2"], default="", help="cgroup mounts seen: as they are, v1 alone, cgroup2 alone")
    parser.add_argument("--out", help="folder that keeps the TAP of each program")
    options = parser.parse_args()
    runtime = os.path.abspath(shutil.which(options.runtime) or options.runtime)
    if not os.access(runtime, os.X_OK):
        parser.error(f"{runtime} is no program")
    if os.geteuid() != 0:
        parser.error("root is needed")
    pure = [sandbox.CGROUP_ROOT] == sandbox.hierarchies()
    world = "v2" if pure or options.cgroup == "v2" else "v1"
    table = expected.load(os.path.join(HERE, "expected.json"))
    built = suite.ready()
    programs = sorted(os.listdir(os.path.join(built, "t")))
    for name in programs:
        if name not in table:
            sys.exit(f"expected.json does not know {name}")
    entries = {name: expected.Entry(table, name, world) for name in programs if re.search(options.only, name)}
    logs = os.path.abspath(options.out) if options.out else tempfile.mkdtemp(prefix="runtime-tools.")
    os.makedirs(logs, exist_ok=True)
    lock = suite.exclusive()
    read, write = os.pipe()
    os.set_inheritable(write, True)
    work = json.dumps([(name, entry.attempts) for name, entry in entries.items()])
    worker = [sys.executable, os.path.join(HERE, "worker.py"), built, runtime, work, logs, str(write)]
    count = {"ok": 0, "FAIL": 0, "expected": 0}
    began = time.monotonic()
    # Stopped, the sandbox ends with its lifeline and is cleaned up all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    world_of = sandbox.Sandbox(worker, "runtime-tools", DEADLINE, env={"RUNDLET_CGROUP_VIEW": options.cgroup}, keep=(write,))
    os.close(write)
    try:
        with os.fdopen(read, encoding="utf-8") as lines:
            for text in lines:
                line = json.loads(text)
                entry = entries.pop(line["name"])
                word, more = verdict(entry, line)
                count[word] += 1
                print(f"{word:8} {line['name']} {more}", flush=True)
        world_of.wait()
    finally:
        world_of.stop()
        lock.close()
        if not options.out:
            shutil.rmtree(logs, ignore_errors=True)
    for name in entries:
        count["FAIL"] += 1
        print(f"FAIL     {name} no result: the sandbox ended early")
    print(f"{os.path.basename(runtime)} on cgroup {world}, {time.monotonic() - began:.0f} s; skipped: the table says why they can not pass here")
    print(f"{count['ok']} passed, {count['FAIL']} failed, {count['expected']} skipped")
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
