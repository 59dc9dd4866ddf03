"""Faults of the device: a store that bears them passes; each way to get them wrong is found, shrunk and replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from box import BUGS, Box, BoxError, box_spec
from toy_store import SPEC as TOY

from harness import ZONED, Configuration, Fault, MediumShape, Operation, World, sampled
from harness.choices.program import operation_count
from harness.scenario.runner import record_scenario, replay_program
from harness.scenario.verdict import Answer
from harness.search.check import check
from harness.shrink.shrink import shrink
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Mode, Spec


def test_nothing_is_found_in_a_store_that_bears_faults() -> None:
    verdict = check(box_spec(), Mode.FAULTS, scenarios=500)
    assert verdict.answer is Answer.NONE_FOUND


def test_a_call_that_never_failed_is_unknown() -> None:
    spec = replace(box_spec(), operations=[*box_spec().operations[:-1], Fault(errors=(BoxError,))])
    verdict = check(spec, Mode.FAULTS, scenarios=500)
    assert (verdict.answer, verdict.reason) == (Answer.UNKNOWN, "no reset was refused")  # the box has none


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_is_found_by_faults_alone(bug: str) -> None:
    spec = box_spec(bug)
    assert check(spec, Mode.FAULTS, scenarios=2_000).answer is Answer.VIOLATED
    for mode in (Mode.CONFORMANCE, Mode.CRASH):
        assert check(spec, mode, scenarios=50).answer is Answer.NONE_FOUND


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=[pytest.mark.nightly] if at > 2 else []) for at, bug in enumerate(BUGS)]
)
def test_each_bug_is_shrunk_and_replayed(bug: str) -> None:
    spec = box_spec(bug)
    verdict = check(spec, Mode.FAULTS, scenarios=2_000)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    plan = compile_plan(spec, spec.configurations[0], Mode.FAULTS)
    minimal = shrink(plan, verdict.run.program, verdict.run.violation)
    assert operation_count(minimal.program) <= 5
    again = replay_program(plan, minimal.program, strict=True)
    assert again.violation == minimal.violation


def test_a_fault_of_one_medium_is_no_excuse_for_calls_of_another() -> None:
    def reaches(operation: str, arguments: Mapping[str, Any]) -> Iterable[int]:
        return [arguments["medium"]] if "medium" in arguments else [0, 1]

    class Pair:
        """Two boxes, one a medium; with a bug, one refusal stops both."""

        def __init__(self, world: World) -> None:
            self.boxes = [Box(_OneOf(world, medium)) for medium in (0, 1)]

        def put(self, medium: int, value: bytes) -> object:
            if self.boxes[0].is_broken:
                raise BoxError
            return self.boxes[medium].put(b"a", value)

        def sync(self) -> None:
            for box in self.boxes:
                box.sync()

        def shutdown(self) -> None:
            self.sync()

        def get(self, medium: int) -> bytes | None:
            return self.boxes[medium].get(b"a")

    class PairModel:
        def __init__(self) -> None:
            self.values: dict[int, bytes | None] = {}

        def put(self, medium: int, value: bytes) -> None:
            self.values[medium] = value

        def get(self, medium: int) -> bytes | None:
            return self.values.get(medium)

        def settle(self, medium: int, value: bytes | None) -> None:
            self.values[medium] = value

    shape = MediumShape(1, 64, 4, ZONED)
    media = sampled([0, 1])
    base = box_spec()
    others = [each for each in base.operations if each.name not in ("get", "put", "fault")]
    spec = replace(
        base,
        system=Pair,
        model=PairModel,
        operations=[
            Operation("put", medium=media, value=sampled([b"x", b"y"]), weight=3, writes="medium"),
            *others,
            Fault(errors=(BoxError,), reaches=reaches),
        ],
        contents=None,
        configurations=[Configuration("zoned", (shape, shape))],
    )
    verdict = check(spec, Mode.FAULTS, scenarios=500)
    assert verdict.reason == "fault tolerance at other medium"


class _OneOf:
    """A world with one of its media."""

    def __init__(self, world: World, medium: int) -> None:
        self.media = (world.media[medium],)
        self.kept = world.kept


def test_a_spec_without_faults_has_no_such_mode() -> None:
    assert Mode.FAULTS not in TOY.modes
    verdict = check(TOY, Mode.FAULTS, scenarios=1)
    assert (verdict.answer, verdict.reason) == (Answer.UNKNOWN, "the spec has no Fault operation")


@pytest.mark.parametrize(
    "change",
    [{"durability": None}, {"operations": [*box_spec().operations[:-1], Fault(errors=(), fatal=("put_all",))]}],
)
def test_a_fault_needs_a_durability_and_operations_that_are_there(change: dict[str, Any]) -> None:
    spec: Spec = replace(box_spec(), **change)
    with pytest.raises(SpecError):
        compile_plan(spec, spec.configurations[0], Mode.FAULTS)


def test_after_a_refusal_that_is_fatal_the_process_dies_whether_the_model_sees_the_call_or_not() -> None:
    fault = Fault(errors=(BoxError,), calls=("write",), fatal=("sync",))
    spec = replace(box_spec(), operations=[*box_spec().operations[:-1], fault])
    plan = compile_plan(spec, spec.configurations[0], Mode.FAULTS)
    deaths_count = 0
    for seed in range(40):
        run = record_scenario(plan, seed)
        assert run.violation is None
        lines = run.history
        for at, line in enumerate(lines):
            if line.endswith(" sync()") and any("BoxError" in each for each in lines[at : at + 3]):
                deaths_count += 1
                assert any("the process dies" in each for each in lines[at : at + 4])
    assert deaths_count
