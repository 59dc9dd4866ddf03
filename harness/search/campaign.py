"""Running many checks on several processes: every spec, mode and configuration, each cut into slices.

Each check gets its spec's share of the time. It is cut into one slice a process, so that all processes are busy to the
end. Slice ``k`` of a timed check starts at scenario ``k * SLICE_STRIDE``. A scenario's number and the seed alone decide
what it does, so a failure is found again whatever the number of processes was.

A slice may not come to its end: it fails, is interrupted, kills its worker each time, or hangs at a scenario. Then its
check is *unknown*, unless another slice found a violation. The scenarios that it ran until then are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.fleet.budget import Budget, deal
from harness.fleet.jobs import Job, Outcome, Reporter, why_incomplete
from harness.fleet.pool import run_jobs
from harness.scenario.verdict import Answer, Counters, Verdict
from harness.search.check import Sample, check_sample
from harness.spec.loader import LoadedSpec, SpecLoadError, load_spec
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Configuration, Mode, Spec

SLICE_STRIDE: Final = 1_000_000_000
SILENCE_SECONDS_MAX: Final = 120.0  # a scenario that takes longer hangs


@dataclass(frozen=True, slots=True)
class CheckJob:
    """One check to be run: a spec in one mode under one configuration."""

    path: str
    spec: str
    mode: Mode
    configuration: str
    impossible: str = ""  # why it cannot be run at all
    share: int = 1  # of the seconds of all checks


@dataclass(frozen=True, slots=True)
class CheckSlice:
    """The part of a check that one process runs."""

    check: int  # its position among the jobs
    job: CheckJob
    sample: Sample


@dataclass(frozen=True, slots=True)
class Done:
    """The counters of a slice so far, and its seconds."""

    counters: Counters
    seconds: float


Report = Callable[[int, Counters, float], None]
"""Progress of one check: its position, what it did so far, and its core seconds."""


def list_checks(
    loaded: Sequence[LoadedSpec], modes: Callable[[Spec], Sequence[Mode]], configuration: str | None
) -> list[CheckJob]:
    """All combinations of spec, mode and configuration, in order.

    A spec without the configuration asked for is left out, and one without steps of the mode unless all are. Raises
    `SpecLoadError` if no spec has the configuration, or if one cannot be run.
    """
    jobs = []
    for each in loaded:
        for mode in modes(each.spec):
            for known in each.spec.configurations:
                if configuration in (None, known.name):
                    _refuse_unusable(each, known, mode)
                    impossible = _impossible(each.spec, mode)
                    jobs.append(CheckJob(each.path, each.spec.name, mode, known.name, impossible, each.spec.share))
    if not jobs:
        known_names = sorted({known.name for each in loaded for known in each.spec.configurations})
        raise SpecLoadError(f"no configuration named {configuration!r}; there are {', '.join(known_names)}")
    return [job for job in jobs if not job.impossible] or jobs


def _refuse_unusable(each: LoadedSpec, configuration: Configuration, mode: Mode) -> None:
    try:
        compile_plan(each.spec, configuration, mode)
    except SpecError as error:
        raise SpecLoadError(f"{each.path}: {error}") from error


def _impossible(spec: Spec, mode: Mode) -> str:
    return "" if mode in spec.modes else f"the spec has no {mode.needs} operation"


def slices(jobs: Sequence[CheckJob], sample: Sample, budget: Budget) -> list[CheckSlice]:
    """The slices of all checks: all first slices, then all second ones, so that each check begins early."""
    possible = [index for index, job in enumerate(jobs) if not job.impossible]
    shares_count = sum(jobs[index].share for index in possible)
    seconds = budget.seconds_each(max(1, shares_count * budget.workers))
    return [
        CheckSlice(index, jobs[index], _part(sample, first, scenarios, seconds, jobs[index].share))
        for first, scenarios in _cuts(sample.scenarios, budget.workers)
        for index in possible
    ]


def _part(sample: Sample, first: int, scenarios: int | None, seconds: float | None, share: int) -> Sample:
    seconds = None if seconds is None else seconds * share
    return replace(sample, first_scenario=first, scenarios=scenarios, seconds=seconds)


def _cuts(scenarios: int | None, workers: int) -> list[tuple[int, int | None]]:
    """The first scenario of each slice, and how many it has."""
    if scenarios is None:
        return [(part * SLICE_STRIDE, None) for part in range(workers)]
    return [(numbers.start, len(numbers)) for numbers in deal(scenarios, workers) if numbers]


def run_checks(
    jobs: Sequence[CheckJob],
    sample: Sample,
    budget: Budget,
    folder: Path,
    report: Report,
    silence_seconds_max: float | None = SILENCE_SECONDS_MAX,
) -> list[Verdict]:
    """Run the checks and give one verdict each, in order. An interrupt ends the run early but not this function."""
    to_run = slices(jobs, sample, budget)
    progress = _Progress(to_run, report)
    outcomes = run_jobs(
        [_job(part, folder, silence_seconds_max) for part in to_run],
        budget.workers,
        on_report=progress.note,
        on_end=lambda number, outcome: progress.note(number, _done(outcome)),
    )
    return [
        _merge(job, sample.seed, [outcomes[number] for number, part in enumerate(to_run) if part.check == index])
        for index, job in enumerate(jobs)
    ]


def _job(part: CheckSlice, folder: Path, silence_seconds_max: float | None) -> Job[Verdict]:
    job = part.job
    name = f"{job.spec}, {job.mode}, {job.configuration}, scenarios from {part.sample.first_scenario}"
    return Job(name, run_slice, (part, folder), silence_seconds_max, "scenario")


def run_slice(reporter: Reporter, part: CheckSlice, folder: Path) -> Verdict:
    """Run one slice to its end."""
    return check_sample(
        load_spec(part.job.path, part.job.spec, folder).spec,
        part.job.mode,
        part.sample,
        part.job.configuration,
        progress=lambda counters, seconds: reporter.report(Done(counters.copy(), seconds)),
        begin=reporter.note_step,
    )


def _done(outcome: Outcome[Verdict]) -> Done:
    """The work of a slice; of one that did not come to its end, its last report."""
    known = outcome.known
    return Done(known.counters, known.seconds) if known is not None else Done(Counters(), 0.0)


class _Progress:
    """Adds up what the slices of a check report."""

    def __init__(self, to_run: Sequence[CheckSlice], report: Report) -> None:
        self._to_run = to_run
        self._report = report
        self._latest: dict[int, Done] = {}

    def note(self, number: int, done: Done) -> None:
        self._latest[number] = done
        check_index = self._to_run[number].check
        total = _sum(each for other, each in self._latest.items() if self._to_run[other].check == check_index)
        self._report(check_index, total.counters, total.seconds)


def _sum(parts: Iterable[Done]) -> Done:
    counters, seconds = Counters(), 0.0
    for part in parts:
        counters.add(part.counters)
        seconds += part.seconds
    return Done(counters, seconds)


def _merge(job: CheckJob, seed: int, outcomes: Sequence[Outcome[Verdict]]) -> Verdict:
    """One verdict from a check's slices: *violated* if any is, else as `_conclude` says."""
    total = _sum(map(_done, outcomes))
    parts = [outcome.value for outcome in outcomes if outcome.value is not None]
    violated = [part for part in parts if part.answer is Answer.VIOLATED]
    if violated:
        # The lowest scenario, so that the answer does not depend on which process was faster.
        first = min(violated, key=lambda part: part.scenario if part.scenario is not None else -1)
        return replace(first, counters=total.counters, seconds=total.seconds)
    answer, reason = _conclude(job, parts, why_incomplete(outcomes))
    return Verdict(job.spec, job.mode, job.configuration, answer, total.counters, total.seconds, reason, seed=seed)


def _conclude(job: CheckJob, parts: Sequence[Verdict], incomplete: str) -> tuple[Answer, str]:
    """The answer of a check of which no slice found a violation: *none found* if all ended and one reached enough."""
    answers = {part.answer for part in parts}
    if job.impossible or incomplete:
        return Answer.UNKNOWN, job.impossible or incomplete
    if answers <= {Answer.UNKNOWN}:
        return Answer.UNKNOWN, "; ".join(sorted({part.reason for part in parts})) or "nothing was run"
    return (Answer.HOLDS if answers == {Answer.HOLDS} else Answer.NONE_FOUND), ""
