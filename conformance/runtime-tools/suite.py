"""The built suite: made once and kept under RUNDLET_CACHE (default /var/tmp/rundlet-cache), by what it is made of."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "build.sh")


def cache():
    return os.environ.get("RUNDLET_CACHE", "/var/tmp/rundlet-cache")


def ready():
    """The folder of the built suite. Two callers at once build it once."""
    made_of = hashlib.sha256()
    for part in (BUILD, os.path.join(HERE, "tap", "tap.go")):
        with open(part, "rb") as f:
            made_of.update(f.read())
    os.makedirs(cache(), exist_ok=True)
    folder = os.path.join(cache(), "runtime-tools-" + made_of.hexdigest()[:12])
    with open(os.path.join(cache(), "runtime-tools.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(folder):
            print("building the runtime-tools suite (once)", flush=True)
            made = tempfile.mkdtemp(prefix="runtime-tools.", dir=cache())
            try:
                subprocess.run([BUILD, made], check=True, timeout=900)
                os.chmod(made, 0o755)
                os.rename(made, folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return folder


def exclusive():
    """Held while a suite runs: its programs use fixed names of cgroups."""
    lock = open(os.path.join(cache(), "runtime-tools-run.lock"), "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
