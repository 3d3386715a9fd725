# Each target is the only command needed on a fresh machine: it makes .venv and installs what it uses.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/installed
	$(BIN)/nnunet-rw demo

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: setup.py
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info
