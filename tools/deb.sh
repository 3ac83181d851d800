#!/bin/bash
# Debian packages, one for each suite: built in a tree of its own suite, as root, without network.
#
#   tools/deb.sh [SUITE...]          default: bookworm trixie
#   tools/deb.sh --part PART SUITE   one of its own steps for one suite
#
# What has to be fetched is fetched here, by pip and cargo as they are configured, and checked against the
# lock files; what is built is built in the tree. Nothing is done twice: a suite whose sources are those of
# its packages is left alone. The last line is the path of the package for this machine.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/lib.sh
readonly OUT=target/deb
readonly ARCH=$(dpkg --print-architecture) MACHINE=$(uname -m)
readonly MAINTAINER="The certeus authors <certeus@packages.invalid>"
readonly VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
declare -rA RELEASES=([bookworm]=12 [trixie]=13)
declare -rA PYTHONS=([bookworm]=3.11 [trixie]=3.13)
# --- what a package is made of -------------------------------------------------------------------

sources() {
  find pyproject.toml Cargo.toml Cargo.lock requirements.lock LICENSE README.md CHANGELOG.md \
    ipc daemon systemd etc docs tools/deb tools/deb.sh tools/reference*.py -type f \
    ! -name '*.so' ! -name '*.pyc' ! -path '*.egg-info/*' 2>/dev/null | LC_ALL=C sort
}
digest() { { echo "$1"; sources | xargs -d '\n' sha256sum; } | sha256sum; }
package() { echo "$OUT/$1/${2:-certeus}_$VERSION-1~deb${RELEASES[$1]}_$ARCH.deb"; }
is_done() {
  [ "$(cat "$OUT/$1/sources" 2>/dev/null)" = "$(digest "$1")" ] && [ -f "$(package "$1")" ] &&
    [ -f "$(package "$1" certeus-embedded)" ]
}
# The time of the last commit: the same commit gives the same package.
epoch() { git -c safe.directory="$PWD" log -1 --format=%ct 2>/dev/null || date +%s; }

changelog() {
  printf 'certeus (%s-1~deb%s) %s; urgency=medium\n\n' "$VERSION" "${RELEASES[$1]}" "$1"
  printf '  * Version %s; what operators will notice: changelog.gz beside this file.\n' "$VERSION"
  printf '\n -- %s  %s\n' "$MAINTAINER" "$(date -u -R -d "@$(epoch)")"
}

# --- the steps -----------------------------------------------------------------------------------

# for_each PART: for every suite at once; fails if one does, with its output.
for_each() {
  local suite failed=0
  local -A started=()
  for suite in "${MISSING[@]}"; do
    tools/deb.sh --part "$1" "$suite" >"$LOGS/deb-$suite.log" 2>&1 &
    started[$suite]=$!
  done
  trap 'kill "${started[@]}" 2>/dev/null; wait; exit 130' INT TERM
  for suite in "${MISSING[@]}"; do
    wait "${started[$suite]}" || { failed=1 && echo "--- $suite" && tail -n 40 "$LOGS/deb-$suite.log"; }
  done
  return $failed
}

tree() { tools/deb/tree.sh "$1" build; }

# fetch SUITE: wheels for its Python and the crates, into the source directory of its build.
fetch() {
  local source=$OUT/$1/source extra pip=(.venv/bin/python -m pip --disable-pip-version-check)
  rm -rf "$source" "$OUT/$1"/{sources,*.deb,*.changes,*.buildinfo}
  mkdir -p "$source"
  digest "$1" >"$OUT/$1/sources.new"
  sources | tar -c --files-from=- | tar -x -C "$source"
  cp -a tools/deb/debian "$source/debian"
  cp systemd/certeus.{sysusers,tmpfiles} "$source/debian/"
  changelog "$1" >"$source/debian/changelog"
  for extra in build-system daemon embedded; do
    local extras=("$extra")
    [ "$extra" != daemon ] || extras+=(top)
    .venv/bin/python tools/deb/locked.py "${extras[@]}" >"$source/debian/locked-${extra%-system}.txt"
    "${pip[@]}" download --no-deps --require-hashes --only-binary :all: --python-version "${PYTHONS[$1]}" \
      --platform "manylinux_2_28_$MACHINE" --platform "manylinux_2_17_$MACHINE" \
      --platform "manylinux2014_$MACHINE" --dest "$source/debian/wheels" \
      -r "$source/debian/locked-${extra%-system}.txt"
  done
  mkdir -p "$source/debian/cargo" "$source/debian/home"
  cargo vendor --locked --versioned-dirs "$source/debian/vendor"
  printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' \
    >"$source/debian/cargo/config.toml"
}

# build SUITE: in its tree, with no network but loopback; then lintian, whose errors are ours. Cargo's own
# directory is kept for the next time: it knows what has changed.
build() {
  local tree=target/trees/$1-build source=$OUT/$1/source
  mkdir -p "$tree/build"
  unshare --mount --net --pid --fork --kill-child -- /bin/bash -euc '
    mount -t proc proc "$1/proc" && mount --bind "$2" "$1/build"
    exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$3" \
      CARGO_TARGET_DIR=/build/cargo \
      /bin/bash -euc "cd /build/source && dpkg-buildpackage -b -us -uc &&
        lintian --fail-on error --tag-display-limit 0 ../certeus_*.changes"
    ' build "$tree" "$OUT/$1" "$(epoch)"
  rm -rf "$source"
  mv "$OUT/$1/sources.new" "$OUT/$1/sources"
}

# this_machines: the suite of this machine, else the first that was asked for.
this_machines() {
  local codename
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  [[ " ${SUITES[*]} " == *" $codename "* ]] && echo "$codename" || echo "${SUITES[0]}"
}

# A process of its own for each part and suite, so that the first command that fails ends it.
if [ "${1:-}" = --part ]; then
  trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM
  "$2" "$3" &
  wait $!
  exit
fi

readonly SUITES=(${@:-bookworm trixie})
for suite in "${SUITES[@]}"; do
  [ -n "${RELEASES[$suite]:-}" ] || die deb "no suite $suite: there are ${!RELEASES[*]}"
done
mkdir -p $OUT
exec 9>"$OUT/lock"
flock 9

MISSING=()
for suite in "${SUITES[@]}"; do is_done "$suite" || MISSING+=("$suite"); done
if [ ${#MISSING[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die deb "a tree of Debian can only be made by root" \
    "run make deb as root, in a checkout of its own"
  step trees "Debian as it builds: ${MISSING[*]}" for_each tree
  step sources "locked wheels and crates, fetched and checked" for_each fetch
  step build "packages, each in its tree, without network; lintian" for_each build
fi
for suite in "${SUITES[@]}"; do
  say "$suite" "$(package "$suite" certeus-embedded)"
  say "" "$(package "$suite")"
done
package "$(this_machines)"
