# Two commands do all set-up on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')

.PHONY: help setup setup-test up demo demo-check test check lint types imports protos bench prove lock clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tollgate needs Python 3.11 or newer; set PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned packages (once)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@mkdir -p gen
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.test: requirements-test.lock $(VENV)/.runtime
	@echo "installing pinned test packages (once)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	@touch $@

gen/.made: $(PROTOS) $(VENV)/.runtime
	@rm -rf gen/.new && mkdir -p gen/.new
	@PATH="$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=gen/.new --grpc_python_out=gen/.new \
		--mypy_out=quiet:gen/.new --mypy_grpc_out=quiet:gen/.new $(PROTOS:protos/%=%)
	@# Swapped in at the end: what runs meanwhile finds the old stubs rather than none.
	@rm -rf gen/.old && if [ -d gen/tollgate ]; then mv gen/tollgate gen/.old; fi
	@mv gen/.new/tollgate gen/tollgate && rm -rf gen/.new gen/.old
	@touch $@

setup: $(VENV)/.runtime gen/.made ## install what the programs need and make the stubs

# Programs of others that tests run beside Tollgate, under licences and with pins of their own:
# an environment apart. Without it the tests that want them are skipped, and say so.
.venv-peers/.made: tests/peers/localstripe.lock
	@$(PYTHON) -m venv .venv-peers \
		&& .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< \
		&& touch $@ || { rm -rf .venv-peers; echo "the peers of the tests cannot be had; their tests are skipped" >&2; }

setup-test: setup $(VENV)/.test .venv-peers/.made ## the same, with what the tests need

up: setup ## start everything on loopback and leave it running
	@$(BIN)/tollgate up

demo: setup ## the main job end to end, with a summary in build/demo
	@$(BIN)/tollgate demo

demo-check: setup ## a short demo that fails unless all of it is verified
	@$(BIN)/tollgate demo --events 5000 --output build/demo-check

test: setup-test ## all tests, on a real Postgres and a real Redis
	@$(BIN)/python -m pytest $(ARGS)

check: lint types imports protos test ## everything CI runs

lint: setup-test
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup-test
	@$(BIN)/mypy

imports: setup-test
	@$(BIN)/lint-imports

# What the contracts are compared with: the newest release, else the branch that is published.
AGAINST ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-parse --verify -q origin/main || git rev-parse --verify -q HEAD)

node_modules/.bin/buf: package.json
	@command -v npm >/dev/null || { echo "the contract checks need Node.js 18 or newer with npm" >&2; exit 1; }
	@npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@

protos: node_modules/.bin/buf ## lint the contracts, and compare them with those published
	@node_modules/.bin/buf lint
	@node_modules/.bin/buf breaking --against '.git#ref=$(AGAINST)'

bench: setup ## figures as JSON; ONLY=name runs one
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

prove: setup-test ## why the ledger may be trusted; LONG=1, LAYER=name, SEED=n, OPERATIONS=n, FAULTS=n, MINUTES=n
	@$(BIN)/python -m proof $(if $(LONG),--long) $(if $(LAYER),--layer $(LAYER)) $(if $(SEED),--seed $(SEED)) \
		$(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(MINUTES),--minutes $(MINUTES))

lock: ## pin all packages anew, with hashes and without addresses
	@uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock
	@uv pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --extra test -c requirements.lock pyproject.toml -o requirements-test.lock

clean: ## stop what runs here and remove what was made
	@if [ -x $(BIN)/tollgate ]; then $(BIN)/tollgate down || true; fi
	@rm -rf build gen .tollgate $(VENV) .venv-peers node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
