"""Running planted bugs: applies each, searches for it, shrinks it, and replays its case with and without the plant.

A plant counts as *caught* only if all of this holds. Every seed found it, by the property it names. Shrinking reached
the minimum it states, and showed it to be 1-minimal. The case still fails on the planted tree, and is fixed on the
clean one. The report says in words what does not hold.

Each search, and each replay on the clean tree, runs in a fresh process with the copies first on its path. The process
is killed when it takes too long, when the run is interrupted, and, on Linux, when its parent dies. Planted trees are
temporary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from harness.fleet.interrupts import scratch_folder
from harness.fleet.jobs import Fate, Job, Outcome, Reporter, why_incomplete
from harness.fleet.pool import run_jobs
from harness.planted.changed_lines import changed_lines
from harness.planted.plants import Plant, PlantError, plant_tree

_MARGIN_SECONDS: Final = 400.0  # for shrinking and start-up, beyond the time to search
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The result of one seed for one plant; ``scenarios`` and ``seconds`` count up to the find, if there was one."""

    seed: int
    found: bool
    scenarios: int
    seconds: float
    other_properties: tuple[str, ...] = ()  # broken on the way, but not the property asked for
    operations_found: int | None = None
    operations: int | None = None
    one_minimal: bool = False
    shrink_seconds: float | None = None
    still_fails_planted: bool = False
    clean_answer: str = ""
    case: str = ""
    confirmed_operations: int | None = None  # no program of up to so many of the case's calls fails
    shorter_fails: bool = False  # a program of one call more does, though it is shorter than the minimal case
    reached: int | None = None  # scenarios in which a changed statement ran; None if all run on import alone


@dataclass(frozen=True, slots=True)
class PlantResult:
    """The results of all seeds of one plant; ``error`` says why it could not be run, or not to its end."""

    plant: Plant
    seeds: tuple[SeedResult, ...] = ()
    error: str = ""
    is_unknown: bool = False  # interrupted, or its worker was lost

    def problems(self) -> list[str]:
        """The reasons why the plant does not count as caught; empty if it does."""
        if self.error:
            return [self.error]
        missed = [result for result in self.seeds if not result.found]
        found = [result for result in self.seeds if result.found]
        problems = []
        if missed or not self.seeds:
            problems.append(f"not found within the budget by {len(missed)} of {len(self.seeds)} seeds")
        if missed:
            problems.append(_reach_of(missed))
        if others := sorted({name for result in missed for name in result.other_properties}):
            problems.append(f"found instead: {', '.join(others)}")
        problems += _shrink_problems(found, self.plant.minimum_operations)
        if not all(result.still_fails_planted for result in found):
            problems.append("its case does not replay on the plant")
        if any(result.shorter_fails for result in found):
            problems.append("not minimal: exhaustion found a shorter program of the same calls")
        if unclean := sorted({result.clean_answer for result in found} - {"fixed"}):
            problems.append(f"on the clean tree its case answers: {', '.join(unclean)}")
        return problems

    @property
    def is_caught(self) -> bool:
        return not self.problems()

    def seconds_median(self) -> float | None:
        return median(result.seconds for result in self.seeds) if self.seeds else None

    def seconds_worst(self) -> float | None:
        return max((result.seconds for result in self.seeds), default=None)

    def scenarios_median(self) -> float | None:
        return median(result.scenarios for result in self.seeds) if self.seeds else None

    def reached_share(self) -> float | None:
        """The share of scenarios that ran a changed statement; None if all that is changed runs on import alone."""
        if not self.seeds or any(result.reached is None for result in self.seeds):
            return None
        scenarios = sum(result.scenarios for result in self.seeds)
        return sum(result.reached or 0 for result in self.seeds) / scenarios if scenarios else 0.0

    def confirmed(self) -> str:
        """Whether the minimum was confirmed, or up to how many operations; empty if that was not tried."""
        depths = [each.confirmed_operations for each in self.seeds if each.confirmed_operations is not None]
        if not depths:
            return ""
        return "yes" if max(depths) >= self.plant.minimum_operations - 1 else f"to {max(depths)}"

    def operations(self) -> list[int]:
        return [result.operations for result in self.seeds if result.operations is not None]


def _reach_of(results: Sequence[SeedResult]) -> str:
    """Whether what the plant has changed ran at all: what was not found may not have been reached."""
    if any(result.reached is None for result in results):
        return "what it changes runs on import"
    reached, total = sum(each.reached or 0 for each in results), sum(each.scenarios for each in results)
    if not reached:
        return f"not reached: none of {total:,} scenarios ran a changed line"
    return f"reached: {reached:,} of {total:,} scenarios ran a changed line"


def _shrink_problems(found: Sequence[SeedResult], minimum_operations: int) -> list[str]:
    problems = []
    sizes = sorted({result.operations for result in found if result.operations is not None})
    if any(size > minimum_operations for size in sizes):
        problems.append(f"shrunk to {sizes[-1]} operations, not {minimum_operations}")
    if any(size < minimum_operations for size in sizes):
        problems.append(f"shrunk to {sizes[0]} operations, fewer than the stated minimum of {minimum_operations}")
    if not all(result.one_minimal for result in found):
        problems.append("not 1-minimal")
    return problems


@dataclass(frozen=True, slots=True)
class Search:
    """The time that one seed may use, in seconds."""

    seconds: float
    confirm_seconds: float  # 0: the minimum is not confirmed


def run_plants(
    plants: Sequence[Plant],
    source: Path,
    *,
    seeds: int = 1,
    seconds: float = 60.0,
    confirm_seconds: float = 0.0,
    jobs: int = 1,
    report: Callable[[PlantResult], None] = lambda result: None,
) -> list[PlantResult]:
    """Run every plant against the code in ``source``; ``report`` is called with each result as it is ready.

    Each seed searches for ``seconds``. With ``confirm_seconds``, the minimum that the first seed of a plant found is
    confirmed, for that long. An interrupt ends the run but not this function: unfinished plants have the error
    `INTERRUPTED`.
    """
    source = source.resolve()
    runs: list[tuple[int, Job[SeedResult]]] = []  # with the position of the plant
    with scratch_folder("planted-") as trees:
        errors = [_plant_error(plant, source, trees / str(position)) for position, plant in enumerate(plants)]
        for position, plant in enumerate(plants):
            for place, seed in enumerate(plant.seeds or range(seeds) if not errors[position] else ()):
                search = Search(seconds, 0.0 if place else confirm_seconds)
                runs.append((position, _job(plant, seed, trees / str(position), source, search)))
        results = _Results(plants, errors, [position for position, _ in runs], report)
        run_jobs([job for _, job in runs], jobs, on_end=results.take)
    return results.in_order()


def _plant_error(plant: Plant, source: Path, folder: Path) -> str:
    """Apply the plant; give why it cannot be applied, or nothing."""
    folder.mkdir()
    try:
        plant_tree(plant, source, folder)
    except PlantError as error:
        return str(error)
    return ""


def _job(plant: Plant, seed: int, planted: Path, clean: Path, search: Search) -> Job[SeedResult]:
    arguments = (plant, seed, planted, clean, search)
    return Job(f"{plant.id}, seed {seed}", run_seed, arguments, expected_errors=(PlantError,))


class _Results:
    """Collects the results of each plant's seeds as they end."""

    def __init__(
        self,
        plants: Sequence[Plant],
        errors: Sequence[str],
        positions: Sequence[int],
        report: Callable[[PlantResult], None],
    ) -> None:
        self._plants = plants
        self._positions = positions  # of the plant of each job
        self._report = report
        self._outcomes: list[dict[int, Outcome[SeedResult]]] = [{} for _ in plants]
        self._results: dict[int, PlantResult] = {}
        for position, plant in enumerate(plants):
            if position not in positions:
                self._finish(position, PlantResult(plant, error=errors[position]))

    def take(self, number: int, outcome: Outcome[SeedResult]) -> None:
        position = self._positions[number]
        mine = self._outcomes[position]
        mine[number] = outcome
        if len(mine) == self._positions.count(position):
            seeds = [each.value for each in mine.values() if each.value is not None]
            in_order = tuple(sorted(seeds, key=lambda result: result.seed))
            is_unknown = any(each.fate not in (Fate.DONE, Fate.FAILED) for each in mine.values())
            error = why_incomplete(mine.values())
            self._finish(position, PlantResult(self._plants[position], in_order, error, is_unknown))

    def _finish(self, position: int, result: PlantResult) -> None:
        self._results[position] = result
        self._report(result)

    def in_order(self) -> list[PlantResult]:
        return [self._results[position] for position in range(len(self._plants))]


def run_seed(reporter: Reporter, plant: Plant, seed: int, planted: Path, clean: Path, search: Search) -> SeedResult:
    """Search one planted tree with one seed, and replay the case on the clean tree. Raises `PlantError`."""
    request = {
        "action": "find",
        "plant": plant.id,
        "spec": plant.spec,
        "mode": plant.mode,
        "property": plant.property,
        "place": plant.place,
        "configuration": plant.configuration,
        "replaced": {file: changed_lines(clean / file, planted / file) for file in _files_of(plant)},
        "seed": seed,
        "seconds": search.seconds,
        "confirm_seconds": search.confirm_seconds,
    }
    seconds = search.seconds + search.confirm_seconds
    found = _in_fresh_process(reporter, plant, request, planted, seconds)
    if not found["found"]:
        missed = SeedResult(seed, False, found["scenarios"], found["seconds"], tuple(found["other"]))
        return replace(missed, reached=found["reached"])
    clean_request = {"action": "replay", "case": found["case"]}
    clean_answer = _in_fresh_process(reporter, plant, clean_request, clean, seconds)
    return SeedResult(
        seed,
        True,
        found["scenarios"],
        found["seconds"],
        tuple(found["other"]),
        found["operations_found"],
        found["operations"],
        found["one_minimal"],
        found["shrink_seconds"],
        found["still_fails"],
        clean_answer["answer"],
        found["case"],
        found["confirmed_operations"],
        found["shorter_fails"],
        found["reached"],
    )


def _files_of(plant: Plant) -> list[str]:
    return list(dict.fromkeys(replacement.file for replacement in plant.replacements))


def _in_fresh_process(
    reporter: Reporter, plant: Plant, request: dict[str, Any], folder: Path, seconds: float
) -> dict[str, Any]:
    with TemporaryDirectory(prefix="planted-io-") as exchange:
        request_path, answer_path = Path(exchange, "request.json"), Path(exchange, "answer.json")
        request_path.write_text(json.dumps({**request, "parent_pid": os.getpid()}), encoding="utf-8")
        command = [sys.executable, "-m", "harness.planted.planted_run", str(request_path), str(answer_path)]
        status, errors = _run(reporter, plant, command, folder, seconds + _MARGIN_SECONDS)
        if status or not answer_path.is_file():
            last = (errors.strip().splitlines() or [f"exit status {status}"])[-1]
            raise PlantError(f"plant {plant.id}: its process failed: {last}")
        answer: dict[str, Any] = json.loads(answer_path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise PlantError(f"plant {plant.id}: {answer['error']}")
    return answer


def _run(reporter: Reporter, plant: Plant, command: list[str], folder: Path, seconds: float) -> tuple[int, str]:
    """Run a process; give its exit status and its standard error."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that an interrupt from the terminal reaches only the parent
    )
    ends_at = time.monotonic() + seconds
    with process:
        try:
            while time.monotonic() < ends_at:
                reporter.report(None)  # a sign of life, and raises if the run was interrupted
                with suppress(subprocess.TimeoutExpired):
                    errors = process.communicate(timeout=_POLL_SECONDS)[1]
                    return process.returncode, errors
        finally:
            process.kill()
    raise PlantError(f"plant {plant.id}: its process did not end in time")


def _environment(folder: Path) -> dict[str, str]:
    """The environment of a planted run: the copies come first on the path, then the running harness."""
    harness_root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(harness_root)]), "PYTHONHASHSEED": "0"}
