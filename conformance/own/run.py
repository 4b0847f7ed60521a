#!/usr/bin/env python3
"""Runs the project's own suite (tests/root) on any runtime; what does not hold there must be explained in explained.json.

run.py [options] [RUNTIME]     as root; RUNTIME is a path, by default the project's static binary

A line for each test that does not hold: `explained` with the reason, or `FAIL`. The last line counts.
"""

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.normpath(os.path.join(HERE, "..", ".."))
TABLE = os.path.join(HERE, "explained.json")
RESULTS = os.path.join(HERE, "results")
# The whole suite takes five minutes on two cores; on a busy machine eight times as much.
DEADLINE = 3600
# Beside others a test may miss a deadline of its own: what is not explained is tried again alone, unless there is too much of it.
SECOND_TRIES = 12


class Suite:
    """The test binary: what it has, and what it says of a runtime."""

    def __init__(self, binary):
        self.binary = binary or built()

    def reasons(self):
        """-> {test: why the reference is marked as differing, or ""}"""
        text = subprocess.run([self.binary, "--list-differences"], check=True, capture_output=True, text=True).stdout
        return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)

    def run(self, runtime, words):
        """Every line as it comes -> the whole output."""
        env = dict(os.environ, RUNDLET_TEST_RUNTIME=runtime, RUNDLET_TEST_STRICT="1")
        command = ["timeout", "-k", "30", str(DEADLINE), self.binary, *words]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(lines):6} lines\r")
        process.wait()
        return "".join(lines)


def built():
    """The test binary as cargo has it."""
    command = [os.environ.get("CARGO", "cargo"), "test", "--no-run", "--test", "root"]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.findall(r"^ *Executable .*\((.*)\)$", done.stdout, re.M)
    if done.returncode or not found:
        sys.exit(done.stdout)
    return os.path.join(TOP, found[-1])


def read(output):
    """-> {label: "ok", "differs" or "skipped"}, {label: reason of a skip or words of a failure}"""
    verdicts, words = {}, {}
    for line in output.splitlines():
        found = re.match(r"(ok|FAILED) (\w+::\w+(?: \[\w+\])?) \(\d+ ms\)$", line)
        if found:
            verdicts[found[2]] = "ok" if found[1] == "ok" else "differs"
        found = re.match(r"SKIP (\w+::\w+(?: \[\w+\])?): (.*)$", line)
        if found:
            verdicts[found[1]], words[found[1]] = "skipped", found[2]
        found = re.match(r"UNSTEADY (\w+::\w+(?: \[\w+\])?):", line)
        if found:
            verdicts[found[1]] = "ok"
    for part in re.split(r"^---- ", output, flags=re.M)[1:]:
        label, _, text = part.partition("\n")
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith(("thread 'main'", "note: run with", "stdout:", "stderr: \n"))]
        words[label] = " / ".join(lines[:4])[:400]
    return verdicts, words


class Table:
    """explained.json: for a test, or a pattern of tests, its kind and reason."""

    def __init__(self, reasons):
        with open(TABLE, encoding="utf-8") as file:
            content = json.load(file)
        self.kinds, self.tests, self.reasons = content["kinds"], content["tests"], reasons
        self.used = set()

    def entry(self, test):
        """-> (pattern, entry), the first that fits; a pattern is for tests alone that are marked in the source as differing."""
        for pattern, entry in self.tests.items():
            if pattern == test or (self.reasons.get(test) and fnmatch.fnmatchcase(test, pattern)):
                return pattern, entry
        return None, None

    def why(self, test, version):
        """Why `test` may differ on that version of runc; None where it may not."""
        pattern, entry = self.entry(test)
        if entry is None:
            return None
        if "holds" in entry and version and version >= numbers(entry["holds"]):
            return None
        self.used.add(pattern)
        return f"{entry['kind']}: {self.reason(test, entry)}"

    def reason(self, test, entry):
        return entry.get("why") or self.reasons.get(test, "")

    def check(self):
        """What is wrong with the table itself."""
        for pattern, entry in self.tests.items():
            tests = [test for test in fnmatch.filter(self.reasons, pattern) if self.entry(test)[0] == pattern]
            if not tests:
                yield f"{pattern}: there is no such test, or none that is marked, or an entry above takes them all"
            if entry["kind"] not in self.kinds:
                yield f"{pattern}: kind {entry['kind']} is not explained"
            for test in tests:
                if not self.reason(test, entry):
                    yield f"{test}: no reason, neither here nor at the test"
        for test, reason in self.reasons.items():
            if reason and self.entry(test)[1] is None:
                yield f"{test}: marked as differing ({reason}), and has no kind"


def numbers(version):
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def version_of(runtime):
    """-> the name for people ("runc 1.1.5") and, for runc, the numbers to compare."""
    text = subprocess.run([runtime, "--version"], capture_output=True, text=True).stdout
    name = re.search(r"(\w+)(?: version)? v?(\d+(?:\.\d+)+)", text)
    if not name:
        return os.path.basename(runtime), None
    return f"{name[1]} {name[2]}", numbers(name[2]) if name[1] == "runc" else None


def summary(who, where, verdicts, words):
    """What is kept of a run: every test that is not ok, and how many there were of each file of tests."""
    files = {}
    for label, verdict in sorted(verdicts.items()):
        module = files.setdefault(label.split("::")[0], {"ok": 0, "differs": 0, "skipped": 0})
        module[verdict] += 1
    skipped = {}
    for label in sorted(label for label, verdict in verdicts.items() if verdict == "skipped"):
        skipped.setdefault(words[label], []).append(label)
    return {
        "runtime": who,
        "where": where,
        "files": files,
        "differs": sorted(label for label, verdict in verdicts.items() if verdict == "differs"),
        "skipped": skipped,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.path.join(TOP, f"target/{os.uname().machine}-unknown-linux-musl/release/rundlet")
    parser.add_argument("runtime", nargs="?", default=default)
    parser.add_argument("--only", default=[], action="append", metavar="WORD", help="tests with this word in their names (may be repeated)")
    parser.add_argument("--tests", metavar="BINARY", help="the test binary, where cargo is not to build it")
    parser.add_argument("--output", metavar="FILE", help="do not run: judge what the test binary printed elsewhere (with RUNDLET_TEST_STRICT=1)")
    parser.add_argument("--version", help="the version of runc that FILE is about")
    parser.add_argument("--record", metavar="NAME", help="keep the result in results/NAME.json")
    parser.add_argument("--where", default="", help="the machine, in words, for --record")
    options = parser.parse_args()
    suite = Suite(options.tests)
    table = Table(suite.reasons())
    runtime = os.path.abspath(shutil.which(options.runtime) or options.runtime)
    if options.output:
        who, version = options.version, numbers(options.version) if options.version.startswith("runc") else None
        with open(options.output, encoding="utf-8", errors="replace") as file:
            output = file.read()
    else:
        if not os.access(runtime, os.X_OK):
            parser.error(f"{runtime} is no program")
        if os.geteuid() != 0:
            parser.error("root is needed")
        who, version = version_of(runtime)
        output = suite.run(runtime, options.only)
    verdicts, words = read(output)
    own = who.startswith("rundlet")
    fail = [] if options.only else [("table", line) for line in table.check()]
    fail += [] if verdicts else [("suite", f"printed nothing: {output[-2000:]}")]

    def unexplained():
        wrong = [label for label, verdict in sorted(verdicts.items()) if verdict == "differs"]
        return [label for label in wrong if own or table.why(label.split(" ")[0], version) is None]

    again = unexplained()
    if not options.output and len(again) <= SECOND_TRIES:
        for label in again:
            more, said = read(suite.run(runtime, [label]))
            if more.get(label) == "ok":
                print(f"unsteady  {label}: holds alone; beside others: {words.get(label, '')}", flush=True)
                verdicts[label] = "ok"
            elif label in said:
                words[label] = said[label]
    wrong = set(unexplained())
    for label, verdict in sorted(verdicts.items()):
        if verdict == "differs" and label not in wrong:
            print(f"explained {label}: {table.why(label.split(' ')[0], version)}")
    fail += [(label, words.get(label, "")) for label in sorted(wrong)]
    for label, text in fail:
        print(f"FAIL      {label}: {text}")
    if options.record:
        os.makedirs(RESULTS, exist_ok=True)
        with open(os.path.join(RESULTS, f"{options.record}.json"), "w", encoding="utf-8") as file:
            json.dump(summary(who, options.where, verdicts, words), file, indent=1)
            file.write("\n")
    count = list(verdicts.values()).count
    print(f"{who}: {count('ok')} hold, {count('differs') - len(wrong)} differ and are explained, {len(wrong)} differ and are not")
    print(f"{count('ok')} passed, {len(fail)} failed, {count('skipped') + count('differs') - len(wrong)} skipped")
    return 1 if fail else 0


if __name__ == "__main__":
    sys.exit(main())
