"""Knobs: drawn for each scenario, kept by name in the program, and what lies past a threshold is found and shrunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from harness import ZONED, Answer, Configuration, Knob, MediumShape, Mode, Operation, Spec, check, integers
from harness.choices.program import Program, Step
from harness.scenario.runner import record_scenario, replay_program
from harness.shrink.shrink import shrink
from harness.spec.plan import Plan, SpecError, compile_plan


@dataclass(frozen=True, slots=True)
class Parameters:
    pruned_from: int = 50
    other: int = 1


class Tally:
    """Adds numbers up, and forgets one once there are more than its parameters say."""

    def __init__(self, parameters: Parameters = Parameters(pruned_from=10**9)) -> None:
        self._parameters = parameters
        self._numbers: list[int] = []

    def add(self, number: int) -> None:
        self._numbers.append(number)
        if len(self._numbers) > self._parameters.pruned_from:
            self._numbers.pop()

    def total(self) -> int:
        return sum(self._numbers)


KNOBS = (Knob("pruned_from", (50, 2, 200)), Knob("other", (1, 2, 3)))
CONFIGURATION = Configuration("only", (MediumShape(1, 1, 1, ZONED),), Parameters(), knobs=KNOBS)
SPEC = Spec(
    "tally",
    system=lambda world: Tally(world.configuration.parameters),
    model=Tally,
    operations=[Operation("add", number=integers(1, 3), weight=3), Operation("total")],
    configurations=[CONFIGURATION],
    steps_mean=15,
)


def plan_of(configuration: Configuration = CONFIGURATION) -> Plan:
    return compile_plan(replace(SPEC, configurations=[configuration]), configuration, Mode.CONFORMANCE)


def test_what_lies_past_a_threshold_is_found_only_where_a_knob_is_turned() -> None:
    assert check(SPEC, Mode.CONFORMANCE, scenarios=300).answer is Answer.VIOLATED
    untold = replace(SPEC, configurations=[CONFIGURATION.without_knobs()])
    assert check(untold, Mode.CONFORMANCE, scenarios=300).answer is not Answer.VIOLATED


def test_a_knob_that_matters_stays_in_the_shrunk_program_and_others_do_not() -> None:
    plan = plan_of()
    run = next(run for seed in range(300) if (run := record_scenario(plan, seed)).violation is not None)
    assert run.violation is not None
    program = shrink(plan, run.program, run.violation).program
    assert program.steps[0] == Step(0, "open", {"knob.pruned_from": 1})
    assert [step.operation for step in program.steps[1:]] == ["add", "add", "add", "total"]
    assert replay_program(plan, program, strict=True).violation is not None


def test_the_history_names_the_knobs_that_are_turned() -> None:
    run = replay_program(plan_of(), Program((Step(0, "open", {"knob.pruned_from": 1}),)), strict=True)
    assert next(line for event in run.events for line in event.lines()) == "pruned_from = 2"


def test_a_program_means_the_same_when_another_knob_comes() -> None:
    program = Program((Step(0, "open", {"knob.pruned_from": 1}), *(Step(at, "add") for at in range(1, 4))))
    program = Program((*program.steps, Step(4, "total")))
    more = replace(CONFIGURATION, knobs=(Knob("other", (1, 7)), *KNOBS[:1]))
    for configuration in (CONFIGURATION, more):
        assert replay_program(plan_of(configuration), program, strict=True).violation is not None


def test_shrinking_turns_a_knob_where_that_makes_the_failure_shorter() -> None:
    plan = plan_of(replace(CONFIGURATION, knobs=(Knob("pruned_from", (50, 8, 2)),)))
    adds = [Step(at, "add") for at in range(1, 10)]
    program = Program((Step(0, "open", {"knob.pruned_from": 1}), *adds, Step(10, "total")))
    run = replay_program(plan, program, strict=True)
    assert run.violation is not None
    assert len(shrink(plan, program, run.violation).program.steps) == 1 + 3 + 1


def turned_with_media(configuration: Configuration, values: Mapping[str, Any]) -> Configuration:
    shape = replace(configuration.media[0], extent_count=values["extents"])
    return replace(configuration, media=(shape,))


def test_a_function_may_turn_the_media_too() -> None:
    configuration = replace(CONFIGURATION, knobs=(Knob("extents", (1, 5)),), turn=turned_with_media)
    assert configuration.turned([1]).media[0].extent_count == 5
    assert configuration.turned([0]) == configuration.without_knobs()


@pytest.mark.parametrize(
    "knobs",
    [
        (Knob("pruned_from", (2, 50)),),  # the first is not the default
        (Knob("pruned_from", ()),),
        (Knob("pruned from", (50,)),),
        (KNOBS[0], KNOBS[0]),
    ],
)
def test_knobs_that_cannot_be_are_refused(knobs: tuple[Knob, ...]) -> None:
    with pytest.raises(SpecError, match="knob"):
        plan_of(replace(CONFIGURATION, knobs=knobs))
