#!/bin/bash
# A tree of another Debian with systemd and Python, and our dependencies for that Python, for tests that
# boot it (systemd-e2e.sh --lower). Made once; prints nothing when it is there.
#
#   debian_tree.sh SUITE PYTHON DIRECTORY     e.g. trixie 3.13 target/trees: .../trixie, .../packages-3.13
#
# The mirror is the one that apt has here; packages come from where pip gets them here. Needs root.
set -euo pipefail
readonly SUITE=$1 PYTHON=$2 INTO=$3
readonly HERE=$(cd "$(dirname "$0")/../.." && pwd) INCLUDE=systemd,systemd-sysv,dbus,procps,python3,python3-venv
readonly TREE=$INTO/$SUITE PACKAGES=$INTO/packages-$PYTHON
mkdir -p "$INTO"
exec 9>"$INTO/lock"
flock 9

stamp() { { echo "$SUITE $PYTHON"; cat "$0" "$HERE/requirements.lock"; } | sha256sum; }
[ "$(cat "$INTO/$SUITE.stamp" 2>/dev/null)" != "$(stamp)" ] || exit 0

rm -rf "$TREE" "$PACKAGES" "$INTO/$SUITE.stamp"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -- -security | head -n 1)
debootstrap --variant=minbase --include="$INCLUDE" "$SUITE" "$TREE" "$mirror"
rm -rf "$TREE"/var/cache/apt/archives/*.deb "$TREE"/var/lib/apt/lists/*
platforms=(--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
"$HERE/.venv/bin/python" -m pip install --disable-pip-version-check --target "$PACKAGES" \
  --python-version "$PYTHON" "${platforms[@]//x86_64/$(uname -m)}" --only-binary :all: \
  --require-hashes --no-deps -r "$HERE/requirements.lock"
stamp >"$INTO/$SUITE.stamp"
