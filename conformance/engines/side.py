"""One side of the comparison: runs an engine's operations with one runtime inside of a sandbox; one JSON line each.

side.py MODULE SUITE RUNTIME RESULTS WANTED    SUITE: the Debian suite that the engine is taken from, or - for the host's"""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import engine as engines  # noqa: E402


class Ended(Exception):
    pass


def own_view(folder):
    """What is written below these folders stays in the scratch folder."""
    for name in ("/etc", "/var/lib", "/root"):
        upper = os.path.join(folder, "view" + name.replace("/", "-"))
        work = upper + ".work"
        os.makedirs(upper)
        os.makedirs(work)
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={name},upperdir={upper},workdir={work}", "overlay", name],
                       check=True, timeout=10)


def run_one(function, engine, literal, folder):
    # One each: conmon may still write to that of the operation before.
    scratch = os.path.join(folder, "o-" + function.__name__)
    os.makedirs(scratch)
    context = engine.operations(engine, [(scratch, "<SCRATCH>"), *literal], scratch)
    began, skip = time.monotonic(), None
    try:
        function(context)
    except engines.Skip as e:
        skip = str(e)
    except Ended:
        raise
    except Exception:  # one broken operation must not hide the others
        context.failures.append("the operation itself failed: " + traceback.format_exc())
    try:
        context.close()
    except Ended:
        raise
    except Exception:
        context.failures.append("after the operation: " + traceback.format_exc())
    return {"name": function.__name__, "label": engines.label(function), "skip": skip, "records": context.records,
            "failures": context.failures, "raw": context.raw, "seconds": round(time.monotonic() - began, 2)}


def main():
    module, suite, runtime, results, wanted = sys.argv[1:6]
    folder, group = os.environ["RUNDLET_SCRATCH"], os.environ["RUNDLET_CGROUP"]

    def ended(*_):
        raise Ended
    signal.signal(signal.SIGTERM, ended)
    own_view(folder)
    place = os.path.join(folder, "e")
    os.makedirs(place)
    # Podman's conmon leaves files (`oom`) where podman was called.
    results = os.path.abspath(results)
    os.chdir(place)
    missing = None
    try:
        kind = importlib.import_module(module).ENGINE
        missing = next((f"{p} is not installed" for p in kind.programs if shutil.which(p) is None), None)
    except ModuleNotFoundError as e:
        missing = f"python has no module {e.name}"
    with open(results, "a", encoding="utf-8") as out:
        def put(entry):
            out.write(json.dumps(entry) + "\n")
            out.flush()
        if missing:
            put({"engine": None, "skip": missing})
            return 0
        engine = kind(place, runtime, group, None if suite == "-" else suite)
        try:
            try:
                engine.start()
            except engines.Skip as e:
                put({"engine": None, "skip": str(e)})
                return 0
            put({"engine": engine.version()})
            literal = [*engine.literal(), (place, "<RUN>"), (folder, "<RUN>"), (group, "<CGROUP>"), (runtime, "<RUNTIME>")]
            for function in engines.OPERATIONS:
                if re.search(wanted, function.__name__):
                    put(run_one(function, engine, literal, folder))
        except Ended:
            return 1
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            engine.stop()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Ended:
        sys.exit(1)
