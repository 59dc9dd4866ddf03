"""Traced runs: runs a scenario with a tracer, and keeps each life with its trace and all that a judge needs.

A life lasts from an opening of the system to the next crash or shutdown. Neither the system nor the tape sees the
tracing, so a traced run makes the same choices as an untraced one. The exception is a program interrupted at a line:
the system's lines that tell its observer count, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.choices.tape import Tape
from harness.scenario.ledger import PERSISTENT, Write, poll
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violated, Violation
from harness.scenario.watchdog import Watchdog
from harness.spec.models import copy_of
from harness.spec.plan import Plan
from harness.spec.spec import Dependency, Key
from harness.trace.trace import Trace
from harness.trace.tracer import NO_TRIAL, LifeTracer, Trial


class Recalling(Protocol):
    """A value in ``world.kept`` that holds dependencies, such as a stand-in for a caller that waits for them."""

    def dependencies(self) -> Iterable[Any]: ...

    def as_of(self, is_persistent: Callable[[Any], bool]) -> Any:
        """The value after a crash, if the dependencies that are persistent then are those that the function says."""


@dataclass(frozen=True, slots=True)
class StepState:
    """The state beside the media at the end of a step."""

    model: Any
    kept: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Life:
    """One life. ``writes`` are those of its ledger; ``acknowledgements`` has the number of each in the trace."""

    trace: Trace
    bases: Mapping[Key, Any]
    writes: Sequence[Write]
    acknowledgements: Sequence[int]
    states: Mapping[int, StepState]  # by step
    stands_for: Callable[[Any], tuple[Sequence[int], bool]]  # as `LifeTracer.stands_for`


class LifeOver(BaseException):
    """Ends a run, since the life that was asked for is over."""


class LifeRecorder:
    """Watches a scenario and keeps its lives. Raises `LifeOver` when a life has ended in ``last_step``.

    ``judged`` lives can be given to a judge; this costs a copy of the model a step.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        last_step: int | None = None,
        trial: Trial = NO_TRIAL,
        judged: bool = False,
    ) -> None:
        assert scenario.plan.spec.trace is not None
        self._trace = scenario.plan.spec.trace
        self._scenario = scenario
        self._last_step = last_step
        self._trial = trial
        self._judged = judged
        self._numbers: list[int] = []  # of the acknowledgement of each of the ledger's writes
        self._seen_late: list[Dependency] = []  # the second call has made them persistent before the first returned
        self._is_whole = True  # the ledger has no write of an earlier life
        self._states_at: dict[int, StepState] = {}
        self.tracer: LifeTracer | None = None
        self.lives: list[Life] = []
        scenario.watcher = scenario.ledger.watcher = self

    # --- a watcher of the scenario ------------------------------------------------------------------

    def life_ends(self) -> None:
        self.end_life()
        if self._scenario.position.step == self._last_step:
            raise LifeOver

    def life_begins(self) -> None:
        scenario = self._scenario
        self.tracer = LifeTracer(scenario.world, self._trial)
        self._is_whole = not scenario.ledger.writes
        self._trace(scenario.system, self.tracer)
        self._note_state()

    def step_ends(self) -> None:
        self._note_state()

    # --- a watcher of its ledger --------------------------------------------------------------------

    def returned(self, dependency: Dependency) -> None:
        """A call that overlaps another has returned this: what it waited for shows only while it is pending."""
        if self.tracer is not None:
            self.tracer.look_at(dependency)
            if poll(dependency) == PERSISTENT:
                self._seen_late.append(dependency)

    def acknowledged(self, dependency: Dependency | None, step: int, operation: str, key: Key | None) -> None:
        number = -1 if self.tracer is None else self.tracer.acknowledged(dependency, step, operation, key)
        if key is not None:
            self._numbers.append(-1 if dependency in self._seen_late else number)

    def polled(self, states: Sequence[str]) -> None:
        for number, state in zip(self._numbers, states, strict=True):
            if self.tracer is not None and state == PERSISTENT and number >= 0:
                self.tracer.called_persistent(number)

    def settled(self) -> None:
        self._numbers.clear()
        self._is_whole = True

    # --- lives --------------------------------------------------------------------------------------

    def _note_state(self) -> None:
        if not self._judged or self.tracer is None:
            return
        kept = self._scenario.world.kept
        for value in kept.values():
            for dependency in value.dependencies() if hasattr(value, "as_of") else ():
                self.tracer.look_at(dependency)
        self._states_at[self._scenario.position.step] = StepState(copy_of(self._scenario.model), copy_of(kept))

    def end_life(self) -> None:
        """End the life under way, if there is one, and keep it."""
        if self.tracer is None:
            return
        if self._is_whole:  # else the crash before was followed by another before its outcomes were settled
            self._note_state()
            tracer, ledger = self.tracer, self._scenario.ledger
            writes, numbers = tuple(ledger.writes), tuple(self._numbers)
            trace = tracer.finish()
            self.lives.append(Life(trace, ledger.bases(), writes, numbers, self._states_at, tracer.stands_for))
        self.tracer = None
        self._states_at = {}


def run_traced(
    plan: Plan, tape: Tape, *, judged: bool = False, trial: Trial = NO_TRIAL
) -> tuple[Sequence[Life], Violation | None]:
    """Run one whole scenario; give its lives and its violation. See `LifeRecorder` for ``judged``."""
    tape.begin(plan.mix)
    scenario = Scenario(plan, tape, Counters())
    recorder = LifeRecorder(scenario, judged=judged, trial=trial)
    violation = None
    try:
        with Watchdog(scenario.counters.progress, plan.spec.step_seconds_max):
            scenario.perform_all()
            scenario.finish()
    except Violated as stop:
        violation = stop.violation
    recorder.end_life()
    return recorder.lives, violation
