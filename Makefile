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

PAGE := src/entrypoints/http/page/static
# Deno keeps nothing in the home directory, and asks nobody for a newer version of itself.
export DENO_DIR := $(CURDIR)/.tools/deno
export DENO_NO_UPDATE_CHECK := 1

# No interpreter is ever downloaded, and the tree is checked as it is locked.
export UV_PYTHON_DOWNLOADS := never
# A private cache where there is no home to keep one in.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.tools/home
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-training demo serve test check check-training format bench image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.synced ## make .venv with everything that is locked

demo: .venv/.synced ## start the service with its embedded model, send it a recording, stream it, stop it
	$(RUN) parakeet-service demo

serve: .venv/.synced ## run the service; settings come from the environment or .env
	$(RUN) parakeet-service serve

test: .venv/.synced ## run all tests
	$(RUN) pytest

check: .venv/.synced ## run everything that CI runs: format, lint, types, contracts, dependencies, tests with coverage
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) basedpyright
	$(RUN) lint-imports
	$(RUN) deno fmt --quiet --check $(PAGE)/*.js
	$(RUN) deno lint --quiet $(PAGE)/*.js
	$(RUN) deno check --quiet --no-remote --no-npm $(PAGE)/*.js
	$(RUN) deptry src
	$(RUN) deptry tests benchmarks scripts --ignore DEP002,DEP004
	$(RUN) deptry training --config training/pyproject.toml
	$(RUN) pytest --cov --cov-report=
	$(RUN) coverage report
	$(RUN) coverage report --include='src/domain/*,src/application/*' --fail-under=100

setup-training: .venv/.synced ## add what the recipe of the embedded model needs: PyTorch, 3 GB
	$(UV) sync --frozen --quiet --all-packages --extra torch

check-training: ## check the types of the recipe and run its tests, after setup-training
	$(RUN) mypy -p training
	$(RUN) pytest training/tests

format: .venv/.synced ## put the code and the README's table of settings into their one form
	$(RUN) ruff check --fix
	$(RUN) ruff format
	$(RUN) deno fmt --quiet $(PAGE)/*.js
	$(RUN) python scripts/settings_table.py --write

bench: .venv/.synced ## measure speed and error rate with the embedded model
	$(RUN) python -m benchmarks

image: ## build the container image
	docker build --tag parakeet-service .

clean: ## remove what the other targets made
	rm -rf .venv .tools build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

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
