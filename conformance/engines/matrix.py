"""Writes matrix.md (engine x operation) and the table of engines in README.md from what a run has found."""

import datetime
import json
import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
MATRIX, README = os.path.join(HERE, "matrix.md"), os.path.join(HERE, "..", "..", "README.md")
BEGIN, END = "<!-- made by `make conformance-engines` -->", "<!-- to here -->"
KEPT = os.path.join(HERE, "guest.json")
SAME = {"ok": "yes", "explained": "as explained", "FAIL": "NO", "skip": ""}


def host():
    with open("/etc/os-release", encoding="utf-8") as f:
        name = re.search(r'PRETTY_NAME="(.*)"', f.read()).group(1)
    return f"{datetime.date.today()}, {name}, Linux {'.'.join(os.uname().release.split('.')[:2])}"


def number(runtime):
    words = subprocess.run([runtime, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout.split()
    return f"{words[0]} {re.split('[~+]', words[2])[0]}"


def result(value):
    return {"passes": "yes", "FAILS": "no"}.get(value, value)


def row(*cells):
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def write(results, runtimes, explained):
    a, b = (number(r) for r in runtimes)
    lines = ["# Engines and operations", "",
             f"Written by `make conformance-engines` ({host()}); the scripts beside this file say what is in an operation.",
             "*no* under a runtime: what the operation expects did not hold for it. *same*: exit codes, output and errors of both, after",
             "ids and times were taken out; the differences that are meant are [explained](explained.json).", ""]
    reasons = []
    for entry in results:
        lines += [f"## {entry['engine']}: {entry['version'] or entry['skip']}", ""]
        if entry["skip"]:
            continue
        lines += [row("operation", a, b, "same"), row(*["---"] * 4)]
        for line in entry["rows"]:
            same = SAME[line["verdict"]]
            if line["verdict"] == "explained":
                found = [e["reason"] for _, e in explained.find(f"{entry['engine']}.{line['name']}", runtimes[1])]
                for reason in found:
                    if reason not in reasons:
                        reasons.append(reason)
                same = "but for " + ", ".join(str(reasons.index(r) + 1) for r in found)
            elif line["verdict"] == "skip":
                same = "skipped: " + line["text"][0]
            sides = ("", "") if line["verdict"] == "skip" else (result(line["a"]), result(line["b"]))
            lines.append(row(line["operation"], *sides, same))
        lines.append("")
    if reasons:
        lines += ["Differences that are meant:", ""] + [f"{i + 1}. {reason}" for i, reason in enumerate(reasons)] + [""]
    lines += guest_lines()
    with open(MATRIX, "w", encoding="utf-8") as f:
        f.write("\n".join(lines).rstrip() + "\n")
    summary(results, a, b)


def summary(results, a, b):
    table = ["", f"Operations that pass on each, and how many of them give the same on both ({host()}):", "",
             row("engine", "version", a, b, "same", "differ as explained", "skipped"), row(*["---"] * 7)]
    for entry in results:
        count = {v: sum(r["verdict"] == v for r in entry["rows"]) for v in ("ok", "explained", "FAIL", "skip")}
        table.append(row(entry["engine"], entry["version"] or entry["skip"], sum(r["a"] == "passes" for r in entry["rows"]),
                         sum(r["b"] == "passes" for r in entry["rows"]), count["ok"], count["explained"], count["skip"]))
    for name, sides in guest().items():
        table.append(row(f"{name}, guest", sides["version"], sides["a"]["passed"], sides["b"]["passed"], "", "", sides["b"]["skipped"]))
    with open(README, encoding="utf-8") as f:
        text = f.read()
    head, rest = text.split(BEGIN)
    tail = rest.split(END, 1)[1]
    with open(README, "w", encoding="utf-8") as f:
        f.write(head + BEGIN + "\n".join(table) + "\n\n" + END + tail)


# ---- what tests/vm/suite.sh printed for two runtimes

def read_log(path):
    """-> {part: {"rows": {name: result}}}"""
    parts = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            found = re.match(r"(ok|FAILED|SKIP|UNSTEADY) ([a-z-]+)(?: (cgroupfs|systemd|podman|docker))? (\w+)[ :]", line)
            if found:
                kind, part, world, name = found.groups()
                parts.setdefault(part, {})[(world + ": " if world else "") + name.replace("_", " ")] = {
                    "ok": "yes", "FAILED": "no", "SKIP": "skipped", "UNSTEADY": "yes"}[kind]
    return parts


def keep_guest(log_a, log_b, about):
    a, b = read_log(log_a), read_log(log_b)
    kept = {}
    for part in b:
        if part in a:
            kept[part] = {"version": about, "rows": [[n, a[part].get(n, ""), b[part].get(n, "")] for n in {**a[part], **b[part]}],
                          **{k: {"passed": sum(v == "yes" for v in side[part].values()), "skipped": sum(v == "skipped" for v in side[part].values())}
                             for k, side in (("a", a), ("b", b))}}
    with open(KEPT, "w", encoding="utf-8") as f:
        json.dump(kept, f, indent=0, sort_keys=True)


def guest():
    if not os.path.exists(KEPT):
        return {}
    with open(KEPT, encoding="utf-8") as f:
        return json.load(f)


def guest_lines():
    lines = []
    for part, entry in guest().items():
        lines += [f"## {part}, in the guest: {entry['version']}", "", row("case of tests/vm/" + part + ".sh", "runc", "rundlet"), row(*["---"] * 3)]
        lines += [row(*cells) for cells in entry["rows"]] + [""]
    return lines
