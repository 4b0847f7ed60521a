#!/usr/bin/env python3
"""Runs the same docker operations with two runtimes and compares exit codes and output.

run.py [options] RUNTIME_A RUNTIME_B      A is the reference (runc), B is what is tested

A case passes if both sides gave the same (after normalise.py) and what the case says must be true is true for B.
explained.json names the differences that are meant, with their reason; all others make the run fail.
"""

import argparse
import collections
import fnmatch
import json
import os
import re
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import sandbox  # noqa: E402
import worker  # noqa: E402
from judge import Explained, judge, show  # noqa: E402


# More failures than this are no accident of a busy machine.
RETRIED = 5


class Side:
    """A sandbox with its own dockerd and the file into which it writes results."""

    def __init__(self, letter, runtime, out, wanted, deadline, view):
        self.letter, self.results, self.read = letter, os.path.join(out, letter + ".jsonl"), 0
        open(self.results, "w", encoding="utf-8").close()
        self.done = {}
        os.environ["RUNDLET_CGROUP_VIEW"] = view
        worker = [sys.executable, os.path.join(HERE, "side.py"), runtime, self.results, wanted]
        self.world = sandbox.Sandbox(worker, "docker-" + letter, deadline)

    def collect(self):
        alive = self.world.poll() is None
        with open(self.results, encoding="utf-8") as f:
            f.seek(self.read)
            while True:
                line = f.readline()
                if not line.endswith("\n"):
                    break
                self.read = f.tell()
                entry = json.loads(line)
                self.done[entry["name"]] = entry
        return alive


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime_a", nargs="?")
    parser.add_argument("runtime_b", nargs="?")
    parser.add_argument("--only", default="", help="expression that names of cases must contain")
    parser.add_argument("--serial", action="store_true", help="one runtime after the other instead of side by side")
    parser.add_argument("--out", help="folder that keeps the full records and the daemons' logs")
    parser.add_argument("--explained", default=os.path.join(HERE, "explained.json"))
    parser.add_argument("--deadline", type=float, default=900, help="seconds for each side")
    parser.add_argument("--cgroup", choices=["", "v1", "v2"], default="", help="cgroup mounts seen by both: as they are, v1 alone, cgroup2 alone")
    parser.add_argument("-v", "--verbose", action="store_true", help="show explained differences too")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    import cases  # noqa: F401
    import harness
    names = [e["name"] for e in sorted(harness.CASES, key=lambda e: e["remap"]) if re.search(options.only, e["name"])]
    if options.list:
        print("\n".join(names))
        return 0
    if not options.runtime_b:
        parser.error("two runtimes are needed")
    runtimes = [os.path.abspath(r) for r in (options.runtime_a, options.runtime_b)]
    for runtime in runtimes:
        if not os.access(runtime, os.X_OK):
            parser.error(f"{runtime} is no program")
    explained = Explained(options.explained)
    keep = options.out or tempfile.mkdtemp(prefix="docker-conformance.")
    sandbox.interruptible()
    began = time.monotonic()
    verdicts = compare(names, options.only, runtimes, explained, keep, options)
    failed = [name for name, verdict in verdicts.items() if verdict == "FAIL"]
    # A busy machine makes a daemon late now and then. What fails again, alone, is a difference.
    if 0 < len(failed) <= RETRIED:
        print(f"once more, alone: {' '.join(failed)}")
        wanted = "^(" + "|".join(map(re.escape, failed)) + ")$"
        again = compare(failed, wanted, runtimes, explained, os.path.join(keep, "again"), options)
        for name, verdict in again.items():
            if verdict != "FAIL":
                print(f"UNSTEADY docker {name}: failed, then passed alone")
        verdicts.update(again)
    for i, entry in enumerate(explained.entries if os.path.basename(runtimes[0]) != os.path.basename(runtimes[1]) else []):
        if i not in explained.used and any(fnmatch.fnmatch(n, entry["case"]) for n in names) and explained.find(
                next(n for n in names if fnmatch.fnmatch(n, entry["case"])), runtimes[1]).count((i, entry)):
            print(f"note: explained.json: no difference this time for {entry['case']}: {entry['reason']}")
    count = collections.Counter(verdicts.values())
    if not options.out and not count["FAIL"]:
        shutil.rmtree(keep)
        keep = "not kept"
    print(f"{time.monotonic() - began:.0f} s; {count['explained']} of the passed differ as explained; records: {keep}")
    print(f"{count['ok'] + count['explained']} passed, {count['FAIL']} failed, {count['skip']} skipped")
    return 1 if count["FAIL"] else 0


def compare(names, wanted, runtimes, explained, out, options):
    """Runs the cases `names`, all those that the expression `wanted` fits, on both -> {name: verdict}, printed as they come."""
    os.makedirs(out, exist_ok=True)
    verdicts, sides = dict.fromkeys(names, "FAIL"), []

    def launch(letter, runtime):
        sides.append(Side(letter, runtime, out, wanted, options.deadline, options.cgroup))
        return sides[-1]
    try:
        a = launch("a", runtimes[0])
        if options.serial:
            a.world.wait()
        b = launch("b", runtimes[1])
        waiting = list(names)
        while waiting:
            alive_a, alive_b = a.collect(), b.collect()
            while waiting and ((waiting[0] in a.done or not alive_a) and (waiting[0] in b.done or not alive_b)):
                name = waiting.pop(0)
                one, two = a.done.get(name), b.done.get(name)
                verdicts[name], text = judge(name, one, two, explained, runtimes[1])
                report(name, verdicts[name], f"({one['seconds']}s {two['seconds']}s)" if one and two else "", text, options.verbose)
            time.sleep(0.1)
        for side in (a, b):
            side.world.wait()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        with worker.undisturbed():
            for side in sides:
                side.world.stop()
    return verdicts


def report(name, verdict, took, text, verbose):
    print(f"{verdict:9} {name} {took}", flush=True)
    if verdict in ("FAIL", "skip") or verbose:
        show(text, verbose)


if __name__ == "__main__":
    sys.exit(main())
