#!/bin/bash
# Format, lint, types, import contracts, clippy; with --fix, formats instead of complaining.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/lib.sh
BIN=.venv/bin

if [ "${1:-}" = --fix ]; then
  step ruff "formats Python, fixes what it safely can" bash -c "$BIN/ruff check --quiet --fix-only . && $BIN/ruff format ."
  ! cargo fmt --version >/dev/null 2>&1 || step rustfmt "formats Rust" cargo fmt --all
  exit 0
fi

step format "every Python file as ruff writes it" $BIN/ruff format --check .
step lint "ruff" $BIN/ruff check .
step mypy "types, strict" $BIN/python -m mypy
step pyright "types again, strict" $BIN/pyright --warnings
step imports "who may import whom" $BIN/lint-imports --no-cache
if cargo fmt --version >/dev/null 2>&1; then
  step rustfmt "every Rust file as rustfmt writes it" cargo fmt --all --check
else
  say rustfmt "skipped: cargo has no rustfmt here"
fi
if cargo clippy --version >/dev/null 2>&1; then
  step clippy "every warning is an error" cargo clippy --locked --workspace --all-targets -- -D warnings
else
  say clippy "skipped: cargo has no clippy here"
fi
