#!/usr/bin/env python3
"""Turns a container engine's seccomp profile (with `archMap`, `includes`, `excludes`) into `linux.seccomp` of
config.json, as the engine does for amd64, a current kernel and its default capabilities. Written for the
fixtures of the differential test; see tests/fixtures/seccomp/README.md.

    tests/tools/resolve-seccomp-profile.py default.json > tests/fixtures/seccomp/docker.json
"""

import json
import sys

ARCH = "amd64"
OCI_ARCH = "SCMP_ARCH_X86_64"
KERNEL = (6, 18)
CAPS = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
}


def applies(rule):
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and ARCH not in includes["arches"]:
        return False
    if ARCH in excludes.get("arches", []):
        return False
    if includes.get("caps") and not set(includes["caps"]) <= CAPS:
        return False
    if set(excludes.get("caps", [])) & CAPS:
        return False
    kernel = includes.get("minKernel")
    return not kernel or tuple(map(int, kernel.split("."))) <= KERNEL


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        profile = json.load(file)
    result = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    for entry in profile["archMap"]:
        if entry["architecture"] == OCI_ARCH:
            result["architectures"] = [OCI_ARCH, *(entry["subArchitectures"] or [])]
    result["syscalls"] = []
    for rule in profile["syscalls"]:
        if applies(rule):
            kept = {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key) is not None}
            if "args" in kept:
                # The engines' own types carry fields that config.json does not have.
                kept["args"] = [
                    {key: arg[key] for key in ("index", "value", "valueTwo", "op") if key in arg}
                    for arg in rule["args"]
                ]
                if not kept["args"]:
                    del kept["args"]
            result["syscalls"].append(kept)
    json.dump(result, sys.stdout, indent=None, separators=(",", ":"))
    print()


main()
