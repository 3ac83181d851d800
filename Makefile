# certeus: one command each. `make` alone lists them.
#
# Every target first runs what of `make setup` it needs, which does nothing when nothing changed.
# Where pip, cargo and apt fetch from is their own configuration; nothing here overrides it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# A recipe's own scripts and servers must not inherit make's job slots.
unexport MAKEFLAGS MFLAGS MAKELEVEL

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
BENCH := .venv/bin/certeus-bench
INPUT ?=
SECONDS ?= 60
ARGS ?=
SUITES ?=
JOBS ?= $(shell nproc)

.PHONY: help setup run check fmt test crash fuzz mutants e2e bench bench-full bench-peers deb lock clean

help: ## this list
	@printf 'certeus: durable events on one host, each exactly once in PostgreSQL\n\n'
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	printf '\nARGS="..." goes to the program behind run, test, crash, fuzz, mutants, e2e and bench*.\nJOBS=1 lets make test run one file after the other, instead of one for each CPU.\n'

setup: ## make .venv, install what is missing, build both Rust crates
	@tools/setup.sh run
	printf '  ready       make run, or . .venv/bin/activate\n'

run: ## the main job: what this machine has logged, durable, then in PostgreSQL (INPUT=file)
	@tools/setup.sh run
	exec $(PY) bench/main_job.py $(if $(INPUT),--input '$(INPUT)') $(ARGS)

check: ## format, lint, types, import contracts, clippy
	@tools/setup.sh check
	tools/check.sh

fmt: ## format Python and Rust
	@tools/setup.sh check
	tools/check.sh --fix

test: ## everything: check, Rust tests and loom models, pytest (ARGS="-k ring")
	@tools/setup.sh test
	tools/check.sh
	tools/test_rust.sh
	exec $(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

crash: ## every attack at its full size, and one table of what it cost (ARGS="--seed N" repeats a run)
	@tools/setup.sh test
	exec $(PYTEST) -m crash --attack full $(ARGS)

fuzz: ## fuzz what reads bytes that others wrote, each target for SECONDS=60 (ARGS="segments" names some)
	@tools/setup.sh test
	exec $(PY) tools/fuzz.py --seconds $(SECONDS) $(ARGS)

mutants: ## break each promise's line on purpose: a test must notice (ARGS="--only sync", --list)
	@tools/setup.sh test
	exec $(PY) tools/mutants.py $(ARGS)

e2e: ## only the tests of the installed package under a real systemd (as root)
	@tools/setup.sh test
	exec $(PYTEST) -m e2e $(ARGS)

bench: ## certeus beside its floors, some minutes: a table, and evidence with a report in bench/out/
	@tools/setup.sh run
	bench/install/native.sh
	exec $(BENCH) run $(ARGS)

bench-full: ## the same at length: 30 s of warm-up and 120 s measured, each
	@tools/setup.sh run
	bench/install/native.sh
	exec $(BENCH) run --full $(ARGS)

bench-peers: ## the same beside its peers, which are installed below .peers/
	@tools/setup.sh run
	bench/install/native.sh
	for peers in ring durable; do bench/install/$${peers}_peers.sh || true; done
	exec $(BENCH) run --peers $(ARGS)

deb: ## Debian packages, each in a tree of its suite (as root; SUITES="bookworm trixie")
	@tools/setup.sh deb
	exec tools/deb.sh $(SUITES)

lock: ## refresh the lock files from pyproject.toml (UPGRADE=1: to the newest)
	@tools/setup.sh run
	$(PY) tools/lock.py

clean: ## remove what was built; ./var, which holds events, stays
	@rm -rf .venv .setup .peers target build dist bench/out .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache .hypothesis *.egg-info
	rm -f ipc/certeus/_native*.so daemon/certeusd/_native*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
	[ ! -e var ] || printf '  kept        var: it holds a log and a database; remove it by hand\n'
