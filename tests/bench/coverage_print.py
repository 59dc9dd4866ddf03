"""Prints which lines and branches of the store generated scenarios alone do not reach, by module.

    .venv/bin/python tests/bench/coverage_print.py [--scenarios N] [SPEC]...

It runs `harness check` with one job under coverage.py. What is not reached there is not looked at, whatever single
tests do. Two things are not seen: code that runs within an operation in which an exception from outside arrives, since
that has the trace function then, and threads, of which there are none.
"""

from __future__ import annotations

import argparse
import tempfile

from coverage import Coverage

from harness.cli.main import main

NOT_PRODUCTION = ("*/*_spec.py", "*/spec_*.py")


def measure(scenarios: int, specs: list[str]) -> None:
    coverage = Coverage(data_file=None, branch=True, source=["shardstore"], omit=NOT_PRODUCTION)
    coverage.start()
    try:
        with tempfile.TemporaryDirectory() as corpus:
            main(["check", "--jobs", "1", "--scenarios", str(scenarios), "--corpus", corpus, *specs])
    finally:
        coverage.stop()
    coverage.report(show_missing=True, skip_covered=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=100, help="for each check")
    parser.add_argument("specs", nargs="*")
    chosen = parser.parse_args()
    measure(chosen.scenarios, chosen.specs)
