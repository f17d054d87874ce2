# Everything runs in .venv, which `make setup` makes from constraints.txt. PYTHON=python3.12 chooses
# another interpreter; PIP_EXTRA_INDEX_URL=<index> takes the CPU build of torch from there, which is
# smaller by gigabytes than the one with CUDA that PyPI has for Linux.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
KILLS ?= 150
PACKAGES := pacsight viewer_api scp inference dicom_out ledger training

.DEFAULT_GOAL := help
.PHONY: help setup peers demo test check format bench viewers pages soak audit clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 16

setup: $(READY) ## the environment in .venv; nothing to do when nothing changed

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Pacsight needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv $(VENV) || \
		{ echo "python3-venv is missing; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }; }
	@echo "Installing what constraints.txt names; the first time this takes some minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

peers:
	@tools/install-peers.sh

demo: setup ## studies through a Pacsight into a PACS and back; STUDY=path takes your own
	@$(BIN)/pacsight demo $(if $(STUDY),"$(STUDY)")

# In the order of the folders: xdist would put the files with few tests last, which are the longest.
test: setup peers ## the whole suite, against real peers
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(TESTS),$(TESTS))

check: setup ## format, lint, types, import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## put the code into the one format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup peers ## the measurements of benchmarks/, some minutes
	@$(BIN)/python -m benchmarks.sync
	@$(BIN)/python -m benchmarks.intake
	@$(BIN)/python -m benchmarks.intake --tls
	@$(BIN)/python -m benchmarks.prediction
	@$(BIN)/python -m benchmarks.engines
	@$(BIN)/python -m benchmarks.encode
	@$(BIN)/python -m benchmarks.loop
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.ledger --studies 1000
	@$(BIN)/python -m benchmarks.day
	@$(BIN)/python -m benchmarks.worklist
	@$(BIN)/python -m benchmarks.uploads
	@$(BIN)/python -m benchmarks.completeness
	@$(BIN)/python -m benchmarks.completeness --real

viewers: setup peers ## the results in a real OHIF, fetched with npm; pictures in build/viewers
	@$(BIN)/python -m tests.viewers
	@$(BIN)/python -m tests.viewers.without_pacs

pages: setup peers ## every page of the web app, in build/pages; the pictures of README and docs anew
	@$(BIN)/python -m tests.viewers.pages

soak: setup peers ## the long form of the kill matrix: KILLS (150) on each database, half an hour
	@$(BIN)/python -m tests.reliability.matrix --kills $(KILLS)

audit: setup ## known vulnerabilities of what constraints.txt names, asked of PyPI
	@$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean: ## caches and what demo and tests left; .venv and data stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks \
		.coverage build dist demo-output
	@find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
