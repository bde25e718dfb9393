# Needs Python 3.11 or newer, pip and make; everything else comes from PyPI into .tools/ and .venv/.
# Written for GNU Make 3.81, which is what macOS has.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
UV_STAMP := .tools/.uv-$(UV_VERSION)
RUN := $(UV) run --frozen --no-sync

# `make BACKEND=cuda ...` for NVIDIA on Linux. Both wheels bring a libmlx.so, at the same place: never install both.
BACKEND ?= cpu
SYNC_cuda := --extra cuda --no-install-package mlx-cpu

# Tests run on every core, with so many workers at most; each worker imports everything anew.
WORKERS := --numprocesses logical --maxprocesses 8
COVERAGE := --cov --cov-report=

PAGE := src/entrypoints/http/page/static
# Deno keeps nothing in the home directory, and asks nobody for a newer version of itself.
export DENO_DIR := $(CURDIR)/.tools/deno
export DENO_NO_UPDATE_CHECK := 1

# No interpreter is ever downloaded, and the tree is checked as it is locked.
export UV_PYTHON_DOWNLOADS := never
# Behind a proxy that inspects TLS only the system knows whom to trust.
export UV_SYSTEM_CERTS := 1
# A private cache where there is no home to keep one in.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.tools/home
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-training demo serve test check check-cluster soak check-training format bench image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.synced ## install all locked dependencies into .venv

demo: .venv/.synced ## start the service with the embedded model, transcribe a recording and a live stream, stop it
	$(RUN) parakeet-service demo

serve: .venv/.synced ## run the service; settings come from the environment or .env
	$(RUN) parakeet-service serve

test: .venv/.synced ## run the unit and contract tests: no server, no model, under a minute on two cores
	$(RUN) pytest $(WORKERS) --dist worksteal $(MEASURE) tests/unit

check: .venv/.synced ## run everything that CI runs: format, lint, types, contracts, dependencies, tests with coverage
	$(RUN) ruff format --check
	$(RUN) ruff check
	COVERAGE_FILE=.coverage.unit $(MAKE) test MEASURE='$(COVERAGE)'
	$(RUN) mypy
	$(RUN) basedpyright
	$(RUN) lint-imports
	$(RUN) deno fmt --quiet --check $(PAGE)/*.js
	$(RUN) deno lint --quiet $(PAGE)/*.js
	$(RUN) deno check --quiet --no-remote --no-npm $(PAGE)/*.js
	$(RUN) deptry src
	$(RUN) deptry tests benchmarks scripts --ignore DEP002,DEP004
	$(RUN) deptry training --config training/pyproject.toml
	COVERAGE_FILE=.coverage.whole $(RUN) pytest $(WORKERS) --dist loadgroup $(COVERAGE) \
	  tests/integration tests/conformance tests/browser
	$(RUN) coverage combine --quiet .coverage.unit .coverage.whole
	$(RUN) coverage report
	$(RUN) coverage report --include='src/domain/*,src/application/*' --fail-under=100

soak: .venv/.synced ## run what takes an hour or more: kill loops, hours of audio, thousands of damaged uploads
	$(RUN) pytest $(WORKERS) --dist worksteal --hypothesis-profile=soak tests/unit
	$(RUN) pytest -m soak --timeout=0
	$(MAKE) check-cluster CLUSTER_TESTS='-m soak --timeout=0'

check-cluster: .venv/.synced ## test CLUSTER=ray, with Ray in an environment of its own: .venv-ray
	UV_PROJECT_ENVIRONMENT=.venv-ray $(UV) sync --frozen --quiet --extra ray
	.venv-ray/bin/python -m pytest $(CLUSTER_TESTS) tests/integration/ray

setup-training: .venv/.synced ## add what the recipe of the embedded model needs: PyTorch, 3 GB
	$(UV) sync --frozen --quiet --all-packages --extra torch

check-training: ## type-check and test the training recipe, after setup-training
	$(RUN) mypy -p training
	$(RUN) pytest training/tests

format: .venv/.synced ## format the code, and write the table in docs/settings.md
	$(RUN) ruff check --fix
	$(RUN) ruff format
	$(RUN) deno fmt --quiet $(PAGE)/*.js
	$(RUN) python scripts/settings_table.py --write

bench: .venv/.synced ## measure speed and error rate with the embedded model
	$(RUN) python -m benchmarks

image: ## build the container image
	docker build --tag parakeet-service .

clean: ## remove what the other targets made
	rm -rf .venv .tools build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/.synced: pyproject.toml uv.lock $(UV_STAMP)
	$(UV) sync --frozen --quiet $(SYNC_$(BACKEND)) --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

$(UV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'This needs Python 3.11 or newer as "$(PYTHON)"; name another one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
	  { echo 'This needs pip for "$(PYTHON)" (on Debian: apt-get install python3-pip)' >&2; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --target .tools uv==$(UV_VERSION)
	@touch $@
