"""Programs of other Debian suites, unpacked and not installed: engines that the host's suite lacks or has in an older
version. apt fetches them with a configuration of its own and checks them against the signed index; they are kept under
RUNDLET_CACHE. Only what runs on the host's C library is of use."""

import fcntl
import glob
import os
import shutil
import subprocess

import images

CONFIG = """Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{place}/parts";
Dir::State::lists "{place}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{place}/cache";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
"""
SOURCES = """Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def unpacked(suite, package):
    """The folder with the files of `package` of `suite`; None where it cannot be fetched."""
    cache = images.cache()
    folder = os.path.join(cache, "debs", suite, package)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with open(os.path.join(cache, "debs", "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder
        place, part = os.path.join(cache, "debs", "apt"), folder + ".part"
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(part, ignore_errors=True)
        try:
            for name in ("parts", "lists/partial", "cache/archives/partial"):
                os.makedirs(os.path.join(place, name))
            os.makedirs(part)
            config = os.path.join(place, "apt.conf")
            _write(config, CONFIG.format(place=place))
            _write(os.path.join(place, "parts/one.sources"),
                   SOURCES.format(mirror=os.environ.get("RUNDLET_MIRROR", images.MIRROR), suite=suite))
            env = {**os.environ, "APT_CONFIG": config}
            _apt(["update"], place, env)
            _apt(["download", package], place, env)
            (archive,) = glob.glob(os.path.join(place, f"{package}_*.deb"))
            subprocess.run(["dpkg", "-x", archive, part], check=True, timeout=120)
            version = subprocess.run(["dpkg", "-f", archive, "Version"], check=True, capture_output=True, text=True, timeout=20)
            _write(os.path.join(part, "version"), version.stdout)
            os.rename(part, folder)
            return folder
        except (OSError, ValueError, subprocess.SubprocessError) as e:
            print(f"{package} of {suite} could not be fetched: {e}", flush=True)
            return None
        finally:
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(part, ignore_errors=True)


def version(folder):
    with open(os.path.join(folder, "version"), encoding="utf-8") as f:
        return f.read().strip()


def _write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def _apt(words, folder, env):
    subprocess.run(["apt-get", "-qq", *words], check=True, cwd=folder, env=env, timeout=300, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
