# Two commands matter: `make run` and `make test`. Everything else is for those who work on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test check format web bench faults fuzz lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(VENV)/ready: requirements.lock pyproject.toml
	@echo "· creating the Python environment in $(VENV) (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: $(VENV)/ready web ## serve on http://127.0.0.1:8000 with SQLite in ./data
	@$(BIN)/collab-server serve

web: $(VENV)/ready ## build the web part with the Node wheel
	@$(BIN)/python -m collab_server.web.build

test: $(VENV)/ready web ## the whole suite on real SQLite, Postgres, Redis and JS clients
	@$(BIN)/python -m pytest

check: $(VENV)/ready ## format check, lint, types, import contracts, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(VENV)/ready ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/ready web ## CPU per delivery beside the Node servers -> build/reports/bench.json
	@$(BIN)/python -m tests.bench

faults: $(VENV)/ready web ## kill -9 the server at random moments and look for lost updates -> build/reports/faults.json
	@$(BIN)/python -m tests.faults

fuzz: $(VENV)/ready web ## hostile frames through the guard and over real sockets -> build/reports/fuzz.json
	@$(BIN)/python -m tests.fuzz

lock: $(VENV)/ready ## pin the dependencies again, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q -o requirements.lock

clean:
	rm -rf $(VENV) build collab_server/static/vendor.js
