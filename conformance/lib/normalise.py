"""Turns what a docker command printed into text that two runs can share: no ids, times, paths of the run, numbers of
name spaces or texts that are a runtime's own. Pure functions; what they hide is what the comparison can not see."""

import re

RULES = [
    # The text is the runtime's own, but for what the daemon makes of an errno in it.
    (r"(OCI runtime \w+ failed: ).*?(: Are you trying to mount.*)?$", r"\1<runtime message>\2"),
    # The client's noise about its own races.
    (r"(?m)^failed to resize tty, using default size\n", ""),
    (r"(?m)^time=.*error waiting for container: context canceled\"\n?", ""),
    # What the runtime's init prints itself when execve fails at last: only the errno's text is shared.
    (r"(?mi)^.*exec\b.*?(exec format error|no such file or directory|permission denied).*$", r"<exec: \1>"),
    (r"sha256:[0-9a-f]{64}", "<DIGEST>"),
    (r"\b[0-9a-f]{64}\b", "<ID>"),
    (r"\b[0-9a-f]{12}\b", "<ID12>"),
    (r"/l/[A-Z0-9]{26}\b", "/l/<LAYER>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d|Z)?( UTC)?", "<TIME>"),
    (r"\b(Less than a second|About a minute|\d+ (second|minute)s?)( ago)?\b", "<AGE>"),
    (r"\bpid=\d+\b", "pid=<PID>"),
]
COMPILED = [(re.compile(p, re.M), r) for p, r in RULES]


def text(value, literal):
    """`literal` maps strings of this run (folders, the cgroup) to names."""
    value = value.replace("\r\n", "\n")
    for string, name in literal:
        value = value.replace(string, name)
    for pattern, replacement in COMPILED:
        value = pattern.sub(replacement, value)
    return re.sub(r"(?i)<exec: ([a-z ]+)>", lambda m: f"<exec: {m.group(1).lower()}>", value)


def mountinfo(value):
    """Drops mount ids, device numbers of anonymous file systems and peer group numbers; sorts by mount point, keeping
    the order of mounts that cover each other."""
    rows = []
    for line in value.splitlines():
        fields = line.split()
        if len(fields) < 10 or "-" not in fields[6:]:
            rows.append(("", line))
            continue
        dash = fields.index("-", 6)
        optional = [re.sub(r":\d+", ":N", f) for f in fields[6:dash]]
        device = "0:N" if fields[2].startswith("0:") else fields[2]
        options = ",".join(sorted(fields[5].split(",")))
        rows.append((fields[4], " ".join([device, fields[3], fields[4], options, *optional, "-", *fields[dash + 1:]])))
    return "\n".join(row for _, row in sorted(rows, key=lambda r: r[0])) + "\n"


def listing(value):
    """`ls -l` without dates and without `total`."""
    out = []
    for line in value.splitlines():
        if not line.startswith("total "):
            line = re.sub(r" +[A-Z][a-z]{2} +\d+ +[\d:]+ ", " <DATE> ", line)
            line = re.sub(r"^(l\S+\s+\d+\s+\S+\s+\S+\s+)\d+", r"\1", line)
            out.append(re.sub(r" {2,}", " ", line))
    return "\n".join(out) + "\n"


def numbers(value):
    return re.sub(r"\d+(\.\d+)?", "<N>", value)


def addresses(value):
    """`ip addr`: interface numbers differ with the count of earlier containers."""
    value = re.sub(r"(?m)^\d+: ", "<N>: ", value)
    return re.sub(r"@if\d+", "@if<N>", value)


def build(value):
    """Plain output of BuildKit: only what the steps printed."""
    rows = [m.group(1) for m in re.finditer(r"(?m)^#\d+ \d+\.\d+ (.*)$", value)]
    return re.sub(r"\b[0-9a-z]{25}\b", "<ID25>", "\n".join(rows)) + "\n"


def lines_sorted(value):
    return "\n".join(sorted(value.splitlines())) + "\n"
