#!/usr/bin/env bash
# rotate.sh VAULT  Adds a key version, brings every file to it, and shows the versions before and after.
# Mounted or not; interrupted, it is finished by `atrest key rewrap VAULT`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || { echo "usage: $0 VAULT" >&2; exit 2; }
echo "Before:"
atrest key list "$1"
atrest key rotate "$1"
atrest key rewrap "$1"
echo "After:"
atrest key list "$1"
