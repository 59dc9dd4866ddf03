"""Judging one state of the media that a life might have left: builds it, recovers on it, and asks the ledger.

The state is a set of whole writes, and a part of some others. The judge assumes the crash at the end of the step in
which the last of these was asked for. So operations that may come later do not count. An acknowledgement is persistent
if all writes that it stands for are there whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.scenario.judge import Judge, model_after_crash
from harness.scenario.ledger import PENDING, PERSISTENT, Ledger
from harness.scenario.violation import Violation, violation_of_system
from harness.search.observation import world_on
from harness.spec.device import MediumShape
from harness.spec.models import copy_of
from harness.spec.plan import Plan
from harness.trace.closure import Closure, in_issue_order, numbers
from harness.trace.trace import Acknowledgement, Node, Trace
from harness.trace.traced_run import Life
from harness.world.legal_images import Image


@dataclass(frozen=True, slots=True)
class State:
    """A set of whole writes; ``parts`` has, of each torn write, the units that are there (pages, sectors, ...)."""

    whole: int
    parts: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def torn(self) -> int:
        return sum(1 << number for number in self.parts)


class Judged(NamedTuple):
    """The result for one state."""

    step: int  # at the end of which the crash was assumed
    violation: Violation | None


IsPersistent = Callable[[Acknowledgement, int], bool]


class StateJudge:
    """Judges states of one life. The same state is not judged twice."""

    def __init__(self, plan: Plan, life: Life, closure: Closure) -> None:
        self._plan = plan
        self._judge = Judge(plan)
        self._life = life
        self._closure = closure
        self._shapes = plan.configuration.media
        self._known: dict[object, Judged] = {}

    def judge(self, state: State, is_persistent: IsPersistent | None = None, *, step_min: int = 0) -> Judged:
        """Judge a state, with a crash not before ``step_min``.

        ``is_persistent(acknowledgement, whole)`` replaces the usual rule for an acknowledgement.
        """
        step = max(step_min, self._step_of(state))
        writes = [write for write in self._life.writes if write.step <= step]
        answer = is_persistent or self._is_persistent
        acknowledgements = self._life.trace.acknowledgements
        states = [
            PERSISTENT if answer(acknowledgements[number], state.whole) else PENDING
            for number in self._life.acknowledgements[: len(writes)]
        ]
        media = contents(self._life.trace, state, self._shapes)
        known = (step, state.whole, tuple(states), media)
        if known not in self._known:
            self._known[known] = Judged(step, self._violation(step, state.whole, states, media))
        return self._known[known]

    def _step_of(self, state: State) -> int:
        return max((self._closure.asked(number)[1] for number in numbers(state.whole | state.torn)), default=0)

    def _is_persistent(self, acknowledgement: Acknowledgement, whole: int) -> bool:
        return acknowledgement.is_complete and all(
            is_there(self._life.trace, number, whole) for number in acknowledgement.nodes
        )

    def _violation(self, step: int, whole: int, states: Sequence[str], media: Image) -> Violation | None:
        plan, life = self._plan, self._life
        at = life.states[max((each for each in life.states if each <= step), default=min(life.states))]
        world = world_on(plan, media, self._kept_as_of(at.kept, whole))
        try:
            system = plan.spec.system(world)
        except BaseException as error:
            violation = violation_of_system(error, "crash", "recovery")
            if violation is None:
                raise
            return violation
        ledger = Ledger.of(plan.read, life.bases, life.writes[: len(states)])
        return self._judge.whole(ledger, states, system, model_after_crash(plan, at.model)).violation

    def _kept_as_of(self, kept: Mapping[str, Any], whole: int) -> dict[str, Any]:
        """A copy of the kept values as this state leaves them."""

        def is_persistent(dependency: Any) -> bool:
            nodes, is_complete = self._life.stands_for(dependency)
            return is_complete and all(is_there(self._life.trace, number, whole) for number in nodes)

        recalling = {name: value.as_of(is_persistent) for name, value in kept.items() if hasattr(value, "as_of")}
        return copy_of({name: value for name, value in kept.items() if name not in recalling}) | recalling


def is_there(trace: Trace, number: int, whole: int) -> bool:
    """Whether a write, or the write that carries a change, is in this set."""
    write = trace.write_of(number)
    return write is not None and bool(whole >> write & 1)


def contents(trace: Trace, state: State, shapes: Sequence[MediumShape]) -> Image:
    """The content of each extent of each medium in this state."""
    media = [list(extents) for extents in trace.base]
    for node in in_issue_order(trace):
        if state.whole >> node.number & 1:
            _apply(media, shapes, node, None)
        elif node.number in state.parts:
            _apply(media, shapes, node, state.parts[node.number])
    return tuple(tuple(extents) for extents in media)


def _apply(media: list[list[bytes]], shapes: Sequence[MediumShape], node: Node, units: Sequence[int] | None) -> None:
    assert node.place is not None
    medium, extent, page, _ = node.place
    shape, extents = shapes[medium], media[medium]
    device = shape.device
    if node.data is None:
        emptied = device.emptied(extents[extent])
        extents[extent] = extents[extent] if emptied is None else emptied
        return
    size = shape.unit_size_bytes
    start = page * shape.page_size_bytes
    for unit in range(len(node.data) // size) if units is None else units:
        extents[extent] = device.written(
            extents[extent], start + unit * size, node.data[unit * size : (unit + 1) * size]
        )
