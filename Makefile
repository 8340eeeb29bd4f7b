# The verbs of the project. Each does the set-up that it needs; `make` alone tells what there is.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= data
# Named after what is to be installed, so that setting up again is quick when nothing changed, whatever the dates of
# the files are.
STAMP := $(VENV)/.installed-$(shell cat requirements/dev.txt requirements/runtime.txt setup.cfg | sha256sum | cut -c1-16)
# A peer for the tests, in an environment of its own, so that nothing of ours can come to depend on it.
SYNAPSE := .venv-synapse
SYNAPSE_STAMP := $(SYNAPSE)/.installed-$(shell sha256sum < requirements/synapse.txt | cut -c1-16)
# A client for the tests, likewise: Node from a wheel, and what npm's lock file names.
JS := .venv-js
JS_STAMP := $(JS)/.installed-$(shell cat requirements/js.txt tests/js/package.json tests/js/package-lock.json | sha256sum | cut -c1-16)
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-options

.DEFAULT_GOAL := help
.PHONY: help setup synapse js run dev test acceptance simulate check format fuzz bench docs lock clean

help: ## tell what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: $(STAMP) ## make .venv with the package in it, from the lock files
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Guildhall needs Python 3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

synapse: $(SYNAPSE_STAMP) ## make .venv-synapse with a Synapse in it, the peer that the tests talk to
$(SYNAPSE_STAMP):
	@test -x $(SYNAPSE)/bin/python || $(PYTHON) -m venv $(SYNAPSE)
	$(SYNAPSE)/bin/python -m pip install --quiet --require-hashes --requirement requirements/synapse.txt
	@rm -f $(SYNAPSE)/.installed-*
	@touch $@

js: $(JS_STAMP) ## make .venv-js with a matrix-js-sdk in it, a client that the tests drive
$(JS_STAMP):
	@test -x $(JS)/bin/python || $(PYTHON) -m venv $(JS)
	$(JS)/bin/python -m pip install --quiet --require-hashes --requirement requirements/js.txt
	cp tests/js/package.json tests/js/package-lock.json $(JS)
	tests/tools/npm.sh ci --prefix $(JS)
	@rm -f $(JS)/.installed-*
	@touch $@

run: setup ## a server on http://localhost:8008, with its data in ./data
	@test -e $(DATA)/homeserver.yaml || \
		$(BIN)/python -m homeserver init --server-name localhost --data-dir $(DATA) --profile dev >/dev/null
	@echo "Make the first account, in another terminal: $(BIN)/python -m homeserver register-user -c $(DATA)/homeserver.yaml -u alice --admin"
	@exec $(BIN)/python -m homeserver run -c $(DATA)/homeserver.yaml

dev: setup ## a throwaway server on http://localhost:8008, gone when it stops
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && \
		$(BIN)/python -m homeserver init --server-name localhost --data-dir "$$data" --profile dev >/dev/null && \
		$(BIN)/python -m homeserver run -c "$$data/homeserver.yaml"

check: setup ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## put the code into its usual form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: check synapse js ## everything that the project promises, in two processes: some minutes
	tests/tools/need_postgres.sh
	tests/tools/need_s3.sh
	tests/tools/need_package.sh coturn turnserver turnutils_uclient
	tests/tools/need_package.sh nginx-light nginx
	tests/tools/need_package.sh caddy caddy
	tests/tools/need_package.sh espeak-ng espeak-ng
	$(BIN)/python -m pytest -n 2 --dist worksteal

acceptance: setup synapse ## scenarios with a real Synapse: every mix of servers, role and room version; half an hour
	ACCEPTANCE=1 $(BIN)/python -m pytest tests/scenarios -n 2 --dist worksteal

simulate: setup ## servers against an adversary, in one process and on one clock: SEEDS=100 from FIRST=1, or the story of one SEED
	$(BIN)/python -m tests.simulation $(if $(SEED),replay $(SEED),run --seeds $(or $(SEEDS),100) --first $(or $(FIRST),1))

fuzz: setup ## hostile bytes against parsers and the HTTP edge, for FUZZ_SECONDS (60) in all
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} $(BIN)/python -m pytest tests/fuzz

bench: setup ## CPU per operation, growth with members and history, memory; 4 minutes, no network
	$(BIN)/python -m pytest tests/bench -o python_files='bench_*.py' -s

docs: setup ## write homeserver.yaml anew, from the settings' own documentation
	$(BIN)/python -c 'from config.document import document; print(document(), end="")' > homeserver.yaml

lock: setup js ## choose the newest versions of all dependencies that setup.cfg and requirements/*.in allow
	$(COMPILE) --upgrade --output-file requirements/runtime.txt setup.cfg requirements/runtime.in
	$(COMPILE) --upgrade --output-file requirements/dev.txt requirements/dev.in
	$(COMPILE) --upgrade --output-file requirements/synapse.txt requirements/synapse.in
	$(COMPILE) --upgrade --output-file requirements/js.txt requirements/js.in
	tests/tools/npm.sh update --prefix tests/js --package-lock-only

clean: ## remove what the other verbs made, but not ./data
	rm -rf $(VENV) $(SYNAPSE) $(JS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
