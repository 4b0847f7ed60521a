"""One side of the comparison: runs the cases with one runtime inside of a sandbox and writes one JSON line a case."""

import json
import os
import re
import shutil
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import dockerd  # noqa: E402
import harness  # noqa: E402
import images  # noqa: E402
import cases  # noqa: E402,F401


class Ended(Exception):
    pass


def run_one(entry, daemon, docker, literal, folder):
    scratch = os.path.join(folder, "case")
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    context = harness.Context(docker, daemon, [(scratch, "<SCRATCH>"), *literal], scratch)
    began = time.monotonic()
    skip = None
    try:
        if entry["v1"] and os.environ.get("RUNDLET_CGROUP_VIEW") == "v2":
            raise harness.Skip("for cgroup version 1")
        entry["function"](context)
    except harness.Skip as e:
        skip = str(e)
    except Ended:
        raise
    except Exception:  # one broken case must not hide the others
        context.failures.append("the case itself failed: " + traceback.format_exc())
    try:
        context.close()
    except Ended:
        raise
    except Exception as e:
        context.failures.append(f"after the case: {e}")
    return {"name": entry["name"], "skip": skip, "records": context.records, "failures": context.failures, "raw": context.raw,
            "seconds": round(time.monotonic() - began, 2)}


def main():
    runtime, results, wanted = sys.argv[1], sys.argv[2], re.compile(sys.argv[3])
    folder, group = os.environ["RUNDLET_SCRATCH"], os.environ["RUNDLET_CGROUP"]

    def ended(*_):
        raise Ended
    signal.signal(signal.SIGTERM, ended)
    docker = dockerd.client()
    tar = os.path.join(folder, "busybox.tar")
    # The cases call their image busybox, whatever is in it.
    make = images.debian_with_files_tar if os.environ.get("RUNDLET_IMAGE") == "debian" else images.busybox_tar
    make(tar)
    literal = [(folder, "<RUN>"), (group, "<CGROUP>")]
    with open(results, "a", encoding="utf-8") as out:
        for remap in (False, True):
            chosen = [e for e in harness.CASES if e["remap"] == remap and wanted.search(e["name"])]
            if not chosen:
                continue
            place = os.path.join(folder, "remap" if remap else "plain")
            os.makedirs(place)
            if remap:
                os.chmod(folder, 0o755)
            daemon = dockerd.Daemon(place, runtime, group, remap)
            try:
                daemon.start()
                daemon.load(tar, "busybox")
                for entry in chosen:
                    result = run_one(entry, daemon, docker, [(place, "<RUN>"), *literal], folder)
                    out.write(json.dumps(result) + "\n")
                    out.flush()
            except Ended:
                return 1
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                try:
                    daemon.remove_containers()
                except OSError:
                    pass
                daemon.stop()
                shutil.copy(daemon.log, f"{results}.{'remap' if remap else 'plain'}.log")
                signal.signal(signal.SIGTERM, ended)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Ended:
        sys.exit(1)
