"""The inside of one mutant's run: every spec, mode and configuration takes turns, until a check fails or time is up.

It is ``harness check`` on the tree in the current folder, but stops at the first violation and shrinks nothing. Slices
double, so that every check has its turn early. The clock asked is that of the processor.

    python mutant_run.py REQUEST ANSWER    both JSON
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import check
from harness.fleet.worker import end_with_parent
from harness.scenario.verdict import Answer
from harness.spec.loader import find_spec_files, load_specs
from harness.spec.spec import Mode, Spec

FIRST_SLICE = 10
SLICE_MAX = 320


@dataclass(slots=True)
class Bounds:
    """What a run may take: scenarios of each check, and seconds of the processor for all."""

    scenarios: int
    cpu_seconds: float

    def is_over(self) -> bool:
        return time.process_time() >= self.cpu_seconds


def main() -> None:
    request_path, answer_path = map(Path, sys.argv[1:3])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    end_with_parent(request["parent_pid"])
    memory = request["memory_bytes_max"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    answer_path.write_text(json.dumps(run(request)), encoding="utf-8")


def run(request: dict[str, Any]) -> dict[str, Any]:
    """The answer is *violated*, *crashed*, *not imported* or *survived*. Whoever gets none knows that the run hung."""
    bounds = Bounds(request["scenarios"], request["cpu_seconds"])
    sys.path.insert(0, str(Path.cwd()))
    counts = {"scenarios": 0}
    try:
        checks = _checks(request["specs"])
    except Exception:
        return {"answer": "not imported", "detail": traceback.format_exc(limit=-1)}
    try:
        detail = _first_violation(checks, request["seed"], bounds, counts)
    except Exception:
        return {"answer": "crashed", "detail": traceback.format_exc(limit=-1), **counts}
    figures = {**counts, "cpu_seconds": round(time.process_time(), 1)}
    return {"answer": "violated" if detail else "survived", "detail": detail, **figures}


Check = tuple[Spec, Mode, str]  # the last is a configuration's name


def _checks(specs: list[str]) -> list[Check]:
    folder = Path.cwd()
    loaded = [each.spec for path in find_spec_files(specs, folder) for each in load_specs(path, folder)]
    return [
        (spec, mode, configuration.name)
        for spec in loaded
        for mode in spec.modes
        for configuration in spec.configurations
    ]


def _first_violation(checks: list[Check], seed: int, bounds: Bounds, counts: dict[str, int]) -> str:
    """What was violated where; empty if nothing was."""
    for first, size in _slices(bounds.scenarios):
        for spec, mode, name in checks:
            if bounds.is_over():
                return ""
            # A spec that asks for a larger share of the time gets it here too.
            cut = {"scenarios": size * spec.share, "first_scenario": first * spec.share}
            verdict = check(spec, mode, configuration=name, seed=seed, **cut)
            counts["scenarios"] += verdict.counters.scenarios
            if verdict.answer is Answer.VIOLATED:
                return f"{verdict.reason} ({spec.name}, {mode}, {name}, scenario {verdict.scenario})"
    return ""


def _slices(scenarios: int) -> Iterator[tuple[int, int]]:
    """The first scenario of each slice, and how many it has."""
    first, size = 0, FIRST_SLICE
    while first < scenarios:
        yield first, min(size, scenarios - first)
        first += size
        size = min(2 * size, SLICE_MAX)


if __name__ == "__main__":
    main()
