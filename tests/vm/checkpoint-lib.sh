# shellcheck shell=bash
# Bundles and steps of checkpoint.sh and checkpoint-engines.sh. Sourced after lib.sh.

state=/run/rundlet-checkpoint
driver=

# Also for crun, which takes flags without a value only before the verb.
rt() { "$runtime" --root "$state" $driver "$@"; }

# The root of all bundles is a few links into the machine's /usr, which is mounted in it.
bundle() { # NAME JQ-FILTER COMMAND...
    local name=$1 filter=$2 dir
    shift 2
    mkdir -p "$name/rootfs"
    for dir in usr proc sys dev tmp etc run work count; do mkdir -p "$name/rootfs/$dir"; done
    for dir in bin sbin lib lib64; do ln -sfn "usr/$dir" "$name/rootfs/$dir"; done
    (cd "$name" && rm -f config.json && "$runtime" spec)
    jq '.process.terminal = false | .process.args = $ARGS.positional | .root.readonly = false
        | .mounts += [{destination: "/usr", source: "/usr", type: "bind", options: ["rbind", "ro"]}]' \
        --args -- "$@" <"$name/config.json" >"$name/new.json"
    jq "$filter" "$name/new.json" >"$name/config.json"
}

counter() { # NAME [JQ-FILTER]
    bundle "$1" ".mounts += [{destination: \"/count\", type: \"tmpfs\", source: \"tmpfs\"}] | ${2:-.}" \
        sh -c 'i=0; while :; do i=$((i+1)); echo $i >/count/new; mv /count/new /count/n; sleep 0.1; done'
}

count() { rt exec "$1" cat /count/n 2>/dev/null || echo 0; }
counted() { [ "$(count "$1")" -ge "$2" ]; }
first_after_restore() { count "$1"; }

redis() { # NAME [JQ-FILTER]
    bundle "$1" "${2:-.}" redis-server --port 6379 --unixsocket /tmp/redis.sock --save '' --appendonly no --dir /tmp \
        --enable-debug-command yes
}

# A client beside it that waits for news and tells of its end, both in the file /tmp/news.
with_client() { # NAME
    cat >"$1/rootfs/work/both" <<'FILE'
redis-server "$@" &
until redis-cli ping; do sleep 0.1; done >/dev/null 2>&1
redis-cli -p 6379 subscribe news >/tmp/news 2>&1
echo left >>/tmp/news
wait
FILE
    jq '.process.args |= ["sh", "/work/both"] + .[1:]' "$1/config.json" >"$1/new.json"
    mv "$1/new.json" "$1/config.json"
}

cli() { rt exec "$1" redis-cli -s /tmp/redis.sock "${@:2}"; }
tcp() { rt exec "$1" redis-cli -p 6379 "${@:2}"; }

# fill NAME [KEYS]
fill() {
    eventually cli "$1" ping
    seq "${2:-20000}" | sed 's/.*/set key:& value-&/' | rt exec "$1" redis-cli -s /tmp/redis.sock --pipe >/dev/null
}

start() { # NAME
    rt --log said run -d --bundle "$1" "$1" </dev/null >/dev/null 2>&1 || fail "run: $(cat said)"
}

# dump_to NAME IMAGES FLAG...
dump_to() {
    local begin=${EPOCHREALTIME/./}
    rt checkpoint --image-path "$2" --work-path work "${@:3}" "$1" || {
        grep -h 'Error (' work/dump.log | tail -5
        return 1
    }
    took="dump $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
}
dump() { dump_to "$1" images "${@:2}"; }

restore() { # NAME FLAG...
    local begin=${EPOCHREALTIME/./}
    rt --log said restore -d --image-path images --work-path work --bundle "$1" "${@:2}" "$1" </dev/null >/dev/null 2>&1 ||
        fail "restore: $(cat said; grep -h 'Error (' work/restore.log | tail -5)"
    took="restore $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
}

took=
times() { echo "$took"; }

# With the standard output in a pipe of this script's, as an engine does it; what comes out of it is in `out`.
start_through() { rt --log said run -d --bundle "$1" "$1" </dev/null 2>/dev/null > >(cat >>out) || fail "run: $(cat said)"; }
restore_through() { rt --log said restore -d --image-path images --work-path work --bundle "$1" "$1" </dev/null 2>/dev/null > >(cat >>out) || fail "restore: $(cat said)"; }

status() { rt state "$1" | jq -r .status; }
pid_of() { rt state "$1" | jq -r .pid; }
stopped() { [ "$(status "$1")" = stopped ]; }
group_of() { cgroup_of "$(pid_of "$1")"; }

# No state, no cgroup, no mount.
gone() {
    ! rt state "$1" >/dev/null 2>&1 || fail "$1 still has a state"
    [ ! -e "$state/$1" ] || fail "$state/$1 is left"
    [ ! -e "/sys/fs/cgroup/$1" ] || fail "the cgroup $1 is left"
    ! grep -q "$state" /proc/self/mountinfo || fail "a mount is left: $(grep "$state" /proc/self/mountinfo)"
}

pages() { { ls "$1"/pages-*.img 2>/dev/null || true; } | xargs -r du -k --apparent-size | awk '{all += $1} END {print all + 0}'; }
on_disk() { du -kc "$1"/pages-*.img | awk 'END {print $1}'; }

after_each() {
    local id
    for id in $(rt list -q 2>/dev/null); do rt delete --force "$id"; done
    rm -rf "${work:?}"/*
}

tear_down() {
    after_each
    rm -rf "$state"
}
