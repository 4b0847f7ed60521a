"""Compares what two runtimes gave for a case, and knows the differences that are meant."""

import difflib
import fnmatch
import json
import os
import re
import sys


def lines(entry):
    out = []
    for record in entry["records"]:
        if "command" in record:
            out.append("$ " + record["command"].replace("\n", "\\n"))
            out.append(f"exit {record['code']}")
            out += ["out| " + line for line in record["out"].splitlines()]
            out += ["err| " + line for line in record["err"].splitlines()]
        else:
            out += [f"note| {record['note']}: {line}" for line in record["value"].splitlines() or [""]]
    return out


class Explained:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.entries = json.load(f)
        for entry in self.entries:
            unknown = set(entry) - {"case", "a", "b", "a_expectations", "b_expectations", "reason", "runtimes"}
            if unknown or not entry.get("reason") or not entry.get("case"):
                sys.exit(f"{path}: bad entry {entry}")
        self.used = set()

    def find(self, name, runtime_b):
        """Entries may be limited to runtimes whose base name matches."""
        base = os.path.basename(runtime_b)
        return [(i, e) for i, e in enumerate(self.entries)
                if fnmatch.fnmatch(name, e["case"]) and (not e.get("runtimes") or any(fnmatch.fnmatch(base, r) for r in e["runtimes"]))]

    def covers(self, found, key, line):
        hit = False
        for i, entry in found:
            if any(re.search(p, line) for p in entry.get(key, [])):
                self.used.add(i)
                hit = True
        return hit


def judge(name, a, b, explained, runtime_b):
    """-> (verdict, text lines): verdict is ok, explained, FAIL or skip."""
    if a is None or b is None:
        return "FAIL", ["no result: the side ended early"]
    if a["skip"] or b["skip"]:
        return "skip", [a["skip"] or b["skip"]]
    found = explained.find(name, runtime_b)
    text, open_text = [], []
    left, right = lines(a), lines(b)
    for line in difflib.unified_diff(left, right, "A", "B", n=1, lineterm=""):
        if line.startswith(("--- ", "+++ ", "@@")):
            continue
        text.append(line)
        key = {"-": "a", "+": "b"}.get(line[0])
        if key and not explained.covers(found, key, line[1:]):
            open_text.append(line)
    for key, side in (("a", a), ("b", b)):
        for failure in side["failures"]:
            text.append(f"{key.upper()}: expected: {failure}")
            if explained.covers(found, key + "_expectations", failure):
                continue
            # Where the reference fails what the tested runtime does right, the records differ, so that is seen too.
            if key == "b":
                open_text.append(text[-1])
    if open_text:
        shown = [line for line in text if line[0] in "-+" or line[1] == ":"]
        return "FAIL", text if open_text == shown else text + ["not explained:"] + open_text
    if text:
        return "explained", text + ["reason: " + e["reason"] for _, e in found]
    return "ok", []


def show(text, verbose):
    """The lines of a verdict; of many the first and the last."""
    shown = text if verbose or len(text) <= 60 else text[:30] + [f"... {len(text) - 60} lines ..."] + text[-30:]
    for line in shown:
        print("    " + line[:600])
