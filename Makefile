# What people and CI run. Paths are relative on purpose: make splits absolute ones at spaces.

.DEFAULT_GOAL := help
.PHONY: help run test lint bench lock clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

help: ## show this
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## /\1: /p' Makefile | awk -F ': ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: .venv/run.stamp ## start everything on this machine (Postgres, Temporal, API, workers); Ctrl-C stops it
	@exec $(BIN)/doorbell dev

test: .venv/dev.stamp ## run the whole test suite, with real services; ARGS="-k name" narrows it
	@$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

lint: .venv/dev.stamp ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/run.stamp ## measure this machine; ARGS="--rounds 5 --json FILE" sets how
	@$(BIN)/python -m bench $(ARGS)

lock: ## write the locked requirements anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	uv pip compile pyproject.toml --extra build --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -o requirements-dev.txt
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -c requirements-dev.txt -o requirements.txt

clean: ## remove the virtual environment and all caches; the data in .doorbell stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run.stamp: requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked dependencies ..."
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The development requirements contain the others, in the same versions.
.venv/dev.stamp: requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked development dependencies ..."
	@$(PIP) --require-hashes -r requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ .venv/run.stamp

# PYTHON=... names another interpreter.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "creating .venv with $$("$$python" --version)"; \
	    if "$$python" -m venv .venv; then exit 0; fi; \
	    rm -rf .venv; \
	    echo "$$python could not create a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "Doorbell needs Python 3.11 or newer; none of these is: $(PYTHON) python3.11 python3 python." >&2; \
	echo "Install one, or name it: make run PYTHON=/path/to/python3.11" >&2; \
	exit 1
