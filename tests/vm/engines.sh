# shellcheck shell=bash
# How the scripts set the engines up. Sourced after lib.sh.

# busybox_tar FILE: a root file system of busybox, for the engines to import.
busybox_tar() {
    make-bundle "$work/bundle"
    tar -C "$work/bundle/rootfs" -cf "$1" .
}

# build_context DIR: a Dockerfile whose image prints `built`, /d and 5.
build_context() {
    mkdir -p "$1"
    cat >"$1/Dockerfile" <<'FILE'
FROM busybox
RUN echo built >/made && mkdir /d
WORKDIR /d
USER 5
CMD ["sh", "-c", "cat /made; pwd; id -u"]
FILE
}

# For a shell of busybox whose terminal is to get that size.
wait_for_size='until [ "$(stty size)" = "33 77" ]; do sleep 0.1; done'

# start_docker DRIVER [remap]: dockerd with that cgroup driver, and with the runtime for every container; with `remap` in user
# namespaces of the subordinate ids of a user that dockerd makes.
start_docker() {
    stop_docker
    jq -n --arg driver "$1" --arg path "$runtime" --arg remap "${2:+default}" '{
        "exec-opts": ["native.cgroupdriver=\($driver)"], "runtimes": {"tested": {"path": $path}},
        "default-runtime": "tested", "live-restore": true, "userns-remap": $remap}' >/etc/docker/daemon.json
    # A unit may be started five times in ten seconds; that limit is not what is tested here.
    systemctl reset-failed
    systemctl start containerd docker.socket docker
}

stop_docker() {
    systemctl stop docker.socket docker containerd
    rm -f /etc/docker/daemon.json
}

# The full id of a container of docker's that sleeps.
sleeper() { docker run -d "$@" busybox sh -c "$sleep_until_asked"; }
