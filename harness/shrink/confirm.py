"""Confirming a minimum: shows that no shorter program of a minimal case's own calls breaks the same property.

    tried    every program over the case's operations, with the arguments that they have there, and every choice of the
             surroundings: order of device steps, barriers, flushes, when the power fails and what survives
    pinned   to 0 and the values that the case has: identifiers, crashes in recovery, process deaths, second crashes,
             the kind of event after which power fails, and whether that is more than sixteen events into an operation;
             whether an exception arrives and which, how many lines or calls later, and a shutdown after it

An operation that follows on an exception is tried with the arguments of the one that it interrupts.

Each program runs from empty media, one run a combination. After a crash, a run is left if an earlier one was in the
same state with as many operations to go. The state is what the media hold, what the world keeps, and the model. The
memory of a recovered system follows from these.

So *confirmed* is a proof within these calls, and says nothing of others: a shorter program with another operation or
another argument may fail.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.choices.lanes import (
    FOLLOWS,
    INTERRUPTS,
    MEANWHILE,
    OF_CRASH,
    OF_SURROUNDINGS,
    PINNED,
    begins_call_between,
    lane_of,
    own_name,
)
from harness.choices.mix import Mix
from harness.choices.program import RESERVED_NAMES, Program, operation_count
from harness.choices.tape import Tape, Turn
from harness.choices.trail import Trail
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violated, Violation
from harness.scenario.watchdog import Watchdog
from harness.spec.models import NotCopiableError, state_of
from harness.spec.plan import CRASH, Plan


@dataclass(frozen=True, slots=True)
class Confirmation:
    """All programs of up to ``operations_tried`` operations were run, and none failed."""

    operations_tried: int
    runs: int
    violation: Violation | None  # of a program with one operation more
    is_complete: bool  # every shorter program was tried, or a violation was found


@dataclass(frozen=True, slots=True)
class _Call:
    operation: str
    arguments: Mapping[str, int]


class _ConfirmingPolicy:
    """Goes through all programs of ``count`` operations; an operation that a crash interrupts counts as one."""

    def __init__(self, plan: Plan, calls: Sequence[_Call], pinned: Mapping[str, Sequence[int]], count: int) -> None:
        self._plan = plan
        self._calls = calls
        self._pinned = pinned
        self._count = count
        self._trail = Trail()
        self._arguments: Mapping[str, int] = {}  # of the call under way
        self._drawn: dict[str, int] = {}
        self.left_count = count  # operations still to come

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        self._trail.rewind()
        self.left_count = self._count
        self._enter({})
        return self._turns(mix)

    def _turns(self, mix: Mix) -> Iterator[Turn]:
        step = 1
        while self.left_count:
            self.left_count -= 1
            call = self._calls[self._trail.pick(len(self._calls))]
            self._enter(call.arguments)
            yield step, mix.names.index(call.operation)
            step += 1
        yield step, -1

    def _enter(self, arguments: Mapping[str, int]) -> None:
        self._arguments = arguments
        self._drawn = {}

    def is_on_new_ground(self) -> bool:
        """Whether no earlier run has made all the choices of this run so far."""
        return self._trail.is_at_end()

    def advance(self) -> bool:
        return self._trail.advance()

    def pick(self, lane: str, count: int) -> int:
        if lane == "inside":
            return self._inside(count)
        if lane == "during":
            return self._during()
        if lane == "afterwards":
            return self._afterwards(count)
        if lane == "next":
            return self._next()
        if lane == MEANWHILE:
            return self._meanwhile(count)
        if lane in PINNED:
            allowed = [value for value in self._pinned[lane] if value < count]
            return allowed[self._trail.pick(len(allowed))]
        if lane in OF_SURROUNDINGS:
            return self._trail.pick(count)
        number = self._drawn.get(lane, 0)
        self._drawn[lane] = number + 1
        return min(self._arguments.get(f"{lane}.{number}", 0), count - 1)

    def _meanwhile(self, count: int) -> int:
        """None, or one of the case's calls that may be made in the middle of another."""
        names = [action.name for action in self._plan.overlapping]
        between = [call for call in self._calls if call.operation in names] if self.left_count else []
        picked = self._trail.pick(1 + len(between))
        if not picked:
            return 0
        self.left_count -= 1
        call = between[picked - 1]
        self._enter(call.arguments)
        return min(1 + names.index(call.operation), count - 1)

    def _inside(self, count: int) -> int:
        if not self.left_count:
            return 0
        inside = self._trail.pick(count)
        if inside:
            self.left_count -= 1
            if self._plan.write_back is not None and inside == 1:
                self._enter({"steps.0": self._plan.write_back.steps_max - 1})
        return inside

    def _during(self) -> int:
        """One of the case's calls that can be interrupted, with its arguments."""
        # `_inside` has set the steps of a write-back; the drawn lane has one value then.
        if self._plan.write_back is not None and "steps.0" in self._arguments:
            return 0
        names = [action.name for action in self._plan.interruptible]
        inner = [call for call in self._calls if call.operation in names]
        if not inner:
            return 0
        call = inner[self._trail.pick(len(inner))]
        self._enter(call.arguments)
        return names.index(call.operation)

    def _afterwards(self, count: int) -> int:
        follow_count = self._trail.pick(min(count, 1 + self.left_count))
        self.left_count -= follow_count
        return follow_count

    def _next(self) -> int:
        """One of the case's calls that may follow on an exception."""
        names = [action.name for action in self._plan.following]
        following = [call for call in self._calls if call.operation in names]
        if not following:
            return 0
        call = following[self._trail.pick(len(following))]
        self._enter(call.arguments)
        return names.index(call.operation)


class _Visited:
    """States just after a crash, each with the number of operations that a run went on with."""

    def __init__(self) -> None:
        self._left_counts: dict[Hashable, int] = {}

    def covers(self, scenario: Scenario, left_count: int) -> bool:
        """Whether everything that may follow was run before. If not, the caller is about to run it."""
        state = _state_after_crash(scenario)
        if state is None:
            return False
        if self._left_counts.get(state, -1) >= left_count:
            return True
        self._left_counts[state] = left_count
        return False


def _state_after_crash(scenario: Scenario) -> Hashable:
    """A value that decides how the run can go on; None if models or kept values cannot be compared."""
    world = scenario.world
    try:
        kept, results = state_of(dict(world.kept)), state_of(scenario.drawer.results())
        model = state_of(scenario.model)
    except NotCopiableError:
        return None
    return tuple(medium.state() for medium in world.media), kept, model, world.identifiers_count, results


def _run(plan: Plan, policy: _ConfirmingPolicy, counters: Counters, visited: _Visited | None) -> Violation | None:
    tape = Tape(policy, recording=False)
    tape.begin(plan.mix)
    scenario = Scenario(plan, tape, counters)
    try:
        with Watchdog(counters.progress, plan.spec.step_seconds_max):
            scenario.open()
            for index in tape.steps():
                scenario.perform(index)
                is_new = plan.actions[index].kind == CRASH and policy.is_on_new_ground()
                if is_new and visited is not None and visited.covers(scenario, policy.left_count):
                    return None
            scenario.finish()
    except Violated as stop:
        return stop.violation
    return None


def confirm(
    plan: Plan,
    program: Program,
    property_name: str,
    *,
    seconds: float | None = None,
    merging: bool = True,
) -> Confirmation:
    """Try all programs with fewer operations than this one, shortest first, for up to ``seconds``.

    A program that breaks another property does not count. Without ``merging``, no run is left early.
    """
    calls = _calls_of(plan, program)
    pinned = _pinned_in(program)
    deadline = None if seconds is None else time.perf_counter() + seconds
    counters = Counters()
    for count in range(1, operation_count(program)):
        policy = _ConfirmingPolicy(plan, calls, pinned, count)
        visited = _Visited() if merging else None
        while True:
            violation = _run(plan, policy, counters, visited)
            if violation is not None and violation.property == property_name:
                return Confirmation(count - 1, counters.scenarios, violation, is_complete=True)
            if not policy.advance():
                break
            if deadline is not None and time.perf_counter() > deadline:
                return Confirmation(count - 1, counters.scenarios, None, is_complete=False)
    return Confirmation(operation_count(program) - 1, counters.scenarios, None, is_complete=True)


def _calls_of(plan: Plan, program: Program) -> list[_Call]:
    """The different calls of the program, including those that its crashes interrupt."""
    calls: list[_Call] = []
    for step in program.steps:
        if step.operation in RESERVED_NAMES:
            continue
        arguments = _arguments(step.choices)
        found = [_Call(step.operation, arguments), *_between(plan, step.choices)]
        if step.choices.get(INTERRUPTS):
            found = [_Call(step.operation, {}), *_interrupted(plan, step.choices, arguments), *found[1:]]
        calls += [call for call in found if call not in calls]
    return calls


def _arguments(choices: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in choices.items() if lane_of(name) not in OF_SURROUNDINGS | OF_CRASH}


def _between(plan: Plan, choices: Mapping[str, int]) -> list[_Call]:
    """The calls that were made in the middle of a step's own."""
    found = []
    for began, value in choices.items():
        if begins_call_between(began) and 0 < value <= len(plan.overlapping):
            own = {own_name(name): each for name, each in choices.items() if name.startswith(f"{began}.")}
            found.append(_Call(plan.overlapping[value - 1].name, _arguments(own)))
    return found


def _interrupted(plan: Plan, choices: Mapping[str, int], arguments: Mapping[str, int]) -> list[_Call]:
    following = [plan.following[choices.get(f"next.{number}", 0)] for number in range(choices.get(FOLLOWS, 0))]
    if plan.write_back is not None and choices[INTERRUPTS] == 1:
        inner = plan.write_back
    else:
        inner = plan.interruptible[choices.get("during.0", 0)]
    return [_Call(action.name, arguments) for action in (inner, *following)]


def _pinned_in(program: Program) -> dict[str, list[int]]:
    values = {lane: {0} for lane in PINNED}
    for step in program.steps:
        for name, value in step.choices.items():
            lane = lane_of(own_name(name))
            if lane in PINNED:
                values[lane].add(value)
    return {lane: sorted(found) for lane, found in values.items()}
