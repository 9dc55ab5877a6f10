VENV := .venv
PYTHON := python3
BIN := $(VENV)/bin
SUBSET := train=128,dev=60,test=150

.PHONY: demo test check test-slow bench install

# Measure the ten default arms on a stated subset of the bundled task.
demo: install
	$(BIN)/opportune compare --limit $(SUBSET)

test: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What needs the default model or minutes; and what needs a GPU, where there is one.
test-slow: install
	$(BIN)/python -m pytest -q -m "slow or gpu"

bench: install
	$(BIN)/python -m benchmarks

install: $(VENV)/.installed

# torch comes first and pinned: a later, looser requirement would take a build with gigabytes of CUDA along.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
