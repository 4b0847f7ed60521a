#!/bin/sh
# `make demo`: a container from a bundle, what it sees, and its life step by step. Everything happens below a temporary folder.
# usage: demo.sh PATH-OF-RUNDLET
set -eu

binary=$(realpath "$1")
work=$(mktemp -d)
id=demo-$$
rundlet() { "$binary" --root "$work/state" "$@"; }
cleanup() {
    status=$?
    rundlet delete --force "$id" 2>/dev/null || true
    cd / && rm -rf "$work"
    exit $status
}
trap cleanup EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '\n$ %s\n' "$*"; "$@"; }

if [ "$(id -u)" != 0 ]; then
    echo "the demo needs root (rootless containers come in a later version)" >&2
    exit 1
fi

say "1. A bundle: a folder with a root file system and a config.json"
mkdir -p "$work/bundle/rootfs/bin" "$work/bundle/rootfs/etc"
cp /bin/busybox "$work/bundle/rootfs/bin/"
for tool in sh ls cat ps hostname mount id grep sed sleep tr head; do
    ln -s busybox "$work/bundle/rootfs/bin/$tool"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/bundle/rootfs/etc/passwd"
cat >"$work/bundle/rootfs/look" <<'LOOK'
#!/bin/sh
echo "pid           $$, and $(ls -d /proc/[0-9]* | grep -c .) processes in all: it is alone with what it starts"
echo "host name     $(hostname)"
echo "user          $(id)"
for kind in pid net ipc mnt uts cgroup; do
    echo "namespace     $(ls -l /proc/self/ns/$kind | sed 's/.*-> //')"
done
echo "network       $(ls /sys/class/net | tr '\n' ' ')"
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | sed 's/^/status        /'
echo "open files    $(ulimit -n) at most"
mount | sed 's/^/mount         /'
echo "masked        /proc/kcore: $(head -c 1 /proc/kcore | grep -c .) bytes can be read"
echo "read-only     $( (echo x >/file) 2>&1 )"
LOOK
chmod +x "$work/bundle/rootfs/look"
cd "$work/bundle"
show rundlet spec
# A terminal would be needed here; the demo also runs in a pipe.
sed -i 's/"terminal": true/"terminal": false/' config.json
show ls

say "2. What a container sees"
sed -i 's|"sh"|"/look"|' config.json
show rundlet run "$id"

say "3. The life of a container, step by step"
sed -i 's|"/look"|"sleep", "60"|' config.json
show rundlet create "$id" </dev/null
show rundlet state "$id"
echo
show rundlet start "$id"
show rundlet list
show rundlet ps "$id"
show rundlet exec "$id" ps
show rundlet pause "$id"
show rundlet list
show rundlet resume "$id"
show rundlet kill "$id" KILL
while ! rundlet state "$id" | grep -q '"stopped"'; do sleep 0.1; done
show rundlet list
show rundlet delete "$id"
show rundlet list

say "4. An error, as an operator sees it"
sed -i 's|"sleep", "60"|"slep", "60"|' config.json
show rundlet run "$id" || echo "(exit code $?)"

say "Nothing is left: no process, mount, cgroup or state."
