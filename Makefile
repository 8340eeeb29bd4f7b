# The verbs of the project. `make run` and `make test` do all the set-up themselves.

SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements/runtime.txt requirements/dev.txt

.PHONY: help setup run test check
help:
	@echo "run    a server on http://localhost:8008"
	@echo "test   everything that the project promises"
	@echo "check  style and types only"
	@echo "setup  .venv with the package in it"

setup: $(STAMP)
$(STAMP): $(LOCKS) setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

run: setup
	$(BIN)/python -m homeserver run

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2
