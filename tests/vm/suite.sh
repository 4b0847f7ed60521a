#!/usr/bin/env bash
# `make test-vm`: the root tests and the engines in a guest with systemd as PID 1 and cgroup v2 alone, in which the limits of
# memory, cpu, pids, io and cpuset are seen to bite. Builds what is missing (see `vm`), boots, runs, shuts down.
#
#   tests/vm/suite.sh [PART[:WORD]...]     only these parts; only their tests that have WORD in the name
#
#   RUNDLET_TEST_RUNTIME   another runtime than what `make static` has built: a static binary of this machine, or the name
#                          of one that the guest has (runc, crun)
#   RUNDLET_VM_...         see `vm`
set -euo pipefail
cd "$(dirname "$0")/../.."

# Part, seconds that it may take (many times what a quiet machine needs), its program in the guest.
parts() {
    cat <<'LIST'
root              1800 root-tests
unit              300  unit-tests
systemd-driver    900  systemd-driver.sh
containerd        600  containerd.sh
docker            1800 docker.sh
docker-in-docker  600  docker-in-docker.sh
podman            1800 podman.sh
podman-rootless   900  podman-rootless.sh
userns            900  userns.sh
LIST
}

vm=tests/vm/vm
export RUNDLET_VM_NAME=${RUNDLET_VM_NAME:-suite-$$}
cargo=${CARGO:-cargo}
target=$(uname -m)-unknown-linux-musl
dir=/var/tmp/rundlet-tests   # in the guest
files=$(mktemp -d)
table=$files.table
remarks=$files.remarks
: >"$remarks"

say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

finish() {
    local status=$?
    rm -rf "$files" "$files".*
    "$vm" down 2>/dev/null || true
    exit $status
}

selected() { # PART: is it wanted? Its WORD comes out.
    local want
    [ ${#wanted[@]} != 0 ] || return 0
    for want in "${wanted[@]}"; do
        [ "${want%%:*}" != "$1" ] || { [[ $want != *:* ]] || echo "${want#*:}"; return 0; }
    done
    return 1
}

# Prints the path of the one executable that cargo names.
built() {
    local said=$files.cargo status=0
    "$cargo" test --no-run "$@" >"$said" 2>&1 || status=$?
    cat "$said" >&2
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$said" | tail -1
    return $status
}

collect_files() {
    runtime=${RUNDLET_TEST_RUNTIME:-target/$target/release/rundlet}
    if [ -f "$runtime" ]; then
        cp "$runtime" "$files/$(basename "$runtime")"
        runtime=$dir/$(basename "$runtime")
    fi
    cp tests/vm/*.sh "$files/"
    ! selected root >/dev/null || cp "$(built --target "$target" --test root)" "$files/root-tests"
    # Of the unit tests those that need root and a kernel. Not static: some of what the unit tests use is not in musl's bindings.
    # The guest's glibc is newer than Debian 12's.
    ! selected unit >/dev/null || cp "$(built --bin rundlet)" "$files/unit-tests"
}

boot() {
    "$vm" up </dev/null
    "$vm" put "$files"/* "$dir"
    # Swap for the tests of its limit; it is gone with the guest.
    "$vm" run "cd $dir && dd if=/dev/zero of=swap bs=1M count=256 2>/dev/null && chmod 600 swap && mkswap swap >/dev/null &&
        swapon swap && echo \"\$(uname -sr), \$(systemctl --version | head -1), cgroup2 with \$(cat /sys/fs/cgroup/cgroup.controllers)\"" </dev/null
}

# in_guest SECONDS COMMAND: its status; 255 when the guest has gone away or does not answer.
in_guest() {
    local status=0
    timeout -k 30 $(($1 + 120)) "$vm" run "timeout -k 10 $1 sh -c '$2'" </dev/null 2>&1 || status=$?
    timeout 120 "$vm" run true </dev/null >/dev/null 2>&1 || return 255
    return $status
}

run_part() { # PART SECONDS SCRIPT WORD
    case $1 in
        root) in_guest "$2" "cd $dir && TMPDIR=$dir RUNDLET_TEST_RUNTIME=\$(command -v $runtime) ./root-tests $4" ;;
        unit) in_guest "$2" "cd $dir && TMPDIR=$dir ./unit-tests ${4:-root_tests}" ;;
        *) in_guest "$2" "$dir/$3 \$(command -v $runtime) $4" ;;
    esac
}

# part PART SECONDS SCRIPT WORD: one part, its output shown as it comes; its line of the table goes to $table.
part() {
    local begin=$SECONDS status try out=$files.out
    say "$1"
    for try in 1 2; do
        status=0
        run_part "$@" | tee "$out" || status=$?
        [ $status = 255 ] && [ $try = 1 ] || break
        # A guest that dies once is a matter of user-mode Linux until it does so twice.
        echo "THE GUEST DOES NOT ANSWER. The last words of its console; then $1 once more in a new one:"
        "$vm" log 2>/dev/null | tail -n 30 || true
        "$vm" down
        boot
    done
    local passed failed skipped
    read -r passed failed skipped < <(sums "$out")
    # One that ended without its sums, or in their middle.
    if [ $status != 0 ] && [ "$failed" = 0 ]; then
        echo "FAILED $1: ended with $status"
        failed=1
    fi
    printf '%-17s %4d s   %d passed, %d failed, %d skipped\n' "$1" $((SECONDS - begin)) "$passed" "$failed" "$skipped" >>"$table"
    grep -E '^(SKIP|FAILED|UNSTEADY) ' "$out" >>"$remarks" || true
    rm -f "$out"
}

sums() { # of an output: passed failed skipped
    # A unit test that runs in a process of its own prints a result, too; the last one is that of all.
    awk '/^test result:/ { result[4] = $4; result[6] = $6; result[8] = $8 }
        /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { passed += $1; failed += $3; skipped += $5 }
        END { print passed + result[4], failed + result[6], skipped + result[8] }' "$1"
}

wanted=("$@")
for want in "${wanted[@]}"; do
    parts | grep -q "^${want%%:*} " || {
        echo "there is no part $want, but" $(parts | awk '{print $1}') >&2
        exit 2
    }
done
trap finish EXIT
trap 'exit 1' INT TERM HUP

say "the runtime and the tests"
collect_files
say "the guest"
boot
while read -r name seconds script; do
    word=$(selected "$name") || continue
    # Only what there is a script for.
    [ -e "$files/$script" ] || continue
    part "$name" "$seconds" "$script" "$word"
done < <(parts)

say "done"
sort -u "$remarks"
cat "$table"
awk '{ passed += $4; failed += $6; skipped += $8 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 || passed == 0 }' "$table"
