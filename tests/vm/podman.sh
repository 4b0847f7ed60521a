#!/usr/bin/env bash
# Podman of root on the runtime: with the cgroupfs and with the systemd cgroup manager. See lib.sh for how it is called.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

worlds=(cgroupfs systemd)
systemd_image=/var/lib/rundlet/debian-systemd.tar

set_up() {
    # Where docker ran before in this guest it has left DROP, which counts for what goes over a bridge, too.
    iptables -P FORWARD ACCEPT 2>/dev/null || true
    busybox_tar "$work/busybox.tar"
    podman import -q "$work/busybox.tar" busybox >/dev/null
}

enter() { :; }

# podman with the runtime and the cgroup manager.
pod() { podman --runtime "$runtime" --cgroup-manager "$world" "$@"; }

after_each() {
    pod pod rm -a -f -t 0
    pod rm -a -f -t 0
}

tear_down() {
    after_each
    podman network prune -f
    podman volume prune -f
    podman rmi -a -f
}

sleeper_of_podman() { pod run -d "$@" busybox sh -c "$sleep_until_asked"; }
state_of() { pod inspect -f "{{$2}}" "$1"; }
state_is() { [ "$(state_of "$1" "$2")" = "$3" ]; }
group_of() { cgroup_of "$(state_of "$1" .State.Pid)"; }

t_engine_uses_runtime_and_manager() {
    is "$(pod info -f '{{.Host.OCIRuntime.Path}} {{.Host.CgroupManager}} {{.Host.CgroupsVersion}}')" "$runtime $world v2"
}

t_run_output_and_exit_codes() {
    is "$(pod run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 | sort)" $'err\nout'
    is "$(echo in | pod run --rm -i busybox cat)" in
    local code=0
    pod run --rm busybox sh -c 'exit 7' || code=$?
    is $code 7
    code=0
    pod run --rm busybox no-such-program || code=$?
    is $code 127
    code=0
    pod run --rm busybox /tmp || code=$?
    is $code 126
}

t_cgroup_of_the_manager() {
    local id
    id=$(sleeper_of_podman)
    case $world in
        cgroupfs) has "$(group_of "$id")" "/sys/fs/cgroup/libpod_parent/libpod-$id" ;;
        systemd)
            has "$(group_of "$id")" "/sys/fs/cgroup/machine.slice/libpod-$id.scope"
            is "$(systemctl show -P ActiveState "libpod-$id.scope")" active
            ;;
    esac
    is "$(pod exec "$id" cat /proc/self/cgroup)" 0::/
}

t_limits_are_written() {
    local id
    id=$(sleeper_of_podman --memory 64m --memory-swap 96m --memory-reservation 32m --pids-limit 50 --cpus 0.5 --cpuset-cpus 0 \
        --device-read-bps /dev/ubda:1mb --device-write-iops /dev/ubda:500)
    is "$(pod exec "$id" sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low pids.max cpu.max cpuset.cpus')" \
        $'67108864\n33554432\n33554432\n50\n50000 100000\n0'
    has "$(pod exec "$id" cat /sys/fs/cgroup/io.max)" 'rbps=1048576 wbps=max riops=max wiops=500'
}

t_update() {
    local id
    id=$(sleeper_of_podman --memory 64m --memory-swap 64m)
    pod update --memory 100m --memory-swap 200m --pids-limit 20 --cpus 0.25 "$id" >/dev/null
    is "$(pod exec "$id" sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max')" \
        $'104857600\n104857600\n20\n25000 100000'
}

t_memory_limit_bites() {
    local id
    id=$(pod run -d --memory 32m --memory-swap 32m busybox sh -c "$eat_memory")
    is "$(pod wait "$id")" 137
    # No more than a note: conmon looks while systemd takes the cgroup away.
    note "OOMKilled: $(state_of "$id" .State.OOMKilled)"
}

t_pids_limit_bites() {
    has "$(pod run --rm --pids-limit 10 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait' 2>&1 || true)" \
        "can't fork"
}

t_devices() {
    has "$(fails pod run --rm --cap-add MKNOD busybox sh -c 'mknod /tmp/d c 10 229 && : </tmp/d')" 'Operation not permitted'
    pod run --rm --device /dev/fuse busybox sh -c ': </dev/fuse'
    pod run --rm busybox sh -c ': </dev/zero; : >/dev/full; head -c 1 /dev/urandom >/dev/null'
}

t_exec() {
    local id code=0
    id=$(sleeper_of_podman -e A=outer --workdir /tmp)
    is "$(pod exec -e B=b "$id" sh -c 'echo $A $B $PWD')" 'outer b /tmp'
    is "$(pod exec -u 7:8 -w /bin "$id" sh -c 'echo $(id -u) $(id -g) $PWD')" '7 8 /bin'
    is "$(echo in | pod exec -i "$id" cat)" in
    pod exec "$id" sh -c 'exit 9' || code=$?
    is $code 9
    code=0
    pod exec "$id" no-such-program || code=$?
    is $code 127
    pod exec -d "$id" sh -c 'echo later >/tmp/later'
    eventually pod exec "$id" test -s /tmp/later
    has "$(pod top "$id" args)" sleep
}

t_terminal() {
    has "$(pod run --rm -t busybox sh -c 'tty; test -t 0 && test -t 1 && echo terminal')" terminal
    # The size of podman's own terminal has to arrive.
    on_a_terminal sh -c "stty rows 33 cols 77; podman --runtime $runtime --cgroup-manager $world run --rm -it busybox sh -c '$wait_for_size'"
}

t_pause() {
    local id
    id=$(sleeper_of_podman)
    pod pause "$id" >/dev/null
    is "$(state_of "$id" .State.Status)" paused
    fails pod exec "$id" true
    pod unpause "$id" >/dev/null
    pod exec "$id" true
}

t_stats() {
    local id out
    id=$(sleeper_of_podman --memory 64m)
    out=$(pod stats --no-stream --format '{{.MemUsage}} | {{.PIDS}}' "$id")
    [[ $out =~ /\ 6[47].*\|\ [1-9] ]] || fail "$out"
}

t_stop_start_restart() {
    local id
    id=$(sleeper_of_podman)
    pod stop "$id" >/dev/null
    is "$(state_of "$id" .State.ExitCode)" 0
    pod start "$id" >/dev/null
    pod restart "$id" >/dev/null
    pod exec "$id" true
    pod kill -s KILL "$id" >/dev/null
    eventually state_is "$id" .State.Status exited
    is "$(state_of "$id" .State.ExitCode)" 137
}

t_pod() {
    local pod id
    pod=$(pod pod create --name several --hostname shared --memory 128m)
    pod run -d --pod "$pod" busybox sh -c 'mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www' >/dev/null
    id=$(sleeper_of_podman --pod "$pod")
    is "$(pod exec "$id" hostname)" shared
    eventually pod exec "$id" wget -T 10 -q -O /dev/null http://127.0.0.1/
    if [ "$world" = systemd ]; then
        has "$(group_of "$id")" "libpod_pod_"
        is "$(cat "$(dirname "$(group_of "$id" | sed 's,/container$,,')")/memory.max")" 134217728
    fi
    pod pod stop -t 0 "$pod" >/dev/null
    pod pod rm -f "$pod" >/dev/null
    is "$(pod ps -aq)" ''
}

t_health() {
    local id
    id=$(sleeper_of_podman --health-cmd true --health-interval disable)
    pod healthcheck run "$id" >/dev/null
    is "$(state_of "$id" .State.Health.Status)" healthy
    id=$(sleeper_of_podman --health-cmd false --health-retries 1 --health-interval disable)
    fails pod healthcheck run "$id"
    is "$(state_of "$id" .State.Health.Status)" unhealthy
}

t_network() {
    pod network create "tests-$world" >/dev/null
    pod run -d --network "tests-$world" --name web -p 127.0.0.1:8081:80 busybox \
        sh -c 'mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www' >/dev/null
    eventually busybox wget -T 10 -q -O /dev/null http://127.0.0.1:8081/
    eventually pod run --rm --network "tests-$world" busybox wget -T 10 -q -O - http://web/
    is "$(pod run --rm --network container:web busybox wget -T 10 -q -O - http://127.0.0.1/)" page
    is "$(pod run --rm --network none busybox ls /sys/class/net | grep -v sit0)" lo
    pod rm -f -t 0 web >/dev/null
    pod network rm "tests-$world" >/dev/null
}

t_volumes() {
    mkdir -p here
    echo host >here/file
    is "$(pod run --rm -v "$PWD/here:/there" busybox sh -c 'cat /there/file; echo new >/there/new')" host
    is "$(cat here/new)" new
    has "$(fails pod run --rm -v "$PWD/here:/there:ro" busybox touch /there/x)" 'Read-only file system'
    pod run --rm -v "named-$world:/data" busybox sh -c 'echo kept >/data/file'
    is "$(pod run --rm -v "named-$world:/data" busybox cat /data/file)" kept
    has "$(pod run --rm --tmpfs /scratch:size=1m busybox mount)" 'on /scratch type tmpfs'
    has "$(fails pod run --rm --read-only --read-only-tmpfs=false busybox touch /x)" 'Read-only file system'
}

t_security() {
    is "$(pod run --rm --user 7:8 busybox sh -c 'echo $(id -u) $(id -g)')" '7 8'
    is "$(pod run --rm --cap-drop ALL busybox sed -n 's/^CapEff:\s*//p' /proc/self/status)" 0000000000000000
    is "$(pod run --rm --security-opt no-new-privileges busybox sed -n 's/^NoNewPrivs:\s*//p' /proc/self/status)" 1
    is "$(pod run --rm busybox sed -n 's/^Seccomp:\s*//p' /proc/self/status)" 2
    is "$(pod run --rm --privileged busybox sed -n 's/^Seccomp:\s*//p' /proc/self/status)" 0
    is "$(pod run --rm --ulimit nofile=99:100 busybox sh -c 'ulimit -n; ulimit -Hn')" $'99\n100'
    is "$(pod run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward)" 0
}

t_user_namespace() {
    is "$(pod run --rm --uidmap 0:200000:1000 --gidmap 0:200000:1000 busybox sh -c 'echo $(cat /proc/self/uid_map); id -u')" \
        $'0 200000 1000\n0'
    pod run --rm --uidmap 0:200000:1000 --gidmap 0:200000:1000 --memory 64m busybox sh -c 'mkdir /tmp/x && ls /sys/fs/cgroup/memory.max'
}

t_init() {
    is "$(pod run --rm --init busybox cat /proc/1/comm)" podman-init
}

t_build() {
    build_context build
    podman --cgroup-manager "$world" build --runtime "$runtime" --pull=never -q -t "built-$world" build >/dev/null
    is "$(pod run --rm "built-$world")" $'built\n/d\n5'
}

t_copy_commit_logs() {
    copies_commits_logs pod
}

# An init that mounts, starts units and makes cgroups of its own.
t_systemd_inside() {
    local id code=0
    podman image exists debian-systemd || podman import -q "$systemd_image" debian-systemd >/dev/null
    id=$(pod run -d --systemd=always --memory 512m --pids-limit 500 debian-systemd /sbin/init)
    boots() {
        is_running=$(pod exec "$id" systemctl is-system-running || true)
        case $is_running in
            running) return 0 ;;
            degraded | maintenance) pod exec "$id" systemctl --failed; fail "systemd in the container is $is_running" ;;
        esac
        return 1
    }
    until boots; do
        is "$(state_of "$id" .State.Status)" running
        sleep 0.5
    done
    is "$(pod exec "$id" systemd-run --quiet --wait --pipe -p MemoryMax=64M \
        sh -c 'cat "/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)/memory.max"')" 67108864
    has "$(pod exec "$id" cat /proc/1/cgroup)" init.scope
    is "$(pod exec "$id" cat /sys/fs/cgroup/memory.max)" 536870912
    pod stop -t 60 "$id" >/dev/null || code=$?
    is "$code $(state_of "$id" .State.ExitCode)" '0 0'
}

t_many_at_once() {
    eight_at_once pod
}

# Last: everything that the cases above have started is gone.
t_nothing_is_left() {
    is "$(pod ps -aq)" ''
    left() {
        find /sys/fs/cgroup -type d | grep -E 'libpod.*[0-9a-f]{64}' || true
        systemctl list-units --all --no-legend 'libpod-*.scope' | grep -v conmon || true
    }
    ends_empty left
}

run_cases
