# shellcheck shell=bash
# Boots the guest, talks to it, ends it. Sourced by `vm`.

boot_time=240   # seconds until ssh must answer; a quiet machine needs 5
tries=3

# Prints the process of the guest that is up; a zombie has no exe.
running() {
    local pid
    pid=$(cat "$run/pid" 2>/dev/null) && readlink "/proc/$pid/exe" >/dev/null && echo "$pid"
}

# in_guest USER SSH-ARGS...: one connection a user is shared, and given up when the guest is silent for minutes.
in_guest() {
    local user=$1 pid
    shift
    pid=$(running) || die "no guest is up (vm up)"
    nsenter -t "$pid" -n ssh -F none -i "$run/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=30 -o ServerAliveInterval=30 -o ServerAliveCountMax=10 \
        -o ControlMaster=auto -o ControlPersist=yes -o "ControlPath=$run/ssh-$user" "$user@10.0.2.15" "$@"
}

# put SRC... DIR
put() {
    local dir=${*: -1} file files=()
    for file in "${@:1:$#-1}"; do
        file=$(realpath -- "$file")
        files+=(-C "${file%/*}/" "${file##*/}")
    done
    tar -cf - "${files[@]}" | in_guest root "mkdir -p '$dir' && tar -C '$dir' -xf -"
}

# get SRC... DIR
get() {
    local dir=${*: -1} file files=
    for file in "${@:1:$#-1}"; do files+=" -C '$(dirname "$file")' '$(basename "$file")'"; done
    in_guest root "tar -cf -$files" </dev/null | tar -C "$dir" -xf -
}

# hostfs is no boundary: root of the guest can mount any folder that its kernel sees. So the kernel runs in a chroot that
# holds the share and little else, with mount, pid and network namespaces of its own. Its network card is a raw socket on a
# veth without segmentation offload, whose large frames the driver would drop.
start() {
    mkdir -p "$run/jail" "$run/uml" "$share"
    install -m 600 "$ssh_key" "$run/key"
    setsid unshare --net --mount --pid --fork --kill-child --propagation private sh -ec '
        jail=$1 kernel=$2 image=$3 uml=$4 share=$5 memory=$6 lifetime=$7
        ip link set lo up
        ip link add host type veth peer name guest
        ip addr add 10.0.2.2/24 dev host
        ip link set host gso_max_size 1514 gso_max_segs 1 up
        ip link set guest up promisc on
        mount -t tmpfs -o mode=755 jail "$jail"
        cd "$jail"
        mkdir -p usr/lib usr/lib64 dev/shm proc uml share disk
        ln -s usr/lib usr/lib64 .
        touch linux disk/image
        mount -t proc proc proc
        mount -t tmpfs -o "size=$((memory + 64))m" shm dev/shm
        for device in null zero full random urandom; do
            touch dev/$device
            mount --bind /dev/$device dev/$device
        done
        for folder in usr/lib usr/lib64; do mount --bind -o ro /$folder $folder; done
        mount --bind -o ro "$kernel" linux
        mount --bind -o ro "$image" disk/image
        mount --bind "$uml" uml
        mount --bind "$share" share
        exec timeout -s KILL "$lifetime" chroot . /linux mem="${memory}M" seccomp=on umid=rundlet uml_dir=/uml/ \
            vec0:transport=raw,ifname=guest hostfs=/share ubd0=/uml/disk.cow,/disk/image root=/dev/ubda rw \
            con=null con0=fd:0,fd:1 ssl=null net.ifnames=0 quiet
        ' - "$run/jail" "$kernel" "$image" "$run/uml" "$share" "$memory" "$lifetime" \
        </dev/null >"$run/console.log" 2>&1 &
    echo $! >"$run/pid"
}

# True once the guest has answered; false when it died or was silent for too long.
answers() {
    local begin=$SECONDS
    until in_guest root true </dev/null 2>/dev/null; do
        running >/dev/null || { say "the guest died"; return 1; }
        [ $((SECONDS - begin)) -lt "$boot_time" ] || { say "no answer from the guest in $boot_time s"; return 1; }
        sleep 0.2
    done
    in_guest root 'mount -t hostfs none /mnt/share' </dev/null || return 1
    # Worth a word; whether it matters is for the tests to say.
    in_guest root 'timeout 120 systemctl is-system-running --wait >/dev/null || systemctl --failed --no-legend' </dev/null >&2
}

up() {
    local begin try
    ! running >/dev/null || die "a guest of the name $name is up already"
    unshare --net --mount --pid --fork true ||
        die "no guest can run here: it needs root that may make mount, pid and network namespaces"
    build
    for ((try = 1; try <= tries; try++)); do
        forget_run
        begin=$SECONDS
        start
        if answers; then
            say "the guest is up after $((SECONDS - begin)) s"
            return
        fi
        say "the last words of its console, boot $try of $tries:"
        tail -n 20 "$run/console.log" >&2 || true
        end_guest
    done
    forget_run
    die "the guest does not boot"
}

end_guest() {
    local pid socket i
    pid=$(running) || return 0
    for socket in "$run"/ssh-*; do
        [ ! -S "$socket" ] || ssh -F none -O exit -o "ControlPath=$socket" guest 2>/dev/null || true
    done
    # The child of unshare is PID 1 of the guest's processes here: when it goes, all go.
    kill -KILL "$pid" 2>/dev/null || true
    for ((i = 0; i < 100; i++)); do
        running >/dev/null || break
        sleep 0.1
    done
}

# Its disk is thrown away, so nothing has to be written back.
down() {
    end_guest
    [ "$share" != "$run/share" ] || rm -rf "$share"
    forget_run
}

forget_run() {
    rm -rf "$run/jail" "$run/uml" "$run/pid" "$run/key" "$run/console.log" "$run"/ssh-*
    rmdir "$run" 2>/dev/null || true
}
