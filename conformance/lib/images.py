"""The images of the engine tests, made from Debian packages; nothing is pulled from a registry.

`busybox` is made anew each time from the host's static busybox. `debian` (nginx, MariaDB, Redis, Python) and `services`
(PostgreSQL, Tomcat ...) take a minute or two with mmdebstrap each and are kept under RUNDLET_CACHE (default
/var/tmp/rundlet-cache).
"""

import fcntl
import io
import os
import re
import subprocess
import sys
import tarfile

PACKAGES = "nginx-light,mariadb-server,redis-server,python3,procps,iproute2,libcap2-bin,passwd"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
VERSION = 2  # part of the cached file's name: raise it when what is built changes
SERVICES = ("postgresql,tomcat10,default-jre-headless,php-fpm,docker-registry,docker-compose,python3-docker,python3-psycopg2,"
            "netdata-core,netdata-web,netdata-plugins-bash,curl,jq,procps,iproute2")
SERVICES_VERSION = 2

PASSWD = """root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
bob:x:1001:100::/home/bob:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """root:x:0:
users:x:100:
alice:x:1000:
crew:x:2000:alice,bob
lab:x:2001:
nogroup:x:65534:
"""
FILES = [
    # name, mode, uid, content
    ("etc/passwd", 0o644, 0, PASSWD),
    ("etc/group", 0o644, 0, GROUP),
    ("plain", 0o644, 0, "no program\n"),
    ("bin/noexec", 0o644, 0, "#!/bin/sh\necho never\n"),
    ("bin/hello", 0o755, 0, "#!/bin/sh\necho hello \"$@\"\n"),
    ("bin/badinterp", 0o755, 0, "#!/no/such/interpreter\n"),
    ("bin/noformat", 0o755, 0, "\x01\x02\x03 neither ELF nor script\n"),
    ("bin/rootonly", 0o700, 0, "#!/bin/sh\necho root\n"),
    ("home/alice/own", 0o600, 1000, "of alice\n"),
    ("srv/data/file", 0o644, 0, "from the image\n"),
]
FOLDERS = [("bin", 0o755, 0), ("etc", 0o755, 0), ("root", 0o700, 0), ("home", 0o755, 0), ("home/alice", 0o755, 1000),
           ("tmp", 0o1777, 0), ("srv", 0o755, 0), ("srv/data", 0o755, 0), ("var", 0o755, 0), ("closed", 0o700, 0)]
LINKS = [("sbin", "bin"), ("link-to-srv", "srv"), ("link-out", "../../../../etc")]


def busybox_tar(path):
    binary = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
    if binary is None:
        sys.exit("busybox is missing: install busybox-static")
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True, timeout=10).stdout.split()
    with tarfile.open(path, "w") as tar:
        def add(name, mode, uid, kind, data=b"", link=""):
            info = tarfile.TarInfo("./" + name)
            info.mode, info.uid, info.gid, info.type = mode, uid, uid, kind
            info.size, info.linkname, info.mtime = len(data), link, 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
        for name, mode, uid in FOLDERS:
            add(name, mode, uid, tarfile.DIRTYPE)
        with open(binary, "rb") as f:
            add("bin/busybox", 0o755, 0, tarfile.REGTYPE, f.read())
        for name, mode, uid, text in FILES:
            add(name, mode, uid, tarfile.REGTYPE, text.encode("latin-1"))
        taken = {os.path.basename(n) for n, *_ in FILES if n.startswith("bin/")} | {"busybox"}
        for applet in applets:
            if applet not in taken:
                add("bin/" + applet, 0o777, 0, tarfile.SYMTYPE, link="busybox")
        for name, target in LINKS:
            add(name, 0o777, 0, tarfile.SYMTYPE, link=target)


def _built(name, packages, hooks):
    """The path of the tar `name`, a Debian with `packages`, from the cache; built if it isn't there."""
    cache = os.environ.get("RUNDLET_CACHE", "/var/tmp/rundlet-cache")
    os.makedirs(cache, exist_ok=True)
    path = os.path.join(cache, name)
    with open(os.path.join(cache, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return path
        print(f"building {path}; this takes a minute or two", file=sys.stderr, flush=True)
        part = path + ".part"
        options = [f"--dpkgopt=path-exclude={p}" for p in ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")]
        # The dates are not checked because the clock of a test machine may be off; signatures are.
        options += ["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=Acquire::Check-Date \"false\""]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={packages}", *options, *hooks,
                   "--customize-hook=rm -f \"$1\"/etc/machine-id \"$1\"/etc/resolv.conf \"$1\"/etc/hostname",
                   SUITE, part, f"deb {os.environ.get('RUNDLET_MIRROR', MIRROR)} {SUITE} main"]
        try:
            subprocess.run(command, check=True, timeout=900, stdin=subprocess.DEVNULL)
            os.rename(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
    return path


def debian_tar():
    """The Debian image of the engine tests: nginx, MariaDB, Redis, Python."""
    return _built(f"{SUITE}-engine-tests-{VERSION}.tar", PACKAGES,
                  ["--customize-hook=rm -rf \"$1\"/var/lib/mysql/* \"$1\"/var/log/*.log"])


def services_tar():
    """The Debian image of the other workloads: PostgreSQL, Tomcat, PHP-FPM, a registry, what talks to docker.sock."""
    # The packages of Java and PostgreSQL link their manual pages, into folders that path-exclude leaves out.
    return _built(f"{SUITE}-services-{SERVICES_VERSION}.tar", SERVICES,
                  ["--essential-hook=mkdir -p \"$1\"/usr/share/man/man1 \"$1\"/usr/share/man/man7",
                   "--customize-hook=rm -rf \"$1\"/var/lib/postgresql/*/main \"$1\"/etc/postgresql/*/main"])


def debian_with_files_tar(path):
    """The Debian image with the files that the cases look for, which the busybox image has too."""
    # docker refuses a tar that names a file twice.
    replaced = {"./" + name for name, *_ in FILES}
    with tarfile.open(debian_tar()) as base, tarfile.open(path, "w") as tar:
        for entry in base:
            if entry.name not in replaced:
                tar.addfile(entry, base.extractfile(entry) if entry.isreg() else None)

        def add(name, mode, uid, kind, data=b"", link=""):
            entry = tarfile.TarInfo("./" + re.sub("^bin/", "usr/bin/", name))
            entry.mode, entry.uid, entry.gid, entry.type, entry.linkname, entry.size = mode, uid, uid, kind, link, len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, mode, uid in FOLDERS:
            if name not in ("bin", "sbin", "etc", "root", "tmp", "var", "srv", "home"):
                add(name, mode, uid, tarfile.DIRTYPE)
        for name, mode, uid, content in FILES:
            add(name, mode, uid, tarfile.REGTYPE, content.encode("latin-1"))
        for name, target in LINKS:
            if name != "sbin":
                add(name, 0o777, 0, tarfile.SYMTYPE, link=target)


if __name__ == "__main__":
    print(debian_tar())
