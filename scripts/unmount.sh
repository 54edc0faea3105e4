#!/usr/bin/env bash
# unmount.sh MOUNTPOINT  Unmounts, and returns once the vault is quiet.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || { echo "usage: $0 MOUNTPOINT" >&2; exit 2; }
atrest umount "$1"
