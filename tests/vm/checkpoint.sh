#!/usr/bin/env bash
# Checkpoint and restore of programs that do something: a counter, Redis with data, sockets, locks, cgroups, by every option; see
# lib.sh for how it is called. It wants criu, redis-server, python3 and jq, and a kernel on which CRIU can dump: user-mode Linux,
# the guest of `vm`, is none. conformance/checkpoint says where it was run and what came out. checkpoint-engines.sh has the engines.
CASE_TIME=${CASE_TIME:-600}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/checkpoint-lib.sh"

# Where the runtime is asked for something that runc 1.1 has not.
needs() { rt checkpoint --help 2>&1 | grep -q -e "$1" || skip "$runtime_name has no $1"; }

t_a_counter_goes_on() {
    counter one
    start one
    eventually counted one 3
    local before
    before=$(count one)
    dump one
    gone one
    restore one
    eventually counted one $((before + 3))
    [ "$(first_after_restore one)" -ge "$before" ] || fail "it began anew"
    note "$(times)"
    rt exec one true
    rt pause one
    rt resume one
    rt kill one KILL
    eventually stopped one
    rt delete one
    gone one
}

t_redis_with_data() {
    redis one
    start one
    fill one
    local digest sum
    digest=$(cli one debug digest) sum=$(cli one dbsize)
    is "$sum" 20000
    dump one
    note "$(times), $(du -sk images | cut -f1) KiB of images"
    gone one
    restore one
    note "$(times)"
    is "$(cli one dbsize)" "$sum"
    is "$(cli one debug digest)" "$digest"
    is "$(cli one get key:777)" value-777
    is "$(cli one incr counter)" 1
    # Once more, so that what was restored can be saved.
    dump one
    restore one
    is "$(cli one incr counter)" 2
    is "$(cli one get key:20000)" value-20000
}

t_redis_in_steps() {
    redis one
    start one
    fill one
    dump_to one step1 --pre-dump
    is "$(status one)" running
    cli one set written between >/dev/null
    dump_to one images --parent-path ../step1
    local first second
    first=$(pages step1) second=$(pages images)
    note "pre-dump $first KiB of pages, last dump $second KiB"
    [ "$second" -lt "$first" ] || fail "the last dump has all pages again"
    restore one
    is "$(cli one dbsize)" 20001
    is "$(cli one get written)" between
    is "$(cli one get key:777)" value-777
}

t_running_on() {
    counter one
    start one
    eventually counted one 2
    local pid
    pid=$(pid_of one)
    dump one --leave-running
    is "$(pid_of one)" "$pid"
    eventually counted one $(($(count one) + 3))
    rt delete --force one
    restore one
    eventually counted one $(($(count one) + 3))
}

t_paused() {
    counter one
    start one
    eventually counted one 2
    rt pause one
    dump one
    restore one
    [ "$(status one)" != paused ] || rt resume one
    eventually counted one $(($(count one) + 3))
}

# What the container prints goes to the pipe of the restore's caller.
t_pipes() {
    counter one '.process.args[2] |= sub("mv "; "echo line $i; mv ")'
    start_through one
    eventually grep -q 'line 3' out
    dump one
    : >out
    restore_through one
    eventually test -s out
    local first
    first=$(sed -n '1s/line //p' out)
    [ "$first" -ge 3 ] || fail "it began anew: $first"
    eventually counted one $((first + 3))
}

t_mounts_from_outside() {
    echo old >old
    echo new >new
    mkdir volume
    counter one '.mounts += [{destination: "/data/file", source: "old", type: "bind", options: ["bind", "ro"]},
        {destination: "/data/volume", source: "volume", type: "bind", options: ["rbind", "rw"]}]'
    sed -i "s|\"old\"|\"$PWD/old\"|; s|\"volume\"|\"$PWD/volume\"|" one/config.json
    start one
    eventually counted one 2
    dump one
    sed -i "s|$PWD/old|$PWD/new|" one/config.json
    restore one
    is "$(rt exec one cat /data/file)" new
    rt exec one sh -c 'echo x >/data/volume/x'
    is "$(cat volume/x)" x
    has "$(fails rt exec one sh -c ': >>/data/file')" 'Read-only'
}

t_connections() {
    local how
    for how in --tcp-established --tcp-close; do
        [ $how != --tcp-close ] || needs --tcp-close
        # The client is no `exec`: CRIU saves the children of the container's init.
        redis one
        with_client one
        start one
        fill one 10
        eventually eval '[ "$(tcp one pubsub numsub news | tail -1)" = 1 ]'
        has "$(fails dump one)" 'criu'
        is "$(status one)" running
        rm -rf images
        if [ $how = --tcp-established ]; then
            dump one $how
            restore one $how
            tcp one publish news hello >/dev/null
            eventually rt exec one grep -q hello /tmp/news
        else
            dump one --tcp-established
            restore one $how
            eventually rt exec one grep -q left /tmp/news
        fi
        is "$(tcp one get key:7)" value-7
        rt delete --force one
        rm -rf images one
    done
}

t_locks() {
    bundle one '.mounts += [{destination: "/locks", type: "tmpfs", source: "tmpfs"}]' \
        sh -c 'exec 9>/locks/one; flock 9; : >/locks/ready; while :; do sleep 1; done'
    start one
    eventually rt exec one test -e /locks/ready
    has "$(fails dump one)" criu
    is "$(status one)" running
    rm -rf images
    dump one --file-locks
    restore one --file-locks
    fails rt exec one flock -n /locks/one true
    rt exec one flock -n /locks/two true
}

# A file that has lost the name it was opened by but has another one.
t_lost_names() {
    needs --link-remap
    bundle one '.' sh -c 'cd /work && exec 9<>a && echo kept >&9 && ln a b && rm a && : >ready; while :; do sleep 1; done'
    start one
    eventually test -e one/rootfs/work/ready
    has "$(fails dump one)" criu
    is "$(status one)" running
    rm -rf images
    dump one --link-remap
    restore one
    is "$(rt exec one cat /proc/1/fd/9)" kept
}

t_socket_of_a_neighbour() {
    local path=$PWD/sockets
    mkdir "$path"
    python3 -c "
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('$path/log')
out = open('$PWD/heard', 'wb', 0)
while True: out.write(s.recv(100))" &
    local server=$!
    trap "kill $server" EXIT
    eventually test -S "$path/log"
    # CRIU finds the other end in the network namespace that it dumps, and again by the name that it was bound to.
    bundle one ".mounts += [{destination: \"$path\", source: \"$path\", type: \"bind\", options: [\"bind\"]}]
        | .linux.namespaces |= map(select(.type != \"network\"))" \
        python3 -c "import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('$path/log')
i = 0
while True: i += 1; s.send(b'%d\n' % i); time.sleep(0.2)"
    start one
    eventually grep -q '^3$' heard
    has "$(fails dump one)" criu
    is "$(status one)" running
    rm -rf images
    dump one --ext-unix-sk
    local before
    before=$(tail -1 heard)
    restore one --ext-unix-sk
    eventually eval '[ "$(tail -1 heard)" -gt $((before + 3)) ]'
    is "$(grep -c '^1$' heard)" 1
}

t_cgroup_modes() {
    local mode
    for mode in soft full strict ignore; do
        # A group of the container's own, with a process.
        counter one '.linux.resources.pids.limit = 77 | (.mounts[] | select(.type == "cgroup")).options -= ["ro"]
            | .process.args[2] |= "mkdir /sys/fs/cgroup/own; sh -c \"echo \\$\\$ >/sys/fs/cgroup/own/cgroup.procs; while :; do sleep 1; done\" & \(.)"'
        start one
        eventually grep -q . "$(group_of one)/own/cgroup.procs"
        dump one --manage-cgroups-mode $mode
        if [ $mode = ignore ]; then
            # The group's own groups are the caller's matter then.
            eventually gone one
        fi
        local said=0
        (restore one --manage-cgroups-mode $mode) >said 2>&1 || said=$?
        if [ $said != 0 ]; then
            note "$mode: restore refuses: $(tail -1 said | cut -c-300)"
            gone one
        else
            is "$(cat "$(group_of one)/pids.max")" 77
            has "$(cat "$(group_of one)/cgroup.procs")" "$(pid_of one)"
            note "$mode: processes in its own group: $(grep -c . "$(group_of one)/own/cgroup.procs" 2>/dev/null || true)"
            eventually counted one $(($(count one) + 3))
            rt delete --force one
        fi
        rm -rf images one
    done
}

t_a_unit_of_systemd() {
    driver=--systemd-cgroup
    counter one '.linux.cgroupsPath = "system.slice:saved:one" | .linux.resources.pids.limit = 77'
    start one
    eventually counted one 2
    dump one
    eventually eval '[ "$(systemctl show -P LoadState saved-one.scope)" = not-found ]'
    restore one
    is "$(systemctl show -P ActiveState saved-one.scope)" active
    is "$(group_of one)" /sys/fs/cgroup/system.slice/saved-one.scope
    is "$(cat "$(group_of one)/pids.max")" 77
    eventually counted one $(($(count one) + 3))
}

t_profile_of_apparmor() {
    [ -e /sys/kernel/security/apparmor/profiles ] || mount -t securityfs none /sys/kernel/security
    command -v apparmor_parser >/dev/null || skip 'no apparmor_parser'
    local name
    for name in saved-a saved-b; do echo "profile $name flags=(attach_disconnected) { file, signal, ptrace, mount, umount, capability, unix, network, pivot_root, }" | apparmor_parser -r; done
    counter one '.process.apparmorProfile = "saved-a"'
    start one
    eventually counted one 2
    is "$(cat "/proc/$(pid_of one)/attr/current")" 'saved-a (enforce)'
    dump one --leave-running
    rt delete --force one
    restore one
    is "$(cat "/proc/$(pid_of one)/attr/current")" 'saved-a (enforce)'
    rt delete --force one
    restore one --lsm-profile apparmor:saved-b
    is "$(cat "/proc/$(pid_of one)/attr/current")" 'saved-b (enforce)'
    eventually counted one $(($(count one) + 3))
}

t_pages_by_a_server() {
    redis one
    start one
    fill one 2000
    mkdir served
    criu page-server --images-dir served --address 127.0.0.1 --port 2727 -o server.log -v4 &
    eventually grep -q 'Starting page server\|listening\|Waiting' served/server.log
    dump_to one images --page-server 127.0.0.1:2727
    wait
    is "$(pages images)" 0
    note "the server has $(pages served) KiB of pages"
    # The server has written where each page belongs, too.
    cp served/*.img images/
    restore one
    is "$(cli one get key:777)" value-777
}

t_pages_when_they_are_used() {
    criu check --feature uffd-noncoop >/dev/null 2>&1 || skip "no userfaultfd"
    redis one
    start one
    fill one 2000
    mkfifo ready
    # The dump serves pages until the last one has gone.
    exec 8<>ready
    (exec 3>ready; rt checkpoint --lazy-pages --page-server 127.0.0.1:2728 --status-fd 3 --image-path images --work-path work one >lazy-dump 2>&1) &
    local dumping=$! serving
    # A null byte, which read(1) would leave out.
    head -c 1 <&8 >/dev/null
    mkdir -p restored
    criu lazy-pages --page-server --address 127.0.0.1 --port 2728 -D images -W restored -o lazy.log -v4 &
    serving=$!
    eventually test -S restored/lazy-pages.socket
    # Another name, for the first is still there.
    cp -r one two
    rt --log said restore -d --lazy-pages --image-path images --work-path restored --bundle two two </dev/null >/dev/null 2>&1 ||
        fail "$(cat said; grep Error restored/*.log)"
    is "$(cli two get key:777)" value-777
    is "$(cli two dbsize)" 2000
    wait $dumping || fail "the dump: $(cat lazy-dump)"
    wait $serving || fail "criu lazy-pages"
    gone one
}

t_pages_only_once() {
    redis one
    start one
    fill one 5000
    dump_to one step1 --pre-dump
    local before after
    before=$(on_disk step1)
    fill one 5000
    dump_to one images --parent-path ../step1 --auto-dedup
    after=$(on_disk step1)
    note "pages of the first step on disk: $before KiB, then $after KiB"
    [ "$after" -lt "$before" ] || fail "nothing was dropped"
    restore one
    is "$(cli one dbsize)" 5000
}

t_no_leftovers_of_failures() {
    counter one
    start one
    eventually counted one 2
    dump one --leave-running
    rt delete --force one
    local image broken
    for image in core-1.img mountpoints-\*.img pstree.img inventory.img; do
        rm -rf broken
        cp -r images broken
        # shellcheck disable=SC2086 # a pattern
        for broken in broken/$image; do head -c 20 "$broken" >cut && mv cut "$broken"; done
        fails rt restore -d --image-path broken --work-path work --bundle one one </dev/null >/dev/null
        gone one
        ! pgrep -x criu >/dev/null || fail "criu is left after a broken $image"
    done
    # The good ones still work.
    restore one
    eventually counted one $(($(count one) + 3))
}

t_network_by_nftables() {
    needs --network-lock
    redis one
    start one
    fill one 10
    local method
    for method in iptables nftables skip; do
        dump one --network-lock $method
        restore one --network-lock $method
        is "$(tcp one get key:7)" value-7
        rm -rf images
    done
}

run_cases
