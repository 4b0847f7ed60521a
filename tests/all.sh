#!/bin/sh
# `make test`: every test binary of the project, one after the other, then one line of sums. Exits 1 if anything failed.
set -u

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The log goes through tee, so cargo's own verdict is kept in a file.
{ ${CARGO:-cargo} test --no-fail-fast 2>&1; echo "cargo test: exit code $?"; } | tee "$log"
status=0
grep -q '^cargo test: exit code 0$' "$log" || status=1

# Why something did not run: libtest's ignored tests give their reason, ours print a line.
grep -E '\.\.\. ignored|^(SKIP|UNSTEADY) ' "$log" | sort -u

awk '
    /^test result:/ { passed += $4; failed += $6; skipped += $8 }
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3; skipped += $5 }
    END { printf "\nall tests:\n%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
exit $status
