#!/bin/bash
# Rust tests of both crates, then the ring's loom models: every interleaving, so in release mode and in a
# target directory of their own, since the flag that chooses loom would else rebuild everything.
# What measures the ring is a crate of its own, outside of the workspace.
# Without the feature `python`: the kernels are tested without an interpreter to link with.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/lib.sh

step rust "cargo test, both crates" cargo test --locked --workspace --no-default-features
step loom "every interleaving of the ring" env RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" \
  cargo test --locked --release -p certeus-ipc --no-default-features --test loom --target-dir target/loom
step bench "cargo test, what measures the ring" \
  cargo test --locked --manifest-path bench/native/Cargo.toml --target-dir target/bench
