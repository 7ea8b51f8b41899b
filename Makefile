# make demo: the quickstart.  make test: the tests.  Both set up .venv when it is not there.
# make screenshots: the pictures of the README, from a run of the quickstart.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint format screenshots clean

demo: $(READY)
	$(BIN)/chelate run quickstart

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(READY)
	home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	$(BIN)/chelate run quickstart --home "$$home" >/dev/null && \
	$(BIN)/python docs/make_screenshots.py "$$home" quickstart

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("chelate needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable . --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
