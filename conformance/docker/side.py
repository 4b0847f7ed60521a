"""One side of the comparison: runs the cases with one runtime inside of a sandbox and writes one JSON line a case."""

import json
import os
import re
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import dockerd  # noqa: E402
import harness  # noqa: E402
import images  # noqa: E402
import worker  # noqa: E402
import cases  # noqa: E402,F401


def run_one(entry, daemon, docker, literal, folder):
    scratch = os.path.join(folder, "case")
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    context = harness.Context(docker, daemon, [(scratch, "<SCRATCH>"), *literal], scratch)

    def case(c):
        if entry["v1"] and os.environ.get("RUNDLET_CGROUP_VIEW") == "v2":
            raise harness.Skip("for cgroup version 1")
        entry["function"](c)
    return {"name": entry["name"], **worker.outcome(case, context)}


def main():
    runtime, results, wanted = sys.argv[1], sys.argv[2], re.compile(sys.argv[3])
    folder, group = os.environ["RUNDLET_SCRATCH"], os.environ["RUNDLET_CGROUP"]
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
            finally:
                with worker.undisturbed():
                    try:
                        daemon.remove_containers()
                    except OSError:
                        pass
                    daemon.stop()
                    shutil.copy(daemon.log, f"{results}.{'remap' if remap else 'plain'}.log")
    return 0


if __name__ == "__main__":
    worker.main(main)
