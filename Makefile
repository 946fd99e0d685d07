# Everything runs in .venv, which needs only Python 3.11 or newer, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# What a new environment has beside the package: `dev`, or `test` for the tests alone. Options for pip.
GROUP := dev
PIP_OPTIONS :=

.NOTPARALLEL:
.PHONY: help demo test test-all test-lowest lint imports types chromium tests docs dist test-dist test-wheel soak \
    bench bench-full clean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip of 3.11 does not know dependency groups yet, hence the upgrade.
$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group $(GROUP) $(PIP_OPTIONS)
	@touch $@

demo: $(BIN)/.ready  ## upload a real video to a local service, and look at what arrived
	$(BIN)/python examples/demo.py

test: lint types tests  ## ruff, import order, mypy --strict, pyright, pytest

lint: $(BIN)/.ready imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: $(BIN)/.ready  ## what may import what: the contracts in pyproject.toml
	$(BIN)/lint-imports --no-logo --no-cache

types: $(BIN)/.ready
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/basedpyright

tests: $(BIN)/.ready
	$(BIN)/python -m pytest -n 2

# Runs a command for each `version` of Python that is found as `python`, and lists the results. The versions of pyenv
# are not on the PATH, only shims, which fail if their version is not the selected one.
PYTHONS := 3.11 3.12 3.13
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)
define on_each_python
    @for version in $(PYTHONS); do \
	    python=$$(for each in python$$version $(PYENV)/versions/$$version.*/bin/python; do \
	        $$each -c 'import sys; print(sys.executable)' 2>/dev/null && break; done); \
	    if [ -z "$$python" ]; then result="not found"; \
	    elif $(1); then result=passed; \
	    else result=FAILED; fi; \
	    results="$${results}$@ on Python $$version: $$result\n"; \
	done; \
	printf '%b' "$$results"; \
	case $$results in *FAILED*) exit 1;; *passed*) ;; *) exit 1;; esac
endef

test-all:  ## pytest on each of Python 3.11, 3.12 and 3.13 that this machine has
	$(call on_each_python,$(MAKE) VENV=build/venv-$$version GROUP=test PYTHON="$$python" tests)

# What only the tests need is the newest in any case: users do not install it.
LOWEST := build/lowest.txt
test-lowest: $(BIN)/.lowest  ## pytest with the lowest version of each dependency
	mkdir -p build
	$(BIN)/uv pip compile --quiet --upgrade --resolution lowest-direct --all-extras --python "$(PYTHON)" \
	    --output-file $(LOWEST) pyproject.toml
	$(MAKE) VENV=build/venv-lowest GROUP=test PIP_OPTIONS="--constraint $(LOWEST)" tests

CHROMIUM := $(shell command -v chromium || command -v chromium-browser)
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT_GET := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet -o Acquire::Retries=3
chromium:  ## install the Chromium of Debian or Ubuntu for the browser tests, as root or with sudo
ifneq ($(CHROMIUM),)
	@echo "Chromium is installed: $(CHROMIUM)"
else
	@echo "Chromium is not installed. Installing the package chromium with apt-get$(AS_ROOT:%=, as root by %)."
	$(APT_GET) update
	$(APT_GET) install --yes --no-install-recommends chromium
endif

MINUTES ?= 10
soak: $(BIN)/.ready  ## random faults, cancellations and restarts for MINUTES=10, then the counts
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

$(BIN)/.bench $(BIN)/.docs $(BIN)/.dist $(BIN)/.lowest: $(BIN)/.%: $(BIN)/.ready
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
	$(CLEAN)/venv/bin/python -m pip install --quiet dist/*.whl --group test
	mkdir $(CLEAN)/sdist
	tar --extract --file dist/*.tar.gz --strip-components 1 --directory $(CLEAN)/sdist
	rm -r $(CLEAN)/sdist/async_uploader
	cd $(CLEAN)/sdist && ../venv/bin/python -m tests.docs.dist --installed
	cd $(CLEAN)/sdist && ../venv/bin/python -m pytest $(TESTS)

test-wheel: dist  ## the wheel alone, as users install it, on each of these Pythons
	$(call on_each_python,"$$python" -m venv --clear build/wheel-$$version \
	    && build/wheel-$$version/bin/python -m pip install --quiet dist/*.whl \
	    && build/wheel-$$version/bin/python tests/docs/dist.py --alone)

clean:  ## remove what was built
	rm -rf $(VENV) build dist demo site
