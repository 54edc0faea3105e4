#!/usr/bin/env bash
# scaling.sh [--quick] [--figures DIR] [--tmpfs DIR]
# Measures how the time of an operation grows with the file, the directory, the vault and the threads,
# and draws it into src/manual/figures, which the manual shows. It takes some minutes and 2 GiB of
# memory for the vaults, which lie on tmpfs (/dev/shm). --quick goes to small sizes only: it shows that all runs.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_rust
need fusermount3:fuse3 sqlite3:sqlite3 git:git tar:tar
cd "$top"
exec cargo bench --bench filesystems -- --scaling "$@"
