# Kluis. `make demo` shows what it does; `make test` shows that it does it. Each target does its own set-up.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
VENV := $(or $(KLUIS_VENV),.venv)
PY := $(VENV)/bin/python
# One more than a small machine has processors: tests wait for enclaves, services and processes that end.
PROCESSES := 3
# What takes long computes, or emulates a machine: one process for each of two processors.
SLOW_PROCESSES := 2
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: demo demo-vm dist test test-slow coverage clients vectors fuzz check bench docs format clean

demo:  ## a clean room on real patients, and everyone who is kept out of it
	@scripts/setup.sh demo
	@$(VENV)/bin/kluis demo

demo-vm:  ## one image outside and in a confidential virtual machine, and what its host tries
	@scripts/setup.sh demo-vm
	@$(VENV)/bin/kluis demo --vm

dist:  ## the wheels and the sdist, into dist/
	@scripts/setup.sh check
	@$(PY) scripts/dist.py dist

test: check  ## what every change must pass
	@scripts/setup.sh test
	@PY=$(PY) scripts/test.sh -n $(PROCESSES)

test-slow:  ## what takes too long for every change; every property with all its examples
	@scripts/setup.sh slow
	@HYPOTHESIS_PROFILE=full MARKS="slow or hypothesis" PY=$(PY) scripts/test.sh -n $(SLOW_PROCESSES) --dist loadfile

coverage:  ## every branch of the verifier and of appraisal is reached by their tests; which are not, if any
	@scripts/setup.sh test
	@HYPOTHESIS_PROFILE=full $(PY) -m pytest -n $(PROCESSES) -q tests/evidence tests/appraisal --cov

clients:  ## every service with Azure's own clients, as a table: scenario, call, outcome; then CCF's tools
	@scripts/setup.sh clients
	@$(PY) scripts/clients.py
	@$(PY) -m pytest -q tests/clients/ccf

vectors:  ## every recorded piece of evidence in $$KLUIS_VECTORS: which end otherwise than recorded
	@scripts/setup.sh check
	@$(PY) scripts/vectors.py

fuzz:  ## every parser and verifier, $$FUZZ_SECONDS (600) each; findings go to vectors/crashes
	@scripts/setup.sh fuzz
	@nice -n 19 $(PY) fuzz/run.py

check:  ## style, types, layers
	@scripts/setup.sh check
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

bench:  ## ours against theirs, as ratios; rows go to bench/results/
	@scripts/setup.sh bench
	@$(PY) bench/run.py

docs:  ## the documentation, into site/
	@scripts/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

format:
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

clean:  ## everything that make made
	rm -rf build dist site .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	rm -rf $(VENV) $(VENV)-azure $(VENV)-azure-js $(VENV)-azure-cli $(VENV)-ledger-js
	find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} +
