#!/usr/bin/env python3
"""What users of other runtimes asked for: shows the complaint with runc or crun, and what rundlet does. `make demand`, as root.

run.py [--write] [--only NAME] RUNDLET [PEER...]     RUNDLET and PEER are paths; peers are by default the runc and crun of PATH

Every case (cases.py) runs on rundlet and on the peers. It fails where the complaint holds for rundlet, and says so where a peer that
is known to show it does not any more. --write puts the answers into ../demand.md. Needs a host with cgroup v1 controllers, busybox-static
and strace. Runs in namespaces of its own (../lib/sandbox.py) and leaves nothing behind.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cases  # noqa: E402
import sandbox  # noqa: E402
from world import Side, Skip  # noqa: E402

FILE = os.path.normpath(os.path.join(HERE, "..", "demand.md"))
HEAD = """# What users asked for

Threads in which users of runc, crun and their engines ask for something: each complaint as it shows on {peers}, and what rundlet {version}
does in the same place. Written by `make demand` ([demand/run.py](demand/run.py)), which fails where a complaint holds for rundlet. GROUP,
N, PID and WHERE stand for what differs each time.
"""
DEADLINE = 600


class Ended(Exception):
    pass


def worker(results, only, runtimes):
    """Inside of the sandbox: one JSON line for each case and runtime."""
    def ended(*_):
        raise Ended
    signal.signal(signal.SIGTERM, ended)
    folder, group = os.environ["RUNDLET_SCRATCH"], os.environ["RUNDLET_CGROUP"]
    with open(results, "a", encoding="utf-8") as out:
        for case in cases.CASES:
            if only not in case.name:
                continue
            for runtime in runtimes:
                entry = {"case": case.name, "runtime": os.path.basename(runtime)}
                side = Side(runtime, folder, group)
                try:
                    entry["lines"], entry["holds"] = case.function(side)
                except Skip as e:
                    entry["skip"] = str(e)
                except (OSError, RuntimeError, subprocess.SubprocessError, KeyError, IndexError, ValueError) as e:
                    entry["broken"] = f"{type(e).__name__}: {e}"
                finally:
                    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    side.close()
                    signal.signal(signal.SIGTERM, before)
                out.write(json.dumps(entry) + "\n")
                out.flush()


def answers(only, runtimes):
    """-> {(case, runtime's name): entry}"""
    folder = tempfile.mkdtemp(prefix="rundlet-demand.")
    results = os.path.join(folder, "results")
    # crun refuses a hybrid host.
    os.environ["RUNDLET_CGROUP_VIEW"] = "v1"
    world = None
    try:
        world = sandbox.Sandbox([sys.executable, "-B", os.path.abspath(__file__), "--worker", results, only, *runtimes], "demand", DEADLINE)
        world.wait()
        with open(results, encoding="utf-8") as f:
            entries = [json.loads(line) for line in f]
    except FileNotFoundError:
        sys.exit("the sandbox ended early")
    finally:
        if world:
            world.stop()
        shutil.rmtree(folder)
    return {(entry["case"], entry["runtime"]): entry for entry in entries}


def version(path):
    words = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout.split()
    return words[2].split("+")[0]


def judge(chosen, found, names):
    """Prints a line for each answer -> how many do not hold."""
    wrong = 0
    for case in chosen:
        for place, name in enumerate(names):
            entry = found.get((case.name, name), {"broken": "no answer: the run ended early"})
            ours = place == 0
            if "skip" in entry:
                verdict = f"skip: {entry['skip']}"
            elif "broken" in entry:
                verdict, wrong = f"FAIL: {entry['broken']}", wrong + 1
            elif ours:
                verdict, wrong = ("FAIL: the complaint holds" if entry["holds"] else "ok"), wrong + entry["holds"]
            elif name in case.shown_by and not entry["holds"]:
                verdict = "note: no longer shows it"
            else:
                verdict = "as complained" if entry["holds"] else "not so"
            print(f"{case.name:20} {name:8} {verdict}")
            for line in entry.get("lines", []):
                print(f"{'':29} {line}")
    return wrong


def page(chosen, found, runtimes):
    versions = {os.path.basename(path): version(path) for path in runtimes}
    names = list(versions)
    peers = " and ".join(f"{name} {versions[name]}" for name in names[1:])
    text = [HEAD.format(peers=peers, version=versions[names[0]])]
    for number, case in enumerate(chosen, 1):
        text.append(f"## {number}. {case.threads}\n\n{case.complaint}\n\nTried: {case.tried}.\n")
        text.append("| | answer | as complained |\n|---|---|---|")
        for name in [*names[1:], names[0]]:
            entry = found[case.name, name]
            if "skip" in entry:
                text.append(f"| {name} | {entry['skip']} | not tried |")
                continue
            shown = "<br>".join("`` " + line.replace("|", "\\|") + " ``" for line in entry["lines"])
            text.append(f"| {name} | {shown} | {'**yes**' if entry['holds'] else 'no'} |")
        text.append("")
    return "\n".join(text)


def main():
    if sys.argv[1:2] == ["--worker"]:
        return worker(sys.argv[2], sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rundlet")
    parser.add_argument("peer", nargs="*")
    parser.add_argument("--write", action="store_true", help="write ../demand.md")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    peers = options.peer or [path for path in map(shutil.which, ("runc", "crun")) if path]
    runtimes = [os.path.abspath(path) for path in [options.rundlet, *peers]]
    for path in runtimes:
        if not os.access(path, os.X_OK):
            parser.error(f"{path} is no program")
    names = [os.path.basename(path) for path in runtimes]
    if len(set(names)) < len(names):
        parser.error("the names of the programs must differ")
    if options.write and (options.only or len(runtimes) < 3):
        parser.error("--write is for all cases on both peers")
    if not os.path.exists("/sys/fs/cgroup/memory/memory.stat"):
        sys.exit("demand: the cases are for a host with the memory controller of cgroup v1 at /sys/fs/cgroup/memory")
    chosen = [case for case in cases.CASES if options.only in case.name]
    found = answers(options.only, runtimes)
    wrong = judge(chosen, found, names)
    if options.write and not wrong:
        with open(FILE, "w", encoding="utf-8") as f:
            f.write(page(chosen, found, runtimes))
    print(f"{len(chosen)} complaints, {wrong} answers that do not hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Ended:
        sys.exit(1)
