"""What a program of the suite has said: TAP, several streams of it, or nothing."""

import re

PLAN = re.compile(r"^1\.\.(\d+)")
CASE = re.compile(r"^(not ok|ok)\b\s*\d*\s*(?:-\s*)?(.*)$")
# Programs about hooks print no case: an error value is how they say that something was wrong.
ERROR = re.compile(r'"error": "([^"\\]*)')


def judge(out, err, code):
    """-> (why it failed or "", number of cases, of skipped cases)."""
    plan, cases, skipped, failed = None, 0, 0, []
    for line in out.splitlines():
        if match := PLAN.match(line):
            plan = (plan or 0) + int(match[1])
        elif match := CASE.match(line):
            cases += 1
            if re.search(r"# *(skip|todo)\b", match[2], re.I):
                skipped += 1
            elif match[1] == "not ok":
                failed.append(match[2].strip())
    if failed:
        return f"{len(failed)} of {cases}: {failed[0]}", cases, skipped
    if code is None:
        return "does not end", cases, skipped
    if code:
        last = [line for line in err.splitlines() if line.strip()]
        # The line before says more than "exit status 1".
        said = next((line for line in reversed(last) if line.strip() != "exit status 1"), "")
        return f"exit {code}: {said}", cases, skipped
    if not cases and (match := ERROR.search(out)):
        return match[1], cases, skipped
    if plan is not None and plan != cases:
        return f"{plan} cases were planned and {cases} ran", cases, skipped
    return "", cases, skipped
