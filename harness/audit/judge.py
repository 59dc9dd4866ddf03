"""Judging one state of the media that a life might have left: build it, recover on it, ask the ledger.

The state is a set of whole writes, and of some others a part. The crash is taken to come at the end of the step in
which the last of these was asked for, so that no operation counts that could have come later. An acknowledgement is
persistent if all it stands for is there whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.scenario.failures import Finding, finding_of_system
from harness.scenario.ledger import PENDING, PERSISTENT
from harness.scenario.observation import compare_contents, compare_outcomes, model_after_crash, world_on
from harness.spec.plan import Plan
from harness.spec.spec import MediumShape
from harness.trace.closure import Closure, in_issue_order, numbers
from harness.trace.trace import Acknowledgement, Node, Trace
from harness.trace.traced_run import Life, TracedLedger
from harness.world.legal_images import Image

_OPERATION = "crash"


@dataclass(frozen=True, slots=True)
class State:
    """``parts``: of each torn write the units that are there, pages on a zoned medium, sectors on a file."""

    whole: int
    parts: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def torn(self) -> int:
        return sum(1 << number for number in self.parts)


class Judged(NamedTuple):
    step: int  # at whose end the crash came
    finding: Finding | None  # property, place, answered, allowed


IsPersistent = Callable[[Acknowledgement, int], bool]


class Judge:
    """Judges states of one life. The same state is not judged twice."""

    def __init__(self, plan: Plan, life: Life, closure: Closure) -> None:
        self._plan = plan
        self._life = life
        self._closure = closure
        self._shapes = plan.configuration.media
        self._known: dict[object, Judged] = {}

    def judge(self, state: State, is_persistent: IsPersistent | None = None, *, step_min: int = 0) -> Judged:
        """``is_persistent`` (acknowledgement, writes that are whole) replaces the usual answer."""
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
            self._known[known] = Judged(step, self._finding(step, state.whole, states, media))
        return self._known[known]

    @property
    def judged_count(self) -> int:
        """Different states that were judged."""
        return len(self._known)

    def _step_of(self, state: State) -> int:
        return max((self._closure.asked(number)[1] for number in numbers(state.whole | state.torn)), default=0)

    def _is_persistent(self, acknowledgement: Acknowledgement, whole: int) -> bool:
        return acknowledgement.is_complete and all(
            is_there(self._life.trace, number, whole) for number in acknowledgement.nodes
        )

    def _finding(self, step: int, whole: int, states: Sequence[str], media: Image) -> Finding | None:
        plan, life = self._plan, self._life
        moments = life.moments
        moment = moments[max((each for each in moments if each <= step), default=min(moments))]
        world = world_on(plan, media, {name: self._as_of(value, whole) for name, value in moment.kept.items()})
        try:
            system = plan.spec.system(world)
        except BaseException as error:
            return _finding_or_raise(error, "recovery")
        model = model_after_crash(plan, moment.model)
        ledger = TracedLedger.of(plan.read, life.bases, life.writes[: len(states)])
        try:
            return compare_outcomes(plan, ledger, states, system, model) or _compare_whole(plan, system, model)
        except BaseException as error:
            return _finding_or_raise(error, "persistence")

    def _as_of(self, kept: Any, whole: int) -> Any:
        """A copy of what the world keeps, as this state leaves it."""

        def is_persistent(dependency: Any) -> bool:
            nodes, is_complete = self._life.stands_for(dependency)
            return is_complete and all(is_there(self._life.trace, number, whole) for number in nodes)

        return kept.as_of(is_persistent) if hasattr(kept, "as_of") else deepcopy(kept)


def _compare_whole(plan: Plan, system: object, model: object) -> Finding | None:
    answered = None if plan.spec.contents is None else plan.spec.contents(system)
    finding = compare_contents(plan, answered, model)
    if finding is None:
        for invariant in plan.spec.invariants:
            invariant(system, model)
    return finding


def _finding_or_raise(error: BaseException, property_name: str) -> Finding:
    finding = finding_of_system(error, _OPERATION, property_name)
    if finding is None:
        raise error
    return finding


def is_there(trace: Trace, number: int, whole: int) -> bool:
    """Whether a write, or the write that carries a change, is among these."""
    write = trace.write_of(number)
    return write is not None and bool(whole >> write & 1)


def contents(trace: Trace, state: State, shapes: Sequence[MediumShape]) -> Image:
    """What each extent of each medium holds in this state."""
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
    shape = shapes[medium]
    extents = media[medium]
    if node.data is None:
        if shape.zoned:
            extents[extent] = b""
        return
    size = unit_size_bytes(shape)
    start = page * shape.page_size_bytes
    for unit in range(len(node.data) // size) if units is None else units:
        at = start + unit * size
        held = extents[extent]
        extents[extent] = held[:at] + node.data[unit * size : (unit + 1) * size] + held[at + size :]


def unit_size_bytes(shape: MediumShape) -> int:
    """What a crash may tear a write into."""
    return shape.page_size_bytes if shape.zoned else shape.sector_size_bytes or shape.page_size_bytes
