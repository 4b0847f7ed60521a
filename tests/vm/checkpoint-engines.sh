#!/usr/bin/env bash
# Checkpoint and restore of a counter and of Redis with data by podman, docker and containerd on the runtime; see lib.sh for how it
# is called and checkpoint.sh for what it wants. conformance/checkpoint says where it was run and what came out.
CASE_TIME=${CASE_TIME:-600}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"
. "$(dirname "$0")/checkpoint-lib.sh"

set_up() {
    local file
    mkdir -p "$work/root"/{bin,lib64,usr,tmp,proc,sys,dev,etc,count,run}
    for file in redis-server redis-cli; do
        cp "/usr/bin/$file" "$work/root/bin/"
        ldd "/usr/bin/$file" | awk '$3 ~ /^\// {print $3} $1 ~ /^\// {print $1}'
    done | sort -u | while read -r file; do install -D "$file" "$work/root$file"; done
    cp /usr/bin/busybox "$work/root/bin/"
    chroot "$work/root" /bin/busybox --install -s /bin
    tar -C "$work/root" -cf "$work/redis.tar" .
    podman import -q "$work/redis.tar" saved >/dev/null
    start_docker systemd
    jq '.experimental = true' /etc/docker/daemon.json >"$work/json"
    cp "$work/json" /etc/docker/daemon.json
    systemctl restart docker
    docker import "$work/redis.tar" saved >/dev/null
}

after_each() {
    pod rm -a -f -t 0
    docker ps -aq | xargs -r docker rm -f
    ctr tasks ls -q | xargs -r -n 1 ctr tasks kill -s KILL
    ctr containers ls -q | xargs -r -n 1 ctr containers rm
    rm -f "$work"/saved.*
}

tear_down() {
    after_each
    pod rmi -a -f
    docker image prune -af
    stop_docker
}

pod() { podman --runtime "$runtime" "$@"; }

counting='i=0; while :; do i=$((i+1)); echo $i >/count/new; mv /count/new /count/n; echo line $i; sleep 0.2; done'
serving=(redis-server --save '' --appendonly no --enable-debug-command yes)

# Of an engine's command: `in_engine ENGINE exec` and the like.
pod_exec() { pod exec "$@"; }
docker_exec() { docker exec "$@"; }
number() { "$1" exec "$2" cat /count/n 2>/dev/null || echo 0; }
numbered() { [ "$(number "$1" "$2")" -ge "$3" ]; }
fill_redis() { # ENGINE NAME
    eventually "$1" exec "$2" redis-cli ping
    seq 20000 | sed 's/.*/set key:& value-&/' | "$1" exec -i "$2" redis-cli --pipe >/dev/null
}
digest() { "$1" exec "$2" redis-cli debug digest; }
data() { echo "$("$1" exec "$2" redis-cli dbsize) $("$1" exec "$2" redis-cli get key:777) $(digest "$1" "$2")"; }

t_podman_counter() {
    pod run -d --name one --tmpfs /count saved sh -c "$counting" >/dev/null
    eventually numbered pod one 3
    local before lines
    before=$(number pod one)
    pod container checkpoint one >/dev/null
    is "$(pod inspect -f '{{.State.Status}} {{.State.Checkpointed}}' one)" 'exited true'
    lines=$(pod logs one 2>/dev/null | tail -1)
    pod container restore one >/dev/null
    is "$(pod inspect -f '{{.State.Status}}' one)" running
    eventually numbered pod one $((before + 5))
    note "$lines, then $(pod logs one | tail -1)"
    is "$(pod logs one | grep -c '^line 1$')" 1
}

t_podman_redis() {
    pod run -d --name one saved "${serving[@]}" >/dev/null
    fill_redis pod one
    local before stats
    before=$(data pod one)
    stats=$(pod container checkpoint --print-stats one)
    note "checkpoint: $(jq -c '.container_statistics[0] | {runtime_checkpoint_duration, criu_statistics: {pages_written: .criu_statistics.pages_written}}' <<<"$stats")"
    stats=$(pod container restore --print-stats one)
    note "restore: $(jq -c '.container_statistics[0] | {runtime_restore_duration}' <<<"$stats")"
    is "$(data pod one)" "$before"
    note "$before"
    is "$(pod exec one redis-cli incr counter)" 1
}

t_podman_export_and_import() {
    pod run -d --name one saved "${serving[@]}" >/dev/null
    fill_redis pod one
    local before
    before=$(data pod one)
    pod exec one sh -c 'echo written >/etc/written'
    pod container checkpoint --export saved.tar.gz one >/dev/null
    note "archive of $(du -k saved.tar.gz | cut -f1) KiB"
    pod rm one >/dev/null
    pod container restore --import saved.tar.gz --name two >/dev/null
    is "$(data pod two)" "$before"
    is "$(pod exec two cat /etc/written)" written
}

t_podman_leave_running() {
    pod run -d --name one --tmpfs /count saved sh -c "$counting" >/dev/null
    eventually numbered pod one 2
    pod container checkpoint --leave-running --export saved.tar.gz one >/dev/null
    is "$(pod inspect -f '{{.State.Status}}' one)" running
    eventually numbered pod one $(($(number pod one) + 3))
    pod rm -f -t 0 one >/dev/null
    pod container restore --import saved.tar.gz >/dev/null
    eventually numbered pod one $(($(number pod one) + 3))
}

t_podman_in_steps() {
    pod run -d --name one saved "${serving[@]}" >/dev/null
    fill_redis pod one
    local before
    before=$(data pod one)
    pod container checkpoint --pre-checkpoint one >/dev/null
    is "$(pod inspect -f '{{.State.Status}}' one)" running
    pod container checkpoint --with-previous one >/dev/null
    pod container restore one >/dev/null
    is "$(data pod one)" "$before"
}

t_podman_connections() {
    pod run -d --name one saved sh -c 'redis-server --save "" & until redis-cli ping; do sleep 0.1; done >/dev/null 2>&1
        redis-cli -h 127.0.0.1 subscribe news >/news 2>&1' >/dev/null
    eventually pod exec one grep -q 1 /news
    has "$(fails pod container checkpoint one)" criu
    pod container checkpoint --tcp-established one >/dev/null
    pod container restore --tcp-established one >/dev/null
    pod exec one redis-cli publish news hello >/dev/null
    eventually pod exec one grep -q hello /news
}

t_podman_terminal() {
    pod run -d -t --name one --tmpfs /count saved sh -c "$counting" >/dev/null
    eventually numbered pod one 2
    local before
    before=$(number pod one)
    pod container checkpoint one >/dev/null
    pod container restore one >/dev/null
    eventually numbered pod one $((before + 3))
    eventually eval '[ "$(pod logs one | tail -1 | tr -dc 0-9)" -gt $((before + 2)) ]'
}

t_docker_counter() {
    docker run -d --name one --tmpfs /count saved sh -c "$counting" >/dev/null
    eventually numbered docker one 3
    local before
    before=$(number docker one)
    docker checkpoint create one first >/dev/null
    eventually eval '[ "$(docker inspect -f "{{.State.Status}}" one)" = exited ]'
    has "$(docker checkpoint ls one)" first
    docker start --checkpoint first one
    is "$(docker inspect -f '{{.State.Status}}' one)" running
    eventually numbered docker one $((before + 5))
    is "$(docker logs one | grep -c '^line 1$')" 1
}

t_docker_redis() {
    docker run -d --name one saved "${serving[@]}" >/dev/null
    fill_redis docker one
    local before
    before=$(data docker one)
    docker checkpoint create --leave-running one first >/dev/null
    is "$(docker inspect -f '{{.State.Status}}' one)" running
    docker checkpoint create one second >/dev/null
    eventually eval '[ "$(docker inspect -f "{{.State.Status}}" one)" = exited ]'
    docker start --checkpoint second one
    is "$(data docker one)" "$before"
    is "$(docker exec one redis-cli incr counter)" 1
    note "$before"
}

t_containerd_redis() {
    docker save -o saved.tar saved
    ctr images import saved.tar >/dev/null
    ctr run -d --runc-binary "$runtime" docker.io/library/saved:latest one "${serving[@]}"
    eventually ctr tasks exec --exec-id a$RANDOM one redis-cli ping
    seq 500 | sed 's/.*/set key:& value-&/' >commands
    ctr tasks exec --exec-id b one redis-cli --pipe <commands >/dev/null || ctr tasks exec --exec-id c one redis-cli set key:7 value-7
    ctr containers checkpoint --image --rw --task one saved.example/one >/dev/null
    ctr tasks kill -s KILL one
    eventually ctr tasks rm one
    ctr containers rm one
    ctr containers restore --rw --live two saved.example/one
    is "$(ctr tasks exec --exec-id d two redis-cli get key:7)" value-7
}

run_cases
