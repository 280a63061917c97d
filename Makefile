# The few things there are to do. GNU make 3.81 or newer; a system without it can read the
# commands off here.
#
#   PYTHON=    the Python to make .venv with; any 3.11 or newer is found by itself
#   CHROMIUM=  the browser for the tests
#   HOST= PORT=  where the demo and the interop app listen; HOST= only as an argument of make,
#              as some shells export a HOST that is another thing
#   WORKERS= CLUSTER= NODE=  of the interop app: how many processes it has, the URL of what is
#              between nodes, and the name of this one
#   ENGINE= RUNS=  of the chaos tests: redis, nats or zenoh, and how many times they are played
#   URL=       of a running server of the interop app's shape, a Phoenix one for example, which
#              `make bench ARGS=side` measures with the others
#   SEEDS= FIRST=  how many random histories of a cluster `make simulate` plays, and the seed that
#              it begins with; by default one that nobody has played before
#   ARGS=      more arguments: for pytest in `make test`, for the benchmarks in `make bench`,
#              for uv in `make lock`, for the planted bugs in `make mutate`

SHELL := /bin/sh
.DEFAULT_GOAL := help

HOST := 127.0.0.1
PORT ?= 4000
WORKERS ?= 1
SEEDS ?= 10000
FIRST ?=
ENGINE ?= zenoh
RUNS ?= 10
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
SERVE := $(BIN)/python -m roost.cli serve --host $(HOST) --port $(PORT)

.PHONY: help demo interop test lint format lock bench simulate chaos clean

help: ## list what there is to do (this)
	@echo "make VERB, where VERB is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1 \2/p' Makefile | \
	    while read -r verb what; do printf '  %-9s%s\n' "$$verb" "$$what"; done

demo: .venv/server node_modules/demo ## install what the demo needs and serve it on PORT (4000)
	$(SERVE) examples.demo.app:app

interop: .venv/server ## serve the app for comparisons with Phoenix on PORT (4000)
	@echo "serving the interop app on http://$(HOST):$(PORT)"
	WORKERS=$(WORKERS) $(SERVE) --log-level warning --workers $(WORKERS) \
	    --app-dir examples/interop app:app

test: lint node_modules/dev ## install what the tests need and run everything
	-@scripts/find-engines --install
	CHROMIUM="$$(scripts/find-chromium --install)"; export CHROMIUM; \
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/dev ## check the code without running it
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: mutate
mutate: .venv/dev ## plant bugs and show which test catches each (ARGS=NAMES for some of them)
	$(BIN)/python -m tests.mutations $(ARGS)

format: .venv/dev ## put the code in the usual form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/bench bench/node_modules/.installed ## run the benchmarks (ARGS=side: beside others)
	$(BIN)/python -m bench $(ARGS)

simulate: .venv/dev ## play SEEDS (10000) random histories of a cluster, new ones each time
	$(BIN)/python -m tests.simulation $(SEEDS) $(FIRST)

chaos: .venv/dev ## let a real cluster over ENGINE (zenoh) fail in every way, RUNS (10) times
	$(BIN)/python -m tests.chaos $(ENGINE) --runs $(RUNS)

# What is pinned stays pinned: `make lock ARGS=--upgrade` takes the newest releases.
# server.txt is made within dev.txt, so that both fit into one .venv in either order.
COMPILE := .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
    --fork-strategy fewest --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

lock: ## make the lock files anew (ARGS=--upgrade for the newest releases)
	@python=$$(scripts/find-python) && "$$python" -m venv .lock-venv
	.lock-venv/bin/python -m pip --disable-pip-version-check --quiet install uv==0.13.9
	$(COMPILE) $(ARGS) requirements/dev.in --output-file requirements/dev.txt
	$(COMPILE) $(ARGS) requirements/server.in --constraint requirements/dev.txt \
	    --output-file requirements/server.txt
	$(COMPILE) $(ARGS) requirements/bench.in --constraint requirements/dev.txt \
	    --output-file requirements/bench.txt
	npm install --package-lock-only
	npm install --package-lock-only --prefix bench
	rm -rf .lock-venv

clean: ## remove all that was installed or made
	rm -rf .venv .lock-venv node_modules bench/node_modules build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests examples bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# What is installed is noted by empty files, so that the next run is instant.

# The .venv is made anew when its Python has gone, or isn't the one that PYTHON= asks for.
MADE_WITH := $(shell test -x $(BIN)/python && cat .venv/made-with 2>/dev/null)
ifneq ($(or $(PYTHON),$(MADE_WITH),no Python yet),$(MADE_WITH))
.PHONY: .venv/made-with
endif

.venv/made-with:
	@python=$$(PYTHON="$(PYTHON)" scripts/find-python) && \
	echo "Making .venv with $$python: $$("$$python" --version)" && \
	rm -rf .venv && "$$python" -m venv .venv && echo "$$python" >$@

.venv/server: .venv/made-with requirements/server.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/server.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/made-with requirements/dev.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch .venv/server $@

# The servers that roost is compared with. Who has no npm compares it with the others.
.venv/bench: .venv/dev requirements/bench.txt
	$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@

bench/node_modules/.installed: bench/package.json bench/package-lock.json
	@mkdir -p bench/node_modules
	-npm ci --prefix bench
	@mkdir -p bench/node_modules && touch $@

NPM_FILES := package.json package-lock.json .npmrc
NPM := @command -v npm >/dev/null || \
    { echo "No npm here: install Node.js 18 or newer, which brings npm." >&2; exit 1; }

node_modules/demo: $(NPM_FILES)
	$(NPM)
	npm ci --omit=dev
	@touch $@

node_modules/dev: $(NPM_FILES)
	$(NPM)
	npm ci
	@touch node_modules/demo $@
