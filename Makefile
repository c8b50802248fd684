# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# Needs only Python >= 3.12 (`.python-version` selects it) and make.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo
export OMP_NUM_THREADS ?= 2
# Files of tests run side by side; a file stays on one process, so that its fixtures are made once.
SIDE_BY_SIDE ?= -n 2 --dist loadfile

.PHONY: install demo test check types lint bench bench-ingest bench-region bench-graph bench-loader bench-scale bench-query lock clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo          set up, then build, train and query a small simulated atlas in ./$(DEMO_DIR)"
	@echo "make test          format, lint, types, import contracts, doctests, tests, wheel: everything"
	@echo "make check         the quick half of make test (no slow, real, memory or server tests)"
	@echo "make bench         every benchmark; make bench-ingest, -region, -graph, -loader, -scale, -query for one"
	@echo "make install       the environment alone (.venv)"
	@echo "make lock          renew requirements.lock (hashes, no index address)"

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "tisseract needs Python 3.12 or newer, but none was found; install it or pass PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/tisseract demo $(DEMO_DIR)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint types
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

check: lint types
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not real and not memory and not server"

bench: install
	for b in benchmarks/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

bench-ingest: install
	$(BIN)/python benchmarks/bench_ingest.py
	$(BIN)/python benchmarks/bench_platforms.py

bench-region: install
	$(BIN)/python benchmarks/bench_region.py

bench-graph: install
	$(BIN)/python benchmarks/bench_graph.py
	$(BIN)/python benchmarks/bench_moran.py

bench-loader: install
	$(BIN)/python benchmarks/bench_loader.py

bench-scale: install
	$(BIN)/python benchmarks/bench_scale.py

bench-query: install
	$(BIN)/python benchmarks/bench_query.py

lock: install
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --python-version 3.12 --quiet --upgrade -o requirements.lock

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
