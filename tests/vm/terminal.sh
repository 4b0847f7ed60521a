# shellcheck shell=bash
# on_a_terminal COMMAND...: with a terminal of its own, by script(1). Its input has no end: script would type that in.
# Sourced by lib.sh and podman-rootless.sh.
on_a_terminal() {
    local quiet
    quiet=$(mktemp -u "${TMPDIR:-/var/tmp}/quiet.XXXXXX")
    mkfifo "$quiet"
    # Open for writing, too: a reader alone would wait for a writer.
    {
        rm "$quiet"
        script -qec "$(printf '%q ' "$@")" /dev/null
    } <>"$quiet"
}
