#!/bin/bash
# Puts what the ring is measured against below .peers: each from its own registry, in a pinned version.
#
#   bench/install/ring_peers.sh           what is missing, or has changed
#   bench/install/ring_peers.sh STAGE     this one, and its whole output: queues, iceoryx2, jvm
#
#   venv-ring  queues from PyPI, exact versions with hashes; faster-fifo is compiled
#   target     iceoryx2's programs, built by cargo
#   ring       Aeron and Agrona, built by Maven, which together with a JDK is installed if it is missing
set -euo pipefail
SELF=$(readlink -f "$0")
cd "$(dirname "$SELF")/../.."
. tools/lib.sh
. bench/install/stages.sh
readonly REQUIREMENTS=bench/certeus_bench/peers/requirements-ring.txt

queues() {
  has c++ || apt_install g++
  packages venv-ring $REQUIREMENTS
}

iceoryx2() {
  cargo build --release --locked --manifest-path bench/native-peers/Cargo.toml --target-dir "$PEERS/target"
  version iceoryx2-rust "$(sed -n 's/^iceoryx2 = "=\(.*\)"/\1/p' bench/native-peers/Cargo.toml)"
}

jvm() {
  rm -rf "$PEERS/ring"
  maven bench/java-ring/pom.xml
  local artifact
  for artifact in aeron-driver agrona; do
    version $artifact "$(sed -n "/<artifactId>$artifact</{n;s/.*<version>\(.*\)<.*/\1/p}" bench/java-ring/pom.xml)"
  done
}

if [ $# -gt 0 ]; then
  "$1"
  exit
fi

stages_begin ring
stage queues "Python packages of $(basename $REQUIREMENTS)" $REQUIREMENTS
stage iceoryx2 "iceoryx2, by cargo" $(files bench/native bench/native-peers ipc/src)
stage jvm "Aeron and Agrona, by Maven" $(files bench/java-ring)
exit $FAILED
