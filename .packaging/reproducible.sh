#!/bin/bash
# Builds the checked-in source twice, in directories of different names and depth, with different homes of cargo, and compares
# binaries and packages: reproducible.sh TARGET (by `make reproducible`). Everything is below one temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$1
cargo_home=${CARGO_HOME:-$HOME/.cargo}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/rundlet-reproducible.XXXXXX")
trap 'rm -rf "$work"' EXIT
[ -z "$(git status --porcelain)" ] || echo "note: changes that are not checked in are not looked at" >&2

build() { # build DIRECTORY: the package of HEAD, built there with a home of cargo's that has the same crates
    mkdir -p "$1/home" "$1/source"
    ln -s "$cargo_home/registry" "$1/home/registry"
    git archive HEAD | tar -x -C "$1/source"
    make -C "$1/source" deb CARGO_HOME="$1/home" TARGET="$target" \
        RUNDLET_COMMIT="$RUNDLET_COMMIT" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" >"$1/log" 2>&1 || { cat "$1/log"; exit 1; }
}

export RUNDLET_COMMIT SOURCE_DATE_EPOCH
export -n CARGO_TARGET_DIR
build "$work/a"
build "$work/another/and/deeper"
failed=0
for file in "target/$target/release/rundlet" "$(cd "$work/a/source" && ls target/debian/*.deb)"; do
    if cmp "$work/a/source/$file" "$work/another/and/deeper/source/$file"; then
        sha256sum "$work/a/source/$file" | sed "s| .*/|  |"
    else
        failed=1
    fi
done
# Of no builder's machine: neither its home nor the directories.
for path in "$work" "$cargo_home" "$(rustc --print sysroot)"; do
    if grep -qaF "$path" "$work/a/source/target/$target/release/rundlet"; then
        echo "the binary names $path" >&2
        failed=1
    fi
done
[ "$failed" = 0 ] && echo "the same bytes twice"
exit "$failed"
