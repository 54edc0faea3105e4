#!/usr/bin/env bash
# Installs what the tests need, and runs all of them: the checks of the house, the tests without a
# mount, those that mount, and the suites of others. ATREST_CAMPAIGN=full makes the campaigns long.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$top"

need_rust
need fusermount3:fuse3 sqlite3:sqlite3 git:git rsync:rsync tar:tar setpriv:util-linux \
  /usr/lib/postgresql/15/bin/initdb:postgresql-15

# Third-party test programs are built once and kept outside the tree.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atrest-tests
third_party() {
  [ -x "$cache/bin/$1" ] || CARGO_TARGET_DIR="$cache/target" \
    cargo install --quiet --locked --root "$cache" "$1" --version "$2"
}
third_party pjdfstest 0.2.2
third_party fsx 0.3.2
export ATREST_TEST_PROGRAMS=$cache/bin

# Where udev does not run, nobody has opened the device to users, who mount through fusermount3.
[ ! -c /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" = 666 ] || as_root chmod 666 /dev/fuse

scripts/check.sh
cargo test --no-fail-fast
