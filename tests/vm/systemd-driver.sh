#!/usr/bin/env bash
# Containers whose cgroup systemd makes (--systemd-cgroup): the unit, what systemd does to it behind the runtime's back, and
# many at once. See lib.sh for how it is called.
CASE_TIME=${CASE_TIME:-900}
. "$(dirname "$0")/lib.sh"

slice=rundlettest.slice
state=/run/rundlet-systemd-driver
many=${MANY:-200}      # containers at once
jobs=${JOBS:-40}       # of them beside each other: each needs memory for the runtime, too
timed=${TIMED:-40}     # containers for the comparison of times

set_up() { make-bundle "$work/bundle" sleep 1000; }

run_runtime() { "$runtime" --root "$state" --systemd-cgroup "$@"; }

# bundle ID [JQ-FILTER]: prints the folder of a bundle whose container is called ID; they share a root file system.
bundle() {
    local filter=${2:-.}
    mkdir -p "bundles/$1"
    jq --arg path "$slice:test:$1" --arg rootfs "$work/bundle/rootfs" --arg asked "$sleep_until_asked" --arg eat "$eat_memory" \
        ".linux.cgroupsPath = \$path | .root.path = \$rootfs | $filter" "$work/bundle/config.json" >"bundles/$1/config.json"
    echo "bundles/$1"
}

# start ID [JQ-FILTER]
start() {
    local dir
    dir=$(bundle "$@")
    run_runtime run -d --bundle "$dir" "$1" </dev/null >/dev/null 2>"$dir/err" || fail "run $1: $(cat "$dir/err")"
}

after_each() {
    local id
    for id in $(run_runtime list -q); do run_runtime delete --force "$id"; done
}

tear_down() {
    after_each
    systemctl stop $slice
    rm -rf "$state"
}

scope_of() { echo "test-$1.scope"; }
group_of() { echo "/sys/fs/cgroup/$slice/test-$1.scope"; }
property() { systemctl show -P "$2" "$(scope_of "$1")"; }
gone() { [ ! -e "$(group_of "$1")" ] && [ "$(property "$1" LoadState)" = not-found ]; }

limits='.linux.resources.memory = {limit: 67108864, swap: 100663296} | .linux.resources.pids = {limit: 30}
    | .linux.resources.cpu = {quota: 50000, period: 100000, cpus: "0"}'
read_limits() { (cd "$(group_of "$1")" && cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus); }
the_limits=$'67108864\n33554432\n30\n50000 100000\n0'

# Everything is refused but the devices that each container has, and /dev/fuse, which this one may use.
devices='.linux.resources.devices = [{allow: false, access: "rwm"}, {allow: true, type: "c", major: 10, minor: 229, access: "rw"}]
    | .linux.devices = [{path: "/dev/allowed", type: "c", major: 10, minor: 229}, {path: "/dev/refused", type: "c", major: 10, minor: 237}]'
check_devices() {
    run_runtime exec "$1" sh -c ': </dev/allowed && : </dev/null && : </dev/zero'
    has "$(fails run_runtime exec "$1" sh -c ': </dev/refused')" 'Operation not permitted'
}

t_unit_of_a_container() {
    start one "$limits"
    is "$(property one ActiveState)" active
    is "$(property one Slice)" $slice
    is "$(property one Delegate)" yes
    is "$(property one MemoryMax) $(property one TasksMax) $(property one CPUQuotaPerSecUSec)" '67108864 30 500ms'
    is "$(property one AllowedCPUs)" 0
    is "$(cgroup_of "$(run_runtime state one | jq .pid)")" "$(group_of one)"
    is "$(read_limits one)" "$the_limits"
    run_runtime delete --force one
    eventually gone one
}

t_memory_limit_bites() {
    local dir code=0
    # shellcheck disable=SC2016 # jq's variable
    dir=$(bundle eater '.linux.resources.memory = {limit: 33554432, swap: 33554432} | .process.args = ["sh", "-c", $eat]')
    run_runtime run --bundle "$dir" eater </dev/null || code=$?
    is $code 137
    eventually gone eater
}

t_reload_keeps_limits_and_devices() {
    start one "$limits | $devices"
    check_devices one
    local i
    for i in 1 2 3; do
        systemctl daemon-reload
        check_devices one
        is "$(read_limits one)" "$the_limits"
    done
    systemctl daemon-reexec
    check_devices one
    is "$(read_limits one)" "$the_limits"
    # A new unit in the same slice makes systemd write its attributes once more.
    start two "$limits"
    systemctl set-property --runtime $slice TasksMax=1000
    check_devices one
    is "$(read_limits one)" "$the_limits"
}

t_reload_keeps_limits_without_devices() {
    # The rules that every container has, of the default configuration.
    start one "$limits | .process.capabilities[] += [\"CAP_MKNOD\"]"
    systemctl daemon-reload
    run_runtime exec one sh -c ': </dev/null && : </dev/zero && : >/dev/full'
    has "$(fails run_runtime exec one sh -c 'mknod /dev/d c 10 229 && : </dev/d')" "can't open /dev/d: Operation not permitted"
    is "$(read_limits one)" "$the_limits"
}

t_update_is_known_to_systemd() {
    start one "$limits"
    echo '{"memory": {"limit": 134217728, "swap": 134217728}, "pids": {"limit": 40}, "cpu": {"quota": 20000, "period": 100000}}' |
        run_runtime update -r - one
    is "$(property one MemoryMax) $(property one TasksMax) $(property one CPUQuotaPerSecUSec)" '134217728 40 200ms'
    systemctl daemon-reload
    is "$(read_limits one)" $'134217728\n0\n40\n20000 100000\n0'
}

t_reload_keeps_a_pause() {
    start one
    run_runtime pause one
    systemctl daemon-reload
    is "$(cat "$(group_of one)/cgroup.freeze")" 1
    is "$(run_runtime state one | jq -r .status)" paused
    run_runtime resume one
    is "$(run_runtime state one | jq -r .status)" running
}

t_systemd_stops_a_container() {
    # shellcheck disable=SC2016 # jq's variable
    start one '.process.args = ["sh", "-c", $asked]'
    systemctl stop "$(scope_of one)"
    stopped() { [ "$(run_runtime state one | jq -r .status)" = stopped ]; }
    eventually stopped
    run_runtime delete one
    eventually gone one
}

t_failed_start_leaves_nothing() {
    local dir
    dir=$(bundle one '.process.args = ["no-such-program"]')
    has "$(fails run_runtime run --bundle "$dir" one </dev/null)" 'executable file not found in $PATH'
    eventually gone one
    is "$(run_runtime list -q)" ''
}

# One container's life, as an engine has it: create, start, delete.
one_life='set -e; cd "$WORK"; r="$RUNTIME --root $STATE --systemd-cgroup"
    $r create --bundle bundles/$1 $1 </dev/null >/dev/null 2>bundles/$1/err
    $r start $1 2>>bundles/$1/err; $r delete --force $1 2>>bundles/$1/err'

# lives COUNT PREFIX RUNTIME: prints the milliseconds.
lives() {
    local i begin failed
    for ((i = 0; i < $1; i++)); do bundle "$2$i" >/dev/null; done
    begin=${EPOCHREALTIME/./}
    seq 0 $(($1 - 1)) | sed "s/^/$2/" |
        WORK=$work RUNTIME=$3 STATE=$state xargs -P "$jobs" -n 1 sh -c "$one_life || echo \$1" one >failed || true
    echo $(((${EPOCHREALTIME/./} - begin) / 1000))
    [ ! -s failed ] || {
        for i in $(head -n 3 failed); do cat "bundles/$i/err"; done >&2
        fail "$(wc -l <failed) of $1 failed"
    }
}

t_many_at_once() {
    local took left
    took=$(lives "$many" m "$runtime")
    note "$many containers, $jobs beside each other: $took ms"
    left() {
        ls "$state"
        find "/sys/fs/cgroup/$slice" -mindepth 1 -type d
        systemctl list-units --all --no-legend 'test-*.scope'
    }
    for _ in {1..300}; do
        [ -n "$(left 2>/dev/null)" ] || return 0
        sleep 0.1
    done
    fail "is left: $(left)"
}

t_times() {
    local other result
    result="$runtime_name $(lives "$timed" t "$runtime") ms"
    for other in runc crun; do
        [ $other != "$runtime_name" ] || continue
        result+=", $other $(lives "$timed" $other "$(command -v $other)") ms"
    done
    note "$timed containers, $jobs beside each other: $result"
}

run_cases
