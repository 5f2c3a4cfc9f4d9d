# `make` lists the targets. Needs python3 with venv; uses uv where it is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := $(VENV)/.demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-cluster check fix bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The demo needs less than the tests, and who sees it first should not wait for the rest.
$(READY): WANTED := dev
$(DEMO): WANTED := cli
$(READY) $(DEMO): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or later is needed, and $(PYTHON) is something else;" \
			"try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
		uv venv -q --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(WANTED)]'; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(WANTED)]'; \
	fi
	@touch $@

demo: $(or $(wildcard $(READY)),$(DEMO)) ## run the main job against an emulated Foundry stack (about 20 s)
	@$(BIN)/session-pool demo

test: $(READY) ## every test, on the Python at hand
	@$(BIN)/python -m pytest -n 2 -q $(ARGS)

test-all: ## every test on Python 3.11, 3.12 and 3.13, where they are (pyenv's too)
	@for v in 3.11 3.12 3.13; do \
		python=$$(command -v python$$v || true); \
		if ! "$$python" -c '' >/dev/null 2>&1; then \
			python=$$(pyenv prefix "$$(pyenv versions --bare 2>/dev/null | grep "^$$v\." | tail -n 1)" 2>/dev/null)/bin/python; \
		fi; \
		if ! "$$python" -c '' >/dev/null 2>&1; then echo "== Python $$v is not here"; continue; fi; \
		echo "== Python $$v"; \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venvs/$$v || exit 1; \
	done

test-cluster: $(READY) ## the stores' tests on a Redis Cluster: six servers on loopback
	@SESSION_POOL_TEST_CLUSTER=1 $(BIN)/python -m pytest -q tests/stores -k cluster $(ARGS)

check: $(READY) ## format, lint, strict types, import directions (under a minute)
	@$(BIN)/ruff format --check -q . || { echo "run: make fix"; exit 1; }
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(READY) ## format and mend what can be mended
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix .

bench: $(READY) ## ratios against named peers, in one run
	@$(BIN)/python -c 'import sqlalchemy, aiosqlite' 2>/dev/null || \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m tests.benchmarks $(ARGS)

docs: $(READY) ## write what is generated: the policy table and the state diagram
	@$(BIN)/python -m tests.docs.generate

clean: ## remove what make made
	rm -rf $(VENV) .venvs .make
