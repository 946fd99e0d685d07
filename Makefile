# Everything runs in .venv, which needs only Python 3.11 or newer, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The dependency group of a new environment: `dev`, or `test` for the tests only. Options for pip.
GROUP := dev
PIP_OPTIONS :=

.NOTPARALLEL:
.PHONY: help demo test test-all test-lowest lint imports types chromium tests docs dist test-dist test-wheel soak \
    bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Upgrade pip: the one of Python 3.11 does not support dependency groups.
$(BIN)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group $(GROUP) $(PIP_OPTIONS)
	@touch $@

demo: $(BIN)/.ready  ## upload a real video to an emulator, and verify the copy
	$(BIN)/python examples/demo.py

test: lint types tests  ## ruff, import order, mypy --strict, pyright, pytest

lint: $(BIN)/.ready imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: $(BIN)/.ready  ## check the import contracts in pyproject.toml
	$(BIN)/lint-imports --no-logo --no-cache

types: $(BIN)/.ready
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/basedpyright

# Tests wait more than they compute. Without bytecode files, every process of theirs would compile everything again.
unexport PYTHONDONTWRITEBYTECODE
tests: $(BIN)/.ready
	$(BIN)/python -m pytest -n 4 --dist worksteal

# Run a command for each `version` of Python that is found as `python`, and list the results. With pyenv, only shims are
# on the PATH, and they fail for versions that are not selected.
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

# Dependencies of the tests only are always the newest: users do not install them.
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
soak: $(BIN)/.ready  ## random faults and restarts for MINUTES=10, a fleet (15 minutes), and the tests marked `soak`
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)
	$(BIN)/python -m benchmarks.fleet_soak kills
	$(BIN)/python -m benchmarks.fleet_soak scaling
	$(BIN)/python -m benchmarks.fleet_soak cost
	$(BIN)/python -m pytest -m soak

$(BIN)/.bench $(BIN)/.docs $(BIN)/.dist $(BIN)/.lowest: $(BIN)/.%: $(BIN)/.ready
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

bench: $(BIN)/.bench  ## measure the goals, and compare with the committed results, in 10 minutes (needs nginx and curl)
	$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

docs: $(BIN)/.docs  ## build the documentation in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read it: $(BIN)/python -m http.server --directory site"

dist: $(BIN)/.dist  ## build wheel and sdist in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tests.docs.dist dist

# Run the tests of the sdist in a new environment with the wheel. The sdist's package is deleted, so that the tests
# import the wheel.
TESTS ?= tests
CLEAN := build/clean
test-dist: dist  ## run the tests with the wheel in a clean environment (TESTS=tests/cli for some of them)
	rm -rf $(CLEAN)
	$(PYTHON) -m venv $(CLEAN)/venv
	$(CLEAN)/venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(CLEAN)/venv/bin/python -m pip install --quiet dist/*.whl --group test
	mkdir $(CLEAN)/sdist
	tar --extract --file dist/*.tar.gz --strip-components 1 --directory $(CLEAN)/sdist
	rm -r $(CLEAN)/sdist/async_uploader
	cd $(CLEAN)/sdist && ../venv/bin/python -m tests.docs.dist --installed
	cd $(CLEAN)/sdist && ../venv/bin/python -m pytest $(TESTS)

test-wheel: dist  ## install the wheel without extras, and check it, on each of these Pythons
	$(call on_each_python,"$$python" -m venv --clear build/wheel-$$version \
	    && build/wheel-$$version/bin/python -m pip install --quiet dist/*.whl \
	    && build/wheel-$$version/bin/python tests/docs/dist.py --alone)

clean:  ## delete everything that was built
	rm -rf $(VENV) build dist demo site
