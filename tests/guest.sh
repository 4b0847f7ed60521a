#!/bin/sh
# The root tests where this machine cannot run them: in a guest with systemd as PID 1 and cgroup v2 alone, in which the
# limits of memory, cpu, pids, io and cpuset are seen to bite.
#
#   VM=/path/to/vm tests/guest.sh [WORD...]     only the tests whose name has one of the WORDs
#
# VM names a command that has a Debian guest (root, busybox-static):
#   VM up                boots a fresh one; VM status ends with 0 while one is up
#   VM put FILE... DIR   copies into it
#   VM run COMMAND       runs a shell command in it as root and ends with that command's status
#   VM down              shuts it down
# A guest that is up already is used and left up; one that this script boots goes down in the end, whatever happens.
# RUNDLET_TEST_RUNTIME: another static binary of the runtime than the one that is built here.
# UNIT=1: the unit tests too, among them those of cgroups that need root.
set -eu

: "${VM:?names the command that runs the guest; see the head of this script}"
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(uname -m)-unknown-linux-musl
dir=/var/tmp/rundlet-guest

runtime=${RUNDLET_TEST_RUNTIME:-}
if [ -z "$runtime" ]; then
    "$cargo" build --release --target "$target"
    runtime=target/$target/release/rundlet
fi

# Prints the path of the one executable that cargo names.
built() {
    "$cargo" test --no-run "$@" 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p' | tail -1
}
files=$(mktemp -d)
booted=
finish() {
    rm -rf "$files"
    [ -z "$booted" ] || "$VM" down
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

cp "$runtime" "$files/rundlet"
cp "$(built --target "$target" --test root)" "$files/root-tests"
# Not static: some of what the unit tests use is not in musl's bindings. The guest's glibc must not be older than ours.
[ -z "${UNIT:-}" ] || cp "$(built --bin rundlet)" "$files/unit-tests"

"$VM" status >/dev/null 2>&1 || { booted=1; "$VM" up; }
"$VM" run "rm -rf $dir"
"$VM" put "$files"/* "$dir"

# Swap for the test of its limit, huge pages where the kernel has them. Both are gone with the guest. The words go through
# as they are: they are names of tests.
"$VM" run "set -eu; cd $dir
    echo \"\$(uname -sr), \$(nproc) cpu(s), cgroup2 with: \$(cat /sys/fs/cgroup/cgroup.controllers)\"
    if [ \"\$(wc -l </proc/swaps)\" -lt 2 ]; then
        dd if=/dev/zero of=swap bs=1M count=256 2>/dev/null; chmod 600 swap; mkswap swap >/dev/null; swapon swap
    fi
    for pages in /proc/sys/vm/nr_hugepages; do [ ! -e \$pages ] || echo 16 >\$pages; done
    status=0
    TMPDIR=$dir RUNDLET_TEST_RUNTIME=$dir/rundlet ./root-tests $* || status=1
    [ ! -e unit-tests ] || TMPDIR=$dir ./unit-tests || status=1
    swapoff swap 2>/dev/null || true
    exit \$status"
