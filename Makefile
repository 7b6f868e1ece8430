# `make help` lists the targets. All of them work on a fresh checkout; what is up to date is kept.

PYTHON ?= python3
VENV ?= .venv
# One more than CI has processors: many tests wait.
WORKERS ?= 3
SERVER_PYTHON ?= $(BIN)/python
FILE ?= examples/schedule.toml
FOR ?= 15s
SUITES ?=
RESULTS ?= build/bench
TOLERANCE ?= 0.1
MUTANTS ?= *__mutmut_*5
ADAPTER ?= asyncio

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
RUN_PURE := env -u TOCSIN_REQUIRE_COMPILED TOCSIN_PURE=1
RUN_COMPILED := env -u TOCSIN_PURE TOCSIN_REQUIRE_COMPILED=1
PYPI_SERVERS := secantusdb nx27017
ENGINE := $(wildcard core/engine/*.py core/engine/*.pxd)

# Tests of stores in processes of their own: the threads of database drivers draw random numbers,
# which upsets the tests that Hypothesis repeats.
SERVED := tests/stores tests/migration tests/faults
WITH_SERVERS := $(SERVED)
WITHOUT_SERVERS := $(SERVED:%=--ignore=%)

export PIP_ROOT_USER_ACTION := ignore

# Targets share the virtual environment, and the tests the processors.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help build run services test lint test-pure test-compiled test-faults coverage bench \
  bench-report bench-compare mutation soak docs dist clean FORCE

help: ## List the targets and variables.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) FILE=$(FILE) FOR=$(FOR) ADAPTER=$(ADAPTER) WORKERS=$(WORKERS) MUTANTS=$(MUTANTS)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "tocsin needs Python 3.10 or later; choose one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'  # the first that reads dependency groups

# An editable installation links every file, so that only a new, a removed or a compiled one asks
# for another.
$(VENV)/files: FORCE | $(BIN)/python
	@find core adapters stores plugins -name '*.py' -o -name '*.pxd' | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(VENV)/built: pyproject.toml setup.py $(ENGINE) $(VENV)/files
	$(PIP) install --editable '.[cli]'
	@$(BIN)/tocsin --version
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/built
	$(PIP) install --group dev
	@touch $@

build: $(VENV)/built ## Make the virtual environment and compile the engine.

run: build ## Run a schedule or a crontab for a while: make run FILE=path FOR=1m.
	@$(BIN)/tocsin run "$(FILE)" --for "$(FOR)"

$(VENV)-%/ready: pyproject.toml | $(VENV)/tools
	$(SERVER_PYTHON) -m venv --without-pip $(@D)
	@if $(PIP) --python $(@D)/bin/python install --group $*; then touch $@; else \
	  echo "no $* for this Python; another one: make SERVER_PYTHON=python3.12 ..." >&2; \
	  test -z "$$CI$$TOCSIN_REQUIRE_SERVERS"; fi

# Where they can't be installed, their tests are skipped, but not in CI.
services: $(PYPI_SERVERS:%=$(VENV)-%/ready) ## Install the servers that the tests start.
	@tests/support/install-servers $(abspath $(BIN)/python)

test: lint test-pure test-compiled ## Build, check style and types, run all tests, pure and compiled.

lint: $(VENV)/tools ## Check style and types.
	$(BIN)/ruff check --quiet --output-format concise .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy -p tocsin
	$(BIN)/lint-imports --no-logo

test-pure: services ## Run the tests on the interpreted engine, but for packaging and faults.
	$(RUN_PURE) $(BIN)/pytest -q -n $(WORKERS) -m 'not packaging' $(WITHOUT_SERVERS)
	$(RUN_PURE) $(BIN)/pytest -q -n $(WORKERS) -m 'not faults' $(WITH_SERVERS)

test-compiled: services ## Run all tests on the compiled engine.
	$(RUN_COMPILED) $(BIN)/pytest -q -n $(WORKERS) $(WITHOUT_SERVERS)
	$(RUN_COMPILED) $(BIN)/pytest -q -n $(WORKERS) $(WITH_SERVERS)

test-faults: services ## Kill, stop and cut off what shares a store, in the long form (hours).
	$(RUN_COMPILED) TOCSIN_FAULTS=long $(BIN)/pytest -q tests/faults

# The interpreted engine: of the compiled one only calls can be seen.
coverage: services ## Measure what the tests cover of lines and branches, and hold it to thresholds.
	$(BIN)/coverage erase
	$(RUN_PURE) $(BIN)/coverage run -m pytest -q -n $(WORKERS) -m 'not packaging' $(WITHOUT_SERVERS)
	$(RUN_PURE) $(BIN)/coverage run -m pytest -q -n $(WORKERS) -m 'not faults' $(WITH_SERVERS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage json -q -o build/coverage.json
	$(BIN)/python tests/support/thresholds.py build/coverage.json --lines 95 --branches 90

bench: services ## Run the benchmarks, or some of their suites: make bench SUITES="engine heap".
	$(RUN_COMPILED) $(BIN)/python -m benchmarks.suites --results "$(RESULTS)" $(SUITES)

bench-report: $(VENV)/tools ## Make benchmarks/REPORT.md of the results in benchmarks/results.
	$(BIN)/python -m benchmarks.report

bench-compare: $(VENV)/tools ## Find what is slower than at another commit: make bench-compare BASE=commit.
	@test -n "$(BASE)" || { echo "name a commit: make bench-compare BASE=HEAD~1" >&2; exit 1; }
	$(RUN_COMPILED) $(BIN)/python -m benchmarks.compare --tolerance $(TOLERANCE) "$(BASE)"

# Which changes of the code does no test notice? mutmut makes thousands of small ones in the engine and
# the loop, one at a time, and runs a quick selection of tests on each (both are in pyproject.toml). It
# wants a package in a folder of its name, and interpreted, so it gets a copy, in build/mutation. A
# survivor is a test that is missing, code that is not needed, or a change that changes nothing:
# `mutmut show NAME` prints it there. MUTANTS are patterns of names: a tenth of them unless told
# otherwise, '*' for all (hours), 'tocsin.engine.cron.*' for a module.
$(VENV)/mutation: pyproject.toml | $(VENV)/tools
	$(PIP) install --group mutation
	@touch $@

mutation: $(VENV)/mutation ## Look for changes of the code that no test sees: make mutation MUTANTS='tocsin.loop.*'.
	rm -rf build/mutation
	mkdir -p build/mutation
	cp -Rp pyproject.toml tests build/mutation
	cp -Rp core build/mutation/tocsin
	cp -Rp adapters stores build/mutation/tocsin
	find build/mutation -name '*.so' -delete -o -name '*.pyd' -delete
	set -f && cd build/mutation && HYPOTHESIS_PROFILE=mutation \
	  $(RUN_PURE) $(abspath $(BIN))/mutmut run --max-children $(WORKERS) $(MUTANTS)
	cd build/mutation && $(abspath $(BIN))/mutmut results

soak: FOR = 10m
soak: $(VENV)/tools ## Run a million jobs and account for each run: make soak ADAPTER=asyncio FOR=10m.
	$(RUN_COMPILED) $(BIN)/python benchmarks/soak.py $(ADAPTER) --for $(FOR)

docs: $(VENV)/tools ## Build the documentation into build/site; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(VENV)/tools ## Build the source distribution and the wheel into dist/.
	$(BIN)/python -m build

clean: ## Remove everything that the other targets made.
	rm -rf $(VENV) $(PYPI_SERVERS:%=$(VENV)-%) build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find core -name '*.so' -delete -o -name '*.pyd' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

FORCE:
