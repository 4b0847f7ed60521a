#!/usr/bin/env python3
"""Walks README.md as a newcomer does: its commands, one after the other, in a clean Debian. `make newcomer`, as root.

newcomer.py [--all]     --all: `make test` as well, which takes ten minutes more

The Debian is made anew with nothing but what README.md asks for (make and a Rust toolchain; that of this machine is shown to it
copy-on-write, with the crates that it has). Every command of the sections below is taken from the text: one that this
program has no expectation for is an error, as is an expectation whose command is gone from the text.
"""

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITE = os.environ.get("DEBIAN_SUITE", "bookworm")
HOME = "/root"
SOURCE = f"{HOME}/rundlet"
DEADLINE = 3000
LATER = {"make test-vm": "boots a guest", "make bench": "measures", "make reproducible": "builds twice"}

failures = []


def say(good, what, output=""):
    print(f"{'ok  ' if good else 'FAIL'} {what}", flush=True)
    if not good:
        failures.append(what)
        print("     " + "\n     ".join(output.strip().splitlines()[-25:]), flush=True)


def commands(text, title):
    """The indented commands of a section, without what is said behind them."""
    section = re.search(rf"^## {title}\n(.*?)(?=^#)", text, re.M | re.S)
    if not section:
        sys.exit(f"README.md has no section {title}")
    lines = re.findall(r"^    (\S.*)$", section[1], re.M)
    return [re.sub(r"\s+# .*$", "", line).strip() for line in lines]


class Debian:
    """A clean root in namespaces of its own; ends with them."""

    def __init__(self, root):
        self.root = root

    def argv(self, command, directory):
        path = f"{HOME}/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = ["env", "-i", f"PATH={path}", f"HOME={HOME}", "LC_ALL=C.UTF-8", "TERM=linux", *(f"{key}={os.environ[key]}" for key in ("RUSTUP_TOOLCHAIN", "CARGO_BUILD_JOBS", "http_proxy", "https_proxy", "SSL_CERT_FILE") if key in os.environ)]
        return ["chroot", self.root, *env, "sh", "-c", f"cd {directory} && {command}"]

    def run(self, command, directory=SOURCE):
        done = subprocess.run(["timeout", "-k", "10", str(DEADLINE), *self.argv(command, directory)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        return done.returncode, done.stdout

    def type(self, command, directory, keys, until):
        """The command on a terminal: each of `keys` when what was printed has the next of `until`."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvp("chroot", self.argv(command, directory))
        seen, keys, until = "", list(keys), list(until)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if keys and re.search(until[0], seen):
                os.write(terminal, keys.pop(0).encode())
                seen, until = "", until[1:]
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    more = os.read(terminal, 4096).decode(errors="replace")
                except OSError:
                    break
                if not more:
                    break
                seen += more
        else:
            os.kill(pid, 9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen

    def files(self):
        _, out = self.run("find / -xdev \\( -path /proc -o -path /root -o -path /tmp -o -path /var/cache -o -path /run \\) -prune -o -type f -print | sort", "/")
        return set(out.splitlines())


def check(debian, command, pattern, directory=SOURCE, code=0):
    status, output = debian.run(command, directory)
    good = status == code and (pattern is None or re.search(pattern, output, re.M | re.S))
    say(bool(good), command, f"{output}\nexit code {status}; wanted {code} and {pattern!r}")
    return output


def walk(debian, text, everything):
    expected = {
        "make demo": r"It|A bundle.*What a container sees.*it is alone with what it starts.*Nothing is left: no process, mount, cgroup or state\.",
        "make test": r"^\d+ passed, 0 failed, \d+ skipped$",
    }
    for command in commands(text, "Try it"):
        if command in LATER or (command == "make test" and not everything):
            print(f"later {command}: {LATER.get(command, 'with --all')}")
        elif command in expected:
            check(debian, command, expected.pop(command))
        else:
            say(False, f"README.md has a command that is not walked: {command}")
    # What is named in sentences.
    static = f"target/{os.uname().machine}-unknown-linux-musl/release/rundlet"
    for words in ["`make static`", "`make install`", "`make uninstall`", f"`{static}`", "`/usr/local/bin`", "`rundlet help`", "`rundlet run --help`", "`rundlet run --overlay NAME`", "`--overlay-upper DIR`"]:
        say(words in text, f"README.md has {words}")
    check(debian, f"make static && {static} --version", r"^rundlet version \S+\ncommit: \S+\nspec: 1\.3")
    before = debian.files()
    check(debian, "make install && command -v rundlet && ls /usr/local/share/man/man8/rundlet-run.8 /usr/local/share/bash-completion/completions/rundlet", r"^/usr/local/bin/rundlet$")

    use = commands(text, "Use it")
    bundle, enter, spec, run = use if len(use) == 4 else sys.exit(f"the commands of `Use it` have changed: {use}")
    check(debian, bundle, None, HOME)
    directory = os.path.join(HOME, enter.removeprefix("cd "))
    check(debian, f"{spec} && ls config.json", r"^config\.json$", directory)
    status, output = debian.type(run, directory, ["echo sum $((20+22))\r", "exit\r"], [r"[#$] $", r"sum 42[^#]*# $"])
    say(status == 0, f"{run}: a shell that is left with `exit`", output)
    check(debian, "rundlet list", r"\AID +PID +STATUS +BUNDLE +CREATED +OWNER\n\Z", directory)
    verbs = check(debian, "rundlet help", r"Commands:|COMMANDS:")
    for verb in "create start run exec state list ps kill delete pause resume update events spec features checkpoint restore".split():
        if not re.search(rf"^ +{verb}\b", verbs, re.M):
            say(False, f"rundlet help lists {verb}")
    check(debian, "rundlet run --help", r"--bundle.*--overlay\b.*--overlay-upper")
    write = r"""sed -i 's/"terminal": true/"terminal": false/; s/"readonly": true/"readonly": false/; s/"sh"/"sh", "-c", "echo new >\/file; echo wrote"/' config.json"""
    check(debian, write, None, directory)
    check(debian, "rundlet run --overlay NAME && ls rootfs", r"\Awrote\nbin\n", directory)
    say(not os.path.exists(f"{debian.root}{directory}/rootfs/file"), "the rootfs stays as it is")
    check(debian, "rundlet run --overlay-upper DIR NAME && cat DIR/file", r"\Awrote\nnew\n\Z", directory)
    # The first error that a newcomer makes is in the table, as rundlet prints it.
    check(debian, r"""sed -i 's/"terminal": false/"terminal": true/' config.json; rundlet create NAME""", r"cannot allocate tty if rundlet will detach without setting console socket", directory, 1)
    check(debian, "rundlet state NAME", r"does not exist", directory, 1)

    check(debian, "make uninstall", None)
    left = debian.files() - before
    say(not left, "make uninstall takes them away", "\n".join(sorted(left)))
    for command in expected:
        if everything or command != "make test":
            say(False, f"README.md has no longer `{command}`")


def overlay(work, lower, mount_point):
    """`lower` at `mount_point`, and what is written there below `work`."""
    for part in ("upper", "work"):
        os.makedirs(os.path.join(work, part))
    os.makedirs(mount_point, exist_ok=True)
    options = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, mount_point], check=True)


def inside(work, everything):
    """In the namespaces."""
    root = os.path.join(work, "root")
    subprocess.run(["mount", "--bind", root, root], check=True)
    for kind in ("proc",):
        subprocess.run(["mount", "-t", kind, kind, f"{root}/{kind}"], check=True)
    for tree in ("sys", "dev"):
        subprocess.run(["mount", "--rbind", f"/{tree}", f"{root}/{tree}"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{root}/run"], check=True)
    for name in ("cargo", "rustup"):
        lower = os.environ.get(f"{name.upper()}_HOME", os.path.expanduser(f"~/.{name}"))
        overlay(os.path.join(work, name), lower, f"{root}{HOME}/.{name}")
    for file in ("/etc/resolv.conf", "/etc/hosts"):
        if os.path.exists(file):
            shutil.copy(file, f"{root}{file}")
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(certificates):
        shutil.copy(certificates, f"{root}{certificates}")
    os.makedirs(f"{root}{SOURCE}")
    archive = subprocess.Popen(["git", "-C", TOP, "archive", "HEAD"], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", f"{root}{SOURCE}"], stdin=archive.stdout, check=True)
    with open(f"{root}{SOURCE}/README.md", encoding="utf-8") as file:
        text = file.read()
    walk(Debian(root), text, everything)
    print(f"{len(failures)} failed" if failures else "README.md is as it says")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="`make test` as well")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.inside, options.all)
    if os.geteuid() != 0:
        parser.error("root is needed")
    work = tempfile.mkdtemp(prefix="rundlet-newcomer.", dir="/var/tmp")
    try:
        print(f"making a clean Debian {SUITE} in {work}", flush=True)
        # gcc is the linker of a Rust toolchain; rustup asks for it.
        packages = "--include=make,gcc,libc6-dev,ca-certificates"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, SUITE, f"{work}/root", MIRROR], check=True)
        again = [sys.executable, os.path.abspath(__file__), "--inside", work, *(["--all"] if options.all else [])]
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "--kill-child", *again]).returncode
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
