# make check   set up, then run every spec in every mode for about half a minute
# make test    set up, then lint, types and the whole test suite
# make nightly set up, then what takes hours: a million crashes, short programs, crash images and kills, interrupts, planted bugs
# make bench   measure; prints ratios of things measured in one run, this store and others among them
# make mutants 300 small changes of the store, and which of them no spec sees; goes on where it was stopped

PYTHON ?= python3
BIN := .venv/bin

.PHONY: check test lint nightly bench mutants clean

check: .venv/ready
	$(BIN)/python -m harness check

test: .venv/ready lint
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Each part says what it found; the rest runs all the same, and the worst of them is the answer.
nightly: .venv/ready
	@failed=0; \
	$(BIN)/python -m harness check --mode crash --scenarios 85000 || failed=1; \
	$(BIN)/python -m harness torture shardstore/node_spec.py --images 10000 --kills 1000 || failed=1; \
	$(BIN)/python -m harness bugs tests/planted --seeds 20 --confirm 120 || failed=1; \
	$(BIN)/python -m harness exhaust shardstore/node_spec.py --operations 2 || failed=1; \
	$(BIN)/python -m pytest -q -m nightly --numprocesses auto --maxprocesses 8 || failed=1; \
	exit $$failed

bench: .venv/rivals .venv/mutants
	$(BIN)/python tests/bench/rivals_print.py
	$(BIN)/python tests/bench/reference_mix.py
	$(BIN)/python tests/bench/endurance.py --superblock
	$(BIN)/python tests/bench/endurance.py --operations 200000
	$(BIN)/python tests/bench/mutants_print.py --count 5 --cpu-seconds 15

mutants: .venv/mutants
	$(BIN)/python tests/bench/mutants_print.py --count 300 --cpu-seconds 60 --results build/mutants.json

# The stores to compare with, one by one: those that cannot be had are left out.
.venv/rivals: .venv/ready
	@$(BIN)/python -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' \
	| while read -r package; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$package" </dev/null \
	  || echo "$$package: cannot be installed, bench goes on without it"; \
	done
	@touch $@

.venv/mutants: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	@touch $@

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
