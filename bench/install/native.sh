#!/bin/bash
# Builds the programs of bench/native, which measure the ring and the memory below it, into target/bench.
#
# Does nothing when .setup/bench-native holds the digest of what they were made from.
set -euo pipefail
SELF=$(readlink -f "$0")
cd "$(dirname "$SELF")/../.."
. tools/lib.sh
exec 9>.setup/bench-native.lock
flock 9

digest=$(find ipc/src bench/native -name target -prune -o -type f -print0 | sort -z |
  xargs -0 sha256sum "$SELF" ipc/Cargo.toml Cargo.toml | sha256sum)
[ "$(cat .setup/bench-native 2>/dev/null)" = "$digest" ] && [ -x target/bench/release/ring-one-way ] && exit 0
step native "programs that measure the ring" \
  cargo build --release --locked --manifest-path bench/native/Cargo.toml --target-dir target/bench
echo "$digest" >.setup/bench-native
