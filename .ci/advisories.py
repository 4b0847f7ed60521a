#!/usr/bin/env python3
"""Asks whether the crates of Cargo.lock have known vulnerabilities: one request to osv.dev, which holds RustSec's advisories and
others. A second's work, where cargo-deny first has to be built (some 300 crates). Exit code 1 with a line for each, 75 (EX_TEMPFAIL)
where nobody could be asked. `cargo deny --config .cargo/deny.toml check advisories` says the same, where it is there, and tells
of yanked and unmaintained crates, too."""

import json
import os
import pathlib
import sys
import tomllib
import urllib.error
import urllib.request

URL = os.environ.get("OSV_URL", "https://api.osv.dev/v1/querybatch")
# Advisories that do not concern the binary, each with its reason.
IGNORED = {}


def main():
    lock = pathlib.Path(__file__).resolve().parent.parent / "Cargo.lock"
    packages = [p for p in tomllib.loads(lock.read_text())["package"] if p.get("source", "").startswith("registry+")]
    queries = [{"package": {"name": p["name"], "ecosystem": "crates.io"}, "version": p["version"]} for p in packages]
    request = urllib.request.Request(URL, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            results = json.load(answer)["results"]
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"SKIP advisories: {URL}: {error}")
        return 75
    if len(results) != len(packages):
        print(f"advisories: {len(results)} answers to {len(packages)} questions")
        return 1
    found = 0
    for package, result in zip(packages, results):
        for vulnerability in result.get("vulns", []):
            if vulnerability["id"] not in IGNORED:
                found += 1
                print(f"{package['name']} {package['version']}: https://osv.dev/vulnerability/{vulnerability['id']}")
    print(f"advisories: {len(packages)} crates, {found} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
