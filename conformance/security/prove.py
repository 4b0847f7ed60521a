#!/usr/bin/env python3
"""Proves that the tests see each security requirement: takes the code of it out and looks whether the tests fail.

mutations.json lists the requirements, what each means, and for each at least one mutation: edits of files (an edit's `old` text
stands exactly once in its file) and the tests that must fail with them. This works on a copy of the tree. A mutation within
functions is built together with all others: the function has its body twice, and the variable RUNDLET_MUTANT chooses; one of
a table or a constant is built alone. Each test runs in a mount namespace of its own, and counts only if it passes without the
mutation. What was seen goes back into mutations.json, and requirements.md is written from it. Root and a Rust toolchain.

  prove.py                 all that has not been seen with the present edits
  prove.py --all           everything
  prove.py P1 K            these requirements, by the beginning of their number
  prove.py --table         only write requirements.md
"""

import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent
LIST = HERE / "mutations.json"
TABLE = HERE / "requirements.md"
# A mutant may hang what it breaks; the root tests themselves give up after 150 s.
LIMIT = 400
TARGETS = {"root": ["--test", "root"], "unit": ["--bin", "rundlet"], "source": ["--test", "security"]}


def text(lines):
    return "\n".join(lines)


def checksum(mutation):
    """What was seen holds for these edits and tests only; tests/security.rs computes the same."""
    parts = []
    for edit in mutation["edits"]:
        parts += [edit["file"], text(edit["old"]), text(edit["new"])]
    return zlib.crc32("\0".join(parts + mutation["tests"]).encode())


def git(*args):
    return subprocess.run(["git", "-C", TREE, *args], capture_output=True, text=True, check=True).stdout.strip()


class Scratch:
    """A copy of the tree with a target directory of its own, which is kept for the next time."""

    def __init__(self):
        top = pathlib.Path(os.environ.get("RUNDLET_PROVE_DIR", tempfile.gettempdir() + "/rundlet-prove"))
        self.tree = top / "tree"
        self.env = dict(os.environ, CARGO_TARGET_DIR=str(top / "target"), CARGO_PROFILE_DEV_DEBUG="0", CARGO_TERM_COLOR="never",
                        RUNDLET_TEST_RUNTIME=str(top / "target/debug/rundlet"))
        self.tree.mkdir(parents=True, exist_ok=True)
        kept = git("ls-files", "-co", "--exclude-standard").splitlines()
        names = {name for name in kept if (TREE / name).is_file()}
        for path in [path for path in self.tree.rglob("*") if path.is_file()]:
            if str(path.relative_to(self.tree)) not in names:
                path.unlink()
        # As it is now: whoever works on the tree meanwhile changes nothing here.
        self.original = {}
        for name in names:
            self.original[name] = (TREE / name).read_bytes()
            self.put(name, self.original[name], (TREE / name).stat().st_mode)
        self.programs = {}

    def put(self, name, content, mode=0o644):
        """Only what differs is written: cargo goes by the time of a file."""
        path = self.tree / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode & 0o777)

    def cargo(self, *args):
        return subprocess.run(["nice", "-n", "5", "cargo", *args], cwd=self.tree, env=self.env, capture_output=True, text=True)

    def build(self, kinds):
        """The error, or nothing."""
        if "root" in kinds:
            made = self.cargo("build", "--bin", "rundlet")
            if made.returncode:
                return made.stderr
        for kind, target in TARGETS.items():
            # The root tests are not mutated: they are built once.
            if kind in kinds and not (kind == "root" and kind in self.programs):
                made = self.cargo("test", "--no-run", *target, "--message-format=json-render-diagnostics")
                if made.returncode:
                    return made.stderr
                units = [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]
                name = target[1]
                found = [u["executable"] for u in units if u.get("executable") and u["target"]["name"] == name and u["profile"]["test"]]
                self.programs[kind] = found[0]
        return None

    def run(self, test):
        """passed, failed or skipped."""
        kind, name = test.split(" ", 1)
        box = ["unshare", "--mount", "--propagation", "private", "timeout", "-k", "5", str(LIMIT), "nice", "-n", "5"]
        if kind == "root":
            shown = subprocess.run([*box, self.programs["root"], name], cwd=self.tree, env=self.env, capture_output=True, text=True).stdout
            if f"\nUNSTEADY {name}:" in shown:
                return "unsteady"
            for word, verdict in [("ok", "passed"), ("FAILED", "failed"), ("SKIP", "skipped")]:
                if re.search(rf"^{word} {re.escape(name)}( \(|: )", shown, re.M):
                    return verdict
            return "not found"
        done = subprocess.run([*box, self.programs[kind], "--exact", name], cwd=self.tree, env=self.env, capture_output=True, text=True)
        if done.returncode in (124, 137) or done.returncode < 0 or "\ntest result: FAILED" in done.stdout:
            return "failed"
        return "passed" if re.search(r"^test result: ok. 1 passed", done.stdout, re.M) else "not found"


SWITCH = """
/// Whether this mutation is chosen.
pub(crate) fn mutant(number: &str) -> bool {
    std::env::var_os("RUNDLET_MUTANT").is_some_and(|chosen| chosen.to_str() == Some(number))
}
"""


def blank(source):
    """The source with strings, characters and comments blanked out: what is left has its braces paired."""
    pattern = r"//[^\n]*|/\*.*?\*/|b?r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\[^\n]{1,8}?|[^'\\\n])'"
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", " ", found.group()), source, flags=re.S)


def bodies(source):
    """Where the bodies of functions are: (after the brace, before the closing one)."""
    plain, found = blank(source), []
    for head in re.finditer(r"\bfn\s+\w+[^;{}]*\{", plain):
        if "const fn" in plain[max(0, head.start() - 8) : head.start() + 3]:
            continue
        depth, at = 1, head.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(plain[at], 0)
            at += 1
        found.append((head.end(), at - 1))
    return found


class Woven:
    """The tree with many mutations in it, of which RUNDLET_MUTANT chooses one."""

    def __init__(self, scratch, mutations):
        self.scratch = scratch
        self.alone, self.broken = [], {}
        self.lines = {}
        self.mutations = dict(enumerate(mutations))
        self.woven = {}
        for number, mutation in self.mutations.items():
            places = [self.place(edit) for edit in mutation["edits"]]
            if all(places) and len(set(places)) == len({(p[0], p[1]) for p in places}):
                self.woven[number] = places
            else:
                self.alone.append(number)

    def place(self, edit):
        """The innermost function that the edit is within."""
        source, old = self.scratch.original[edit["file"]].decode(), text(edit["old"])
        if source.count(old) != 1:
            sys.exit(f"{edit['file']}: the text to take out is there {source.count(old)} times:\n{old}")
        at = source.index(old)
        around = [(start, end) for start, end in bodies(source) if start <= at and at + len(old) <= end]
        return (edit["file"], *max(around)) if around else None

    def weave(self):
        per_file = {}
        for number, places in self.woven.items():
            if number not in self.broken:
                for edit, (file, start, end) in zip(self.mutations[number]["edits"], places):
                    per_file.setdefault(file, {}).setdefault((start, end), {}).setdefault(number, []).append(edit)
        for file in {edit["file"] for m in self.mutations.values() for edit in m["edits"]} | {"src/main.rs"}:
            source = self.scratch.original[file].decode()
            out, at = "", 0
            self.lines[file] = []
            for (start, end), numbers in sorted(per_file.get(file, {}).items()):
                if start < at:
                    self.broken.update({number: "its function is within another that is mutated" for number in numbers})
                    continue
                body = source[start:end]
                out += source[at:start]
                for number, edits in numbers.items():
                    mutated = body
                    for edit in edits:
                        mutated = mutated.replace(text(edit["old"]), text(edit["new"]))
                    first = out.count("\n") + 1
                    out += f'\nif crate::mutant("{number}") {{\n{mutated}\n}} else '
                    self.lines[file].append((first, out.count("\n") + 1, number))
                out += "{\n" + body + "\n}"
                at = end
            out += source[at:] + (SWITCH if file == "src/main.rs" else "")
            self.scratch.put(file, out.encode())

    def build(self, kinds):
        """Leaves out what does not build."""
        for _ in range(6):
            self.weave()
            problem = self.scratch.build(kinds)
            if problem is None:
                return
            blamed = set()
            for file, line in re.findall(r"--> ([^:\n]+):(\d+):", problem[problem.index("error") :]):
                for first, last, number in self.lines.get(file, []):
                    if first <= int(line) <= last:
                        blamed.add(number)
            if not blamed:
                sys.exit(problem[-6000:])
            for number in blamed:
                self.broken[number] = problem
                errors = [line for line in problem.splitlines() if line.startswith(("error", "  -->", " --> ", "   --> "))]
                print("does not build beside others:", self.mutations[number]["what"], errors[:6], flush=True)
        sys.exit("it does not build")

    def restore(self):
        for file in self.lines:
            self.scratch.put(file, self.scratch.original[file])


def prove(data, wanted):
    scratch = Scratch()
    kinds_of = lambda mutation: {test.split()[0] for test in mutation["tests"]}
    woven = Woven(scratch, [mutation for _, mutation in wanted])
    # A test that reads the source sees no switch.
    for number, mutation in woven.mutations.items():
        if "source" in kinds_of(mutation) and number in woven.woven:
            del woven.woven[number]
            woven.alone.append(number)
    woven.build({kind for number in woven.woven for kind in kinds_of(woven.mutations[number])} | {"root"})
    passed, good = {}, True

    def unmutated(tests):
        scratch.env.pop("RUNDLET_MUTANT", None)
        for test in tests:
            if test not in passed:
                passed[test] = scratch.run(test)
                if passed[test] != "passed":
                    print(f"{test}: {passed[test]} without any mutation", flush=True)

    def judge(requirement, mutation, verdicts):
        nonlocal good
        mutation.pop("seen", None)
        seen = bool(verdicts) and all(passed[t] == "passed" and v == "failed" for t, v in verdicts.items())
        good = good and seen
        print(f"{requirement} {'seen failing' if seen else 'SURVIVED'}: {mutation['what']}", "" if seen else verdicts, flush=True)
        if seen:
            day = datetime.date.today().isoformat()
            mutation["seen"] = {"date": day, "commit": git("rev-parse", "--short=10", "HEAD"), "checksum": checksum(mutation)}
        save(data)

    for number in woven.woven:
        if number in woven.broken:
            woven.alone.append(number)
            continue
        requirement, mutation = wanted[number]
        unmutated(mutation["tests"])
        scratch.env["RUNDLET_MUTANT"] = str(number)
        judge(requirement, mutation, {test: scratch.run(test) for test in mutation["tests"]})
    scratch.env.pop("RUNDLET_MUTANT", None)
    woven.restore()
    kinds = {kind for number in woven.alone for kind in kinds_of(wanted[number][1])}
    problem = scratch.build(kinds) if kinds else None
    if problem:
        sys.exit(problem)
    for number in woven.alone:
        unmutated(wanted[number][1]["tests"])
    for number in woven.alone:
        requirement, mutation = wanted[number]
        for edit in mutation["edits"]:
            source = (scratch.tree / edit["file"]).read_text()
            scratch.put(edit["file"], source.replace(text(edit["old"]), text(edit["new"])).encode())
        # What reads the source is not built anew.
        problem = scratch.build(kinds_of(mutation) - {"source"})
        if problem:
            print(problem[-3000:], flush=True)
        judge(requirement, mutation, {} if problem else {test: scratch.run(test) for test in mutation["tests"]})
        for edit in mutation["edits"]:
            scratch.put(edit["file"], scratch.original[edit["file"]])
    return good


def save(data):
    LIST.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def citations():
    """Where the numbers are cited: number -> [file:line]."""
    found = {}
    for path in sorted((TREE / "src").rglob("*.rs")):
        name = str(path.relative_to(TREE))
        lines = path.read_text().splitlines()
        for at, line in enumerate(lines, 1):
            comment = line.split("//", 1)[1] if "//" in line else ""
            for number in re.findall(r"\b([A-Z][0-9])\b", comment):
                found.setdefault(number, {}).setdefault(name, at)
            for letter, low, high in re.findall(r"\b([A-Z])([0-9])-[A-Z]?([0-9])\b", comment):
                for digit in range(int(low), int(high) + 1):
                    found.setdefault(f"{letter}{digit}", {}).setdefault(name, at)
    return found


def shown(test):
    kind, name = test.split(" ", 1)
    place = {"root": "tests/root", "unit": "src", "source": "tests/security.rs"}[kind]
    return f"`{name}` ({place})"


HEAD = """# Security requirements: code, tests, and tests seen failing

Written by `prove.py` from `mutations.json`; `tests/security.rs` compares it with the source. A row is one mutation: this
code was taken out of a copy of the tree, and each of the tests of the row, which passes on the tree as it is, failed. The numbers
are those that comments in `src/` cite. Tests of `tests/root` run the real binary as root on the real kernel; those of `src` are
unit tests, `tests/security.rs` reads the source.

"""


def table(data):
    places = citations()
    out = [HEAD]
    rows = sum(len(r["mutations"]) for r in data["requirements"])
    seen = sum("seen" in m for r in data["requirements"] for m in r["mutations"])
    out.append(f"{len(data['requirements'])} requirements, {rows} mutations, {seen} of them seen failing.\n\n")
    out.append("| no | what must hold | code | taken out | tests that fail then | seen |\n|---|---|---|---|---|---|\n")
    for requirement in data["requirements"]:
        number = requirement["no"]
        code = ", ".join(f"`{name[4:]}`" for name in places.get(number, {}))
        for place, mutation in enumerate(requirement["mutations"]):
            first = [f"**{number}**", requirement["means"], code] if place == 0 else [number, "", ""]
            seen = mutation.get("seen")
            last = f"{seen['date']}, {seen['commit']}" if seen and seen["checksum"] == checksum(mutation) else "not yet"
            tests = ", ".join(shown(test) for test in mutation["tests"])
            out.append("| " + " | ".join([*first, mutation["what"], tests, last]) + " |\n")
    TABLE.write_text("".join(out))


def main():
    args = sys.argv[1:]
    if any(arg in ("-h", "--help") for arg in args):
        print(__doc__)
        return 0
    data = json.loads(LIST.read_text())
    words = [arg for arg in args if not arg.startswith("-")]
    good = True
    if "--table" not in args:
        wanted = []
        for requirement in data["requirements"]:
            for mutation in requirement["mutations"]:
                fresh = mutation.get("seen", {}).get("checksum") == checksum(mutation)
                named = any(requirement["no"].startswith(word) for word in words)
                if "--all" in args or (named if words else not fresh):
                    wanted.append((requirement["no"], mutation))
        good = not wanted or prove(data, wanted)
    table(data)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
