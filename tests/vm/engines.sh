# shellcheck shell=bash
# How the scripts set the engines up, and the cases of more than one engine. Sourced after lib.sh.

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

# The cases are called with the engine's command.

copies_commits_logs() {
    local id
    id=$("$1" run -d busybox sh -c 'echo said; echo x >/written; exec sleep 1000')
    eventually "$1" exec "$id" test -s /written
    "$1" cp "$id:/written" copied
    is "$(cat copied)" x
    "$1" cp copied "$id:/back"
    is "$("$1" exec "$id" cat /back)" x
    is "$("$1" logs "$id")" said
    has "$("$1" diff "$id")" 'A /written'
    "$1" commit "$id" "committed-$world" >/dev/null
    is "$("$1" run --rm "committed-$world" cat /written)" x
}

eight_at_once() {
    local i jobs=()
    for i in 1 2 3 4 5 6 7 8; do
        "$1" run --rm --memory 32m busybox echo "$i" >"out$i" 2>&1 &
        jobs+=($!)
    done
    for i in "${jobs[@]}"; do wait "$i" || { cat out*; fail "one of 8 failed"; }; done
    is "$(cat out? | sort)" "$(seq 8)"
}

# ends_empty COMMAND: within 10 s or so it prints nothing more.
ends_empty() {
    local left
    for _ in {1..100}; do
        left=$("$1")
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    fail "is left: $left"
}
