#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET]  Builds the fuzz targets and runs each for SECONDS, two at a time, from the
# seeds in tests/fuzz/corpus and from what earlier runs found. New inputs, and the one that fails, are kept
# outside the tree. Says the executions of each, and fails when one fails.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$top/tests/fuzz"

if [ $# -lt 1 ]; then
  echo "usage: $0 SECONDS [TARGET]" >&2
  exit 2
fi
need_rust
need g++:g++

host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$top/target}/fuzz
# libFuzzer's instrumentation; by --target it is left out of build scripts.
flags=(--cfg fuzzing -Cpasses=sancov-module)
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$flag")
done
flags+=(-Ccodegen-units=1)
RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$target_dir cargo build --quiet --locked --target "$host"

export ATREST_FUZZ_PROGRAM=$target_dir/$host/debug/atrest-fuzz
# shellcheck disable=SC2154 # From lib.sh.
export ATREST_FUZZ_CACHE=$cache/fuzz
# fuzz SECONDS TARGET
fuzz() {
  local found=$ATREST_FUZZ_CACHE/$2
  mkdir -p "$found/inputs"
  if ATREST_FUZZ=$2 "$ATREST_FUZZ_PROGRAM" -max_total_time="$1" -timeout=1 -rss_limit_mb=512 -max_len=16384 \
    -print_final_stats=1 -artifact_prefix="$found/" "$found/inputs" "corpus/$2" >"$found/log" 2>&1; then
    echo "$2: $(awk '/number_of_executed_units/ { print $2 }' "$found/log") executions"
  else
    echo "$2: FAILED"
    tail -n 40 "$found/log"
    return 1
  fi
}
export -f fuzz
if [ $# -gt 1 ]; then printf '%s\n' "$2"; else ls corpus; fi |
  xargs -P 2 -I TARGET bash -c 'fuzz "$@"' fuzz "$1" TARGET
