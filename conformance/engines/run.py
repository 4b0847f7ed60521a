#!/usr/bin/env python3
"""Runs the operations of container engines with two runtimes, compares what came out, and writes the matrix.

run.py [options] RUNTIME_A RUNTIME_B [ENGINE...]      A is the reference (runc), B is what is tested; see --list

An operation passes if both sides gave the same (after ../lib/normalise.py) and what it says must be true is true for B.
explained.json names the differences that are meant, with their reason; all others make the run fail.
"""

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import matrix  # noqa: E402
import sandbox  # noqa: E402
import worker  # noqa: E402
from judge import Explained, judge, show  # noqa: E402

# Name, script, Debian suite that the engine is taken from where it is not the host's.
ENGINES = [
    ("ctr", "ctr", "-"),
    ("ctr-trixie", "ctr", "trixie"),
    ("ctr-forky", "ctr", "forky"),
    ("docker-live-restore", "docker_restart", "-"),
    ("compose", "compose", "trixie"),
    ("swarm", "swarm", "-"),
    ("buildkit", "buildkit", "trixie"),
    ("conmon", "conmon", "-"),
    ("buildah", "buildah", "-"),
    ("podman", "podman", "-"),
    ("podman-rootless", "podman_rootless", "-"),
    ("containerd-cri", "containerd_cri", "-"),
    ("containerd-cri-trixie", "containerd_cri", "trixie"),
    ("containerd-cri-forky", "containerd_cri", "forky"),
]


# More failures of an engine than this are no accident of a busy machine.
RETRIED = 3


class Side:
    """A sandbox with an engine of its own and the file into which it writes results."""

    def __init__(self, letter, engine, runtime, out, only, options):
        name, module, suite = engine
        self.results = os.path.join(out, f"{name}.{letter}.jsonl")
        open(self.results, "w", encoding="utf-8").close()
        # python3-grpcio is Debian's, and so for Debian's python.
        worker = ["/usr/bin/python3", os.path.join(HERE, "side.py"), module, suite, runtime, self.results, only]
        self.world = sandbox.Sandbox(worker, f"{name}-{letter}", options.deadline)

    def entries(self):
        """-> (version or None, reason for a skip or None, {name: result})"""
        with open(self.results, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f if line.endswith("\n")]
        head = rows[0] if rows else {"engine": None}
        return head["engine"], head.get("skip"), {r["name"]: r for r in rows[1:]}


def passes(entry):
    """What the side's own expectations say, for the matrix."""
    if entry is None:
        return "no result"
    return "skipped" if entry["skip"] else "FAILS" if entry["failures"] else "passes"


def run_engine(engine, runtimes, out, explained, options):
    """One engine; what fails is run once more, alone: a busy machine makes an engine late now and then."""
    result = compare(engine, runtimes, out, explained, options, options.only)
    failed = [r["name"] for r in result["rows"] if r["verdict"] == "FAIL" and r["name"] != "start"]
    if not 0 < len(failed) <= RETRIED or any(r["name"] == "start" for r in result["rows"]):
        return result
    print(f"once more, alone: {' '.join(failed)}")
    again = compare(engine, runtimes, os.path.join(out, "again"), explained, options, "^(" + "|".join(failed) + ")$")
    for row in again["rows"]:
        if row["verdict"] != "FAIL":
            print(f"UNSTEADY {engine[0]} {row['name']}: failed, then passed alone")
    rows = {r["name"]: r for r in again["rows"]}
    result["rows"] = [rows.get(r["name"], r) for r in result["rows"]] + [r for r in again["rows"] if r["name"] == "start"]
    return result


def compare(engine, runtimes, out, explained, options, only):
    """-> {"engine", "version", "skip", "rows": [what `passes` and `judge` say of each operation]}"""
    os.makedirs(out, exist_ok=True)
    sides = []
    try:
        for letter, runtime in zip("ab", runtimes):
            sides.append(Side(letter, engine, runtime, out, only, options))
            if options.serial:
                sides[-1].world.wait()
        for side in sides:
            side.world.wait()
    finally:
        with worker.undisturbed():
            for side in sides:
                side.world.stop()
    (version, skip, a), (_, skip_b, b) = (side.entries() for side in sides)
    result = {"engine": engine[0], "version": version, "skip": skip or skip_b, "rows": []}
    if result["skip"]:
        print(f"skip      {engine[0]}: {result['skip']}")
        return result
    for name in a | b:
        one, two = a.get(name), b.get(name)
        verdict, text = judge(f"{engine[0]}.{name}", one, two, explained, runtimes[1])
        result["rows"].append({"name": name, "operation": (one or two)["label"], "verdict": verdict, "a": passes(one),
                               "b": passes(two), "text": text})
        seconds = " ".join(f"{e['seconds']}s" for e in (one, two) if e)
        print(f"{verdict:9} {engine[0]} {name} ({seconds})", flush=True)
        if verdict in ("FAIL", "skip") or options.verbose:
            show(text, options.verbose)
    # A side that ended before its first result, or between two, is seen by the operations that are missing in both.
    if not a or not b or any(side.world.process.returncode != 0 for side in sides):
        print(f"FAIL      {engine[0]}: a side ended early")
        result["rows"].append({"name": "start", "operation": "the engine itself", "verdict": "FAIL", "a": "", "b": "", "text": []})
    return result


def with_earlier(results, path):
    """In the order of ENGINES."""
    found = {}
    if path:
        with open(path, encoding="utf-8") as f:
            found = {r["engine"]: r for r in json.load(f)}
    found.update({r["engine"]: r for r in results})
    return [found[name] for name, *_ in ENGINES if name in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime_a", nargs="?")
    parser.add_argument("runtime_b", nargs="?")
    parser.add_argument("engine", nargs="*", help="engines (default: all)")
    parser.add_argument("--only", default="", help="expression that names of operations must contain")
    parser.add_argument("--serial", action="store_true", help="one runtime after the other instead of side by side")
    parser.add_argument("--out", help="folder that keeps the full records")
    parser.add_argument("--write", action="store_true", help="write matrix.md and the table in README.md")
    parser.add_argument("--with", dest="earlier", metavar="FILE", help="results.json of an earlier run: for --write, the engines that are not run now")
    parser.add_argument("--guest", nargs=3, metavar=("LOG_A", "LOG_B", "ABOUT"), help="what tests/vm/suite.sh printed with runc and with the tested "
                        "runtime is put into the matrix, too, until this is said again; ABOUT: the guest's engines in some words")
    parser.add_argument("--explained", default=os.path.join(HERE, "explained.json"))
    parser.add_argument("--deadline", type=float, default=900, help="seconds for each side of an engine")
    parser.add_argument("-v", "--verbose", action="store_true", help="show explained differences too")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(name for name, *_ in ENGINES))
        return 0
    if not options.runtime_b:
        parser.error("two runtimes are needed")
    chosen = [e for e in ENGINES if not options.engine or e[0] in options.engine]
    if not chosen:
        parser.error("no such engine; see --list")
    runtimes = [os.path.abspath(r) for r in (options.runtime_a, options.runtime_b)]
    for runtime in runtimes:
        if not os.access(runtime, os.X_OK):
            parser.error(f"{runtime} is no program")
    explained = Explained(options.explained)
    keep = options.out or tempfile.mkdtemp(prefix="engine-conformance.")
    os.makedirs(keep, exist_ok=True)
    sandbox.interruptible()
    began = time.monotonic()
    results = []
    try:
        for engine in chosen:
            results.append(run_engine(engine, runtimes, keep, explained, options))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    with open(os.path.join(keep, "results.json"), "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
    count = collections.Counter(row["verdict"] for result in results for row in result["rows"])
    count["skip"] += sum(bool(result["skip"]) for result in results)
    if options.guest:
        matrix.keep_guest(*options.guest)
    if options.write:
        matrix.write(with_earlier(results, options.earlier), runtimes, explained)
    if not options.out and not count["FAIL"]:
        shutil.rmtree(keep)
        keep = "not kept"
    print(f"{time.monotonic() - began:.0f} s; {count['explained']} of the passed differ as explained; records: {keep}")
    print(f"{count['ok'] + count['explained']} passed, {count['FAIL']} failed, {count['skip']} skipped")
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
