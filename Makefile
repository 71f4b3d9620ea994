# `make demo` and `make test` are the only two commands needed: both install what they use into .venv first.
PYTHON ?= python3
BIN := .venv/bin
ROOM ?= rectified_flow
# A process per core, each with one thread: networks of tests are too small for more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PATHS := visionseq kernels model_zoo tools tests datasets

# The checkout's root holds folders named `kernels` and `datasets`; keep them off sys.path.
export PYTHONSAFEPATH := 1

.PHONY: setup demo test test-all lint types bench claims docs clean

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv || { echo "python3 cannot create environments: install the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/python tools/demo.py --overwrite

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

lint: setup types
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/python -m pytest tests/contracts/test_floors.py

# The package as it is installed, with kernels/ inside: checkers do not follow the mapping of an editable installation.
types: setup
	@rm -rf build/types && mkdir -p build/types/visionseq
	@ln -s $(CURDIR)/visionseq/* $(CURDIR)/kernels build/types/visionseq/
	MYPYPATH=build/types $(BIN)/mypy build/types/visionseq tests/typing

bench: setup
	$(BIN)/python tools/benchmark.py $(ROOM) --out docs/benchmarks/$(ROOM).json --overwrite

claims: setup
	$(BIN)/python tools/claims.py $(ROOM) --overwrite

docs: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
