#!/usr/bin/env bash
# Checks what a machine can check: formatting, lints, and the rules of the house.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$top"

failures=0
# complain RULE  Reports the lines on standard input, if any, as breaches of RULE.
complain() {
  local found
  found=$(cat)
  [ -n "$found" ] || return 0
  failures=$((failures + 1))
  printf '%s:\n%s\n' "$1" "$found" >&2
}

# sources REGEX  The source files whose paths REGEX matches, without directories of tests.
sources() { find src -name '*.rs' | grep -vE '/tests[/.]' | sort | grep -E "$1" || true; }
# code REGEX FILE...  Where REGEX stands outside comments and before the file's tests.
code() {
  local regex=$1
  shift
  [ $# -gt 0 ] || return 0
  regex=$regex awk '
    FNR == 1 { tests = 0 }
    /^#\[cfg\(test\)\]/ { tests = 1 }
    !tests && $0 !~ /^[ \t]*\/\// && $0 ~ ENVIRON["regex"] { print FILENAME ":" FNR ": " $0 }' "$@"
}

mapfile -t all < <(sources .)
mapfile -t pure < <(sources '^src/(format|crypto)/')
mapfile -t safe < <(printf '%s\n' "${all[@]}" | grep -v '^src/sys[/.]')
mapfile -t no_fuse < <(printf '%s\n' "${all[@]}" | grep -v '^src/fuse[/.]')
long() {
  local file
  for file in "${all[@]}"; do
    awk '/^#\[cfg\(test\)\]/ { exit } { n++ } END { if (n > 500) print FILENAME ": " n " lines" }' "$file"
  done
}
complain "I/O below the store" < <(code '(^|[^a-z_])(std::fs|std::net|rustix::|libc::)' "${pure[@]}")
complain "unsafe outside src/sys" < <(code '(^|[^a-z_])unsafe *([{]|fn|impl|extern)' "${safe[@]}")
complain "fuser outside src/fuse" < <(code '(^|[^a-z_])fuser::' "${no_fuse[@]}")
complain "unchecked or unfinished" < <(code '[.]unwrap[(][)]|todo!|unimplemented!|dbg!' "${all[@]}")
complain "names shown as they are, not by Show::shown" < <(code '[.]display[(][)]' "${all[@]}")
complain "notes to oneself" < <(grep -nE 'TODO|FIXME|XXX' "${all[@]}")
complain "more than 500 lines before the tests" < <(long)

cargo fmt --check || failures=$((failures + 1))
cargo fmt --check --manifest-path tests/fuzz/Cargo.toml || failures=$((failures + 1))
# Which layer names which, and circles between files.
cargo test --quiet --test house || failures=$((failures + 1))
cargo clippy --all-targets --all-features -- -D warnings || failures=$((failures + 1))
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps || failures=$((failures + 1))
# Without aws-lc, and with the oldest compiler that Cargo.toml allows where it is installed. Elsewhere
# clippy::incompatible_msrv finds what that compiler's library lacks.
cargo check --quiet --no-default-features --all-targets || failures=$((failures + 1))
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
case $(rustc --version) in
  "rustc $msrv"*) ;;
  *)
    if rustup toolchain list 2>/dev/null | grep -q "^$msrv"; then
      CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv cargo "+$msrv" check --quiet --all-targets ||
        failures=$((failures + 1))
    fi
    ;;
esac

# Licences, bans and sources of the dependencies, by .config/deny.toml. Quick to run and slow to build: not
# optimised.
need_rust
CARGO_PROFILE_DEV_DEBUG=0 third_party cargo-deny 0.20.2 --debug || failures=$((failures + 1))
cargo fetch --quiet --locked
"$cache/bin/cargo-deny" --offline --log-level error --config .config/deny.toml check --hide-inclusion-graph licenses bans sources ||
  failures=$((failures + 1))

# The hot path's instructions, against tests/micro/instructions.json.
need valgrind:valgrind
cargo bench --quiet --profile dev --bench micro -- --count || failures=$((failures + 1))

if [ "$failures" -gt 0 ]; then
  echo "check.sh: $failures check(s) failed" >&2
  exit 1
fi
