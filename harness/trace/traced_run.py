"""Running a scenario with a tracer: its lives, each with its trace and what a judge of its crash states needs.

A life lasts from an opening of the system to the next crash or shutdown. Tracing changes nothing that the system or the
source sees, so a traced run makes the choices of an untraced one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

from harness.choices.sources import Source
from harness.scenario.failures import ScenarioFailed
from harness.scenario.ledger import PERSISTENT, Ledger, Write
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters, Failure
from harness.spec.plan import Plan
from harness.spec.spec import Dependency, Key
from harness.trace.trace import Trace
from harness.trace.tracer import NO_TRIAL, Tracer, Trial


class Recalling(Protocol):
    """What a world keeps and that holds dependencies, such as a stand-in for whoever would wait for them."""

    def dependencies(self) -> Iterable[Any]: ...

    def as_of(self, is_persistent: Callable[[Any], bool]) -> Any:
        """As it is after a crash that leaves persistent just what this says."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is not on the media, at the end of a step."""

    model: Any
    kept: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Life:
    """One life; ``writes`` are its ledger's, each with the number of its acknowledgement in the trace."""

    trace: Trace
    bases: Mapping[Key, Any]
    writes: Sequence[Write]
    acknowledgements: Sequence[int]
    moments: Mapping[int, Moment]  # by step
    stands_for: Callable[[Any], tuple[Sequence[int], bool]]  # nodes, and whether they are all, of a dependency


class LifeOver(BaseException):
    """The life that was asked for is over, and nothing that follows is wanted."""


class TracedLedger(Ledger):
    """Tells a tracer of every acknowledgement, and forgets nothing before it is settled."""

    __slots__ = ("is_settled", "numbers", "tracer")

    def __init__(self, read: Callable[[Any, Any], Any] | None) -> None:
        super().__init__(read)
        self.tracer: Tracer | None = None
        self.numbers: list[int] = []
        self.is_settled = True  # nothing is left of the life before

    def note(
        self, model: Any, key: Key, dependency: Dependency | None, step: int, operation: str, group: int = 0
    ) -> None:
        super().note(model, key, dependency, step, operation, group)
        self.numbers.append(-1 if self.tracer is None else self.tracer.acknowledged(dependency, step, operation, key))

    def note_other(self, dependency: Dependency, step: int, operation: str) -> None:
        super().note_other(dependency, step, operation)
        if self.tracer is not None:
            self.tracer.acknowledged(dependency, step, operation)

    def poll(self) -> list[str]:
        states = super().poll()
        for number, state in zip(self.numbers, states, strict=True):
            if self.tracer is not None and state == PERSISTENT:
                self.tracer.called_persistent(number)
        return states

    def _prune(self) -> None:
        """Nothing is forgotten."""

    def bases(self) -> dict[Key, Any]:
        return dict(self._bases)

    @classmethod
    def of(
        cls, read: Callable[[Any, Any], Any] | None, bases: Mapping[Key, Any], writes: Sequence[Write]
    ) -> TracedLedger:
        """A ledger as it was when this had been written."""
        ledger = cls(read)
        ledger._bases.update(bases)
        ledger._writes.extend(writes)
        ledger._group_count = max((write.group for write in writes), default=0)
        return ledger

    def begin_life(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.is_settled = not self._writes

    def clear(self) -> None:
        super().clear()
        self.numbers.clear()
        self.is_settled = True


class TracedScenario(Scenario):
    """A scenario that keeps its lives. ``last_step``: raise `LifeOver` when the life that ends there is over."""

    __slots__ = ("_judged", "_last_step", "_moments", "_tracer", "_trial", "lives")

    def __init__(
        self,
        plan: Plan,
        source: Source,
        *,
        last_step: int | None = None,
        trial: Trial = NO_TRIAL,
        judged: bool = False,
    ) -> None:
        super().__init__(plan, source, Counters())
        assert plan.spec.trace is not None
        self.ledger: TracedLedger = TracedLedger(plan.read)
        self._last_step = last_step
        self._trial = trial
        self._judged = judged
        self._tracer: Tracer | None = None
        self._moments: dict[int, Moment] = {}
        self.lives: list[Life] = []

    def perform(self, index: int) -> None:
        super().perform(index)
        self._note_moment()

    def _build_system(self, operation: str) -> None:
        self.end_life()
        if self._position.step == self._last_step:
            raise LifeOver
        super()._build_system(operation)
        self._tracer = Tracer(self.world, self._trial)
        self.ledger.begin_life(self._tracer)
        trace = self._plan.spec.trace
        assert trace is not None
        trace(self.system, self._tracer)
        self._note_moment()

    def _note_moment(self) -> None:
        if not self._judged or self._tracer is None:
            return
        for value in self.world.kept.values():
            for dependency in value.dependencies() if hasattr(value, "as_of") else ():
                self._tracer.look_at(dependency)
        self._moments[self._position.step] = Moment(deepcopy(self.model), deepcopy(self.world.kept))

    def end_life(self) -> None:
        """Keep what there is of the life under way, if there is one."""
        if self._tracer is None:
            return
        ledger = self.ledger
        if ledger.is_settled:  # else the next crash came before anything was looked at
            self._note_moment()
            trace = self._tracer.finish()
            stands_for = self._tracer.stands_for
            life = Life(trace, ledger.bases(), tuple(ledger.writes), tuple(ledger.numbers), self._moments, stands_for)
            self.lives.append(life)
        self._tracer = ledger.tracer = None
        self._moments = {}


def run_traced(
    plan: Plan, source: Source, *, judged: bool = False, trial: Trial = NO_TRIAL
) -> tuple[Sequence[Life], Failure | None]:
    """One whole scenario. ``judged``: its lives can be given to a judge, which costs a copy of the model a step."""
    source.begin(plan.menu)
    scenario = TracedScenario(plan, source, judged=judged, trial=trial)
    failure = None
    try:
        scenario.perform_all()
        scenario.finish()
    except ScenarioFailed as stop:
        failure = stop.failure
    scenario.end_life()
    return scenario.lives, failure
