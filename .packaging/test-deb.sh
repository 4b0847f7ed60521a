#!/bin/bash
# Installs the package in a clean Debian, uses it, purges it: test-deb.sh FILE.deb (by `make test-deb`). Needs root,
# mmdebstrap and the network; works in a directory, a mount and a pid namespace of its own. DEBIAN_MIRROR, DEBIAN_SUITE.
set -euo pipefail

[ $# = 1 ] && [ -f "$1" ] || { echo "usage: $0 FILE.deb (one; run \`make deb\` first)" >&2; exit 2; }
if [ "${INSIDE:-}" = "" ]; then
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/rundlet-deb.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    echo "making a clean Debian in $work"
    mmdebstrap --quiet --variant=minbase --include=man-db,bash-completion,busybox-static,lintian \
        "${DEBIAN_SUITE:-bookworm}" "$work/root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    cp "$1" "$work/root/rundlet.deb"
    INSIDE=$work/root unshare --mount --pid --fork --propagation private "$0" "$1"
    exit
fi

root=$INSIDE
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"

in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"; }
check() { # check WHAT COMMAND...
    local what=$1 && shift
    "$@" >"$root/last" 2>&1 || { echo "FAIL $what: $*"; cat "$root/last"; exit 1; }
    echo "ok $what"
}
says() { # says PATTERN SCRIPT; not in a pipe, which grep would close early
    local out
    out=$(in_root bash -c "$2" 2>&1) && grep -qE -- "$1" <<<"$out" || { echo "$out"; return 1; }
}
# What man-db, ldconfig and dpkg themselves keep is not the package's.
files() { in_root find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /var/cache -o -path /var/log \
    -o -path /var/lib/dpkg -o -path /last \) -prune -o -print | sort; }

check "lintian finds nothing" in_root lintian --allow-root --fail-on error,warning /rundlet.deb
files >"$root/../before"
check "install" in_root dpkg -i /rundlet.deb
check "its files are whole" in_root dpkg --verify rundlet
check "no configuration files" test -z "$(in_root dpkg-query -W -f '${Conffiles}' rundlet)"
check "no scripts" bash -c "! ls '$root'/var/lib/dpkg/info/rundlet.*inst '$root'/var/lib/dpkg/info/rundlet.*rm"
check "--version" says '^rundlet version ' 'rundlet --version'
check "man rundlet" says 'OCI container runtime' 'man rundlet'
check "man rundlet-run" says '--keep' 'man rundlet-run'
check "apropos finds it" says '^rundlet ' 'mandb -q; apropos -e rundlet'
check "completion of verbs" says '^create$' \
    '. /usr/share/bash-completion/bash_completion; _completion_loader rundlet; COMP_WORDS=(rundlet cr) COMP_CWORD=1
     COMP_LINE="rundlet cr"; COMP_POINT=10; f=$(complete -p rundlet | sed "s/.*-F \([^ ]*\).*/\1/"); $f rundlet cr rundlet
     printf "%s\n" "${COMPREPLY[@]}"'
check "licences of the crates" says '^serde [0-9.]*: ' 'zcat /usr/share/doc/rundlet/third-party-licences.gz'
check "a container" says '^it runs$' \
    'mkdir -p /b/rootfs/bin && cp /bin/busybox /b/rootfs/bin/sh && cd /b && rundlet spec &&
     sed -i "s/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sh\", \"-c\", \"echo it runs\"/" config.json &&
     rundlet run deb-test-$$; rm -rf /b /run/rundlet'
check "purge" in_root dpkg -P rundlet
files >"$root/../after"
check "purge leaves nothing" diff "$root/../before" "$root/../after"
echo "all passed"
