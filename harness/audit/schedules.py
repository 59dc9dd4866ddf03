"""Every schedule of one life: a program's steps as they are, with all that the device may choose in its last life.

Depth first, the simplest first. A schedule is left where an earlier one has been in the same state: the same on the
media and past barriers, the same asked for and not yet issued. The lives before the last run as recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from harness.choices.program import Program
from harness.choices.sources import ReplaySource
from harness.choices.trail import Trail
from harness.spec.plan import CRASH, OPERATION, REBOOT, Plan
from harness.trace.traced_run import Life, LifeOver, TracedScenario, run_traced
from harness.trace.tracer import NO_TRIAL, Trial


@dataclass(frozen=True, slots=True)
class Span:
    """The steps of one life: opened in ``first``, ended in ``last`` by a crash."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Explored:
    """One schedule of the life; what happened up to ``known`` was seen with an earlier one."""

    life: Life
    known: int


@dataclass(slots=True)
class Limits:
    """``reached``: something was left out."""

    schedules: int
    seconds: float
    reached: bool = False


class ScheduleSource(ReplaySource):
    """A program whose device choices behind step ``first`` go through all combinations, one a run."""

    __slots__ = ("_first", "before_choice", "trail")

    def __init__(self, program: Program, first: int) -> None:
        self._first = first
        self.trail = Trail()
        self.before_choice: Callable[[bool], None] = lambda is_new: None
        super().__init__(program, strict=False)

    def choose(self, name: str, count: int) -> int:
        if name != "device" or self.step <= self._first:
            return super().choose(name, count)
        self.before_choice(self.trail.is_at_end())
        return self.trail.pick(count)


class _ScheduledScenario(TracedScenario):
    """Stops where an earlier schedule has been; remembers from where on this one is new."""

    __slots__ = ("_seen", "known")

    def __init__(self, plan: Plan, source: ScheduleSource, span: Span, trial: Trial, seen: set[object]) -> None:
        super().__init__(plan, source, last_step=span.last, trial=trial, judged=True)
        self._seen = seen
        self.known = 0
        source.before_choice = self._before_choice

    def _before_choice(self, is_new: bool) -> None:
        assert self._tracer is not None
        if not is_new:
            self.known = self._tracer.moment  # the last choice that may differ from the schedule before
        elif self._plan.action_of[self._step_operation].kind != OPERATION:
            self._leave_if_seen()

    def _leave_if_seen(self) -> None:
        """Not within an operation: the ledger does not know yet what it does."""
        assert self._tracer is not None
        media = tuple(medium.state() for medium in self.world.media)
        state = (self._position.step, self._tracer.outlook(), media)
        if state in self._seen:
            raise LifeOver
        self._seen.add(state)


def last_life(plan: Plan, program: Program, failed_step: int) -> Span | None:
    """The life that ends with the last crash up to this step; None if there is no crash."""
    kinds = {action.name: action.kind for action in plan.actions}
    ends = [
        step.identity
        for step in program.steps
        if kinds.get(step.operation) in (REBOOT, CRASH) and step.identity <= failed_step
    ]
    crashes = [step.identity for step in program.steps if kinds.get(step.operation) == CRASH and step.identity in ends]
    if not crashes:
        return None
    return Span(max((end for end in ends if end < crashes[-1]), default=0), crashes[-1])


def explore(plan: Plan, program: Program, span: Span, limits: Limits, trial: Trial = NO_TRIAL) -> Iterator[Explored]:
    """Every schedule of the life, until a limit is reached. Raises `ScenarioFailed` where an earlier step fails."""
    source = ScheduleSource(program, span.first)
    seen: set[object] = set()
    deadline = time.perf_counter() + limits.seconds
    for _ in range(limits.schedules):
        scenario = _ScheduledScenario(plan, source, span, trial, seen)
        source.trail.rewind()
        source.begin(plan.menu)
        with suppress(LifeOver):
            scenario.perform_all()
        scenario.end_life()
        yield Explored(scenario.lives[-1], scenario.known)
        if not source.trail.advance():
            return
        if time.perf_counter() > deadline:
            break
    limits.reached = True


def makes_progress(plan: Plan, program: Program, trial: Trial) -> bool:
    """Whether the steps run to their end, shutdown included, with edges added or removed."""
    _, failure = run_traced(plan, ReplaySource(program, strict=False), trial=trial)
    return failure is None
