"""A spec as ordinary tests, for pytest or unittest.

    from shardstore.index_spec import SPEC
    TestIndex = SPEC.as_test()

gives one test for each mode, configuration and kind:

    check       what `harness check` does: saved cases that still fail, then the harness' own random scenarios
    machine     a state machine drawn by Hypothesis, with a rule for each operation, whose steps it prints
    programs    whole programs drawn by Hypothesis

The check finds most in the same time, and the same in every run. The other two are Hypothesis tests like any other,
with its profiles, database and statistics, for those who know it. Whoever finds a failure, it is shrunk by the harness,
saved, and shown with the command that replays it. The next run of the check replays it first.
"""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Final

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from harness.corpus.saving import CORPUS_DEFAULT
from harness.scenario.verdict import Answer
from harness.search.check import Sample, check_sample
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec
from harness.testing.hypothesis_run import run_told, settings_for
from harness.testing.programs import drawn_programs
from harness.testing.state_machine import class_name, identifier, state_machine
from harness.testing.violated import PropertyViolatedError, find_project, saved_failure, tell

SCENARIOS: Final = 500


class UnknownError(AssertionError):
    """The check could not tell, or tested nothing; the message says why."""


def as_test(
    spec: Spec,
    *,
    modes: Sequence[Mode] | None = None,
    configurations: Sequence[str] | None = None,
    scenarios: int = SCENARIOS,
    seed: int = 0,
    settings: hypothesis.settings | None = None,
    corpus: Path | str = CORPUS_DEFAULT,
) -> type[unittest.TestCase]:
    """A test class for the spec.

    It has all ``modes`` that the spec has steps for, and all ``configurations``, unless told otherwise. Each check runs
    ``scenarios`` random scenarios of ``seed``; with 0 it only replays. Hypothesis goes by ``settings``, or by the
    profile that is loaded. Failures are saved in the folder ``corpus`` of the project. Raises `ValueError` if the spec
    has none of the configurations.
    """
    tests: dict[str, Any] = {}
    for mode in map(Mode, modes or spec.modes):  # names will do
        for configuration in spec.configurations:
            if configurations is None or configuration.name in configurations:
                plan = compile_plan(spec, configuration, mode)
                for kind, test in (
                    ("check", _check_test(plan, Sample(seed, scenarios=scenarios), Path(corpus))),
                    ("machine", _machine_test(plan, settings, Path(corpus))),
                    ("programs", _programs_test(plan, settings, Path(corpus))),
                ):
                    name = f"test_{kind}_{identifier(f'{mode}_{configuration.name}')}"
                    test.__name__ = test.__qualname__ = name
                    tests[name] = test
    if not tests:
        raise ValueError(f"spec {spec.name} has none of these configurations: {configurations}")
    return type(f"Test{class_name(spec.name)}", (unittest.TestCase,), tests)


def _check_test(plan: Plan, sample: Sample, corpus: Path) -> Callable[[Any], None]:
    def test(self: unittest.TestCase) -> None:
        __tracebackhide__ = True
        project = find_project(plan.spec, corpus)
        text = saved_failure(plan, project)
        if text:
            raise PropertyViolatedError("\n" + text)
        if not sample.scenarios:
            return
        verdict = check_sample(plan.spec, plan.mode, sample, plan.configuration.name)
        if verdict.answer is Answer.VIOLATED:
            assert verdict.run is not None
            raise PropertyViolatedError("\n" + tell(plan, verdict.run, project, verdict.seed, verdict.scenario))
        if verdict.answer is Answer.UNKNOWN:
            raise UnknownError(f"unknown: {verdict.spec}, {verdict.mode}, {verdict.configuration}: {verdict.reason}")

    return test


def _machine_test(plan: Plan, chosen: hypothesis.settings | None, corpus: Path) -> Callable[[Any], None]:
    machine = state_machine(plan)

    @wraps(machine.TestCase.runTest)  # so that Hypothesis' plugin takes it for a test of its own, with statistics
    def test(self: unittest.TestCase) -> None:
        __tracebackhide__ = True
        _hand_on(test, machine)
        effective = settings_for(plan, "machine", chosen)
        run_told(plan, corpus, lambda: run_state_machine_as_test(machine, settings=effective))

    return test


def _programs_test(plan: Plan, chosen: hypothesis.settings | None, corpus: Path) -> Callable[[Any], None]:
    drawn = drawn_programs(plan, chosen)

    @wraps(drawn)
    def test(self: unittest.TestCase) -> None:
        __tracebackhide__ = True
        _hand_on(test, drawn)
        run_told(plan, corpus, drawn)

    return test


def _hand_on(test: Callable[..., Any], target: Any) -> None:
    """Give the target what the user's decorators have put on the test, `reproduce_failure` and `seed` above all."""
    wrapped = vars(inspect.unwrap(test))
    for name, value in vars(test).items():
        if name != "__wrapped__" and wrapped.get(name) is not value:
            setattr(target, name, value)
