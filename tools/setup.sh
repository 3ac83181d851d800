#!/bin/bash
# Makes .venv with everything that certeus needs, and nothing twice.
#
#   tools/setup.sh deb          to fetch what a Debian package is made of: Python with pip, cargo, debootstrap
#   tools/setup.sh run          to run it: Python packages, both Rust crates, the package itself
#   tools/setup.sh check        and what formats, lints and types need
#   tools/setup.sh test         and what only tests need
#
# A stage is done when .setup/<stage> holds the digest of the files that it was made from; a stage that
# is done costs a few milliseconds and prints nothing. Where packages come from is the business of pip's,
# cargo's and apt's own configuration: nothing here names a host or sets one of their options.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/lib.sh
readonly GOAL=${1:-run}
exec 9>.setup/lock
flock 9

# --- what is done already ------------------------------------------------------------------------

digest() { { echo "$ROOT"; sha256sum "$@"; } | sha256sum; }
sources() { find ipc/src daemon/src -name '*.rs' | sort; }
is_done() { [ "$(cat ".setup/$1" 2>/dev/null)" = "$2" ]; }
mark() { echo "$2" >".setup/$1"; }

stages() {
  STAGES=()
  local key
  [ -x .venv/bin/python ] && is_done venv "$ROOT" || STAGES=(venv packages native)
  PACKAGES=$(digest requirements.lock)
  NATIVE=$(digest pyproject.toml Cargo.toml Cargo.lock ipc/Cargo.toml daemon/Cargo.toml $(sources))
  DEV=$(digest requirements.lock requirements-dev.lock)
  if [ "$GOAL" = deb ]; then
    STAGES=(${STAGES[0]:-})
    has debootstrap && usable_cargo || STAGES+=(package-tools)
    return
  fi
  if [ ${#STAGES[@]} -eq 0 ]; then
    is_done packages "$PACKAGES" || STAGES+=(packages)
    [ -f ipc/certeus/_native.abi3.so ] && [ -f daemon/certeusd/_native.abi3.so ] &&
      is_done native "$NATIVE" || STAGES+=(native)
  fi
  [ "$GOAL" = run ] && return
  [ "${STAGES[0]:-}" != venv ] && is_done dev "$DEV" || STAGES+=(dev)
  is_done rust-tools "$PATH" || STAGES+=(rust-tools)
  [ "$GOAL" = check ] && return
  [ -x /usr/lib/postgresql/15/bin/postgres ] || ! apt-cache show postgresql-15 >/dev/null 2>&1 ||
    STAGES+=(postgresql)
  has_disk_tools || STAGES+=(disk-tools)
  has_browser || STAGES+=(browser)
  has_clients || STAGES+=(clients)
  FUZZ=$(digest fuzz/Cargo.lock)
  is_done fuzz "$FUZZ" && command -v c++ >/dev/null || STAGES+=(fuzz)
}
# Debian keeps mkfs out of an ordinary user's PATH.
has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
has_disk_tools() { has strace && has mkfs.xfs && has mkfs.btrfs && has debootstrap && has_journal_remote; }
has_journal_remote() { [ -x /lib/systemd/systemd-journal-remote ]; }
has_browser() { has chromium && has chromedriver; }
has_clients() { has curl && has rsyslogd && has logger; }
wants() { [[ " ${STAGES[*]} " == *" $1 "* ]]; }

# --- what must come from apt ---------------------------------------------------------------------

# usable_python: the first interpreter that is new enough, as its real path (not a version manager's shim).
usable_python() {
  local name
  for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
    "$name" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.executable)' 2>/dev/null && return
  done
  return 1
}

compiles() { echo '#include <stdio.h>
int main(void) { return puts("") < 0; }' | cc -x c - -o /dev/null 2>/dev/null; }

# missing: one "package|why" a line for what the stages to come need and this machine lacks.
missing() {
  local python
  if wants venv; then
    if ! python=$(usable_python); then
      echo "python3|the interpreter, 3.11 or newer"
      echo "python3-venv|makes .venv"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "python3-venv|makes .venv (for $python)"
    fi
  fi
  if wants native; then
    compiles || printf '%s\n' "gcc|links what cargo builds" "libc6-dev|the C library to link with"
    usable_cargo ||
      printf '%s\n' "rustc-web|the Rust compiler, 1.$CARGO_MIN or newer" "cargo-web|builds both Rust crates"
  fi
  if wants package-tools; then
    has debootstrap || echo "debootstrap|makes the Debian in which a package is built"
    usable_cargo || echo "cargo-web|fetches the crates"
  fi
  if wants native || wants packages || wants package-tools; then
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo "ca-certificates|lets cargo and pip check whom they talk to"
  fi
  if wants rust-tools && debian_cargo; then
    cargo fmt --version >/dev/null 2>&1 || echo "rustfmt-web|checks the format of Rust files"
    cargo clippy --version >/dev/null 2>&1 || echo "rust-web-clippy|lints Rust files"
  fi
  wants fuzz && ! command -v c++ >/dev/null && echo "g++|builds libFuzzer, which the fuzz targets are linked with"
  wants postgresql && echo "postgresql-15|tests run against Debian's server too (its own cluster is not touched)"
  if wants disk-tools; then
    has strace || echo "strace|makes single system calls fail, in tests"
    has mkfs.xfs || echo "xfsprogs|makes small XFS file systems to be filled, in tests"
    has debootstrap || echo "debootstrap|makes a Debian with another systemd, to be booted in tests"
    has_journal_remote || echo "systemd-journal-remote|makes journals to be read, in tests"
    has mkfs.btrfs || echo "btrfs-progs|makes small Btrfs file systems to be filled, in tests"
  fi
  if wants browser; then
    has chromium || echo "chromium|shows the status page, in tests"
    has chromedriver || echo "chromium-driver|drives it"
  fi
  if wants clients; then
    has curl || echo "curl|sends events as the documentation types it, in tests"
    has rsyslogd || echo "rsyslog|sends syslog as hosts do, in tests (its own service is not used)"
    has logger || echo "bsdutils|sends syslog as scripts do, in tests"
  fi
  return 0
}

# debian_cargo: whether cargo is, or is about to be, Debian's.
debian_cargo() { [[ $(type -P cargo || echo /usr/bin/cargo) =~ ^(/usr)?/bin/cargo$ ]]; }

# Another one that cannot be used, as rustup's without a toolchain, stands before whatever apt installs.
check_cargo() {
  { wants native || wants fuzz || wants package-tools; } && ! usable_cargo && ! debian_cargo || return 0
  die cargo "$(type -P cargo) is not 1.$CARGO_MIN or newer: $(cargo --version 2>&1 | head -n 1)" \
    "Mend it (rustup default stable), or take it out of PATH: then Debian's is installed. Then make again."
}

apt_install() {
  local run=("$@") update=0
  export DEBIAN_FRONTEND=noninteractive
  # Lists older than a day name files that the archive may no longer have.
  [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit 2>/dev/null)" ] || update=1
  [ $update = 0 ] || "${AS_ROOT[@]}" apt-get -q update
  "${AS_ROOT[@]}" apt-get -qy install --no-install-recommends "${run[@]}" && return
  [ $update = 1 ] && return 1
  "${AS_ROOT[@]}" apt-get -q update && "${AS_ROOT[@]}" apt-get -qy install --no-install-recommends "${run[@]}"
}

system_packages() {
  local lines names line
  lines=$(missing)
  [ -n "$lines" ] || return 0
  names=$(cut -d'|' -f1 <<<"$lines" | tr '\n' ' ')
  while IFS='|' read -r name why; do say apt "$(printf '%-18s%s' "$name" "$why")"; done <<<"$lines"
  AS_ROOT=()
  if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then
      AS_ROOT=(sudo -n)
    elif [ -t 0 ] && command -v sudo >/dev/null; then
      say apt "sudo may ask for your password" && sudo -v
      AS_ROOT=(sudo)
    else
      die apt "these are missing, and this user may not install them. As root, run:" \
        "  apt-get update && apt-get install --no-install-recommends ${names% }" "and then make again."
    fi
  fi
  command -v apt-get >/dev/null || die apt "this is not Debian: install the like of these, then make again"
  AS_ROOT+=(env DEBIAN_FRONTEND=noninteractive)
  step apt "installing $(wc -w <<<"$names") packages" apt_install $names
}

# --- the stages ----------------------------------------------------------------------------------

make_venv() { rm -rf .venv .setup/{packages,native,dev} && "$1" -m venv .venv; }
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
locked() { pip install --require-hashes --no-deps "$@"; }

# The builder that makes the wheel also makes the checkout runnable: what is tried is what is shipped.
# It puts _native.abi3.so beside each package's Python files; cargo itself rebuilds only what changed.
build_native() {
  pip install --no-deps --no-build-isolation --editable .
  (cd .setup && ../.venv/bin/python -c 'import certeus._native, certeusd._native')
}

rust_tools() {
  local tool
  for tool in fmt:rustfmt clippy:clippy; do
    cargo "${tool%:*}" --version >/dev/null 2>&1 ||
      say "${tool#*:}" "missing, so its check is skipped: rustup component add ${tool#*:}"
  done
}

stages
[ ${#STAGES[@]} -gt 0 ] || exit 0
check_cargo
system_packages
for stage in "${STAGES[@]}"; do
  case $stage in
  venv)
    python=$(usable_python)
    step venv ".venv with $("$python" --version)" make_venv "$python"
    mark venv "$ROOT"
    ;;
  packages)
    count=$(grep -c '^[a-z].*==' requirements.lock)
    step packages "$count packages of requirements.lock" locked -r requirements.lock
    mark packages "$PACKAGES"
    ;;
  native)
    step build "both Rust crates and the package (minutes, at first)" build_native
    mark native "$NATIVE"
    ;;
  dev)
    count=$(grep -c '^[a-z].*==' requirements-dev.lock)
    step packages "$count packages of requirements-dev.lock" locked -r requirements-dev.lock
    mark dev "$DEV"
    ;;
  rust-tools) rust_tools && mark rust-tools "$PATH" ;;
  postgresql | disk-tools | browser | clients | package-tools) : ;;
  fuzz)
    step fuzz "crates of the fuzz targets" cargo fetch --locked --manifest-path fuzz/Cargo.toml
    mark fuzz "$FUZZ"
    ;;
  esac
done
