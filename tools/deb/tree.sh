#!/bin/bash
# A fresh machine of a Debian suite as a directory: systemd and Python, and nothing of ours. Made once;
# prints nothing when it is there. Needs root.
#
#   tree.sh SUITE          target/trees/SUITE: what tests boot and install the package into
#   tree.sh SUITE build    target/trees/SUITE-build: the same with what builds the package
#
# The mirror is the one that apt has here.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
readonly SUITE=$1 KIND=${2:-} TREES=target/trees CONTROL=tools/deb/debian/control
readonly INCLUDE=systemd,systemd-sysv,dbus,procps,python3
mkdir -p $TREES
exec 9>"$TREES/$SUITE.lock"
flock 9

stamp() { { echo "$PWD $SUITE"; cat "$@"; } | sha256sum; }
is_made() { [ -d "$TREES/$1" ] && [ "$(cat "$TREES/$1.stamp" 2>/dev/null)" = "$2" ]; }
mirror() {
  local found
  found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    grep -v -- -security | sed -n 1p)
  echo "${found:-http://deb.debian.org/debian}"
}
inside() {
  unshare --mount --pid --fork --kill-child --mount-proc="$1/proc" -- chroot "$1" env -i LC_ALL=C.UTF-8 \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "${@:2}"
}

base=$(stamp tools/deb/tree.sh)
if ! is_made "$SUITE" "$base"; then
  rm -rf "${TREES:?}/$SUITE" "$TREES/$SUITE.stamp"
  debootstrap --variant=minbase --include=$INCLUDE "$SUITE" "$TREES/$SUITE" "$(mirror)"
  rm -rf "$TREES/$SUITE"/var/cache/apt/archives/*.deb
  echo "$base" >"$TREES/$SUITE.stamp"
fi
[ "$KIND" = build ] || exit 0

build=$(stamp tools/deb/tree.sh $CONTROL)
if ! is_made "$SUITE-build" "$build"; then
  tree=$TREES/$SUITE-build
  rm -rf "$tree" "$tree.stamp"
  cp -a "$TREES/$SUITE" "$tree"
  mkdir -p "$tree/build/debian"
  cp $CONTROL "$tree/build/debian/control"
  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  inside "$tree" apt-get -q update
  inside "$tree" apt-get -qy install --no-install-recommends build-essential lintian
  inside "$tree" apt-get -qy build-dep --no-install-recommends /build
  inside "$tree" apt-get -q clean
  rm -rf "$tree/build"
  echo "$build" >"$tree.stamp"
fi
