# Everything runs in .venv, which needs only python3.11, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types chromium tests docs dist test-dist soak bench bench-full clean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip of 3.11 does not know dependency groups yet, hence the upgrade.
$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(BIN)/.ready  ## upload a real video to a local service, and look at what arrived
	$(BIN)/python examples/demo.py

# Chromium shows the emulator's page to its tests. Where it cannot be installed, those are skipped.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || { command -v sudo >/dev/null && echo sudo -n; })
APT_GET := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq
chromium:
	@command -v chromium >/dev/null || { \
	    $(APT_GET) update && $(APT_GET) install -y --no-install-recommends chromium; } >/dev/null 2>&1 || \
	    echo "There is no chromium, and it cannot be installed: the browser tests will be skipped."

test: $(BIN)/.ready lint types chromium tests  ## ruff, mypy --strict, pytest

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.ready
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/basedpyright

tests: $(BIN)/.ready
	$(BIN)/python -m pytest -n 2

MINUTES ?= 10
soak: $(BIN)/.ready  ## random faults, cancellations and restarts for MINUTES=10, then the counts
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

$(BIN)/.bench $(BIN)/.docs $(BIN)/.dist: $(BIN)/.%: $(BIN)/.ready
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

bench: $(BIN)/.bench  ## what it costs, against others: the goals, in about 20 minutes (needs nginx and curl)
	$(BIN)/python -m benchmarks

bench-full: $(BIN)/.bench  ## the same, and how it grows with sizes, connections and files; streams, too
	$(BIN)/python -m benchmarks --full
	$(BIN)/python -m benchmarks.stream_memory --full

docs: $(BIN)/.docs  ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read it: $(BIN)/python -m http.server --directory site"

dist: $(BIN)/.dist  ## wheel and sdist, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tests.docs.dist dist

# The tests of the sdist, without its package: what they import is the wheel, in an environment of its own.
TESTS ?= tests
CLEAN := build/clean
test-dist: dist  ## the tests against the wheel in a clean environment (TESTS=tests/cli, say, for some of them)
	rm -rf $(CLEAN)
	$(PYTHON) -m venv $(CLEAN)/venv
	$(CLEAN)/venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(CLEAN)/venv/bin/python -m pip install --quiet dist/*.whl --group dev
	mkdir $(CLEAN)/sdist
	tar --extract --file dist/*.tar.gz --strip-components 1 --directory $(CLEAN)/sdist
	rm -r $(CLEAN)/sdist/async_uploader
	cd $(CLEAN)/sdist && ../venv/bin/python -m tests.docs.dist --installed
	cd $(CLEAN)/sdist && ../venv/bin/python -m pytest $(TESTS)

clean:  ## remove what was built
	rm -rf $(VENV) build dist demo site
