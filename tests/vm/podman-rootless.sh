#!/bin/bash
# Rootless Podman with a runtime. Runs as root in a machine or guest with systemd, cgroup v2, podman, busybox-static and a
# user with subordinate ids:
#
#   tests/vm/podman-rootless.sh RUNTIME [WORD...]     only the tests whose name has one of the WORDs
#
# TESTER names the user (default: tester); the user's systemd manager must run (loginctl enable-linger). MANAGER=cgroupfs or
# systemd asks for one of podman's cgroup managers; by default all is done with cgroupfs, and with systemd where the runtime
# has that driver. Prints a line a test, `ok NAME` or `FAILED NAME` with what was seen, then `N passed, N failed`, and ends
# with 1 where something failed.
set -u

if [ "${1:-}" != --as-user ]; then
    runtime=$(realpath "${1:?the path of a runtime}")
    shift
    user=${TESTER:-tester}
    uid=$(id -u "$user")
    # In a scope of the user's own manager: its cgroup and the ones beside it are delegated to the user.
    exec runuser -u "$user" -- env -C / "HOME=$(getent passwd "$user" | cut -d: -f6)" "USER=$user" \
        XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" \
        "MANAGER=${MANAGER:-}" systemd-run --user --scope --quiet -- bash "$(realpath "$0")" --as-user "$runtime" "$@"
fi

runtime=$2
shift 2
words=("$@")
image=localhost/rundlet-test
c=rundlet-test-$$
dir=$(mktemp -d /var/tmp/podman-rootless.XXXXXX)
passed=0 failed=0 manager=
# So many failures may be a matter of a busy machine or of podman's own races; more are one of the runtime.
second_tries=3

p() { podman --runtime "$runtime" --cgroup-manager "$manager" "$@"; }
run() { p run --rm "$@"; }
# A container that lives until it is removed.
sleeper() { p run -d --name "$c" "$@" "$image" sleep 1000 >/dev/null; }
gone() { p rm -f -t 0 "$c" >/dev/null; }
. "$(dirname "$(realpath "$0")")/terminal.sh"

# T NAME EXPECTED COMMAND...: the command ends with 0 and EXPECTED is in what it prints.
T() {
    local test="$manager: $1" expected=$2 out status word
    shift 2
    local wanted=$((${#words[@]} == 0))
    for word in "${words[@]}"; do [[ $test == *"$word"* ]] && wanted=1; done
    ((wanted)) || return 0
    out=$("$@" 2>&1 </dev/null | tr '\0' ' '; exit "${PIPESTATUS[0]}")
    status=$?
    if { [ $status -ne 0 ] || [[ $out != *"$expected"* ]]; } && ((second_tries-- > 0)); then
        echo "UNSTEADY $test: tried again; the first time: status $status"
        tail -4 <<<"$out" | sed 's/^/    | /'
        out=$("$@" 2>&1 </dev/null | tr '\0' ' '; exit "${PIPESTATUS[0]}")
        status=$?
    fi
    if [ $status -eq 0 ] && [[ $out == *"$expected"* ]]; then
        echo "ok $test"
        passed=$((passed + 1))
    else
        echo "FAILED $test: status $status, expected \`$expected\`"
        tail -4 <<<"$out" | sed 's/^/    | /'
        failed=$((failed + 1))
    fi
}
# The same for a command that ends with STATUS.
ends_with() {
    local wanted=$1 status
    shift
    "$@"
    status=$?
    [ $status -eq "$wanted" ] || { echo "status $status instead of $wanted"; return 1; }
}

finish() {
    podman rm -fa -t 0 >/dev/null 2>&1
    podman pod rm -fa -t 0 >/dev/null 2>&1
    podman volume rm -f "$c" >/dev/null 2>&1
    podman rmi -f "$image" "$image-built" "$image-committed" >/dev/null 2>&1
    # Files of subordinate ids can only be removed by the root that they have.
    podman unshare rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

make_image() {
    mkdir -p "$dir"/root/{bin,etc,tmp,proc,sys,dev,root,run} "$dir"/{volume,owned}
    cp "$(command -v busybox)" "$dir/root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$dir/root/bin/$applet"
    done
    printf 'root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n' >"$dir/root/etc/passwd"
    printf 'root:x:0:\nguest:x:1000:\nextra:x:2000:guest\n' >"$dir/root/etc/group"
    chmod 1777 "$dir/root/tmp"
    echo content >"$dir/volume/file"
    tar -C "$dir/root" -cf "$dir/image.tar" .
    podman import -q "$dir/image.tar" "$image" >/dev/null
}

in_sleeper() { sleeper && p exec "$@"; local status=$?; gone; return $status; }
exec_terminal() { sleeper && on_a_terminal podman --runtime "$runtime" exec -it "$c" sh -c 'tty; stty size'; local s=$?; gone; return $s; }
run_terminal() {
    on_a_terminal podman --runtime "$runtime" --cgroup-manager "$manager" run --rm -it "$image" \
        sh -c 'tty; stat -c "owner %u" /dev/console; echo typed >/dev/tty'
}
update() { sleeper -m 64m && p update -m 128m "$c" >/dev/null && p exec "$c" cat /sys/fs/cgroup/memory.max; local s=$?; gone; return $s; }
stats() { sleeper && p stats --no-stream --format '{{.Name}} {{.PIDs}}' "$c"; local s=$?; gone; return $s; }
show() { p inspect -f '{{.State.Status}}' "$c"; }
pause() { sleeper && p pause "$c" >/dev/null && show && p unpause "$c" >/dev/null && show && p exec "$c" echo awake; local s=$?; gone; return $s; }
named_volume() { run -v "$c:/v" "$image" sh -c 'echo kept >/v/file' && run -v "$c:/v:ro" "$image" cat /v/file; }
port() {
    p run -d --name "$c" -p 127.0.0.1:18088:80 "$image" sh -c 'while :; do echo over the port | nc -l -p 80; done' >/dev/null || return 1
    local status=1
    for _ in $(seq 50); do
        timeout 5 busybox nc -w 2 127.0.0.1 18088 </dev/null | grep 'over the port' && { status=0; break; }
        sleep 0.2
    done
    gone
    return $status
}
seccomp() {
    echo '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}' >"$dir/profile.json"
    ends_with 1 run --security-opt "seccomp=$dir/profile.json" "$image" mkdir /tmp/x
}
shared_pid() { sleeper && run --pid "container:$c" "$image" cat /proc/1/cmdline; local s=$?; gone; return $s; }
shared_network() {
    sleeper --network none && run --network "container:$c" "$image" readlink /proc/self/ns/net &&
        p exec "$c" readlink /proc/self/ns/net
    local s=$?
    gone
    return $s
}
health() {
    sleeper --health-cmd 'echo fine' --health-interval disable && p healthcheck run "$c" && p inspect -f '{{.State.Health.Status}}' "$c"
    local s=$?
    gone
    return $s
}
pod() {
    p pod create --name "$c" --share pid,ipc,net >/dev/null || return 1
    p run -d --pod "$c" --name "$c-a" "$image" sleep 1000 >/dev/null &&
        p run --rm --pod "$c" "$image" sh -c 'ps | grep -v grep | grep -c "sleep 1000"' &&
        [ "$(p exec "$c-a" readlink /proc/self/ns/net)" = "$(p run --rm --pod "$c" "$image" readlink /proc/self/ns/net)" ] &&
        echo same network
    local s=$?
    p pod rm -f -t 0 "$c" >/dev/null
    return $s
}
stop() {
    p run -d --name "$c" "$image" sh -c 'trap "echo stopped by TERM; exit 3" TERM; : >/tmp/ready; while :; do sleep 0.1; done' >/dev/null || return 1
    for _ in $(seq 100); do p exec "$c" test -e /tmp/ready && break; done
    p stop -t 20 "$c" >/dev/null && p logs "$c" && p wait "$c"
    local s=$?
    gone
    return $s
}
kill_and_wait() { sleeper && p kill "$c" >/dev/null && p wait "$c"; local s=$?; gone; return $s; }
restart() {
    rm -f "$dir/volume/starts"
    p run -d --name "$c" -v "$dir/volume:/v" "$image" sh -c 'echo start >>/v/starts; sleep 1000' >/dev/null &&
        p restart -t 0 "$c" >/dev/null && sleep 1 && grep -c start "$dir/volume/starts"
    local s=$?
    gone
    return $s
}
parts() { p create --name "$c" "$image" echo attached >/dev/null && p start --attach "$c"; local s=$?; gone; return $s; }
logs() { p run --name "$c" "$image" echo logged >/dev/null && p logs "$c"; local s=$?; gone; return $s; }
copy() { sleeper && p cp "$dir/volume/file" "$c:/tmp/file" && p exec "$c" cat /tmp/file; local s=$?; gone; return $s; }
build() {
    printf 'FROM %s\nRUN id -u && echo built by RUN >/made\nUSER guest\nRUN id -u >/tmp/user\nCMD cat /made /tmp/user\n' "$image" >"$dir/Containerfile"
    p build -q --runtime "$runtime" --isolation oci -t "$image-built" -f "$dir/Containerfile" "$dir/volume" >/dev/null && run "$image-built"
}
commit() {
    p run --name "$c" "$image" sh -c 'echo committed >/made' && p commit -q "$c" "$image-committed" >/dev/null && gone &&
        run "$image-committed" cat /made
}
top() { sleeper && p top "$c" pid,comm; local s=$?; gone; return $s; }
nothing_left() {
    local found
    found=$(podman ps -aq; pgrep -u "$(id -u)" -x conmon; ls "$XDG_RUNTIME_DIR/$(basename "$runtime")" 2>/dev/null)
    [ -z "$found" ] && echo nothing || { echo "left: $found"; return 1; }
}
limits='cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpuset.cpus'
me=$(id -u)

tests() {
    T run hello run "$image" echo hello
    T 'id map of the user' "         0       $me          1" run "$image" cat /proc/self/uid_map
    T 'exit code' '' ends_with 7 run "$image" sh -c 'exit 7'
    T 'program not found' '' ends_with 127 run "$image" /no/such
    T 'program not executable' '' ends_with 126 run "$image" /etc/passwd
    T 'exec' 'uid=0(root)' in_sleeper "$c" id
    T 'exec as a user' '2000(extra)' in_sleeper -u guest "$c" id
    T 'exec, not found' '' ends_with 127 in_sleeper "$c" /no/such
    T 'exec with a terminal' '/dev/pts/' exec_terminal
    T 'limits' $'67108864\n50\n50000 100000\n0' run -m 64m --pids-limit 50 --cpus 0.5 --cpuset-cpus 0 "$image" sh -c "$limits"
    T 'memory limit kills' '' ends_with 137 run -m 16m --memory-swap 16m "$image" sh -c 'exec tail /dev/zero'
    T 'pids limit bites' 'esource temporarily unavailable' ends_with 2 run --pids-limit 4 "$image" \
        sh -c 'for i in 1 2 3 4 5 6; do sleep 5 & done'
    T 'update' 134217728 update
    T 'stats' "$c 1" stats
    T 'top' sleep top
    T 'pause' $'paused\nrunning\nawake' pause
    T 'volume' content run -v "$dir/volume:/v" "$image" cat /v/file
    T 'volume, written' "$me" sh -c '"$@" && stat -c %u "'"$dir"'/volume/new"' sh podman --runtime "$runtime" \
        --cgroup-manager "$manager" run --rm -v "$dir/volume:/v" "$image" touch /v/new
    T 'volume, read-only' 'Read-only file system' ends_with 1 run -v "$dir/volume:/v:ro" "$image" touch /v/x
    T 'volume given to the user' 1000 run -v "$dir/owned:/v:U" -u 1000 "$image" stat -c %u /v
    T 'named volume' kept named_volume
    T 'tmpfs' 'size=1024k' run --tmpfs /t:size=1m "$image" grep ' /t ' /proc/mounts
    T 'user' 'uid=1000(guest)' run -u guest "$image" id
    T 'user by numbers' 'uid=33' run -u 33:44 "$image" id
    T 'additional group' '2000' run --group-add 2000 "$image" id -G
    T 'userns keep-id' "uid=$me" run --userns keep-id "$image" id
    T 'userns auto' '1024' run --userns auto:size=1024 "$image" cat /proc/self/uid_map
    T 'userns nomap' 'uid=0' run --userns nomap "$image" id
    T 'read-only root' 'Read-only file system' ends_with 1 run --read-only "$image" touch /x
    T 'read-only root, tmp writable' '' run --read-only "$image" touch /tmp/x
    T 'init' 'init' run --init "$image" cat /proc/1/cmdline
    T 'terminal' $'/dev/pts/0\r\nowner 0\r\ntyped' run_terminal
    T 'no network' 'LOOPBACK,UP' run --network none "$image" ip link show lo
    T 'network of the host' "$(readlink /proc/self/ns/net)" run --network host "$image" readlink /proc/self/ns/net
    T 'network of another' 'net:' shared_network
    T 'published port' 'over the port' port
    T 'capabilities' $'CapEff:\t0000000000000400' run --cap-drop all --cap-add net_bind_service "$image" grep CapEff /proc/self/status
    T 'privileged' ' /tmp tmpfs' run --privileged "$image" sh -c 'mount -t tmpfs t /tmp && grep " /tmp " /proc/mounts'
    T 'device' 'a:e5' run --device /dev/fuse "$image" stat -c %t:%T /dev/fuse
    T 'default devices' '1:3 1:9 5:0' run "$image" sh -c 'echo $(stat -c %t:%T /dev/null /dev/urandom /dev/tty)'
    T 'sysctl' 1 run --sysctl net.ipv4.ip_forward=1 "$image" cat /proc/sys/net/ipv4/ip_forward
    T 'hostname' box run --hostname box "$image" hostname
    T 'ulimit' 77 run --ulimit nofile=77 "$image" sh -c 'ulimit -n'
    T 'oom score' 500 run --oom-score-adj 500 "$image" cat /proc/self/oom_score_adj
    T 'seccomp profile' 'Operation not permitted' seccomp
    T 'default seccomp profile' $'Seccomp:\t2' run "$image" grep Seccomp: /proc/self/status
    T 'pid namespace of the host' systemd run --pid host "$image" cat /proc/1/comm
    T 'pid namespace of another' sleep shared_pid
    T 'cgroup namespace of the host' "user@$me.service" run --cgroupns host "$image" cat /proc/self/cgroup
    T 'cgroup namespace of its own' '0::/' run "$image" cat /proc/self/cgroup
    T 'health check' healthy health
    T 'pod' 'same network' pod
    T 'stop' $'stopped by TERM\n3' stop
    T 'kill' 137 kill_and_wait
    T 'restart' 2 restart
    T 'create, start, attach' attached parts
    T 'logs' logged logs
    T 'cp' content copy
    T 'build' $'built by RUN\n1000' build
    T 'commit' committed commit
    T 'nothing is left' nothing nothing_left
}

make_image
for manager in ${MANAGER:-cgroupfs systemd}; do
    if [ -z "${MANAGER:-}" ] && [ "$manager" = systemd ] && ! run "$image" true >/dev/null 2>&1; then
        echo "SKIP systemd: the runtime does not run a container with podman's cgroup manager systemd"
        continue
    fi
    tests
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
