# Two commands matter:
#   make run    set up .venv, provide the default model, classify the tracks in examples/
#               (make run FILES="a.mp3 b.flac" classifies those)
#   make test   install what the tests need, then lint, types, docs, tests and the clean-install check
#   make pipeline FILE=music.yaml goes from labelled music to a served model (docs/pipeline.md)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILES ?= examples
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# Some machines are told to keep no bytecode: each process that the tests start would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow pipeline lint types docs-check wheel-check setup-run setup-test setup-pipeline bench clean

run: setup-run
	@$(BIN)/musicgenre bundles get
	@$(BIN)/musicgenre classify $(FILES)

test: setup-test lint types docs-check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile
	$(BIN)/python scripts/check_wheel.py

# the slow tests alone (-m slow) took five minutes on two busy cores, one file after another
test-slow: setup-test
	$(BIN)/python -m pytest -q

pipeline: setup-pipeline
	@$(BIN)/musicgenre pipeline "$(FILE)"

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-test
	$(BIN)/mypy

docs-check: setup-test
	$(BIN)/python scripts/check_docs.py

wheel-check: setup-test
	$(BIN)/python scripts/check_wheel.py

bench: setup-test
	$(BIN)/python benchmarks/classify.py

setup-run: $(VENV)/.run-installed
setup-test: $(VENV)/.test-installed
setup-pipeline: $(VENV)/.pipeline-installed

$(VENV)/.run-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.pipeline-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[train,serve]'
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run-installed $(VENV)/.pipeline-installed

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
