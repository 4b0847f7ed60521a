#!/usr/bin/env python3
"""Writes the tables of README.md anew, from explained.json, the tests and what results/*.json kept of runs.

report.py [--tests BINARY]     needs no root
"""

import argparse
import glob
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import run  # noqa: E402

README = os.path.join(HERE, "README.md")
# Which files of tests/root are about what; a file may be under one heading alone.
TOPICS = {
    "lifecycle": "lifecycle signals session freezer races killed storms chaos budget",
    "exec": "exec exec_process",
    "process and its environment": "process scheduler memory_policy labels field_process",
    "tty": "tty",
    "mounts and root file system": "mounts mount_points mount_links inherited_mounts overlay devices chrooted fds",
    "masks": "masks",
    "namespaces": "namespaces joined_pid time_namespace namespace_root netdev field_linux",
    "user namespaces and rootless": "user_namespace rootless rootless_cgroups",
    "id-mapped mounts": "idmap",
    "cgroups": "cgroups cgroup_edges limits fields field_resources field_block_io v2_limits v2_io v2_groups conversions delegation",
    "cgroups by systemd": "systemd systemd_delegation systemd_units systemd_users",
    "update": "update update_safety update_devices",
    "events": "events",
    "hooks": "hooks hook_failures",
    "seccomp": "seccomp seccomp_notify",
    "capabilities": "capabilities",
    "resource limits (rlimits)": "rlimits",
    "sysctl": "sysctl",
    "checkpoint and restore": "checkpoint restored",
    "list, ps, state and other formats": "output against_runc field_setup",
    "logs, errors and the command line": "logs errors command_line",
    "published holes of runtimes": "published_holes",
}


def results():
    """The kept runs: rundlet first, then by name."""
    kept = []
    for path in glob.glob(os.path.join(run.RESULTS, "*.json")):
        with open(path, encoding="utf-8") as file:
            kept.append(json.load(file))
    key = lambda result: (result["where"], not result["runtime"].startswith("rundlet"), run.numbers(result["runtime"]))
    return sorted(kept, key=key)


def numbers_of(kept):
    """A row a topic, a column a run: how many hold of those that ran."""
    yield "| topic | cases | " + " | ".join(f"{result['runtime']}, {result['where']}" for result in kept) + " |"
    yield "|---|---|" + "---|" * len(kept)
    known = {name for names in TOPICS.values() for name in names.split()}
    seen = {name for result in kept for name in result["files"]}
    if seen - known:
        sys.exit(f"under no topic: {', '.join(sorted(seen - known))}")
    totals = [[0, 0] for _ in kept]
    everything = 0
    for topic, names in TOPICS.items():
        cells, cases = [], 0
        for total, result in zip(totals, kept):
            files = [result["files"][name] for name in names.split() if name in result["files"]]
            held = sum(file["ok"] for file in files)
            ran = held + sum(file["differs"] for file in files)
            cases = max(cases, ran + sum(file["skipped"] for file in files))
            total[0] += held
            total[1] += ran
            cells.append(f"{held} of {ran}" if ran else "-")
        everything += cases
        yield f"| {topic} | {cases} | " + " | ".join(cells) + " |"
    yield f"| **all** | {everything} | " + " | ".join(f"**{held} of {ran}**" for held, ran in totals) + " |"


def explained(table, kept):
    """Each kind with its tests, and on which of the references they do not hold."""
    differs = {}
    for result in kept:
        if result["runtime"].startswith("rundlet"):
            continue
        version = result["runtime"].split(" ", 1)[1]
        for label in result["differs"]:
            differs.setdefault(label.split(" ")[0], set()).add(version)
    rows = {kind: {} for kind in table.kinds}
    for test, reason in table.reasons.items():
        _, entry = table.entry(test)
        if entry:
            seen = ", ".join(sorted(differs.get(test, ()), key=run.numbers))
            rows[entry["kind"]].setdefault((table.reason(test, entry), seen), []).append(test)
    for kind, meaning in table.kinds.items():
        yield f"\n### {kind}: {sum(len(tests) for tests in rows[kind].values())}\n\n{meaning}\n"
        yield "| why | does not hold on | tests |\n|---|---|---|"
        for (reason, seen), tests in rows[kind].items():
            reason = reason.replace("|", "\\|")
            yield f"| {reason} | {seen or 'now and then, or not on these machines'} | {'<br>'.join(tests)} |"


def skipped(kept):
    """Why tests did not run, a reason a row."""
    yield "| machine | reason | tests |\n|---|---|---|"
    rows = {}
    for result in kept:
        for reason, labels in result["skipped"].items():
            # A number of a device or a process in a reason is no other reason.
            rows.setdefault((result["where"], reason), set()).update(labels)
    for (where, reason), labels in sorted(rows.items()):
        yield f"| {where} | {reason.replace('|', '')} | {len(labels)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", metavar="BINARY", help="the test binary, where cargo is not to build it")
    options = parser.parse_args()
    table = run.Table(run.Suite(options.tests).reasons())
    kept = results()
    parts = {"numbers": numbers_of(kept), "explained": explained(table, kept), "skipped": skipped(kept)}
    with open(README, encoding="utf-8") as file:
        text = file.read()
    for name, lines in parts.items():
        begin, end = f"<!-- {name}: made by report.py -->\n", f"<!-- {name}: to here -->\n"
        pattern = re.escape(begin) + ".*" + re.escape(end)
        made = begin + "\n".join(lines) + "\n" + end
        text, count = re.subn(pattern, lambda _: made, text, flags=re.S)
        if count != 1:
            sys.exit(f"{README} has no place for {name}")
    with open(README, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
