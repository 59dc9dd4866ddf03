"""Exhaustion on several processes: runs the programs of a start in parts, and merges them into one answer a start.

The answer for a configuration and a start is one of

    violated     a program fails
    holds        every legal state was judged
    none found   something was left out, for want of time above all, and nothing failed until then
    unknown      nothing was judged, a violation did not show again, or a part did not come to its end: it was
                 interrupted, failed, hung or killed its worker each time

Once a start is violated, no more of its parts are begun. The programs that a part tried before it ended early count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from harness.choices.lanes import INTERRUPTS
from harness.choices.program import Program
from harness.fleet.budget import Budget
from harness.fleet.jobs import Job, Outcome, Reporter, why_incomplete
from harness.fleet.pool import run_jobs
from harness.scenario.verdict import Answer, Run
from harness.search.exhaust import Exhausted, Tally, alphabet, exhaust, parse_start, recoveries_of
from harness.search.recoveries import Recoveries
from harness.spec.loader import LoadedSpec, find_configuration, load_spec
from harness.spec.plan import SpecError
from harness.spec.spec import Configuration

SILENCE_SECONDS_MAX: Final = 600.0  # a part that takes longer to judge the states of one schedule hangs


@dataclass(frozen=True, slots=True)
class Part:
    """The programs of one start that begin with one call; the start by itself if there is no call."""

    path: str
    spec: str
    configuration: str
    start: str
    operations_max: int
    first_call: int | None
    seconds: float | None  # the time for this part alone; None: as long as it takes

    @property
    def place(self) -> tuple[str, str]:
        return self.configuration, self.start


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a part so far, and its seconds."""

    exhausted: Exhausted
    seconds: float
    refused: str = ""  # why the spec cannot be exhausted


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one start under one configuration."""

    configuration: str
    start: str
    answer: Answer
    tally: Tally
    core_seconds: float
    run: Run | None = None
    reason: str = ""


def list_parts(
    each: LoadedSpec, operations_max: int, configuration: str | None, starts: Sequence[str], budget: Budget
) -> list[Part]:
    """The parts of a spec's exhaustion. Raises `SpecError` for a start that does not exist or cannot be used."""
    spec = each.spec
    assert spec.bounds is not None
    for start in starts:
        if start not in spec.bounds.starts:
            raise SpecError(f"spec {spec.name!r} has no start {start!r}; it has: {', '.join(spec.bounds.starts)}")
    chosen = [find_configuration(spec, configuration)] if configuration else list(spec.configurations)
    for start in starts or spec.bounds.starts:
        parse_start(spec, start)
    # First the start by itself, then the longer programs, in one part for each first call.
    firsts = [(0, None), *((operations_max, call) for call in range(len(alphabet(spec, chosen[0]))) if operations_max)]
    combinations = [
        (setting.name, start, depth, first)
        for setting in chosen
        for start in starts or spec.bounds.starts
        for depth, first in firsts
    ]
    share = budget.seconds_each(len(combinations))
    return [
        Part(each.path, spec.name, setting, start, depth, first, share) for setting, start, depth, first in combinations
    ]


def run_parts(
    parts: Sequence[Part], workers: int, folder: Path, note: Callable[[int, Tally], None] = lambda count, total: None
) -> list[Result]:
    """Run the parts; give one result for each configuration and start, in order.

    ``note`` is called with the number of parts that have ended, and their common tally. Raises `SpecError`.
    """
    total = Tally()
    ended_count = 0
    violated: set[tuple[str, str]] = set()

    def take(number: int, outcome: Outcome[Done]) -> None:
        nonlocal ended_count
        ended_count += 1
        done = _done(outcome)
        if done.refused:
            raise SpecError(done.refused)
        if done.exhausted.run is not None:
            violated.add(parts[number].place)
        total.add(done.exhausted.tally)
        note(ended_count, total)

    jobs = [Job(_name(part), run_part, (part, folder), SILENCE_SECONDS_MAX) for part in parts]
    outcomes = run_jobs(jobs, workers, is_wanted=lambda number: parts[number].place not in violated, on_end=take)
    return [
        _result(*place, [outcome for part, outcome in zip(parts, outcomes, strict=True) if part.place == place])
        for place in dict.fromkeys(part.place for part in parts)
    ]


def _name(part: Part) -> str:
    first = "by itself" if part.first_call is None else f"call {part.first_call} first"
    return f"{part.spec}, {part.configuration}, {part.start}, {first}"


def run_part(reporter: Reporter, part: Part, folder: Path) -> Done:
    """Run one part. After a violation, look for a shorter program that fails."""
    started = time.perf_counter()

    def done(found: Exhausted) -> Done:
        return Done(found, time.perf_counter() - started)

    deadline = None if part.seconds is None else started + part.seconds
    try:
        each, setting, recoveries = _loaded(part.path, part.spec, part.configuration, part.start, folder)
        found = exhaust(
            each.spec,
            setting,
            part.start,
            part.operations_max,
            first_call=part.first_call,
            deadline=deadline,
            recoveries=recoveries,
            report=lambda tally: reporter.report(done(Exhausted(tally))),
        )
        if found.run is not None:
            reporter.report(done(found))  # now, since the search for a shorter program may not come to its end
            shortest = _shortest(each, setting, part, found.run, deadline, lambda _: reporter.report(done(found)))
            found = Exhausted(found.tally, shortest)
    except SpecError as error:
        return Done(Exhausted(Tally()), 0.0, str(error))
    return done(found)


@lru_cache(maxsize=1)  # parts come in order, and images of one start are seldom met from another
def _loaded(
    path: str, name: str, configuration: str, start: str, folder: Path
) -> tuple[LoadedSpec, Configuration, Recoveries]:
    """The spec, configuration and recoveries that the parts of one place share within this process."""
    each = load_spec(path, name, folder)
    setting = find_configuration(each.spec, configuration)
    return each, setting, recoveries_of(each.spec, setting)


def _shortest(
    each: LoadedSpec,
    setting: Configuration,
    part: Part,
    run: Run,
    deadline: float | None,
    report: Callable[[Tally], None],
) -> Run:
    """The failing run with the fewest operations after the start; ``run`` if there is no time to find it."""
    start = parse_start(each.spec, part.start)
    first = start.steps[-1].identity if start.steps else 0
    for operations_count in range(_operations_after(run.program, first)):
        shorter = exhaust(each.spec, setting, part.start, operations_count, deadline=deadline, report=report)
        if shorter.run is not None:
            return shorter.run
    return run


def _operations_after(program: Program, first: int) -> int:
    """The number of operations after the start. The crash does not count, nor does the drain that it interrupts."""
    return sum(
        step.operation not in ("crash", "write_back") or step.choices.get(INTERRUPTS, 0) > 1
        for step in program.steps
        if step.identity > first
    )


def _done(outcome: Outcome[Done]) -> Done:
    """The last known result of a part; a part that was not begun makes the tally incomplete."""
    return outcome.known or Done(Exhausted(Tally(is_complete=False)), 0.0)


def _result(configuration: str, start: str, outcomes: Sequence[Outcome[Done]]) -> Result:
    tally, core_seconds = Tally(), 0.0
    parts = [_done(outcome) for outcome in outcomes]
    for done in parts:
        tally.add(done.exhausted.tally)
        core_seconds += done.seconds
    runs = [done.exhausted.run for done in parts if done.exhausted.run is not None]
    if runs:
        shortest = min(runs, key=lambda run: len(run.program.steps))
        return Result(configuration, start, Answer.VIOLATED, tally, core_seconds, shortest)
    troubles = [done.exhausted.trouble for done in parts if done.exhausted.trouble]
    reason = next(iter(troubles), "") or why_incomplete(outcomes)
    if reason or not tally.states:
        reason = reason or "nothing was judged"
        return Result(configuration, start, Answer.UNKNOWN, tally, core_seconds, reason=reason)
    is_exhausted = tally.is_complete and tally.states_judged == tally.states
    answer = Answer.HOLDS if is_exhausted else Answer.NONE_FOUND
    return Result(configuration, start, answer, tally, core_seconds)
