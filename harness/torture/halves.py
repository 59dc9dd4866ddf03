"""Torture of a system on a real file: images of power cuts, and killed processes.

    images    builds what a power cut may leave of recorded lives, opens it and judges   `crash_images`
    kills     kills children that work on a file, opens what they leave and judges       `kills`

No write that was acknowledged as persistent may be lost, and each key must read as an outcome that the ledger allows.

A half is *unknown* if it could not have shown a loss: if no image or killed process had an acknowledged write to show,
no image had lost an issued write, or no kill came within an operation. So is a half of which a part did not come to its
end; its work until then is counted.

Lives and files have numbers, and are dealt out to processes in parts. An image follows from the seed and the numbers
alone, however many processes there are. Each half stops at its first violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness.fleet.jobs import Job, Outcome, Reporter, why_incomplete
from harness.fleet.pool import run_jobs
from harness.scenario.verdict import Answer
from harness.spec.loader import load_spec
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec
from harness.torture.account import refuse_unsuitable
from harness.torture.crash_images import IMAGES_PER_LIFE, BadFile, ImageFigures, judge_images
from harness.torture.file_log import FileLogError
from harness.torture.kills import KILLS_PER_FILE, ChildError, KillFigures, kill_and_judge

SILENCE_SECONDS_MAX: Final = 600.0  # one life with its images, or one file with its kills, that takes longer hangs
LIVES_PER_PART: Final = 8
IMAGES, KILLS = "images", "kills"


@dataclass(frozen=True, slots=True)
class Dose:
    """How many images and kills, and the seed."""

    images: int
    kills: int
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """The work of one process at a time: lives with ``count`` images each, or files with ``count`` kills each."""

    half: str
    numbers: range
    count: int
    seed: int


@dataclass(slots=True)
class PartResult:
    """The figures of a part so far, and the first file that broke a property."""

    images: ImageFigures = field(default_factory=ImageFigures)
    kills: KillFigures = field(default_factory=KillFigures)
    bad: BadFile | None = None


@dataclass(slots=True)
class HalfResult:
    """The answer of one half."""

    half: str
    answer: Answer
    reason: str
    bad: BadFile | None


@dataclass(slots=True)
class Torture:
    """The result of both halves."""

    images: ImageFigures
    kills: KillFigures
    halves: list[HalfResult]


Report = Callable[[ImageFigures, KillFigures], None]


def torture_plan(spec: Spec) -> Plan:
    """The plan of a spec on a file. Raises `SpecError` if the spec cannot be run on one."""
    plan = compile_plan(spec, spec.configurations[0], Mode.CONFORMANCE)
    refuse_unsuitable(plan)
    return plan


def list_parts(dose: Dose) -> list[Part]:
    """The parts of a dose, of the two halves in turn. The last life or file has the images or kills left over."""
    images = list(_split(IMAGES, dose.images, IMAGES_PER_LIFE, LIVES_PER_PART, dose.seed))
    kills = list(_split(KILLS, dose.kills, KILLS_PER_FILE, 1, dose.seed))
    longest = max(len(images), len(kills))
    return [part for at in range(longest) for half in (images, kills) for part in half[at : at + 1]]


def _split(half: str, total: int, count: int, numbers_max: int, seed: int) -> Iterator[Part]:
    whole, rest = divmod(total, count)
    for first in range(0, whole, numbers_max):
        yield Part(half, range(first, min(first + numbers_max, whole)), count, seed)
    if rest:
        yield Part(half, range(whole, whole + 1), rest, seed)


def torture(plan: Plan, dose: Dose, report: Report = lambda images, kills: None) -> Torture:
    """Run everything in this process."""
    parts = list_parts(dose)
    return _run(dose, parts, [_job(part, run_part, plan) for part in parts], 1, report)


def torture_in_processes(path: str, name: str, folder: Path, dose: Dose, workers: int, report: Report) -> Torture:
    """Run everything in several processes, each of which loads the spec."""
    parts = list_parts(dose)
    return _run(dose, parts, [_job(part, _load_and_run_part, path, name, folder) for part in parts], workers, report)


def _job(part: Part, function: Callable[..., PartResult], *arguments: object) -> Job[PartResult]:
    name = f"{part.half} of {part.numbers.start} to {part.numbers.stop - 1}"
    return Job(name, function, (part, *arguments), SILENCE_SECONDS_MAX, "number", (FileLogError, ChildError))


def _run(dose: Dose, parts: Sequence[Part], jobs: Sequence[Job[PartResult]], workers: int, report: Report) -> Torture:
    tally = _Tally(parts, report)
    outcomes = run_jobs(jobs, workers, is_wanted=tally.is_wanted, on_end=tally.take)
    return tally.result(dose, outcomes)


def _load_and_run_part(reporter: Reporter, part: Part, path: str, name: str, folder: Path) -> PartResult:
    return run_part(reporter, part, torture_plan(load_spec(path, name, folder).spec))


def run_part(reporter: Reporter, part: Part, plan: Plan) -> PartResult:
    """Run one part in a folder of its own, one life or file after the other, until one breaks a property."""
    result = PartResult()
    with TemporaryDirectory(prefix="torture-") as folder:
        for number in part.numbers:
            reporter.note_step(number)
            result = _add_one(result, part, number, plan, Path(folder))
            reporter.report(result)
            if result.bad is not None:
                break
    return result


def _add_one(done: PartResult, part: Part, number: int, plan: Plan, folder: Path) -> PartResult:
    """``done``, and the work on one more life or file."""
    result, only = PartResult(), range(number, number + 1)
    if part.half == IMAGES:
        result.images, result.bad = judge_images(plan, folder, part.seed, only, part.count)
    else:
        result.kills, result.bad = kill_and_judge(plan, folder, part.seed, only, part.count)
    result.images.add(done.images)
    result.kills.add(done.kills)
    return result


class _Tally:
    """Adds up the results of the parts."""

    def __init__(self, parts: Sequence[Part], report: Report) -> None:
        self._parts = parts
        self._images = ImageFigures()
        self._kills = KillFigures()
        self._bad: dict[int, BadFile] = {}  # by the number of the part
        self._report = report

    def is_wanted(self, number: int) -> bool:
        """Whether to begin a part: one before a violation of its half, so that the first is found, but none after."""
        part = self._parts[number]
        first = min((self._parts[bad].numbers.start for bad in self._bad_of(part.half)), default=part.numbers.stop)
        return part.numbers.start < first

    def take(self, number: int, outcome: Outcome[PartResult]) -> None:
        result: PartResult = outcome.known or PartResult()
        self._images.add(result.images)
        self._kills.add(result.kills)
        if result.bad is not None:
            self._bad[number] = result.bad
        self._report(self._images, self._kills)

    def result(self, dose: Dose, outcomes: Sequence[Outcome[PartResult]]) -> Torture:
        halves = []
        if dose.images:
            halves.append(self._half(IMAGES, _why_images_say_nothing(self._images), outcomes))
        if dose.kills:
            halves.append(self._half(KILLS, _why_kills_say_nothing(self._kills), outcomes))
        return Torture(self._images, self._kills, halves)

    def _half(self, half: str, reason: str, outcomes: Sequence[Outcome[PartResult]]) -> HalfResult:
        if bad_numbers := self._bad_of(half):
            bad = self._bad[min(bad_numbers, key=lambda number: self._parts[number].numbers.start)]
            return HalfResult(half, Answer.VIOLATED, bad.violation.property, bad)
        mine = [outcome for part, outcome in zip(self._parts, outcomes, strict=True) if part.half == half]
        unknown = why_incomplete(mine) or reason
        return HalfResult(half, Answer.UNKNOWN if unknown else Answer.NONE_FOUND, unknown, None)

    def _bad_of(self, half: str) -> list[int]:
        return [number for number in self._bad if self._parts[number].half == half]


def _why_images_say_nothing(figures: ImageFigures) -> str:
    if not figures.lossy:
        return "in no image was anything lost that had been issued"
    return "" if figures.acknowledged_checked else "no image had anything to show that was acknowledged"


def _why_kills_say_nothing(figures: KillFigures) -> str:
    if not figures.within_call:
        return "no kill came within an operation"
    return "" if figures.acknowledged_checked else "no killed process had been told that anything was persistent"
