#!/bin/sh
# `make fuzz`: builds the fuzzer and runs each target for its share of SECONDS (or TARGETS="a b" alone). What is found stays below
# target/fuzz/found/TARGET; inputs that reached something new stay in target/fuzz/corpus and are used again.
# Prints a line a target; exits 1 if anything was found.
set -u
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With --target the flags are for the program alone, not for what cargo runs while it builds.
CARGO_INCREMENTAL=1 RUSTFLAGS="--cfg fuzzing $coverage" ${CARGO:-cargo} build --locked --release --target "$host" \
    --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz || exit 1
fuzzer=target/fuzz/$host/release/rundlet-fuzz

targets=${TARGETS:-$(ls tests/fuzz/corpus)}
share=$((seconds / $(echo "$targets" | wc -w)))
[ "$share" -gt 0 ] || share=1
status=0
for target in $targets; do
    new=target/fuzz/corpus/$target found=target/fuzz/found/$target log=target/fuzz/$target.log
    mkdir -p "$new" "$found"
    RUNDLET_FUZZ=$target RUNDLET_FUZZ_POOL=tests/fuzz/corpus/$target "$fuzzer" -max_total_time="$share" -timeout=10 \
        -rss_limit_mb=2048 -max_len=16384 -artifact_prefix="$found/" -print_final_stats=1 \
        "$new" "tests/fuzz/corpus/$target" >"$log" 2>&1
    code=$?
    ran=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    covered=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    printf '%-10s %9s runs in %4s s, %s' "$target" "${ran:-?}" "$share" "$covered"
    if [ "$code" -eq 0 ]; then
        echo
    else
        status=1
        printf ', FOUND: '
        grep -m 1 -A 3 -E 'panicked at|ERROR: libFuzzer' "$log" | tr '\n' ' ' | cut -c 1-1000
    fi
done
exit $status
