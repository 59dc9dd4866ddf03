"""The test *machine* of a spec: a rule-based state machine with one rule an operation, drawn by Hypothesis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn
from harness.scenario.history import Event
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Answer, Counters, Run
from harness.scenario.violation import Violated
from harness.scenario.watchdog import Watchdog
from harness.spec.plan import Plan
from harness.testing.hypothesis_run import DrawBelow, FoundError, labelled, note_statistics

_ENDING = -1


def _simplest(name: str, count: int) -> int:
    return 0


class _ToldPolicy:
    """Takes the step that it is told to take, and asks ``draw_below``, which changes with each step."""

    def __init__(self) -> None:
        self.upcoming = _ENDING
        self.draw_below: DrawBelow = _simplest

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        return ((step, self.upcoming) for step in count(1))

    def pick(self, lane: str, count: int) -> int:
        return self.draw_below(lane, count) if count > 1 else 0


class _SteppedRun:
    """One recorded run that advances when it is told to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._told = _ToldPolicy()
        self._tape = Tape(self._told)
        self._history: list[Event] = []
        self._counters = Counters()
        self._over = False
        self._tape.begin(plan.mix)
        self._scenario = Scenario(plan, self._tape, self._counters, self._history)
        self._guard(self._scenario.open)

    def step(self, operation: int, draw_below: DrawBelow) -> None:
        self._told.upcoming = operation
        self._told.draw_below = draw_below
        self._tape.next_step()
        self._guard(lambda: self._scenario.perform(operation))

    def finish(self) -> None:
        """End the run, unless a step has failed or was broken off."""
        if not self._over:
            self._told.upcoming = _ENDING
            self._told.draw_below = _simplest
            self._tape.next_step()
            self._guard(self._scenario.finish)
            self._note(Answer.NONE_FOUND)

    def _guard(self, advance: Callable[[], None]) -> None:
        """Advance the run. If that raises anything, the run is over."""
        # Not only violations: Hypothesis raises in the middle of a step when it has drawn enough.
        over, self._over = self._over, True
        try:
            with Watchdog(self._counters.progress, self._plan.spec.step_seconds_max):
                advance()
        except Violated as stop:
            self._note(Answer.VIOLATED)
            raise FoundError(Run(stop.violation, self._counters, self._tape.program(), tuple(self._history))) from None
        self._over = over

    def _note(self, answer: Answer) -> None:
        note_statistics(self._plan, self._tape.program(), self._history, self._counters, answer)


def state_machine(plan: Plan) -> type[RuleBasedStateMachine]:
    """A state machine with one rule for every operation that the plan's mode allows; raises `FoundError`."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stepped = _SteppedRun(plan)

        def teardown(self) -> None:
            self.stepped.finish()

    rules = {identifier(plan.mix.names[index]): _rule(plan.mix.names[index], index) for index in plan.mix.allowed}
    return type(f"{class_name(plan.spec.name)}Machine", (Machine,), rules)


def _rule(name: str, index: int) -> Any:
    def take(self: Any, data: st.DataObject) -> None:
        self.stepped.step(index, labelled(data))

    take.__name__ = identifier(name)  # the name by which Hypothesis prints the step
    return rule(data=st.data())(take)


def identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def class_name(name: str) -> str:
    return "".join(word.title() for word in re.split(r"\W|_", name))
