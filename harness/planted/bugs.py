"""Running planted bugs: each applied, searched for, shrunk, and its case replayed with and without the plant.

A plant counts as *caught* only if every seed found it, by the property it names, shrank it to the minimum it
states, certified, and the case still fails on the planted tree and is fixed on the clean one. Anything less
is said in words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from harness.planted.plants import Plant, PlantError, plant_tree

INTERRUPTED = "interrupted"
_MARGIN_SECONDS = 400  # for shrinking and start-up, beyond the time to search


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed made of one plant. ``scenarios`` and ``seconds`` are those until it was found, or all."""

    seed: int
    found: bool
    scenarios: int
    seconds: float
    other_properties: tuple[str, ...] = ()  # broken on the way, but not the one asked for
    operations_found: int | None = None
    operations: int | None = None
    certified: bool = False
    shrink_seconds: float | None = None
    still_fails_planted: bool = False
    clean_answer: str = ""
    case: str = ""
    confirmed_operations: int | None = None  # none of all programs of up to so many of the case's calls fails
    shorter_fails: bool = False  # one with one operation more than that does, and is shorter than the minimal one


@dataclass(frozen=True, slots=True)
class PlantResult:
    """All seeds of one plant; ``error`` is why it could not be run at all."""

    plant: Plant
    seeds: tuple[SeedResult, ...] = ()
    error: str = ""

    def problems(self) -> list[str]:
        """Why the plant does not count as caught; nothing if it does."""
        if self.error:
            return [self.error]
        missed = [result for result in self.seeds if not result.found]
        found = [result for result in self.seeds if result.found]
        problems = []
        if missed or not self.seeds:
            problems.append(f"not found within the budget by {len(missed)} of {len(self.seeds)} seeds")
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

    def confirmed(self) -> str:
        """Whether the minimum was confirmed by exhaustion, or how far; empty if that was not tried."""
        depths = [each.confirmed_operations for each in self.seeds if each.confirmed_operations is not None]
        if not depths:
            return ""
        return "yes" if max(depths) >= self.plant.minimum_operations - 1 else f"to {max(depths)}"

    def operations(self) -> list[int]:
        return [result.operations for result in self.seeds if result.operations is not None]


def _shrink_problems(found: Sequence[SeedResult], minimum_operations: int) -> list[str]:
    problems = []
    sizes = sorted({result.operations for result in found if result.operations is not None})
    if any(size > minimum_operations for size in sizes):
        problems.append(f"shrunk to {sizes[-1]} operations, not {minimum_operations}")
    if any(size < minimum_operations for size in sizes):
        problems.append(f"shrunk to {sizes[0]} operations, fewer than the stated minimum of {minimum_operations}")
    if not all(result.certified for result in found):
        problems.append("not certified minimal")
    return problems


@dataclass(slots=True)
class _Trees:
    """One planted tree a plant, made when first asked for and removed together."""

    source: Path
    stack: ExitStack
    made: dict[str, Path] = field(default_factory=dict)

    def planted(self, plant: Plant) -> Path:
        if plant.id not in self.made:
            folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="planted-"))).resolve()
            plant_tree(plant, self.source, folder)
            self.made[plant.id] = folder
        return self.made[plant.id]


def run_plants(
    plants: Sequence[Plant],
    source: Path,
    *,
    seeds: int = 1,
    seconds: float = 60.0,
    confirm_seconds: float = 0.0,
    jobs: int = 1,
    report: Callable[[PlantResult], None] | None = None,
) -> list[PlantResult]:
    """Run every plant against the code in ``source``; ``report`` is called with each plant as it is done.

    With ``confirm_seconds`` the minimum that the first seed of each plant found is confirmed, in so much time.

    Ctrl-C ends the run but not this function: plants that were not done have the error `INTERRUPTED`.
    """
    with ExitStack() as stack:
        trees = _Trees(source.resolve(), stack)
        errors = {plant.id: _plant_error(trees, plant) for plant in plants}
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            waiting: dict[Future[SeedResult], Plant] = {}
            for plant in plants:
                if not errors[plant.id]:
                    for place, seed in enumerate(plant.seeds or range(seeds)):
                        budget = SeedBudget(seconds, 0.0 if place else confirm_seconds)
                        future = pool.submit(run_seed, plant, seed, trees.planted(plant), trees.source, budget)
                        waiting[future] = plant
            try:
                return _collect(plants, errors, waiting, report)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # nothing is left, unless this was interrupted


def _plant_error(trees: _Trees, plant: Plant) -> str:
    try:
        trees.planted(plant)
    except PlantError as error:
        return str(error)
    return ""


def _collect(
    plants: Sequence[Plant],
    errors: dict[str, str],
    waiting: dict[Future[SeedResult], Plant],
    report: Callable[[PlantResult], None] | None,
) -> list[PlantResult]:
    done: dict[str, list[SeedResult]] = {plant.id: [] for plant in plants}
    left = {plant.id: sum(other is plant for other in waiting.values()) for plant in plants}
    results: dict[str, PlantResult] = {}

    def finish(plant: Plant) -> None:
        in_order = tuple(sorted(done[plant.id], key=lambda result: result.seed))
        results[plant.id] = PlantResult(plant, in_order, errors[plant.id])
        if report is not None:
            report(results[plant.id])

    for plant in plants:
        if not left[plant.id]:
            finish(plant)
    try:
        for future in as_completed(waiting):
            plant = waiting[future]
            left[plant.id] -= 1
            try:
                done[plant.id].append(future.result())
            except PlantError as error:
                errors[plant.id] = str(error)
            if not left[plant.id]:
                finish(plant)
    except KeyboardInterrupt:
        for plant in plants:
            if plant.id not in results:
                errors[plant.id] = INTERRUPTED
                finish(plant)
    return [results[plant.id] for plant in plants]


@dataclass(frozen=True, slots=True)
class SeedBudget:
    search_seconds: float
    confirm_seconds: float  # 0: the minimum is not confirmed


def run_seed(plant: Plant, seed: int, planted: Path, clean: Path, budget: SeedBudget) -> SeedResult:
    """Search one planted tree with one seed, and replay what it found on the clean one."""
    request = {
        "action": "find",
        "plant": plant.id,
        "spec": plant.spec,
        "mode": plant.mode,
        "property": plant.property,
        "place": plant.place,
        "configuration": plant.configuration,
        "replaced": [replacement.file for replacement in plant.replacements],
        "seed": seed,
        "seconds": budget.search_seconds,
        "confirm_seconds": budget.confirm_seconds,
    }
    seconds = budget.search_seconds + budget.confirm_seconds
    found = _in_fresh_process(plant, request, planted, seconds)
    if not found["found"]:
        return SeedResult(seed, False, found["scenarios"], found["seconds"], tuple(found["other"]))
    clean_answer = _in_fresh_process(plant, {"action": "replay", "case": found["case"]}, clean, seconds)
    return SeedResult(
        seed,
        True,
        found["scenarios"],
        found["seconds"],
        tuple(found["other"]),
        found["operations_found"],
        found["operations"],
        found["certified"],
        found["shrink_seconds"],
        found["still_fails"],
        clean_answer["answer"],
        found["case"],
        found["confirmed_operations"],
        found["shorter_fails"],
    )


def _in_fresh_process(plant: Plant, request: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="planted-io-") as exchange:
        request_path, answer_path = Path(exchange, "request.json"), Path(exchange, "answer.json")
        request_path.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "harness.planted.planted_run", str(request_path), str(answer_path)]
        try:
            ended = subprocess.run(
                command,
                cwd=folder,
                env=_environment(folder),
                timeout=seconds + _MARGIN_SECONDS,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PlantError(f"plant {plant.id}: its process did not end in time") from None
        if ended.returncode or not answer_path.is_file():
            last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
            raise PlantError(f"plant {plant.id}: its process failed: {last}")
        answer: dict[str, Any] = json.loads(answer_path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise PlantError(f"plant {plant.id}: {answer['error']}")
    return answer


def _environment(folder: Path) -> dict[str, str]:
    """The copies first, then the harness that runs now; hash order fixed like everything else."""
    harness_root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(harness_root)]), "PYTHONHASHSEED": "0"}
