# Everything happens in this directory's own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
MODEL ?= google/gemma-3-270m
GROWN ?= runs/grown

.PHONY: quickstart grown test test-slow lint docs organism bench clean

quickstart: $(BIN)/.installed
	$(BIN)/jaxattack --config=configs/quickstart.py --workdir=$(WORKDIR)

# A real model with a harmless policy (docs/grown.md): the plan, the growing, the study in short.
grown: $(BIN)/.installed
	for what in --dry_run ""; do \
	  $(BIN)/jaxattack --config=configs/grow.py:$(MODEL) --workdir=$(GROWN) \
	    --config.policies="('currency',)" $$what || exit; \
	done
	for what in --dry_run ""; do \
	  $(BIN)/jaxattack --config=configs/fragility.py:grown_short --workdir=$(GROWN)/study \
	    --config.model=$(GROWN)/grown/currency $$what || exit; \
	done

test: $(BIN)/.installed-test
	$(BIN)/python -m pytest -n 2

test-slow: $(BIN)/.installed-test
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

lint: $(BIN)/.installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(BIN)/.installed-test
	$(BIN)/python docs/settings.py

organism: $(BIN)/.installed-test
	$(BIN)/jaxattack --config=configs/organism.py --workdir=runs/organism

bench: $(BIN)/.installed-test
	$(BIN)/python -m benchmarks

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(BIN)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs
