# Everything a fresh clone needs. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# Extra arguments, e.g. `make test PYTEST_ARGS="-k difficulty"`.
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
# Where an OpenCL CPU platform, a C++ compiler or a PostgreSQL server is missing: `require` installs it or fails, `skip` tests without.
PREREQUISITES ?= require
LOCK_ARGS ?=

# Stamps: an install is redone only when a lock or pyproject.toml is newer.
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
# The lock must be the same whoever makes it: no setting of this machine may reach uv.
LOCK := env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL -u UV_FIND_LINKS -u UV_INDEX -u UV_INDEX_URL \
	-u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL UV_CUSTOM_COMPILE_COMMAND="make lock" \
	$(BIN)/uv --no-config pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --group build

.PHONY: help demo test lint chaos bench start-decision proto proto-baseline lock clean

help: ## List the targets
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(RUNTIME) ## Chain, coordinator and worker on this machine: one proof, mined, submitted and included
	@$(BIN)/hashfleet up --demo --once $(DEMO_ARGS)

test: $(DEV) ## Every test
	@tools/test_prerequisites.sh $(BIN)/python $(PREREQUISITES)
	@HASHFLEET_PREREQUISITES=$(PREREQUISITES) $(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(DEV) ## Every fault at every step of a submission, 200 seeds each: hours; PYTEST_ARGS="-k silent-drop" or "--chaos-seeds 40-199" for some
	@nice $(BIN)/python -m pytest tests/chaos/test_faults.py tests/chaos/test_guild_stack_faults.py --chaos-seeds 200 $(PYTEST_ARGS)

lint: $(DEV) ## Style, types, import directions, protos; needs no network once installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint proto
	$(BIN)/buf build proto -o - | $(BIN)/buf breaking - --against proto/baseline.binpb
	$(BIN)/python tools/generate_stubs.py --check

bench: $(DEV) ## Measure this machine into bench/results, and make docs/benchmarks.md anew
	@$(BIN)/python -m bench $(BENCH_ARGS)

start-decision: $(DEV) ## Compute docs/start-decision.md anew: when jobs start, beside what others do
	@$(BIN)/python -m bench.start_decision

proto: $(DEV) ## Make the Python stubs from proto/
	$(BIN)/python tools/generate_stubs.py

proto-baseline: $(DEV) ## At a release: the protos of today become what `make lint` compares with
	$(BIN)/buf build proto --exclude-source-info -o proto/baseline.binpb

# The locks keep what they hold unless pyproject.toml asks for something else; `make lock LOCK_ARGS=--upgrade` renews.
lock: $(DEV) ## Resolve pyproject.toml again into the requirements*.lock files
	$(LOCK) $(LOCK_ARGS) -o requirements.lock
	$(LOCK) $(LOCK_ARGS) --extra dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) $(LOCK_ARGS) --extra cuda12 -c requirements.lock -o requirements-cuda12.lock
	$(LOCK) $(LOCK_ARGS) --extra cuda13 -c requirements.lock -o requirements-cuda13.lock

clean: ## Remove the virtual environment, caches and build outputs
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@tools/make_venv.sh $(VENV)

$(RUNTIME): requirements.lock pyproject.toml | $(VENV)/.made
	@echo "installing what hashfleet runs on into $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | $(VENV)/.made
	@echo "installing what the tests and checks need into $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ $(RUNTIME)
