#!/usr/bin/env python3
"""Real services in containers of docker: run.py [--only EXPRESSION] [--write] RUNTIME...

Each service goes through the operations of OPERATIONS below, on every runtime named; the first runtime is the reference
that proves the test. All services of a runtime share one dockerd with `live-restore`, which is ended by SIGTERM and
started anew, then by SIGKILL, while they run. At the end nothing of a container may be left, and fifty containers are
started and removed at the same time. `--write` puts the table into README.md.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import databases  # noqa: E402
import dockerd  # noqa: E402
import engine  # noqa: E402
import images  # noqa: E402
import many  # noqa: E402
import report  # noqa: E402
import sandbox  # noqa: E402
import web  # noqa: E402
import worker  # noqa: E402
import world  # noqa: E402

SERVICES = databases.ALL + web.ALL + engine.ALL
FIRST = ["serves", "stop", "start", "kill", "start_again"]
ENGINE = {"restarted": signal.SIGTERM, "crashed": signal.SIGKILL}
AFTER = ["exec", "logs", "pause", "update", "stop_after"]
OPERATIONS = FIRST + list(ENGINE) + AFTER
# As on most hosts: by the folder's name Netdata knows whose containers these are.
GROUP = os.environ.get("RUNDLET_CGROUP", "") + "/docker"
# Images have one as a rule, and Netdata finds no name in a container without.
ENV = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
AT_ONCE = 3  # services that go through FIRST or AFTER at the same time


class Run:
    """One runtime's run: what became of every operation."""

    def __init__(self, w):
        self.w, self.results, self.alive = w, {}, []

    def note(self, name, operation, function):
        """Calls `function` and keeps what came of it -> whether it is well."""
        began = time.monotonic()
        try:
            function()
            verdict = "ok"
        except Exception as e:  # the next service is to run too
            verdict = str(e) if isinstance(e, world.Failed) else traceback.format_exc()
        took = time.monotonic() - began
        self.results.setdefault(name, {})[operation] = verdict
        print(f"{'ok   ' if verdict == 'ok' else 'FAIL '} {name} {operation} ({took:.1f} s){'' if verdict == 'ok' else ': ' + verdict}", flush=True)
        return verdict == "ok"

    def through(self, service, operations):
        for operation in operations:
            if not self.note(service.name(), operation, getattr(service, operation)):
                self.bury(service)
                return

    def bury(self, service):
        """A service that failed shows its logs and goes."""
        self.alive.remove(service)
        for name in service.containers:
            done = self.w.d("logs", "--tail", "15", name, code=None)
            print("".join(f"     {name}: {line}\n" for line in (done.stdout + done.stderr).splitlines()), end="", flush=True)
            self.w.d("rm", "-f", "-v", name, code=None)

    def all(self, operations):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda s: self.through(s, operations), list(self.alive)))

    def services(self, chosen):
        self.alive = [service(self.w) for service in chosen]
        before = many.settled(self.w)
        self.all(FIRST)
        for operation, number in ENGINE.items():
            self.w.daemon.restart(number)
            self.all([operation])
        self.all(AFTER)

        def nothing_left():
            self.w.daemon.remove_containers()
            self.w.d("volume", "prune", "-f")
            self.w.d("network", "prune", "-f")
            many.nothing_left(self.w, before)
        self.note("nothing left behind", "all", nothing_left)


def versions(w, chosen):
    found = {"docker": w.out("version", "-f", "{{.Server.Version}}")}
    for service in chosen:
        image, package = service.package.split(":")
        found[service.name()] = w.out("run", "--rm", "--network", "none", image, "dpkg-query", "-W", "-f", "${Version}", package)
    return found


def inside(runtime, wanted, results):
    folder = os.environ["RUNDLET_SCRATCH"]
    sandbox.interruptible()
    daemon = dockerd.Daemon(os.path.join(folder, "w"), runtime, GROUP, live=True)
    os.makedirs(daemon.folder)
    run = Run(world.World(daemon, dockerd.client()))
    found, whole = {}, False
    try:
        daemon.start()
        tar = os.path.join(folder, "busybox.tar")
        images.busybox_tar(tar)
        daemon.load(tar, "busybox", ENV)
        chosen = [s for s in SERVICES if re.search(wanted, s.name())]
        if chosen:
            for name, variable in (("debian", "RUNDLET_DEBIAN_TAR"), ("services", "RUNDLET_SERVICES_TAR")):
                daemon.load(os.environ[variable], name, ENV)
            found = versions(run.w, chosen)
            run.services(chosen)
        if re.search(wanted, "fifty"):
            run.note("fifty", "all", lambda: many.fifty(run.w))
        whole = True
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        with worker.undisturbed():
            try:
                daemon.remove_containers()
            except OSError:
                pass
            daemon.stop()
            if os.environ.get("RUNDLET_KEEP_LOG"):
                shutil.copy(daemon.log, os.environ["RUNDLET_KEEP_LOG"] + "." + os.path.basename(runtime))
            with open(results, "w", encoding="utf-8") as f:
                json.dump({"versions": found, "results": run.results}, f)
    return 0 if whole else 1


def one(runtime, options, env, folder):
    """One runtime in a sandbox -> what it wrote, or None if it did not come to its end."""
    results = os.path.join(folder, f"{os.path.basename(runtime)}.json")
    print(f"== {runtime}", flush=True)
    box = sandbox.Sandbox([sys.executable, os.path.abspath(__file__), "--only", options.only, "--results", results, runtime], "work", options.deadline, env)
    try:
        code = box.wait()
    finally:
        box.stop()
    if not os.path.exists(results):
        return None
    with open(results, encoding="utf-8") as f:
        found = json.load(f)
    first = subprocess.run([runtime, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[0]
    return {"runtime": first.replace(" version", ""), "whole": code == 0, **found}


def main():
    names = ", ".join([s.name() for s in SERVICES] + ["fifty"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtimes", nargs="+", metavar="RUNTIME")
    parser.add_argument("--only", default="", help=f"expression that names must contain: {names}")
    parser.add_argument("--write", action="store_true", help="write the table to README.md; needs all services")
    parser.add_argument("--deadline", type=float, default=1800, help="seconds for one runtime")
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    runtimes = [os.path.abspath(r) for r in options.runtimes]
    if os.environ.get("RUNDLET_SCRATCH"):
        return inside(runtimes[0], options.only, options.results)
    for runtime in runtimes:
        if not os.access(runtime, os.X_OK):
            parser.error(f"{runtime} is no program")
    if options.write and options.only:
        parser.error("--write with --only would leave the rest out of the table")
    sandbox.interruptible()
    chosen = [s.name() for s in SERVICES if re.search(options.only, s.name())]
    env = {"RUNDLET_DEBIAN_TAR": images.debian_tar(), "RUNDLET_SERVICES_TAR": images.services_tar()} if chosen else {}
    with tempfile.TemporaryDirectory(prefix="rundlet-workloads.") as folder:
        try:
            runs = [one(runtime, options, env, folder) for runtime in runtimes]
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 1
    wanted = {name: OPERATIONS for name in chosen}
    if chosen:
        wanted["nothing left behind"] = ["all"]
    if re.search(options.only, "fifty"):
        wanted["fifty"] = ["all"]
    if options.write and all(runs):
        report.write(os.path.join(HERE, "README.md"), runs, SERVICES, OPERATIONS)
    return report.count(runs, wanted)


if __name__ == "__main__":
    sys.exit(main())
