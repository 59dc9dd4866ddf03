"""Torture of a system on a real file: images of power cuts, and killed processes.

    images    recorded lives; what a power cut may leave of them is built, opened and judged   `crash_images`
    kills     children that work on a file are killed; what they leave is opened and judged    `kills`

Nothing that was acknowledged as persistent may be lost, and each key reads as one outcome that the ledger allows.
A half that could not show a loss is *unknown*: images of which none had lost anything issued, or of which none was to
show something acknowledged; kills of which none came within an operation.

Lives and files are numbered, and dealt out to processes in parts. What an image is follows from seed and numbers alone,
however many processes there are; each half stops at its first violation.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.scenario.verdict import Answer
from harness.spec.loader import load_spec
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec
from harness.torture.account import refuse_unsuitable
from harness.torture.crash_images import IMAGES_PER_LIFE, BadFile, ImageFigures, judge_images
from harness.torture.file_log import FileLogError
from harness.torture.kills import KILLS_PER_FILE, ChildError, KillFigures, kill_and_judge

INTERRUPTED: Final = "interrupted"
LIVES_PER_PART: Final = 8
IMAGES, KILLS = "images", "kills"


@dataclass(frozen=True, slots=True)
class Budget:
    images: int
    kills: int
    seed: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one process does at a time: lives with so many images each, or files with so many kills each."""

    half: str
    numbers: range
    count: int
    seed: int


@dataclass(slots=True)
class PartResult:
    part: Part
    images: ImageFigures = field(default_factory=ImageFigures)
    kills: KillFigures = field(default_factory=KillFigures)
    bad: BadFile | None = None
    trouble: str = ""  # why it could not be run to its end


@dataclass(slots=True)
class HalfResult:
    """The answer of one half."""

    half: str
    answer: Answer
    reason: str
    bad: BadFile | None


@dataclass(slots=True)
class Torture:
    """What came of it."""

    images: ImageFigures
    kills: KillFigures
    halves: list[HalfResult]


Report = Callable[[ImageFigures, KillFigures], None]


def torture_plan(spec: Spec) -> Plan:
    """Raises `SpecError` if the spec cannot be run on a file."""
    plan = compile_plan(spec, spec.configurations[0], Mode.CONFORMANCE)
    refuse_unsuitable(plan)
    return plan


def parts(budget: Budget) -> list[Part]:
    """Whole lives and files first, then what is left over, the halves in turn."""
    images = list(_split(IMAGES, budget.images, IMAGES_PER_LIFE, LIVES_PER_PART, budget.seed))
    kills = list(_split(KILLS, budget.kills, KILLS_PER_FILE, 1, budget.seed))
    longest = max(len(images), len(kills))
    return [part for at in range(longest) for half in (images, kills) for part in half[at : at + 1]]


def _split(half: str, total: int, count: int, numbers_max: int, seed: int) -> Iterator[Part]:
    whole, rest = divmod(total, count)
    for first in range(0, whole, numbers_max):
        yield Part(half, range(first, min(first + numbers_max, whole)), count, seed)
    if rest:
        yield Part(half, range(whole, whole + 1), rest, seed)


def run_part(plan: Plan, part: Part) -> PartResult:
    """Run one part in a folder of its own."""
    result = PartResult(part)
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            if part.half == IMAGES:
                result.images, result.bad = judge_images(plan, Path(folder), part.seed, part.numbers, part.count)
            else:
                result.kills, result.bad = kill_and_judge(plan, Path(folder), part.seed, part.numbers, part.count)
        except (FileLogError, ChildError) as error:
            result.trouble = str(error)
        except Exception as error:
            result.trouble = _describe(error)
    return result


def _describe(error: BaseException) -> str:
    return f"the check itself failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def torture(plan: Plan, budget: Budget, report: Report = lambda images, kills: None) -> Torture:
    """Run everything in this process."""
    tally = _Tally(report)
    try:
        for part in parts(budget):
            if tally.is_wanted(part):
                tally.take(run_part(plan, part))
    except KeyboardInterrupt:
        tally.interrupted = True
    return tally.result(budget)


def torture_in_processes(path: str, name: str, folder: Path, budget: Budget, report: Report) -> Torture:
    """Run everything in several processes, each of which loads the spec."""
    tally = _Tally(report)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(budget.jobs, mp_context=context, initializer=_start_process) as pool:
        futures = {pool.submit(_run_part_of, path, name, folder, part): part for part in parts(budget)}
        try:
            _collect(futures, tally)
        except KeyboardInterrupt:
            tally.interrupted = True
            pool.shutdown(wait=True, cancel_futures=True)
    return tally.result(budget)


def _collect(futures: dict[Future[PartResult], Part], tally: _Tally) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda each: list(futures).index(each)):
            if not future.cancelled():
                error = future.exception()
                tally.take(PartResult(futures[future], trouble=_describe(error)) if error else future.result())
        for future in pending:
            if not tally.is_wanted(futures[future]):
                future.cancel()


def _start_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _run_part_of(path: str, name: str, folder: Path, part: Part) -> PartResult:
    return run_part(torture_plan(load_spec(path, name, folder).spec), part)


class _Tally:
    """Adds up what the parts give."""

    def __init__(self, report: Report) -> None:
        self._images = ImageFigures()
        self._kills = KillFigures()
        self._results: list[PartResult] = []
        self._report = report
        self.interrupted = False

    def is_wanted(self, part: Part) -> bool:
        """A half that has been violated stops; parts before the one that was run on."""
        bad = [result.part.numbers.start for result in self._results if result.bad and result.part.half == part.half]
        return part.numbers.start < min(bad, default=part.numbers.stop)

    def take(self, result: PartResult) -> None:
        self._results.append(result)
        self._images.add(result.images)
        self._kills.add(result.kills)
        self._report(self._images, self._kills)

    def result(self, budget: Budget) -> Torture:
        halves = []
        if budget.images:
            reason = _why_images_say_nothing(self._images)
            halves.append(self._half(IMAGES, reason))
        if budget.kills:
            reason = _why_kills_say_nothing(self._kills)
            halves.append(self._half(KILLS, reason))
        return Torture(self._images, self._kills, halves)

    def _half(self, half: str, reason: str) -> HalfResult:
        results = sorted((each for each in self._results if each.part.half == half), key=_first_number)
        bad = next((each.bad for each in results if each.bad is not None), None)
        if bad is not None:
            return HalfResult(half, Answer.VIOLATED, bad.violation.property, bad)
        trouble = next((each.trouble for each in results if each.trouble), "")
        unknown = INTERRUPTED if self.interrupted else trouble or reason
        return HalfResult(half, Answer.UNKNOWN if unknown else Answer.NONE_FOUND, unknown, None)


def _first_number(result: PartResult) -> int:
    return result.part.numbers.start


def _why_images_say_nothing(figures: ImageFigures) -> str:
    if not figures.lossy:
        return "in no image was anything lost that had been issued"
    return "" if figures.acknowledged_checked else "no image had anything to show that was acknowledged"


def _why_kills_say_nothing(figures: KillFigures) -> str:
    if not figures.within_call:
        return "no kill came within an operation"
    return "" if figures.acknowledged_checked else "no killed process had been told that anything was persistent"
