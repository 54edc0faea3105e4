#!/usr/bin/env bash
# Installs what the tests need, and runs all of them: the checks of the house, the tests without a
# mount, those that mount, and the suites of others. ATREST_CAMPAIGN=full makes the campaigns long.
# Asks for root by sudo where it is not root. The last line says whether all passed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$top"

failed=()
# stage NAME COMMAND...  Runs a part of the whole, and goes on when it fails.
stage() {
  local name=$1 began=$SECONDS
  shift
  echo "== $name"
  "$@" 8<&- || failed+=("$name")
  echo "== $name: $((SECONDS - began)) s"
}

# The scratch directories of this run alone; what is left in them was left behind by a test.
disk=$(mktemp -d /var/tmp/atrest-tests.XXXXXX)
tmpfs=$(mktemp -d /dev/shm/atrest-tests.XXXXXX)
chmod 755 "$disk" "$tmpfs"
export ATREST_TEST_DISK=$disk ATREST_TEST_TMPFS=$tmpfs

# The kernel's guard of sticky directories, as a stock Debian has it; a bare container often has
# none. The tests hold with and without. Runs at the same time share a lock on the directory that
# keeps the values from before: the first one in sets them, the last one out restores them.
guards=(protected_symlinks=1 protected_hardlinks=1 protected_regular=2 protected_fifos=1)
before=/run/atrest-tests
set_sysctls() {
  local guard
  as_root mkdir -p -m 755 $before
  exec 8<$before
  if flock -x -n 8; then
    for guard in "${guards[@]}"; do
      # Values that a killed run has left are older, and stay.
      [ -e "$before/${guard%=*}" ] || as_root cp "/proc/sys/fs/${guard%=*}" "$before/"
      echo "${guard#*=}" | as_root tee "/proc/sys/fs/${guard%=*}" >/dev/null 2>&1 || true
    done
  fi
  flock -s 8
}
restore_sysctls() {
  local value
  { true <&8 && flock -x -n 8; } 2>/dev/null || return 0
  for value in "$before"/*; do
    as_root cp "$value" "/proc/sys/fs/${value##*/}" 2>/dev/null || true
    as_root rm -f "$value"
  done
}

mounts_left() { awk -v disk="$disk/" -v tmpfs="$tmpfs/" 'index($2, disk) == 1 || index($2, tmpfs) == 1 { print $2 }' /proc/self/mounts; }
# shellcheck disable=SC2329 # The trap calls it.
clean_up() {
  mounts_left | while read -r mountpoint; do as_root umount -l "$mountpoint"; done
  as_root rm -rf "$disk" "$tmpfs"
  restore_sysctls
}
trap clean_up EXIT
nothing_left() {
  local left
  left=$(mounts_left; find "$disk" "$tmpfs" -mindepth 1 -maxdepth 1)
  [ -z "$left" ] || { printf 'left behind by the tests:\n%s\n' "$left" >&2; return 1; }
}

set_sysctls
need_rust
need fusermount3:fuse3 gdb sqlite3:sqlite3 git:git rsync:rsync tar:tar setpriv:util-linux find:findutils faketime:faketime useradd:passwd getent:libc-bin script:bsdutils strace:strace /usr/sbin/mkfs.ext4:e2fsprogs /usr/sbin/mkfs.xfs:xfsprogs /usr/sbin/mkfs.btrfs:btrfs-progs /usr/sbin/setquota:quota
# The server's programs are not in the PATH, and their place names a version.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need postgresql-server:postgresql

third_party pjdfstest 0.2.2
third_party fsx 0.3.2
export ATREST_TEST_PROGRAMS=$cache/bin

# Where udev does not run, nobody has opened the device to users, who mount through fusermount3.
[ ! -c /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" = 666 ] || as_root chmod 666 /dev/fuse

if cargo nextest --version >/dev/null 2>&1; then
  [ "${ATREST_CAMPAIGN:-short}" = full ] && profile=full || profile=default
  tests() { cargo nextest run --profile "$profile" --no-fail-fast --status-level slow --final-status-level slow "$@"; }
else
  tests() { cargo test --quiet --no-fail-fast "$@"; }
fi
# The same as root: built by the person, run through sudo.
tests_as_root() {
  local host runner
  host=$(rustc -vV | sed -n 's/^host: //p')
  runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$host")_RUNNER
  env "$runner=sudo -E env PATH=$PATH HOME=$HOME" bash -c "$(declare -f tests); profile=${profile:-}; tests \"\$@\"" tests "$@"
}

stage "checks of the house" scripts/check.sh
stage "documentation's examples" cargo test --quiet --doc
if [ "$(id -u)" -eq 0 ]; then
  stage "all tests" tests
else
  stage "tests without root" tests --lib --bins --test format --test store --test crash --test cli --test keys --test mount
  stage "suites without root" tests --test suites -- --skip pjdfstest:: --skip postgres::
  stage "tests as root" tests_as_root --test root --test policy --test trail --test faults --test hostile
  stage "suites as root" tests_as_root --test suites -- pjdfstest:: postgres::
fi
# What lies below decides about holes, zeroed ranges and times; so the mount is tested on both.
stage "mounts of vaults on tmpfs" env ATREST_TEST_BACKING=tmpfs bash -c "$(declare -f tests); profile=${profile:-}; tests --test mount"
stage "parsers under random bytes" scripts/fuzz.sh 20
stage "nothing left behind" nothing_left

if [ ${#failed[@]} -gt 0 ]; then
  printf -v names '%s, ' "${failed[@]}"
  echo "test.sh: FAILED after $((SECONDS / 60)) minutes: ${names%, }"
  exit 1
fi
echo "test.sh: all tests passed in $((SECONDS / 60)) minutes"
