#!/usr/bin/env bash
# Whose files are whose: Podman's --userns=auto and id-mapped volumes, Docker's userns-remap. Owners are looked at inside and
# outside. See lib.sh for how it is called.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

worlds=(podman docker)
export DOCKER_BUILDKIT=0 DOCKER_CLI_HINTS=false
# Podman takes the ranges of its automatic namespaces from the subordinate ids of this name.
first=2000000

set_up() {
    busybox_tar "$work/busybox.tar"
    echo "containers:$first:100000" | tee -a /etc/subuid >>/etc/subgid
}

enter() {
    case $1 in
        podman) podman import -q "$work/busybox.tar" busybox >/dev/null ;;
        docker)
            start_docker systemd remap
            docker import "$work/busybox.tar" busybox >/dev/null
            ;;
    esac
}

after_each() {
    local left
    case $world in
        podman) podman rm -a -f -t 0 ;;
        docker)
            left=$(docker ps -aq)
            # shellcheck disable=SC2086 # a list of ids
            [ -z "$left" ] || docker rm -f $left
            ;;
    esac
}

tear_down() {
    podman rm -a -f -t 0
    podman volume prune -f
    podman rmi -a -f
    stop_docker
    # Not the files as they were: dockerd has put its user in.
    sed -i '/^containers:/d' /etc/subuid /etc/subgid
}

pod() { podman --runtime "$runtime" "$@"; }
for_podman() { [ "$world" = podman ] || skip "podman's"; }
for_docker() { [ "$world" = docker ] || skip "docker's"; }
owner() { stat -c '%u:%g' "$@"; }
# The first id of the host that a container with this pid has: of its users, or of its groups.
base_of() { awk '{ print $2 }' "/proc/$1/${2:-uid}_map"; }

# files NAME: a directory with `root` of 0:0 and `user` of 5:6.
files() {
    mkdir -p "$1"
    touch "$1/root" "$1/user"
    chown 5:6 "$1/user"
    chmod 777 "$1"
    echo "$PWD/$1"
}

needs_idmap() {
    [[ $("$runtime" features 2>/dev/null | jq '.linux.mountExtensions.idmap.enabled') == true ]] || skip "$runtime_name has no id-mapped mounts"
}

t_automatic_namespaces_do_not_overlap() {
    for_podman
    local id pid bases=()
    for _ in 1 2 3; do
        id=$(pod run -d --userns=auto:size=2000 busybox sh -c "touch /made; chown 7:8 /made; $sleep_until_asked")
        pid=$(podman inspect -f '{{.State.Pid}}' "$id")
        bases+=("$(base_of "$pid")")
        is "$(awk '{ print $1, $3 }' "/proc/$pid/uid_map" "/proc/$pid/gid_map")" $'0 2000\n0 2000'
        [ "$(base_of "$pid")" -ge $first ] || fail "$(cat "/proc/$pid/uid_map")"
        eventually pod exec "$id" sh -c '[ "$(stat -c %u /made)" = 7 ]'
        # The same file, seen from here.
        is "$(owner "$(podman mount "$id")/made")" "$((bases[-1] + 7)):$(($(base_of "$pid" gid) + 8))"
        # The program has the ids of the range; exec, too.
        is "$(owner "/proc/$pid")" "${bases[-1]}:$(base_of "$pid" gid)"
        is "$(pod exec "$id" sh -c 'stat -c %u:%g /proc/self/ /bin/busybox')" $'0:0\n0:0'
        is "$(pod exec -u 7:8 "$id" sh -c 'touch /dev/shm/x; stat -c %u:%g /dev/shm/x')" 7:8
    done
    is "$(printf '%s\n' "${bases[@]}" | sort -u | wc -l)" 3
}

t_a_plain_volume_shows_the_hosts_ids() {
    for_podman
    local dir
    dir=$(files plain)
    is "$(pod run --rm --uidmap 0:200000:1000 --gidmap 0:300000:1000 -v "$dir:/v" busybox \
        sh -c 'stat -c %u:%g /v/root /v/user; touch /v/new; chown 5:6 /v/new')" $'65534:65534\n65534:65534'
    is "$(owner "$dir/new")" 200005:300006
}

t_an_idmapped_volume_keeps_its_owners() {
    for_podman
    needs_idmap
    local dir
    dir=$(files mapped)
    is "$(pod run --rm --uidmap 0:200000:1000 --gidmap 0:300000:1000 -v "$dir:/v:idmap" busybox \
        sh -c 'stat -c %u:%g /v/root /v/user; touch /v/new; chown 7:8 /v/new; stat -c %u:%g /v/new')" $'0:0\n5:6\n7:8'
    is "$(owner "$dir/root" "$dir/user" "$dir/new")" $'0:0\n5:6\n7:8'
    # With a range that podman chose, in a volume of its own, read-only.
    podman volume create owners >/dev/null
    touch "$(podman volume inspect -f '{{.Mountpoint}}' owners)/kept"
    is "$(pod run --rm --userns=auto:size=2000 -v owners:/v:idmap,ro busybox sh -c 'stat -c %u:%g /v/kept; touch /v/x 2>/dev/null || echo failed')" \
        $'0:0\nfailed'
    # exec sees it as the container does.
    local id
    id=$(pod run -d --userns=auto:size=2000 -v "$dir:/v:idmap" busybox sh -c "$sleep_until_asked")
    is "$(pod exec -u 5:6 "$id" sh -c 'stat -c %u:%g /v/user; touch /v/by-exec')" 5:6
    is "$(owner "$dir/by-exec")" 5:6
}

# crun's words for a mapping of the volume's own: container's id, then the id in the volume, then how many.
t_a_volume_with_a_mapping_of_its_own() {
    for_podman
    rundlet_is_tested || [ "$runtime_name" = crun ] || skip "$runtime_name does not know it"
    local dir
    dir=$(files own)
    is "$(pod run --rm -v "$dir:/v:idmap=uids=0-1000-10;gids=0-2000-10" busybox sh -c 'stat -c %u:%g /v/root /v/user')" \
        $'1000:2000\n1005:2006'
}

t_remapped_containers_own_their_files() {
    for_docker
    local id pid dir base
    dir=$(files remapped)
    id=$(docker run -d --memory 64m -v "$dir:/v" busybox sh -c "touch /made /v/new; chown 7:8 /made /v/new; $sleep_until_asked")
    pid=$(docker inspect -f '{{.State.Pid}}' "$id")
    base=$(base_of "$pid")
    [ "$base" -ge 100000 ] || fail "$(cat "/proc/$pid/uid_map")"
    is "$(owner "/proc/$pid")" "$base:$(base_of "$pid" gid)"
    eventually docker exec "$id" sh -c '[ "$(stat -c %u /v/new)" = 7 ]'
    is "$(docker exec "$id" sh -c 'stat -c %u:%g /made /bin/busybox /v/root /v/user')" $'7:8\n0:0\n65534:65534\n65534:65534'
    is "$(owner "$dir/new")" "$((base + 7)):$(($(base_of "$pid" gid) + 8))"
    is "$(owner "$(docker inspect -f '{{.GraphDriver.Data.UpperDir}}' "$id")/made")" "$((base + 7)):$(($(base_of "$pid" gid) + 8))"
    # exec, its user, the devices, a limit, and the end.
    is "$(docker exec -u 7:8 "$id" sh -c 'touch /dev/shm/x; stat -c %u:%g /dev/shm/x; : </dev/zero >/dev/null; cat /sys/fs/cgroup/memory.max')" \
        $'7:8\n67108864'
    docker restart -t 0 "$id" >/dev/null
    is "$(docker exec "$id" stat -c %u:%g /made)" 7:8
    docker cp "$id:/made" copied
    docker rm -f "$id" >/dev/null
}

t_one_may_stay_out_of_the_remapping() {
    for_docker
    local dir
    dir=$(files out)
    is "$(docker run --rm --userns=host -v "$dir:/v" busybox sh -c 'cat /proc/self/uid_map; stat -c %u:%g /v/root /v/user' | tr -s ' ')" \
        $' 0 0 4294967295\n0:0\n5:6'
}

t_a_terminal_and_a_build_in_a_remapping() {
    for_docker
    has "$(script -qec "docker run --rm -t busybox sh -c 'tty; stat -c %u /dev/pts/0'" /dev/null </dev/null | tr -d '\r')" $'/dev/pts/0\n0'
    build_context build
    docker build -q -t built build >/dev/null
    is "$(docker run --rm built)" $'built\n/d\n5'
}

run_cases
