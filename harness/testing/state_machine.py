"""A spec as ordinary tests: a Hypothesis state machine and whole programs, for pytest or unittest.

    from shardstore.index_spec import SPEC
    TestIndex = SPEC.as_test()

gives one test for each mode, configuration and kind. The kind ``machine`` has one rule an operation, so that Hypothesis
prints the steps and their draws. The kind ``programs`` draws a whole program and runs it at once. Both are
derandomized: they find the same failures in every run, and keep no database. They are for developers who know
Hypothesis; the fast runner behind ``harness check`` tries many times as many scenarios.
"""

from __future__ import annotations

import re
import unittest
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn
from harness.scenario.failing_sequence import failing_sequence
from harness.scenario.history import Event
from harness.scenario.runner import run_recorded
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters, Run
from harness.scenario.violation import Violated
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec
from harness.testing.drawn import STEPS_MAX, DrawBelow, DrawnPolicy

MAX_EXAMPLES = 25
_MORE = st.integers(0, 9)  # 0 ends the program, so that it has ten steps on average
_ENDING = -1


class PropertyViolatedError(AssertionError):
    """A run broke a property; the message is the failing sequence."""


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

    def _guard(self, advance: Callable[[], None]) -> None:
        """Advance the run. If that raises anything, the run is over."""
        # Not only violations: Hypothesis raises in the middle of a step when it has drawn enough.
        over, self._over = self._over, True
        try:
            advance()
        except Violated as stop:
            run = Run(stop.violation, self._counters, self._tape.program(), tuple(self._history))
            raise _violated(self._plan, run) from None
        self._over = over


def _violated(plan: Plan, run: Run) -> PropertyViolatedError:
    text = failing_sequence(run, spec=plan.spec.name, mode=plan.mode, configuration=plan.configuration.name)
    return PropertyViolatedError("\n" + text)


def state_machine(plan: Plan) -> type[RuleBasedStateMachine]:
    """A state machine with one rule for every operation that the plan's mode allows."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stepped = _SteppedRun(plan)

        def teardown(self) -> None:
            self.stepped.finish()

    rules = {name: _rule(name, index) for index, name in _rule_names(plan)}
    return type(f"{_class_name(plan.spec)}Machine", (Machine,), rules)


def _rule_names(plan: Plan) -> list[tuple[int, str]]:
    return [(index, _identifier(plan.mix.names[index])) for index in plan.mix.allowed]


def _rule(name: str, index: int) -> Any:
    def take(self: Any, data: st.DataObject) -> None:
        self.stepped.step(index, _labelled(data))

    take.__name__ = name  # the name by which Hypothesis prints the step
    return rule(data=st.data())(take)


def _labelled(data: st.DataObject) -> DrawBelow:
    return lambda name, count: data.draw(st.integers(0, count - 1), label=name)


def as_test(
    spec: Spec,
    *,
    modes: Sequence[Mode] | None = None,
    configurations: Sequence[str] | None = None,
    max_examples: int = MAX_EXAMPLES,
    steps_max: int = STEPS_MAX,
) -> type[unittest.TestCase]:
    """A test class for the spec.

    It has all ``modes`` that the spec has steps for, and all ``configurations``, unless told otherwise. Each test runs
    ``max_examples`` programs of up to ``steps_max`` steps. Raises `ValueError` if the spec has none of the
    configurations.
    """
    quiet = settings(
        max_examples=max_examples,
        stateful_step_count=steps_max,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),  # explaining would trace every line, and the sequence says it better
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    tests: dict[str, Any] = {}
    for mode in modes or spec.modes:
        for configuration in spec.configurations:
            if configurations is None or configuration.name in configurations:
                suffix = _identifier(f"{mode}_{configuration.name}")
                plan = compile_plan(spec, configuration, mode)
                tests[f"test_machine_{suffix}"] = _machine_test(plan, quiet)
                tests[f"test_programs_{suffix}"] = _programs_test(plan, quiet, steps_max)
    if not tests:
        raise ValueError(f"spec {spec.name} has none of these configurations: {configurations}")
    return type(f"Test{_class_name(spec)}", (unittest.TestCase,), tests)


def _machine_test(plan: Plan, quiet: settings) -> Callable[[Any], None]:
    def test(self: unittest.TestCase) -> None:
        run_state_machine_as_test(state_machine(plan), settings=quiet)

    return test


def _programs_test(plan: Plan, quiet: settings, steps_max: int) -> Callable[[Any], None]:
    def test(self: unittest.TestCase) -> None:
        @quiet
        @given(st.data())
        def run_program(data: st.DataObject) -> None:
            policy = DrawnPolicy(lambda: data.draw(_MORE, label="more") > 0, _labelled(data), steps_max)
            run = run_recorded(plan, Tape(policy))
            if run.violation is not None:
                raise _violated(plan, run)

        run_program()

    return test


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _class_name(spec: Spec) -> str:
    return "".join(word.title() for word in re.split(r"\W|_", spec.name))
