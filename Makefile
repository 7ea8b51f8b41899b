# make demo: the quickstart.  make test: the tests.  Both set up .venv when it is not there.
# make test-slurm: on a Slurm of one node that it installs and starts; root, Debian.
# make screenshots: the pictures of the README, from a run of the quickstart.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-slurm lint format screenshots clean

demo: $(READY)
	$(BIN)/chelate run quickstart

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-slurm: $(READY)
	$(BIN)/python tests/slurm/cluster.py install
	$(BIN)/python tests/slurm/cluster.py start
	CHELATE_TEST_SLURM=1 $(BIN)/python -m pytest -n 0 --durations=0 tests/slurm
	$(BIN)/python tests/slurm/cluster.py stop

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
