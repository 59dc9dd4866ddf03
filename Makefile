# make check   set up, then run every spec in every mode for about half a minute
# make test    set up, then lint, types and the whole test suite
# make bench   measure; prints ratios of two things measured in one run

PYTHON ?= python3
BIN := .venv/bin

.PHONY: check test lint bench clean

check: .venv/ready
	$(BIN)/python -m harness check

test: .venv/ready lint
	$(BIN)/python -m pytest -q

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python tests/bench/reference_mix.py
	$(BIN)/python tests/bench/endurance.py --superblock
	$(BIN)/python tests/bench/endurance.py --operations 200000

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
