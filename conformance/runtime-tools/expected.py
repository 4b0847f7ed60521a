"""expected.json: what each program is to do, by world, and why.

An entry is "pass" or an object with one of
  needs    a list of files, CAP_ names and "Linux < 7.0"; the program is to pass where they are all there, else not
  fails    it can not pass: the reason
  either   it passes or not by chance: the reason
and `attempts`, how often a program may be run until it passes, `race` saying why. `because` is the reason of `needs`.
An entry stands under "both", "v1" or "v2"."""

import json
import os

WORLDS = ("v1", "v2")
KEYS = {"needs", "because", "fails", "either", "attempts", "race"}
# Bits of capability.h.
CAPABILITIES = {"CAP_SYS_RESOURCE": 24}


def load(path):
    with open(path, encoding="utf-8") as f:
        table = json.load(f)
    for name, worlds in table.items():
        if set(worlds) != {"both"} and set(worlds) != set(WORLDS):
            raise ValueError(f"{path}: {name}: neither for both worlds nor for each")
        for entry in worlds.values():
            if entry != "pass" and (set(entry) - KEYS or ("needs" in entry) != ("because" in entry)
                                    or ("attempts" in entry) != ("race" in entry)):
                raise ValueError(f"{path}: {name}: bad entry {entry}")
    return table


def is_there(what):
    if what in CAPABILITIES:
        with open("/proc/self/status", encoding="utf-8") as f:
            held = next(line for line in f if line.startswith("CapBnd:")).split()[1]
        return bool(int(held, 16) >> CAPABILITIES[what] & 1)
    if what.startswith("Linux < "):
        numbers = os.uname().release.split("-")[0].split(".")
        return tuple(int(number) for number in numbers[:2]) < tuple(int(number) for number in what[8:].split("."))
    return os.path.exists(what)


class Entry:
    """What is expected here: `verdict` is pass, fail or either."""

    def __init__(self, table, name, world):
        worlds = table[name]
        entry = worlds.get(world, worlds.get("both"))
        self.verdict, self.reason, self.attempts = "pass", "", 1
        if entry == "pass":
            return
        self.attempts = entry.get("attempts", 1)
        missing = [what for what in entry.get("needs", []) if not is_there(what)]
        if missing:
            self.verdict, self.reason = "fail", f"{entry['because']} (not here: {', '.join(missing)})"
        for key, verdict in (("fails", "fail"), ("either", "either")):
            if key in entry:
                self.verdict, self.reason = verdict, entry[key]
