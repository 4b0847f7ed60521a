#!/usr/bin/env python3
"""Makes a Debian package of the static binary: deb.py TARGET DIRECTORY (by `make deb`, which built the binary before).

The tree is what `make install` makes below /usr; name, version and description come from Cargo.toml. No scripts and no
configuration: installing it registers the runtime with no engine. The licences of all crates in the binary are in
/usr/share/doc. The same source gives the same bytes: every time is SOURCE_DATE_EPOCH, every owner root.
"""
import email.utils
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
REVISION = "1"
MAINTAINER = os.environ.get("DEB_MAINTAINER", "rundlet maintainers <rundlet@packages.invalid>")
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
# What lintian warns of and is so on purpose.
LINTIAN_OVERRIDES = """\
# A static position-independent program, not a library.
rundlet: shared-library-lacks-prerequisites [usr/bin/rundlet]
# The project's own package, not one of Debian's archive.
rundlet: initial-upload-closes-no-bugs *
"""
DESCRIPTION = """\
 rundlet is the program at the bottom of Docker, containerd and Podman that
 turns a root file system and a config.json into a running, isolated process,
 after the OCI runtime specification. It has the commands, flags and output
 of runc. It is one static binary without C libraries.
 .
 Engines use it when their configuration names it; the package changes none."""


def output(*command):
    return subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout


def write(path, content, mode=0o644):
    """Writes text; what ends in .gz is packed without name and time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    path.chmod(mode)


def crates_in_binary(metadata):
    """Others' packages that are linked into the program: normal dependencies, and not those that run in the compiler."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, todo = set(), [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            in_compiler = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
            if normal and not in_compiler and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    others = (packages[i] for i in found if packages[i]["source"])
    return packages[root], sorted(others, key=lambda p: (p["name"], p["version"]))


def third_parties(crates):
    """Each crate with its licence and the texts that it comes with; a text that several have is printed once."""
    parts = [
        "The binary contains the Rust standard library (MIT OR Apache-2.0; copyright the Rust project contributors),",
        "musl libc (MIT; copyright 2005-2025 Rich Felker and others) and these crates:\n",
    ]
    texts = {}
    for crate in crates:
        parts.append(f"{crate['name']} {crate['version']}: {crate['license']}")
        parts.append(f"    {crate.get('repository') or 'https://crates.io/crates/' + crate['name']}")
        folder = pathlib.Path(crate["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and re.match(r"(?i)licen[cs]e|copying|notice|copyright|unlicense", file.name):
                text = file.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{crate['name']} {file.name}")
    for text, names in sorted(texts.items(), key=lambda item: item[1]):
        parts.append("\n" + "-" * 78 + "\n" + ", ".join(names) + "\n\n" + text)
    return "\n".join(parts) + "\n"


def copyright_file(homepage, crates):
    licences = sorted({crate["license"] for crate in crates})
    return "\n".join([
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: rundlet",
        *([f"Source: {homepage}"] if homepage else []),
        "Comment: The binary also contains crates under their own licences",
        *(f"  {licence}" for licence in licences),
        " which /usr/share/doc/rundlet/third-party-licences.gz lists with their texts.",
        "",
        "Files: *",
        "Copyright: 2026 the rundlet authors",
        "License: Apache-2.0",
        " On Debian systems, the text of the Apache License, version 2.0, is in",
        " /usr/share/common-licenses/Apache-2.0.",
        "",
    ])


def install(tree, target):
    subprocess.run(
        ["make", "--no-print-directory", "install", "PREFIX=/usr", f"DESTDIR={tree}", f"TARGET={target}",
         "ZSH_COMPLETIONS=/usr/share/zsh/vendor-completions"],
        cwd=TOP, check=True)
    for page in (tree / "usr/share/man").glob("man*/*"):
        write(page.with_name(page.name + ".gz"), page.read_text())
        page.unlink()


def documents(tree, package, version, crates):
    doc = tree / "usr/share/doc/rundlet"
    write(doc / "README.md.gz", (TOP / "README.md").read_text())
    write(doc / "changelog.gz", (TOP / "CHANGELOG.md").read_text())
    write(doc / "third-party-licences.gz", third_parties(crates))
    write(doc / "copyright", copyright_file(package.get("repository"), crates))
    write(tree / "usr/share/lintian/overrides/rundlet", LINTIAN_OVERRIDES)
    date = email.utils.formatdate(EPOCH)
    write(doc / "changelog.Debian.gz",
          f"rundlet ({version}) unstable; urgency=medium\n\n  * Release {package['version']}; see changelog.gz.\n\n"
          f" -- {MAINTAINER}  {date}\n")


def control(tree, package, version, architecture):
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    folders = sum(1 for path in tree.rglob("*") if path.is_dir())
    # As dpkg-gencontrol counts: KiB of each file, rounded up, and one for everything else.
    size = sum((path.stat().st_size + 1023) // 1024 for path in files) + folders
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files)
    homepage = package.get("homepage") or package.get("repository")
    fields = [
        "Package: rundlet", f"Version: {version}", f"Architecture: {architecture}", f"Maintainer: {MAINTAINER}",
        f"Installed-Size: {size}", "Suggests: uidmap", "Enhances: containerd, docker.io, podman", "Section: admin",
        "Priority: optional", *([f"Homepage: {homepage}"] if homepage else []),
        "Description: low-level OCI container runtime, a drop-in replacement for runc", DESCRIPTION,
    ]
    write(tree / "DEBIAN/control", "\n".join(fields) + "\n")
    write(tree / "DEBIAN/md5sums", sums)


def main():
    target, out = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    architecture = ARCHITECTURES[target.partition("-")[0]]
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    package, crates = crates_in_binary(metadata)
    version = f"{package['version']}-{REVISION}"
    os.umask(0o022)
    tree = out / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    install(tree, target)
    documents(tree, package, version, crates)
    control(tree, package, version, architecture)
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH))
    for old in out.glob("rundlet_*.deb"):
        old.unlink()
    deb = out / f"rundlet_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", tree, deb], check=True)
    shutil.rmtree(tree)


main()
