#!/bin/bash
# Format, lint, types, import contracts, clippy; with --fix, formats instead of complaining.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/lib.sh
BIN=.venv/bin

readonly ALONE=(fuzz bench/native bench/native-peers) # crates outside of the workspace

rustfmt_all() {
  cargo fmt --all "$@" || return
  local crate
  for crate in "${ALONE[@]}"; do cargo fmt --manifest-path $crate/Cargo.toml "$@" || return; done
}

if [ "${1:-}" = --fix ]; then
  step lint "fixes what ruff can fix safely" $BIN/ruff check --fix-only .
  step format "every Python file" $BIN/ruff format .
  ! cargo fmt --version >/dev/null 2>&1 || step rustfmt "formats Rust" rustfmt_all
  exit 0
fi

failed=0
step format "every Python file as ruff writes it" $BIN/ruff format --check . || failed=1
step lint "ruff" $BIN/ruff check . || failed=1
step mypy "types, strict" $BIN/python -m mypy || failed=1
step pyright "types again, strict" $BIN/pyright --warnings || failed=1
step imports "who may import whom" $BIN/lint-imports --no-cache || failed=1
if cargo fmt --version >/dev/null 2>&1; then
  step rustfmt "every Rust file as rustfmt writes it" rustfmt_all --check || failed=1
else
  say rustfmt "skipped: cargo has no rustfmt here"
fi
if cargo clippy --version >/dev/null 2>&1; then
  step clippy "every warning is an error" \
    cargo clippy --locked --workspace --all-targets -- -D warnings || failed=1
  step clippy "what measures the ring" cargo clippy --locked --all-targets \
    --manifest-path bench/native/Cargo.toml --target-dir target/bench -- -D warnings || failed=1
else
  say clippy "skipped: cargo has no clippy here"
fi
exit $failed
