"""Every schedule of one life: runs a program's steps as they are, with every combination of device choices in one life.

Depth first, the simplest first. A schedule is left where an earlier one was in the same state: the same on the media
and past barriers, and the same writes asked for and not yet issued. Earlier lives run as recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from harness.choices.exploring_policy import ExploringPolicy, exploring_tape
from harness.choices.program import Program
from harness.choices.replay_policy import replay_tape
from harness.choices.trail import Trail
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters
from harness.scenario.watchdog import Watchdog
from harness.spec.plan import CRASH, OPERATION, REBOOT, Plan
from harness.trace.traced_run import Life, LifeOver, LifeRecorder, run_traced
from harness.trace.tracer import NO_TRIAL, Trial


@dataclass(frozen=True, slots=True)
class Span:
    """The steps of one life: it was opened in step ``first``, and a crash ended it in step ``last``."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Explored:
    """One schedule of the life. Up to tick ``known`` it is the same as an earlier schedule."""

    life: Life
    known: int


@dataclass(slots=True)
class Limits:
    """Bounds of a search; ``reached`` says that something was left out."""

    schedules: int
    seconds: float
    reached: bool = False


class _Schedule:
    """One schedule. It stops where an earlier one was in the same state, and notes from which tick on it is new."""

    def __init__(self, plan: Plan, program: Program, span: Span, trail: Trail, trial: Trial, seen: set[object]) -> None:
        policy = ExploringPolicy(span.first, trail)
        policy.before_pick = self._before_pick
        self._plan = plan
        self._seen = seen
        self._tape = exploring_tape(program, policy)
        self._tape.begin(plan.mix)
        self._scenario = Scenario(plan, self._tape, Counters())
        self._recorder = LifeRecorder(self._scenario, last_step=span.last, trial=trial, judged=True)
        self._known = 0

    def run(self) -> Explored:
        """Run the schedule. Raises `Violated` if a step before the crash breaks a property."""
        scenario = self._scenario
        with suppress(LifeOver), Watchdog(scenario.counters.progress, self._plan.spec.step_seconds_max):
            scenario.perform_all()
        self._recorder.end_life()
        return Explored(self._recorder.lives[-1], self._known)

    def _before_pick(self, is_new: bool) -> None:
        assert self._recorder.tracer is not None
        if not is_new:
            self._known = self._recorder.tracer.tick  # the last choice that may differ from the schedule before
        elif self._plan.action_of[self._scenario.operation].kind != OPERATION:
            self._leave_if_seen()

    def _leave_if_seen(self) -> None:
        """End the life if an earlier schedule was in this state. Only for steps that change no keys."""
        assert self._recorder.tracer is not None
        scenario = self._scenario
        media = tuple(medium.state() for medium in scenario.world.media)
        state = (scenario.position.step, self._recorder.tracer.outlook(), media)
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
    """Every schedule of the life, until a limit is reached. Raises `Violated` if a step before the crash fails."""
    trail = Trail()
    seen: set[object] = set()
    deadline = time.perf_counter() + limits.seconds
    for _ in range(limits.schedules):
        yield _Schedule(plan, program, span, trail, trial, seen).run()
        if not trail.advance():
            return
        if time.perf_counter() > deadline:
            break
    limits.reached = True


def makes_progress(plan: Plan, program: Program, trial: Trial) -> bool:
    """Whether the steps, and a shutdown, run to their end with the edges of ``trial`` added or removed."""
    _, violation = run_traced(plan, replay_tape(program, strict=False), trial=trial)
    return violation is None
