"""Confirming a minimum: no shorter program breaks the same property, of those made of a minimal case's own calls.

Every program over the case's operations, with the arguments they have there, and every choice of the surroundings:
order of device steps, barriers, flushes, when the power fails and what survives. Pinned to what the case has of it, or
nothing: identifiers, crashes in recovery, process deaths, second crashes, after which kind of event power fails, and
whether that is more than sixteen events into an operation.
Each program is run from empty media, one run a combination. After a crash a run is left where an earlier one has been
in the same state with as many operations to go: the same on the media, the same kept, the same model. What recovery has
in memory follows from these.

So *confirmed* is a proof within these calls, and says nothing of others: a shorter program may fail that takes another
operation or another argument.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Final

from harness.choices.mix import Menu
from harness.choices.program import Program
from harness.choices.sources import ENVIRONMENT_LANES, INTERRUPTS, RESERVED_NAMES, lane_of
from harness.choices.trail import Trail
from harness.scenario.failures import ScenarioFailed
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters, Failure, Mode
from harness.shrink.passes import operation_count
from harness.spec.plan import CRASH, Plan, compile_plan
from harness.spec.spec import Configuration, Spec

_PINNED: Final = frozenset({"again", "death", "entropy", "far", "recovery", "strike"})
_CRASH_CHOICES: Final = frozenset({"during", "inside"})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``operations_tried``: programs of up to so many operations were all run, and none failed."""

    operations_tried: int
    runs: int
    failure: Failure | None  # of a program with one operation more than that
    is_complete: bool  # the depth asked for was reached, or a failure found


@dataclass(frozen=True, slots=True)
class _Call:
    operation: str
    arguments: Mapping[str, int]


class _ConfirmingSource:
    """Programs of ``operations_max`` operations; one that a crash interrupts counts."""

    def __init__(self, plan: Plan, calls: Sequence[_Call], pinned: Mapping[str, Sequence[int]], count: int) -> None:
        self._plan = plan
        self._calls = calls
        self._pinned = pinned
        self._count = count
        self._trail = Trail()
        self.step = 0

    def begin(self, menu: Menu) -> None:
        self._menu = menu
        self._trail.rewind()
        self.step = 0
        self._left_count = self._count
        self._enter({})

    def _enter(self, arguments: Mapping[str, int]) -> None:
        self._arguments = arguments
        self._drawn: dict[str, int] = {}

    @property
    def left_count(self) -> int:
        """Operations still to come."""
        return self._left_count

    def is_on_new_ground(self) -> bool:
        """Whether no run before has made all the choices made so far."""
        return self._trail.is_at_end()

    def advance(self) -> bool:
        return self._trail.advance()

    def next_step(self) -> int:
        self.step += 1
        if not self._left_count:
            return -1
        self._left_count -= 1
        call = self._calls[self._trail.pick(len(self._calls))]
        self._enter(call.arguments)
        return self._menu.names.index(call.operation)

    def choose(self, name: str, count: int) -> int:
        if name == "inside":
            return self._inside(count)
        if name == "during":
            return self._during()
        if name in _PINNED:
            allowed = [value for value in self._pinned[name] if value < count]
            return allowed[self._trail.pick(len(allowed))]
        if name in ENVIRONMENT_LANES:
            return self._trail.pick(count)
        number = self._drawn.get(name, 0)
        self._drawn[name] = number + 1
        return min(self._arguments.get(f"{name}.{number}", 0), count - 1)

    def _inside(self, count: int) -> int:
        if not self._left_count:
            return 0
        inside = self._trail.pick(count)
        if inside:
            self._left_count -= 1
            if self._plan.write_back is not None and inside == 1:
                self._enter({"steps.0": self._plan.write_back.steps_max - 1})
        return inside

    def _during(self) -> int:
        """One of the case's calls that can be interrupted, with its arguments; write-back has its own choice."""
        if self._plan.write_back is not None and "steps.0" in self._arguments:
            return 0
        names = [action.name for action in self._plan.interruptible]
        inner = [call for call in self._calls if call.operation in names]
        if not inner:
            return 0
        call = inner[self._trail.pick(len(inner))]
        self._enter(call.arguments)
        return names.index(call.operation)

    def choose_at(self, full_name: str, count: int) -> int:
        return self._trail.pick(count)

    choose_rare = choose

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return identities[self._trail.pick(len(identities))] if identities else 0

    def close(self) -> None:
        """Nothing is left to check."""


class _Visited:
    """States just after a crash, and with how many operations to go a run went on from there."""

    def __init__(self) -> None:
        self._left_counts: dict[bytes, int] = {}

    def covers(self, scenario: Scenario, left_count: int) -> bool:
        """Whether all that may follow was run before; if not, it will have been."""
        media = tuple(medium.state() for medium in scenario.world.media)
        state = _pickled((media, *scenario.left_by_crash()))
        if state is None:
            return False
        if self._left_counts.get(state, -1) >= left_count:
            return True
        self._left_counts[state] = left_count
        return False


class _Pickler(pickle.Pickler):
    """Takes a function for itself: only states of one process are compared."""

    def persistent_id(self, value: object) -> object:
        return id(value) if type(value) is FunctionType else None


def _pickled(state: object) -> bytes | None:
    """None for what cannot be told apart by its bytes."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(state)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    return buffer.getvalue()


def _run(plan: Plan, source: _ConfirmingSource, counters: Counters, visited: _Visited | None) -> Failure | None:
    source.begin(plan.menu)
    scenario = Scenario(plan, source, counters)
    try:
        scenario.open()
        index = source.next_step()
        while index >= 0:
            scenario.perform(index)
            is_new = plan.actions[index].kind == CRASH and source.is_on_new_ground()
            if is_new and visited is not None and visited.covers(scenario, source.left_count):
                return None
            index = source.next_step()
        scenario.finish()
    except ScenarioFailed as stop:
        return stop.failure
    return None


def confirm(
    spec: Spec,
    configuration: Configuration,
    mode: Mode,
    program: Program,
    property_name: str,
    *,
    seconds: float | None = None,
    merging: bool = True,
) -> Confirmation:
    """Try all programs with fewer operations than this one has, shortest first; ``merging`` off leaves no run early.

    What breaks another property is no shorter program for this one.
    """
    plan = compile_plan(spec, configuration, mode)
    calls = _calls_of(plan, program)
    pinned = _pinned_in(program)
    deadline = None if seconds is None else time.perf_counter() + seconds
    counters = Counters()
    for count in range(1, operation_count(program)):
        source = _ConfirmingSource(plan, calls, pinned, count)
        visited = _Visited() if merging else None
        while True:
            failure = _run(plan, source, counters, visited)
            if failure is not None and failure.property == property_name:
                return Confirmation(count - 1, counters.scenarios, failure, is_complete=True)
            if not source.advance():
                break
            if deadline is not None and time.perf_counter() > deadline:
                return Confirmation(count - 1, counters.scenarios, None, is_complete=False)
    return Confirmation(operation_count(program) - 1, counters.scenarios, None, is_complete=True)


def _calls_of(plan: Plan, program: Program) -> list[_Call]:
    """The different calls of the program, those that its crashes interrupt included."""
    calls: list[_Call] = []
    for step in program.steps:
        if step.operation in RESERVED_NAMES:
            continue
        arguments = {
            name: value
            for name, value in step.choices.items()
            if lane_of(name) not in ENVIRONMENT_LANES | _CRASH_CHOICES
        }
        found = [_Call(step.operation, arguments)]
        if step.choices.get(INTERRUPTS):
            found = [_Call(step.operation, {}), *_interrupted(plan, step.choices, arguments)]
        calls += [call for call in found if call not in calls]
    return calls


def _interrupted(plan: Plan, choices: Mapping[str, int], arguments: Mapping[str, int]) -> list[_Call]:
    if plan.write_back is not None and choices[INTERRUPTS] == 1:
        return [_Call(plan.write_back.name, arguments)]
    return [_Call(plan.interruptible[choices.get("during.0", 0)].name, arguments)]


def _pinned_in(program: Program) -> dict[str, list[int]]:
    values = {lane: {0} for lane in _PINNED}
    for step in program.steps:
        for name, value in step.choices.items():
            if lane_of(name) in _PINNED:
                values[lane_of(name)].add(value)
    return {lane: sorted(found) for lane, found in values.items()}
