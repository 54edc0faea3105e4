#!/usr/bin/env bash
# Times atrest beside gocryptfs, securefs, a FUSE mount that does not encrypt and the bare directory.
# scripts/bench.sh --help tells the options; paths in them count from the top of the project.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_rust
need fusermount3:fuse3 gocryptfs:gocryptfs securefs:securefs sqlite3:sqlite3 git:git tar:tar \
  gcc:gcc /usr/include/fuse3/fuse_lowlevel.h:libfuse3-dev
cd "$top"
exec cargo bench --bench filesystems -- "$@"
