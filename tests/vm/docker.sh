#!/usr/bin/env bash
# Docker on the runtime: with the cgroupfs and with the systemd cgroup driver. See lib.sh for how it is called.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

worlds=(cgroupfs systemd)
export DOCKER_BUILDKIT=0 DOCKER_CLI_HINTS=false
parent=tests.slice

set_up() { busybox_tar "$work/busybox.tar"; }

enter() {
    start_docker "$1"
    docker import "$work/busybox.tar" busybox >/dev/null
}

after_each() {
    local left
    left=$(docker ps -aq)
    # shellcheck disable=SC2086 # a list of ids
    [ -z "$left" ] || docker rm -f $left
}

tear_down() {
    after_each
    docker network prune -f
    docker volume prune -af
    docker rmi -f $(docker images -q)
    stop_docker
}

pid_of() { docker inspect -f '{{.State.Pid}}' "$1"; }
group_of() { cgroup_of "$(pid_of "$1")"; }
state_of() { docker inspect -f "{{$2}}" "$1"; }
state_is() { [ "$(state_of "$1" "$2")" = "$3" ]; }

t_engine_uses_runtime_and_driver() {
    is "$(docker info -f '{{.DefaultRuntime}} {{.CgroupDriver}} v{{.CgroupVersion}}')" "tested $world v2"
    local id
    id=$(sleeper)
    [ -e "/run/docker/runtime-runc/moby/$id" ] || fail "no state of the container in the folder that docker names"
}

t_run_output_and_exit_codes() {
    is "$(docker run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 | sort)" $'err\nout'
    is "$(echo in | docker run --rm -i busybox cat)" in
    local code=0
    docker run --rm busybox sh -c 'exit 7' || code=$?
    is $code 7
    code=0
    has "$(fails docker run --rm busybox no-such-program)" 'executable file not found in $PATH'
    docker run --rm busybox no-such-program 2>/dev/null || code=$?
    is $code 127
    code=0
    docker run --rm busybox /tmp 2>/dev/null || code=$?
    is $code 126
}

t_cgroup_of_the_driver() {
    local id
    id=$(sleeper)
    case $world in
        cgroupfs) is "$(group_of "$id")" "/sys/fs/cgroup/docker/$id" ;;
        systemd)
            is "$(group_of "$id")" "/sys/fs/cgroup/system.slice/docker-$id.scope"
            is "$(systemctl show -P ActiveState "docker-$id.scope")" active
            has "$(systemctl show -P Delegate "docker-$id.scope")" yes
            ;;
    esac
    is "$(docker exec "$id" cat /proc/self/cgroup)" 0::/
    docker stop "$id" >/dev/null
    docker start "$id" >/dev/null
    [ -d "$(group_of "$id")" ]
}

t_cgroup_parent() {
    local id group
    if [ "$world" = systemd ]; then
        id=$(sleeper --cgroup-parent $parent)
        is "$(group_of "$id")" "/sys/fs/cgroup/$parent/docker-$id.scope"
    else
        id=$(sleeper --cgroup-parent /tests/deep)
        is "$(group_of "$id")" "/sys/fs/cgroup/tests/deep/$id"
    fi
    group=$(group_of "$id")
    docker rm -f "$id" >/dev/null
    [ ! -e "$group" ] || fail "$group is left"
}

t_limits_are_written() {
    local id scope
    id=$(sleeper --memory 64m --memory-swap 96m --memory-reservation 32m --pids-limit 50 --cpus 0.5 --cpuset-cpus 0 \
        --blkio-weight 300)
    is "$(docker exec "$id" sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low pids.max cpu.max cpuset.cpus')" \
        $'67108864\n33554432\n33554432\n50\n50000 100000\n0'
    # Which of both is there depends on the kernel.
    has "$(docker exec "$id" sh -c 'cat /sys/fs/cgroup/io.weight /sys/fs/cgroup/io.bfq.weight 2>/dev/null')" 300
    [ "$world" = systemd ] || return 0
    scope=docker-$id.scope
    is "$(systemctl show -P MemoryMax -P MemorySwapMax -P TasksMax -P CPUQuotaPerSecUSec "$scope" | sort)" \
        "$(printf '%s\n' 67108864 33554432 50 500ms | sort)"
    is "$(systemctl show -P AllowedCPUs "$scope")" 0
}

t_cpu_shares_become_weight() {
    local id
    id=$(sleeper --cpu-shares 1024)
    is "$(docker exec "$id" sh -c 'cat /sys/fs/cgroup/cpu.weight')" "$(weight_of_1024)"
}

# 39 by the old linear formula, 100 by the one that newer runtimes use.
weight_of_1024() { if rundlet_is_tested; then echo 100; else echo 39; fi; }

t_memory_limit_bites() {
    local id
    id=$(docker run -d --memory 32m --memory-swap 32m busybox sh -c "$eat_memory")
    is "$(docker wait "$id")" 137
    # No more than a note: containerd's word of the kill races with that of the end, whatever the runtime.
    note "OOMKilled: $(docker inspect -f '{{.State.OOMKilled}}' "$id")"
}

t_oom_is_an_event() {
    local id since
    since=$(date +%s)
    # Again and again: containerd may begin to listen only after the first time.
    id=$(docker run -d --memory 32m --memory-swap 32m busybox sh -c "while :; do $eat_memory; sleep 1; done")
    oom() { [ -n "$(docker events --filter "container=$id" --filter event=oom --since "$since" --until "$(date +%s)")" ]; }
    eventually oom
}

t_pids_limit_bites() {
    has "$(docker run --rm --pids-limit 10 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait' 2>&1 || true)" \
        "can't fork"
}

t_cpu_limit_bites() {
    local id
    id=$(docker run -d --cpus 0.1 busybox sh -c 'while :; do :; done')
    throttled() { [ "$(sed -n 's/^nr_throttled //p' "$(group_of "$id")/cpu.stat")" -gt 3 ]; }
    eventually throttled
}

t_update() {
    local id
    id=$(sleeper --memory 64m --memory-swap 64m --cpus 0.5)
    docker update --memory 100m --memory-swap 200m --pids-limit 20 --cpus 0.25 --cpuset-cpus 0 "$id" >/dev/null
    is "$(docker exec "$id" sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus')" \
        $'104857600\n104857600\n20\n25000 100000\n0'
    [ "$world" = systemd ] || return 0
    systemctl daemon-reload
    is "$(docker exec "$id" sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max')" $'104857600\n20\n25000 100000'
}

t_devices() {
    has "$(fails docker run --rm --cap-add MKNOD busybox sh -c 'mknod /tmp/d c 10 229 && : </tmp/d')" 'Operation not permitted'
    docker run --rm --device /dev/fuse busybox sh -c ': </dev/fuse'
    docker run --rm --device-cgroup-rule 'c 10:229 rwm' busybox sh -c 'mknod /tmp/d c 10 229 && : </tmp/d'
    docker run --rm busybox sh -c ': </dev/zero; : >/dev/full; head -c 1 /dev/urandom >/dev/null'
}

t_exec() {
    local id code=0
    id=$(sleeper -e A=outer --workdir /tmp)
    is "$(docker exec -e B=b "$id" sh -c 'echo $A $B $PWD')" 'outer b /tmp'
    is "$(docker exec -u 7:8 -w /bin "$id" sh -c 'echo $(id -u) $(id -g) $PWD')" '7 8 /bin'
    is "$(echo in | docker exec -i "$id" cat)" in
    docker exec "$id" sh -c 'exit 9' || code=$?
    is $code 9
    has "$(fails docker exec "$id" no-such-program)" 'executable file not found'
    docker exec -d "$id" sh -c 'echo later >/tmp/later'
    eventually docker exec "$id" test -s /tmp/later
    has "$(docker exec --privileged "$id" grep CapEff /proc/self/status)" "$own_capabilities"
    has "$(docker top "$id")" 'trap "exit 0" TERM'
}

t_exec_is_in_the_cgroup() {
    local id
    id=$(sleeper)
    docker exec -d "$id" sleep 1234
    inside() { grep -l -a 1234 $(sed 's,.*,/proc/&/cmdline,' "$(group_of "$id")/cgroup.procs"); }
    eventually inside
}

t_terminal() {
    has "$(docker run --rm -t busybox sh -c 'tty; test -t 0 && test -t 1 && echo terminal')" /dev/pts/0
    local id
    id=$(sleeper -t)
    has "$(docker exec -t "$id" tty)" /dev/pts/1
    # The size of docker's own terminal has to arrive.
    on_a_terminal sh -c "stty rows 33 cols 77; docker run --rm -it busybox sh -c '$wait_for_size'"
}

t_pause() {
    local id
    id=$(sleeper)
    docker pause "$id" >/dev/null
    is "$(state_of "$id" .State.Status)" paused
    is "$(cat "$(group_of "$id")/cgroup.freeze")" 1
    has "$(fails docker exec "$id" true)" paused
    docker unpause "$id" >/dev/null
    docker exec "$id" true
}

t_stats() {
    local id out
    id=$(sleeper --memory 64m --pids-limit 50)
    out=$(docker stats --no-stream --format '{{.MemUsage}} | {{.PIDs}} | {{.CPUPerc}}' "$id")
    has "$out" '/ 64MiB'
    [[ $out =~ \|\ [1-9] ]] || fail "no processes counted: $out"
}

t_stop_start_restart() {
    local id
    id=$(sleeper)
    docker stop "$id" >/dev/null
    is "$(state_of "$id" .State.ExitCode)" 0
    docker start "$id" >/dev/null
    docker restart "$id" >/dev/null
    docker exec "$id" true
    docker kill -s KILL "$id" >/dev/null
    eventually state_is "$id" .State.Status exited
    is "$(state_of "$id" .State.ExitCode)" 137
    id=$(docker run -d --restart on-failure:2 busybox false)
    eventually state_is "$id" .RestartCount 2
    eventually state_is "$id" .State.Status exited
}

t_daemon_restarts_under_a_container() {
    local id
    id=$(sleeper --memory 64m)
    systemctl restart docker
    state_is "$id" .State.Running true
    is "$(docker exec "$id" cat /sys/fs/cgroup/memory.max)" 67108864
    docker stop "$id" >/dev/null
    is "$(state_of "$id" .State.ExitCode)" 0
}

t_network() {
    local web
    docker run --rm busybox ping -c 1 -W 20 172.17.0.1 >/dev/null
    # sit0 is in every network namespace of a kernel with IPv6 tunnels.
    is "$(docker run --rm --network none busybox ls /sys/class/net | grep -v sit0)" lo
    has "$(docker run --rm --network host busybox ls /sys/class/net)" docker0
    docker network create "tests-$world" >/dev/null
    web=$(docker run -d --network "tests-$world" --name web -p 127.0.0.1:8080:80 busybox \
        sh -c 'mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www')
    eventually busybox wget -T 10 -q -O /dev/null http://127.0.0.1:8080/
    is "$(busybox wget -T 10 -q -O - http://127.0.0.1:8080/)" page
    is "$(docker run --rm --network "tests-$world" busybox wget -T 10 -q -O - http://web/)" page
    is "$(docker run --rm --network "container:$web" busybox wget -T 10 -q -O - http://127.0.0.1/)" page
    docker rm -f "$web" >/dev/null
    docker network rm "tests-$world" >/dev/null
}

t_volumes() {
    mkdir -p here
    echo host >here/file
    is "$(docker run --rm -v "$PWD/here:/there" busybox sh -c 'cat /there/file; echo new >/there/new')" host
    is "$(cat here/new)" new
    has "$(fails docker run --rm -v "$PWD/here:/there:ro" busybox touch /there/x)" 'Read-only file system'
    docker run --rm -v "named-$world:/data" busybox sh -c 'echo kept >/data/file'
    is "$(docker run --rm -v "named-$world:/data" busybox cat /data/file)" kept
    has "$(docker run --rm --tmpfs /scratch:size=1m busybox mount)" 'on /scratch type tmpfs'
    has "$(docker run --rm --mount "type=bind,src=$PWD/here,dst=/there,bind-propagation=rslave" busybox cat /there/file)" host
    has "$(fails docker run --rm --read-only busybox touch /x)" 'Read-only file system'
}

t_security() {
    is "$(docker run --rm --user 7:8 --group-add 9 busybox sed -n 's/^Groups:\s*//p' /proc/self/status)" '8 9 '
    is "$(docker run --rm --cap-drop ALL busybox sed -n 's/^CapEff:\s*//p' /proc/self/status)" 0000000000000000
    is "$(docker run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE busybox sed -n 's/^CapEff:\s*//p' /proc/self/status)" 0000000000000400
    is "$(docker run --rm --security-opt no-new-privileges busybox sed -n 's/^NoNewPrivs:\s*//p' /proc/self/status)" 1
    has "$(docker run --rm busybox cat /proc/self/attr/current)" 'docker-default (enforce)'
    is "$(docker run --rm busybox sed -n 's/^Seccomp:\s*//p' /proc/self/status)" 2
    echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}' >profile.json
    has "$(fails docker run --rm --security-opt seccomp=profile.json busybox mkdir /x)" 'Operation not permitted'
    is "$(docker run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward)" 0
    is "$(docker run --rm --ulimit nofile=99:100 busybox sh -c 'ulimit -n; ulimit -Hn')" $'99\n100'
    is "$(docker run --rm --oom-score-adj 300 busybox cat /proc/self/oom_score_adj)" 300
}

t_privileged() {
    is "$(docker run --rm --privileged busybox sed -n 's/^CapEff:\s*//p' /proc/self/status)" "$own_capabilities"
    docker run --rm --privileged busybox sh -c 'mount -t tmpfs t /tmp && mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x'
}

t_namespaces() {
    local id
    id=$(sleeper --ipc shareable --hostname named)
    is "$(docker exec "$id" hostname)" named
    is "$(docker run --rm --pid host busybox readlink /proc/self/ns/pid)" "$(readlink /proc/self/ns/pid)"
    is "$(docker run --rm --uts host busybox hostname)" "$(hostname)"
    is "$(docker run --rm --cgroupns host busybox readlink /proc/self/ns/cgroup)" "$(readlink /proc/self/ns/cgroup)"
    is "$(docker run --rm --pid "container:$id" --ipc "container:$id" busybox readlink /proc/self/ns/ipc)" \
        "$(docker exec "$id" readlink /proc/self/ns/ipc)"
}

t_health() {
    local id
    id=$(sleeper --health-cmd true --health-interval 1s)
    eventually state_is "$id" .State.Health.Status healthy
}

t_build() {
    build_context build
    docker build -q -t "built-$world" build >/dev/null
    is "$(docker run --rm "built-$world")" $'built\n/d\n5'
}

t_copy_commit_logs() {
    copies_commits_logs docker
}

t_many_at_once() {
    eight_at_once docker
}

# Last: everything that the cases above have started is gone.
t_nothing_is_left() {
    is "$(docker ps -aq)" ''
    left() {
        ls /run/docker/runtime-runc/moby 2>/dev/null
        find /sys/fs/cgroup -type d | grep -E '(docker|tests).*[0-9a-f]{64}' || true
        systemctl list-units --all --no-legend 'docker-*.scope'
    }
    ends_empty left
}

run_cases
