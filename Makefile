# Everything that one does with Penstock, one word each. Needs python3.11 (or newer, below 3.14), pip and make.
# `make` alone lists the words.

.DEFAULT_GOAL := help
.PHONY: help serve test test-real test-mcp clients faults nodes soak bench-router check format docs lock clean bench bench-growth bench-peers
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
CONFIG ?= ray_config.yaml
TESTS ?= tests
OUTCOMES ?= ../shared/routing/outcomes.csv
FAULTS ?=
NODES ?=
REQUESTS ?= 200000
REAL_MODEL := .venv-real/tiny.gguf
SOURCES := actors bench deployments pipelines tests

PYTHON_CLIENTS := tests/clients_matrix/python
NODE_CLIENTS := tests/clients_matrix/node
MCP_SERVERS := tests/mcp_servers
PEERS := bench/peers
CLIENT_STAMPS := $(patsubst $(PYTHON_CLIENTS)/%.lock,.venv-clients/%/.stamp,$(wildcard $(PYTHON_CLIENTS)/*.lock))

# Ray starts some twenty Python processes: without cached bytecode each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

# Nothing is installed whose hash no lock file has.
SYNC := VIRTUAL_ENV=.venv .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode

# Resolving reads no configuration of this machine, and the lock files name no host.
COMPILE := UV_NO_CONFIG=1 .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --upgrade

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: .venv/.runtime ## start the gateway: PORT, LISTEN_PORT, PENSTOCK_API_KEY, PENSTOCK_STATE_DIR, CONFIG
	@exec .venv/bin/python -m deployments.launch $(CONFIG)

test: .venv/.dev ## every test but those against real model and tool servers; TESTS=path narrows them
	.venv/bin/python -m pytest -m "not real and not mcp" $(TESTS)

test-real: .venv/.dev .venv-real/.real $(REAL_MODEL) ## the tests against a real llama.cpp server (the first time: 6 min)
	PENSTOCK_REAL_PYTHON=$(CURDIR)/.venv-real/bin/python PENSTOCK_REAL_MODEL=$(CURDIR)/$(REAL_MODEL) \
		.venv/bin/python -m pytest -m real $(TESTS)

test-mcp: .venv/.dev .venv-mcp/.stamp $(MCP_SERVERS)/node_modules/.stamp ## the tests against real MCP servers, from npm and PyPI
	PENSTOCK_MCP_PYTHON=$(CURDIR)/.venv-mcp/bin/python .venv/bin/python -m pytest -m mcp $(TESTS)

clients: .venv/.dev .venv-real/.real $(CLIENT_STAMPS) $(NODE_CLIENTS)/node_modules/.stamp ## real clients against it; CLIENTS="part of a name …" narrows them
	PENSTOCK_REAL_PYTHON=$(CURDIR)/.venv-real/bin/python .venv/bin/python -m tests.clients_matrix $(CLIENTS)

faults: .venv/.dev ## providers, callers and processes that fail, against the real thing; FAULTS="caller --only slow" narrows
	.venv/bin/python -m tests.faults $(FAULTS)

nodes: .venv/.dev ## machines that die, scale, change, as network namespaces (root); NODES="losing heads" narrows
	.venv/bin/python -m tests.nodes $(NODES)

soak: .venv/.dev ## 200,000 requests with faults; memory must stand still; REQUESTS=n
	.venv/bin/python -m tests.faults soak --requests $(REQUESTS)

bench-router: .venv/.runtime ## what the router learns and what it costs: OUTCOMES=another file of the same form
	.venv/bin/python -m bench.routing $(OUTCOMES)

bench: .venv/.dev ## what a request and a chunk cost, beside no gateway and bare Ray Serve (some 11 min); BENCH="--only s200 --repeats 1" narrows it
	.venv/bin/python -m bench $(BENCH)
	.venv/bin/python -m bench.sizing

bench-growth: .venv/.dev ## how cost grows with streams, sizes, replicas, providers (some 15 min), drawn in build/growth.html; BENCH="--only replicas"
	.venv/bin/python -m bench.growth $(BENCH)

bench-peers: .venv/.dev .venv-peers/.stamp $(PEERS)/node_modules/.stamp ## the same beside LiteLLM, Portkey, HAProxy, nginx (some 7 min); BENCH="--only s200 --repeats 1" narrows it
	.venv/bin/python -m bench.peers $(BENCH)

check: .venv/.dev ## formatter, linter, strict types
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/mypy

format: .venv/.dev ## put the code into shape
	.venv/bin/ruff format $(SOURCES)
	.venv/bin/ruff check --fix $(SOURCES)

docs: .venv/.dev ## write the references into the README and docs/, and build the site in site/
	.venv/bin/python -m deployments.reference
	.venv/bin/mkdocs build --strict --quiet

lock: .venv/.uv ## resolve the newest dependencies into the lock files
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --group real -o requirements-real.lock
	@for file in $(PYTHON_CLIENTS)/*.in; do $(COMPILE) $$file -o $${file%.in}.lock || exit 1; done
	$(COMPILE) $(MCP_SERVERS)/python.in -o $(MCP_SERVERS)/python.lock
	$(COMPILE) $(PEERS)/python.in -o $(PEERS)/python.lock
	@if grep -n '://' requirements*.lock $(PYTHON_CLIENTS)/*.lock $(MCP_SERVERS)/*.lock $(PEERS)/*.lock; then echo 'a lock file names a host'; exit 1; fi

clean: ## take away the environments and all caches
	rm -rf .venv .venv-real .venv-clients .venv-mcp .venv-peers $(NODE_CLIENTS)/node_modules $(MCP_SERVERS)/node_modules $(PEERS)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build site *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps tell what an environment was made from: they are older than a lock file that has changed.

.venv/.uv: requirements-uv.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo 'penstock: Python 3.11, 3.12 or 3.13 is needed (make PYTHON=/path/to/it …)'; exit 1; }
	@echo 'making the environment in .venv'
	@"$(PYTHON)" -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

# The environment of the developers holds that of the runtime: whoever has it need not go back.
.venv/.runtime: .venv/.uv requirements.lock requirements-dev.lock
	@if test -e .venv/.dev; then $(MAKE) --no-print-directory .venv/.dev; else \
		echo 'installing the pinned dependencies'; \
		$(SYNC) requirements.lock requirements-uv.lock; fi
	@touch $@

.venv/.dev: .venv/.uv requirements-dev.lock
	@echo "installing the pinned dependencies and the developers' tools"
	@$(SYNC) requirements-dev.lock requirements-uv.lock
	@touch $@

.venv-real/.real: requirements-real.lock | .venv/.uv
	@echo 'building the real model server in .venv-real (some 6 minutes)'
	@"$(PYTHON)" -m venv --clear .venv-real
	@VIRTUAL_ENV=.venv-real .venv/bin/uv pip sync --quiet --require-hashes requirements-real.lock
	@touch $@

.venv-clients/%/.stamp: $(PYTHON_CLIENTS)/%.lock | .venv/.uv
	@echo 'installing the pinned clients in $(@D)'
	@.venv/bin/uv venv --quiet --clear --python "$(PYTHON)" $(@D)
	@VIRTUAL_ENV=$(@D) .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode $<
	@touch $@

.venv-mcp/.stamp: $(MCP_SERVERS)/python.lock | .venv/.uv
	@echo 'installing the pinned MCP servers in $(@D)'
	@.venv/bin/uv venv --quiet --clear --python "$(PYTHON)" $(@D)
	@VIRTUAL_ENV=$(@D) .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode $<
	@touch $@

# Npm warns that its own Node.js is too old: a newer one, for the clients alone, is among the packages.
$(NODE_CLIENTS)/node_modules/.stamp: $(NODE_CLIENTS)/package.json $(NODE_CLIENTS)/package-lock.json
	@command -v npm >/dev/null || { echo 'penstock: npm is needed for the JavaScript clients'; exit 1; }
	@echo 'installing the pinned clients in $(@D)'
	@npm ci --prefix $(NODE_CLIENTS) --no-audit --no-fund --loglevel=error
	@touch $@

$(MCP_SERVERS)/node_modules/.stamp: $(MCP_SERVERS)/package.json $(MCP_SERVERS)/package-lock.json
	@command -v npm >/dev/null || { echo 'penstock: npm is needed for the MCP servers of JavaScript'; exit 1; }
	@echo 'installing the pinned MCP servers in $(@D)'
	@npm ci --prefix $(MCP_SERVERS) --no-audit --no-fund --loglevel=error
	@touch $@

.venv-peers/.stamp: $(PEERS)/python.lock | .venv/.uv
	@echo 'installing the pinned LiteLLM in $(@D)'
	@.venv/bin/uv venv --quiet --clear --python "$(PYTHON)" $(@D)
	@VIRTUAL_ENV=$(@D) .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode $<
	@touch $@

# Scripts are off: Portkey's own looks for patches that its package does not have.
$(PEERS)/node_modules/.stamp: $(PEERS)/package.json $(PEERS)/package-lock.json
	@command -v npm >/dev/null || { echo 'penstock: npm is needed for the Portkey gateway'; exit 1; }
	@echo 'installing the pinned Portkey gateway in $(@D)'
	@npm ci --prefix $(PEERS) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(REAL_MODEL): .venv-real/.real ../shared/make_tiny_gguf.py
	.venv-real/bin/python ../shared/make_tiny_gguf.py $@
