#!/usr/bin/env bash
# Docker inside a privileged container of docker's; both docker daemons use the runtime. See lib.sh for how it is called.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

worlds=(cgroupfs systemd)   # of the outer one; there is no systemd in the container

set_up() {
    busybox_tar "$work/busybox.tar"
    # A root file system that has the guest's /usr mounted into it, and with it dockerd, containerd and the shims.
    mkdir -p "$work/root"/{usr,etc,proc,sys,dev,tmp,run,var/lib,var/run,root,images}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$work/root/"
    cp -a /etc/passwd /etc/group /etc/alternatives /etc/ssl /etc/ld.so.cache "$work/root/etc/"
    tar -C "$work/root" -cf "$work/docker.tar" .
    # Processes may not stand in a cgroup that hands controllers down: they move one level down first.
    cat >"$work/start" <<'IN'
#!/bin/sh
set -e
mkdir /sys/fs/cgroup/init
while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || true; done </sys/fs/cgroup/cgroup.procs
sed 's/ / +/g; s/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
exec dockerd --add-runtime tested=/runtime --default-runtime tested --exec-opt native.cgroupdriver=cgroupfs
IN
    chmod +x "$work/start"
}

enter() {
    start_docker "$1"
    docker import "$work/docker.tar" docker >/dev/null
    docker volume create "inner-$1" >/dev/null
    docker run -d --name outer --privileged --memory 1g --tmpfs /run --tmpfs /tmp -v "inner-$1:/var/lib/docker" -v /usr:/usr:ro \
        -v "$runtime:/runtime:ro" -v "$work:/work:ro" docker /work/start >/dev/null
    for _ in {1..300}; do
        ! inner docker info >/dev/null 2>&1 || break
        sleep 0.2
    done
    inner docker import /work/busybox.tar busybox >/dev/null || docker logs outer 2>&1 | tail -n 20
}

inner() { docker exec outer "$@"; }

tear_down() {
    docker rm -f outer
    docker volume prune -af
    docker rmi -f $(docker images -q)
    stop_docker
}

t_run() {
    is "$(inner docker info -f '{{.DefaultRuntime}} {{.CgroupDriver}} {{.CgroupVersion}}')" 'tested cgroupfs 2'
    is "$(inner docker run --rm busybox echo hello)" hello
    local code=0
    inner docker run --rm busybox sh -c 'exit 7' || code=$?
    is $code 7
}

t_limits() {
    is "$(inner docker run --rm --memory 32m --pids-limit 20 busybox sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max')" \
        $'33554432\n20'
}

t_life() {
    inner docker run -d --name deep busybox sleep 1000 >/dev/null
    is "$(inner docker exec deep sh -c 'echo inside')" inside
    inner docker pause deep >/dev/null
    inner docker unpause deep >/dev/null
    is "$(inner docker inspect -f '{{.State.Status}}' deep)" running
    inner docker rm -f deep >/dev/null
    is "$(inner docker ps -aq)" ''
}

t_network() {
    inner docker run --rm busybox ping -c 1 -W 20 172.17.0.1 >/dev/null
}

t_ends() {
    local group
    group=$(cgroup_of "$(docker inspect -f '{{.State.Pid}}' outer)")
    group=${group%/init}
    docker rm -f outer >/dev/null
    [ ! -e "$group" ] || fail "$group is left"
}

run_cases
