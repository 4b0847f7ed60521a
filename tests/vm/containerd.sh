#!/usr/bin/env bash
# containerd on the runtime, by its client ctr: with plain cgroups and with systemd's. See lib.sh for how it is called.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

worlds=(cgroupfs systemd)
image=localhost/busybox:latest

set_up() {
    systemctl start containerd
    busybox_tar "$work/busybox.tar"
    podman import -q "$work/busybox.tar" busybox >/dev/null
    podman save -q --format oci-archive -o "$work/busybox.oci" $image
    ctr images import "$work/busybox.oci" >/dev/null
}

enter() { :; }

# run_container ID FLAGS... COMMAND...: `ctr run` with the runtime.
run_container() {
    local id=$1 own=() flags=(--runc-binary "$runtime")
    shift
    case $world in
        systemd) flags+=(--runc-systemd-cgroup --cgroup "tests.slice:ctr:$id") ;;
        *) flags+=(--cgroup "/tests-ctr/$id") ;;
    esac
    while [[ ${1:-} == -* ]]; do own+=("$1"); shift; done
    ctr run "${flags[@]}" "${own[@]}" $image "$id" "$@"
}

after_each() {
    local id
    for id in $(ctr tasks ls -q); do ctr tasks kill -s KILL "$id"; done
    for id in $(ctr tasks ls -q); do
        for _ in {1..100}; do ! ctr tasks delete "$id" || break; sleep 0.1; done
    done
    for id in $(ctr containers ls -q); do ctr containers delete "$id"; done
}

tear_down() {
    after_each
    ctr images rm $image
    podman rmi -a -f
    systemctl stop containerd
}

sleeping() {
    local id=$1
    shift
    run_container "$id" -d "$@" sh -c "$sleep_until_asked"
}

task_is() { [ "$(ctr tasks ls | awk -v id="$1" '$1 == id {print $3}')" = "$2" ]; }
pid_of() { ctr tasks ls | awk -v id="$1" '$1 == id {print $2}'; }

t_run_output_and_exit_codes() {
    is "$(run_container one --rm sh -c 'echo out; echo err >&2' 2>&1 | sort)" $'err\nout'
    local code=0
    run_container two --rm sh -c 'exit 7' || code=$?
    is $code 7
    has "$(fails run_container three --rm no-such-program)" 'executable file not found in $PATH'
}

t_cgroup() {
    sleeping one
    case $world in
        cgroupfs) is "$(cgroup_of "$(pid_of one)")" /sys/fs/cgroup/tests-ctr/one ;;
        systemd) is "$(cgroup_of "$(pid_of one)")" /sys/fs/cgroup/tests.slice/ctr-one.scope ;;
    esac
}

t_limits() {
    sleeping one --memory-limit=67108864 --cpus=0.5
    is "$(cd "$(cgroup_of "$(pid_of one)")" && cat memory.max cpu.max)" $'67108864\n50000 100000'
    has "$(ctr tasks metrics one)" memory
}

t_life() {
    sleeping one
    task_is one RUNNING
    is "$(ctr tasks exec --exec-id e1 one sh -c 'echo inside')" inside
    local code=0
    ctr tasks exec --exec-id e2 one sh -c 'exit 9' || code=$?
    is $code 9
    is "$(ctr tasks exec --exec-id e3 --user 7 --cwd /bin one sh -c 'echo $(id -u) $PWD')" '7 /bin'
    has "$(ctr tasks ps one)" "$(pid_of one)"
    ctr tasks pause one
    task_is one PAUSED
    is "$(cat "$(cgroup_of "$(pid_of one)")/cgroup.freeze")" 1
    ctr tasks resume one
    task_is one RUNNING
    ctr tasks kill -s TERM one
    eventually task_is one STOPPED
    ctr tasks delete one
    ctr containers delete one
}

t_kill_all() {
    sleeping one
    ctr tasks exec -d --exec-id e1 one sleep 1000
    ctr tasks kill -a -s KILL one
    eventually task_is one STOPPED
}

t_terminal() {
    has "$(on_a_terminal ctr run --rm -t --runc-binary "$runtime" "$image" tty sh -c tty)" /dev/pts/0
}

t_flags() {
    has "$(run_container one --rm --seccomp grep ^Seccomp: /proc/self/status)" 2
    has "$(run_container two --rm --privileged grep ^CapEff /proc/self/status)" "$own_capabilities"
    has "$(fails run_container three --rm --read-only touch /x)" 'Read-only file system'
    has "$(run_container four --rm --env=A=b --cwd=/tmp sh -c 'echo $A $PWD')" 'b /tmp'
    echo host >file
    is "$(run_container five --rm "--mount=type=bind,src=$PWD/file,dst=/file,options=rbind:ro" cat /file)" host
}

t_nothing_is_left() {
    is "$(ctr tasks ls -q; ctr containers ls -q)" ''
    is "$(ls /run/containerd/runc/default 2>/dev/null)" ''
    is "$(find /sys/fs/cgroup/tests-ctr /sys/fs/cgroup/tests.slice -mindepth 1 -type d 2>/dev/null)" ''
}

run_cases
