# Two commands for a fresh machine that has only Python: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Small models are faster on one thread, and two threads on a busy machine can be a hundred times slower.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check lint format types docs bench clean

demo: $(VENV)/installed
	$(BIN)/blindspots evaluate --out runs/demo
	@echo "open runs/demo/report.html in a browser"

test: $(VENV)/developed
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: lint types test

lint: $(VENV)/developed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/developed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/developed
	$(BIN)/mypy

docs: $(VENV)/developed
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/zensical build

bench: $(VENV)/developed
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# torchattacks pins a package of 2021 that clashes with today's others; it runs without its pins.
$(VENV)/developed: pyproject.toml $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[models,onnx,track,explain]" --group dev
	$(BIN)/python -m pip install --quiet --no-deps "torchattacks>=3.5"
	@touch $@
