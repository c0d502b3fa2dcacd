# Every target installs what it needs, in the active virtual environment or else in .venv, with uv
# if available. Works with GNU make 3.81 (macOS) and later.

SHELL := bash
.DEFAULT_GOAL := help

VENV := $(or $(VIRTUAL_ENV),$(CURDIR)/.venv)
PY := "$(VENV)/bin/python"

# uv does not read pip's configuration; `make UV= TARGET` forces pip.
UV := $(shell command -v uv || python3 -c 'import uv; print(uv.find_uv_bin())' 2>/dev/null)

export PATH := $(VENV)/bin:$(PATH)

RUNTIME_LOCK := requirements/runtime.lock
CHECKOUT_LOCK := requirements/checkout.lock
DEV_LOCK := requirements/dev.lock

# Passed on to the command: make test ARGS="-k parity"
ARGS :=

# Three workers on any machine: the tests wait more than they compute, and each worker runs real CLI
# processes of 210 MB. tests/conftest.py orders the files.
PYTEST := -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'demo, serve and proto install only the runtime; test, check, bench, soak and examples add the development tools.'

.PHONY: demo
demo: setup ## HTTP and gRPC API on the built-in simulated model, with one streamed completion each
	@"$(VENV)/bin/bridge" serve --grpc --http --demo --try $(ARGS)

.PHONY: serve
serve: setup ## HTTP and gRPC API on your Claude subscription
	@"$(VENV)/bin/bridge" serve --grpc --http $(ARGS)

.PHONY: proto
proto: setup ## Install the project and generate the gRPC stubs from proto/
	@test -n "$(VIRTUAL_ENV)" || echo 'Ready. For the command `bridge`: source .venv/bin/activate'

.PHONY: test
test: setup-dev ## All tests, with reduced counts (minutes)
	@$(PY) $(PYTEST) $(ARGS)

.PHONY: unit
unit: setup-dev ## Tests without a CLI and without a server (seconds)
	@$(PY) $(PYTEST) tests/unit $(ARGS)

.PHONY: test-long
test-long: setup-dev ## All tests, with full counts
	@BRIDGE_TEST_SCALE=10 $(PY) $(PYTEST) $(ARGS)

.PHONY: check
check: setup-dev ## Lint, format, types, imports and dependencies, as CI runs them
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@"$(VENV)/bin/lint-imports" --cache-dir .ruff_cache/imports
	@"$(VENV)/bin/deptry" .
	@$(PY) -m mypy --strict bridge tests benchmarks examples hatch_build.py

.PHONY: bench
bench: setup-dev ## Measure the overhead compared with driving Claude Code directly
	@$(PY) -m benchmarks $(ARGS)

.PHONY: examples
examples: setup-dev ## Build and run every program in examples/ against the built-in simulated model
	@$(PY) -m examples

.PHONY: probe
probe: setup ## Write the report on the bundled CLI's behaviours; run it after changing the pinned SDK
	@$(PY) -m bridge.probe

.PHONY: soak
soak: setup-dev ## Mixed traffic with random faults: make soak ARGS="--seconds 600 --seed 1"
	@$(PY) -m tests.system.soak $(ARGS)

.PHONY: clean
clean: ## Remove everything that the other targets created, including .venv
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	rm -rf $(addprefix examples/typescript/,dist gen node_modules protos)
	rm -f bridge/v1/*_pb2*.py bridge/v1/*_pb2*.pyi bridge/v1/*.proto bridge/v1/bridge.binpb
	find bridge tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

PIP := $(PY) -m pip install --disable-pip-version-check --no-compile
ENSURE_PIP := $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null;
INSTALL := $(if $(UV),"$(UV)" pip install --python $(PY),$(PIP))

# The inputs of an installation; it is repeated when one of them changes.
STAMP := "$(VENV)/.claude-code-bridge"
fingerprint = { pwd; $(PY) -VV; cat $(1) pyproject.toml hatch_build.py bridge/__init__.py; } | cksum

# $(call install,LOCKS,ALL): installs the packages pinned in LOCKS and the project, which generates the
# stubs, unless these or those pinned in ALL, a superset, are installed already.
define install
	@installed="$$(cat $(STAMP) 2>/dev/null)"; \
	if [ "$$installed" != "$$($(call fingerprint,$(1)))" ] \
	    && [ "$$installed" != "$$($(call fingerprint,$(2)))" ]; then \
	    set -e; \
	    echo "Installing $(1) in $(VENV)"; \
	    rm -f $(STAMP); \
	    $(if $(UV),,$(ENSURE_PIP)) \
	    $(INSTALL) --require-hashes $(patsubst %,-r %,$(1)); \
	    $(INSTALL) --no-build-isolation --no-deps --force-reinstall -e .; \
	    $(call fingerprint,$(1)) >$(STAMP); \
	else \
	    $(PY) hatch_build.py; \
	fi
endef

.PHONY: setup
setup: venv
	$(call install,$(RUNTIME_LOCK) $(CHECKOUT_LOCK),$(DEV_LOCK))

.PHONY: setup-dev
setup-dev: venv
	$(call install,$(DEV_LOCK),$(DEV_LOCK))

.PHONY: venv
venv:
	@if [ ! -x $(PY) ]; then \
	    if [ -n "$(VIRTUAL_ENV)" ]; then \
	        echo "The active environment $(VIRTUAL_ENV) has no Python: deactivate or recreate it." >&2; exit 1; \
	    fi; \
	    for python in python3 python3.14 python3.13 python3.12 python3.11 none; do \
	        "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    done; \
	    if [ "$$python" = none ]; then echo "Python 3.11 or later is required." >&2; exit 1; fi; \
	    echo "Creating $(VENV)"; \
	    "$$python" -m venv --clear $(if $(UV),--without-pip) "$(VENV)"; \
	fi
	@$(PY) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or later is required; {sys.prefix} has {sys.version.split()[0]}")'

# ARGS=--upgrade selects the newest versions that pyproject.toml allows. The only target that needs uv; it
# installs uv if it is missing.
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS)

.PHONY: lock
lock: venv ## Pin the dependencies of pyproject.toml, with hashes, in requirements/
	@set -e; \
	uv="$(UV)"; \
	if [ -z "$$uv" ]; then $(ENSURE_PIP) $(PIP) --quiet uv; uv="$(VENV)/bin/uv"; fi; \
	set -x; \
	"$$uv" $(COMPILE) --output-file $(DEV_LOCK) --all-extras --group dev pyproject.toml; \
	"$$uv" $(COMPILE) --output-file $(RUNTIME_LOCK) --constraint $(DEV_LOCK) pyproject.toml; \
	"$$uv" $(COMPILE) --output-file $(CHECKOUT_LOCK) --constraint $(DEV_LOCK) --group checkout
