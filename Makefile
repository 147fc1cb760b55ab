# The one menu; CI calls the same targets. Variables: CONFIG=file for `run`, ARGS="..." for what takes more arguments,
# PYTHON=path to choose the interpreter of the environment (3.11, or 3.12 and 3.13 where glibc is 2.39 or newer).

CONFIG ?= satisfice.yaml
ARGS ?=

UV_VERSION := 0.13.9
PACKAGES := schemas serving components pipeline runners
SOURCES := $(shell find $(PACKAGES) -name '*.py' 2>/dev/null)
BIN := .venv/bin
COPY_JARS := org.apache.maven.plugins:maven-dependency-plugin:3.6.0:copy-dependencies

# How many of the tests that fail have a second try; CI gives it to five. The report has what the first one failed with.
RERUNS ?=
AGAIN = $(if $(RERUNS),--reruns 1 --max-suite-reruns $(RERUNS) --rerun-show-tracebacks)

# The tests in two processes, a file in one of them, those that take longest first. ARGS come after and win: ARGS="-n 0".
SPREAD := $(if $(filter-out 0 1,$(shell nproc 2>/dev/null)),-n 2 --dist loadfile --no-loadscope-reorder)

# Stamps: what they name is done and need not be done again.
TOOLS := .tools/.uv-$(UV_VERSION)
READY := .venv/.ready
COMPILED := .venv/.compiled

# Any Python that runs at all: a shim of pyenv's may stand on the PATH for a version that is not active.
BARE = $(shell for p in python3 python3.11 python3.12 python3.13 /usr/bin/python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && command -v $$p && break; done)
PYTHON = $(shell $(BARE) -I runners/doctor.py --find-python)

# uv takes the environment and the interpreter from here alone, not from the caller's shell.
UV = VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never .tools/bin/uv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run data test cover check format bench bench-small bench-distributed bench-publish bench-serving bench-tuner flink doctor lock clean

help:  ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(COMPILED)  ## the environment in .venv, exactly as uv.lock says (nothing to do where it stands)

run: setup data  ## set up what is missing, then the taxi pipeline to a gated, pushed model [CONFIG=, ARGS=]
	@$(BIN)/satisfice run $(CONFIG) $(ARGS)

data: setup  ## the sample data, out of the installed wheels into data/taxi, data/penguin and data/digits
	@$(BIN)/python data/samples.py

test: setup data  ## all tests, in two processes where there are two cores [ARGS="-k gate", ARGS="-n 0"]
	@$(BIN)/python -m pytest $(SPREAD) $(AGAIN) $(ARGS)

cover: setup data  ## the tests that are not slow, with branch coverage
	@$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term-missing:skip-covered $(ARGS)

check: setup  ## ruff, ruff format, mypy and import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff format and mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup data  ## measure everything up to 10,000,000 rows, into bench/RESULTS.md: two hours, 20 GB; goes on where it was stopped
	@$(BIN)/python -m bench.compare $(ARGS)
	@$(BIN)/python -m bench.ingest
	@$(BIN)/python -m bench.payload
	@$(BIN)/python -m bench.rerun
	@$(BIN)/python -m bench.scale

bench-small: setup data  ## measure on the 15,002 real rows alone: ten minutes [ARGS="--repeats 1"]
	@$(BIN)/python -m bench.compare --rows 15002 $(ARGS)
	@$(BIN)/python -m bench.rerun

bench-distributed: setup  ## examples/s of training under each strategy beside a bare fit, into bench/RESULTS.md: eight minutes [ARGS=]
	@$(BIN)/python -m bench.distributed $(ARGS)

bench-publish: setup  ## publishes under load and under kills, into bench/RESULTS.md: six minutes [ARGS=]
	@$(BIN)/python -m bench.publish $(ARGS)

bench-tuner: setup data  ## the search for hyperparameters at once and one by one, and against chance, into bench/RESULTS.md: twenty minutes [ARGS=]
	@$(BIN)/python -m bench.tuner $(ARGS)

bench-serving: setup  ## what the embedded server costs, over gRPC and REST, and a load with a kill through HAProxy, into bench/RESULTS.md: six minutes
	@$(BIN)/python -m bench.serving $(ARGS)
	@$(BIN)/python -m bench.serving_load

flink: .tools/flink/.whole  ## Beam's job server with Flink in it, for the test that runs on it: 105 MB from Maven Central, by mvn

doctor:  ## what this machine lacks, and the remedy
	@$(or $(BARE),python3) -I runners/doctor.py

lock: $(TOOLS)  ## resolve the dependencies of pyproject.toml anew into uv.lock [ARGS=--upgrade]
	$(UV) lock --python $(PYTHON) $(ARGS)

clean:  ## remove the environment, the sample data and all caches; what runs wrote stays
	rm -rf .venv .tools data/taxi data/penguin data/digits .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find $(PACKAGES) tests bench data -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --- set-up -----------------------------------------------------------------------------------------------------------

$(TOOLS):
	@test -n "$(BARE)" || { echo 'no Python that runs. Remedy: apt-get install python3.11 python3.11-venv python3.11-dev' >&2; exit 1; }
	@$(BARE) -I runners/doctor.py --machine
	$(PYTHON) -m venv --clear .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(READY): $(TOOLS) uv.lock pyproject.toml
	$(UV) sync --frozen --compile-bytecode --python $(PYTHON)
	@$(BARE) -I runners/doctor.py >.tools/doctor.log || { cat .tools/doctor.log; exit 1; }
	@touch $@

.tools/flink/.whole: tests/runners/flink/pom.xml
	@command -v mvn >/dev/null || { echo 'mvn is not installed. Remedy: apt-get install maven' >&2; exit 1; }
	@rm -rf $(@D) $(@D).part
	@mvn --batch-mode --quiet --strict-checksums -f $< $(COPY_JARS) -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(@D).part
	@mv $(@D).part $(@D) && touch $@

# uv does not compile what is installed in place, and where PYTHONDONTWRITEBYTECODE is set Python never would.
$(COMPILED): $(READY) $(SOURCES)
	@$(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@
