#!/bin/bash
# Prints the path of promtool, which checks metrics and alerts; no Prometheus is installed or started.
#
#   tools/promtool.sh          the one on PATH, else Debian's, unpacked into target/tools
#
# As any user: what apt knows is used, and where it knows nothing yet, lists of our own are fetched from the
# mirrors that it has here. Exit 69: there is neither promtool nor apt, or the mirrors are not to be reached.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
readonly INTO=$PWD/target/tools LOCK=target/tools/lock
readonly PROMTOOL=$INTO/promtool

command -v promtool && exit
mkdir -p "$INTO"
exec 9>"$LOCK"
flock 9
[ ! -x "$PROMTOOL" ] || exec echo "$PROMTOOL"
command -v apt-get >/dev/null || { echo "cannot unpack promtool: this is not Debian; install it" >&2; exit 69; }

readonly SCRATCH=$(mktemp -d "$INTO/unpacking-XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
readonly OWN=(-o "Dir::State::lists=$SCRATCH/lists" -o "Dir::Cache=$SCRATCH/cache")
apt() { (cd "$SCRATCH" && apt-get -qq -o APT::Sandbox::User="$(id -un)" "$@" >&2); }

fetch() {
  apt download prometheus 2>/dev/null && return
  mkdir -p "$SCRATCH"/{lists,cache}
  apt "${OWN[@]}" update && apt "${OWN[@]}" download prometheus
}
fetch || { echo "cannot unpack promtool: apt does not reach its mirrors" >&2; exit 69; }
dpkg-deb -x "$SCRATCH"/prometheus_*.deb "$SCRATCH/prometheus"
mv "$SCRATCH/prometheus/usr/bin/promtool" "$PROMTOOL"
echo "$PROMTOOL"
