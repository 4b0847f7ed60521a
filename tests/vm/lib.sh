# shellcheck shell=bash
# What the scripts stand on that try an engine in the guest. Such a script is called as `SCRIPT RUNTIME [WORD]` as root in the
# guest, sources this file, defines
#
#   set_up        (optional) runs once, before the cases
#   tear_down     (optional) runs once, after them, whatever happened
#   worlds, enter (optional) an array of names, and a function that is called with one of them: every case is run in each
#                 world, whose name is in $world
#   after_each    (optional) runs after each case
#   t_NAME        a case, run in the order of the file, in a shell of its own that ends at the first command that fails
#
# and ends with `run_cases`. Only cases with WORD in the name
# (of the world or of the case) are run. A line is printed for each, with the output of a
# case that failed, and the sums in the end. RUNTIME is any runtime: each script was proved with runc first.
set -euo pipefail

runtime=$(command -v "${1:?usage: $0 RUNTIME [WORD]}") || { echo "there is no $1 here" >&2; exit 2; }
runtime_name=${runtime##*/}
word=${2:-}
subject=$(basename "$0" .sh)
# Of this script alone; removed in the end.
work=/var/tmp/rundlet-$subject
# A case may take this many seconds. Generous, for the machine may be busy: nothing waits for it unless something hangs.
case_time=${CASE_TIME:-180}
# So many failures may be a matter of a busy machine or of an engine's own races; more are one of the runtime.
second_tries=${SECOND_TRIES:-3}

fail() {
    echo "$*"
    exit 1
}

# is GOT WANTED, and has TEXT PART
is() { [ "$1" = "$2" ] || fail "got:    $1"$'\n'"wanted: $2"; }
has() { [[ "$1" == *"$2"* ]] || fail "got:    $1"$'\n'"wanted in it: $2"; }
lacks() { [[ "$1" != *"$2"* ]] || fail "got:    $1"$'\n'"not wanted in it: $2"; }

# fails COMMAND...: prints its output, and is content when it ends with an error.
fails() {
    local out
    ! out=$("$@" 2>&1) || fail "should have failed: $*"$'\n'"$out"
    echo "$out"
}

# eventually COMMAND...: until it is true, as long as the case may take.
eventually() {
    until "$@" >/dev/null 2>&1; do sleep 0.1; done
}

# A line that is shown of a case that went well, too.
note() { echo "note: $*"; }

skip() {
    echo "$*"
    exit 77
}

rundlet_is_tested() { [[ $runtime_name == rundlet* ]]; }

# The directory of a process's cgroup.
cgroup_of() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")"; }

. "$(dirname "$0")/terminal.sh"

# As /proc has them.
own_capabilities=$(sed -n 's/^CapEff:\s*//p' /proc/self/status)

# For a shell of busybox: `tail` keeps what has no newline.
eat_memory='tail -c 300m /dev/zero >/dev/null'

# And this ends at once when it is asked to.
sleep_until_asked='trap "exit 0" TERM; while :; do sleep 1 & wait $!; done'

defined() { declare -F "$1" >/dev/null; }

run_one() {
    local begin=${EPOCHREALTIME/./} status=0 out before took
    out=$(only=$1 timeout -k 10 "$case_time" "$0" "$runtime" 2>&1 </dev/null) || status=$?
    ! defined after_each || after_each >/dev/null 2>&1 || true
    if [ $status != 0 ] && [ $status != 77 ] && [ $second_tries -gt 0 ]; then
        second_tries=$((second_tries - 1)) before="$out"$'\n'"(status $status)" status=0
        out=$(only=$1 timeout -k 10 "$case_time" "$0" "$runtime" 2>&1 </dev/null) || status=$?
        ! defined after_each || after_each >/dev/null 2>&1 || true
        [ $status != 0 ] || { echo "UNSTEADY $2: passes at the second try; at the first it said:"; tail -n 40 <<<"$before" | sed 's/^/    | /'; }
    fi
    took=$(((${EPOCHREALTIME/./} - begin) / 1000))
    case $status in
        0)
            passed=$((passed + 1))
            echo "ok $2 ($took ms)"
            sed -n 's/^note: /    /p' <<<"$out"
            return
            ;;
        77)
            skipped=$((skipped + 1))
            echo "SKIP $2: $out"
            return
            ;;
        124 | 137) out+=$'\n'"(not done after $case_time s)" ;;
    esac
    failed=$((failed + 1))
    echo "FAILED $2 ($took ms)"
    tail -n 40 <<<"$out" | sed 's/^/    | /'
}

passed=0 failed=0 skipped=0
run_cases() {
    # This is the shell of one case.
    if [ -n "${only:-}" ]; then
        cd "$work"
        "t_$only"
        exit 0
    fi
    local name names label
    rm -rf "$work"
    mkdir -p "$work"
    trap finish EXIT
    trap 'exit 1' INT TERM HUP
    ! defined set_up || set_up
    for world in "${worlds[@]-}"; do
        export world
        names=()
        label=$subject${world:+ $world}
        for name in $(sed -n 's/^t_\([a-z0-9_]*\)() {$/\1/p' "$0"); do
            [[ "$label $name" != *"$word"* ]] || names+=("$name")
        done
        [ ${#names[@]} != 0 ] || continue
        [ -z "$world" ] || enter "$world"
        for name in "${names[@]}"; do run_one "$name" "$label $name"; done
    done
    sums
}

finish() {
    local status=$?
    cd /
    ! defined tear_down || tear_down >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}

sums() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}
