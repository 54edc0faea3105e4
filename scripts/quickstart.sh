#!/usr/bin/env bash
# quickstart.sh [VAULT [MOUNTPOINT]]  Builds atrest, makes a vault unless it is one already, mounts it,
# and shows one file from both sides. Running it again does no harm.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

vault=${1:-$HOME/atrest-demo-vault}
mountpoint=${2:-$HOME/atrest-demo}
name=atrest-quickstart.txt

need fusermount3:fuse3
build

if [ -e "$vault/.atrest" ]; then
  echo "$vault is a vault already."
else
  mkdir -p "$vault"
  atrest init "$vault"
fi

status=$(atrest status "$vault" --json)
if grep -Eq '"mounted": ?true' <<<"$status"; then
  mountpoint=$(sed -nE 's/.*"mountpoint": ?"([^"]*)".*/\1/p' <<<"$status")
  echo "It is mounted already, on $mountpoint."
else
  # Where a mount point cannot be made, atrest says why.
  mkdir -p "$mountpoint" 2>/dev/null || true
  atrest mount "$vault" "$mountpoint"
  echo "Mounted on $mountpoint."
fi

[ -e "$mountpoint/$name" ] || echo "Only the mount shows these words." >"$mountpoint/$name"
echo
echo "Inside, $mountpoint/$name reads:"
cat "$mountpoint/$name"
echo
echo "Outside, $vault/$name begins:"
od -A d -t x1z -N 128 "$vault/$name"
echo
echo "Work in $mountpoint as in any folder. When done: scripts/unmount.sh $mountpoint"
