# shellcheck shell=bash
# Shared by the scripts beside it: sourced, not run.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
release=${CARGO_TARGET_DIR:-$top/target}/release

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# need WHAT:PACKAGE...  Installs the Debian packages whose WHAT, a program or a file, is not there.
# Two runs at once wait for each other.
need() {
  local pair packages=()
  for pair in "$@"; do
    command -v "${pair%:*}" >/dev/null || [ -e "${pair%:*}" ] || packages+=("${pair#*:}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "Please install what stands in Debian's packages: ${packages[*]}" >&2
    return 1
  fi
  echo "Installing ${packages[*]}" >&2
  # shellcheck disable=SC2016 # The inner shell expands "$@".
  as_root flock /run/lock sh -c 'apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@" >&2' \
    sh "${packages[@]}"
}

need_rust() {
  command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; return 1; }
  need cc:gcc
}

# Third-party programs are built once and kept outside the tree.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atrest-tests
third_party() {
  [ -x "$cache/bin/$1" ] || CARGO_TARGET_DIR="$cache/target" \
    cargo install --quiet --locked --root "$cache" "$1" --version "$2" "${@:3}"
}

build() {
  need_rust
  cargo build --release --manifest-path "$top/Cargo.toml"
}

# The release build of the program, made first when it is not there.
atrest() {
  [ -x "$release/atrest" ] || build
  "$release/atrest" "$@"
}
