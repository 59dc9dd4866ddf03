"""Calls in the middle of others: what is seen in them, in which order they count, and how they are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from shelf import (
    KeepsMonitor,
    ReadsTwice,
    SettlesLater,
    Shelf,
    ShelfModel,
    SwapsStale,
    TidiesForGood,
    TidiesStale,
    shelf_spec,
)

from harness.choices.lanes import OVERLAP, lane_of
from harness.choices.program import Program, format_program, operation_count, parse_program
from harness.choices.random_policy import scenario_seed
from harness.scenario.failing_sequence import comments
from harness.scenario.runner import record_scenario, replay_program
from harness.scenario.verdict import Answer
from harness.scenario.violation import Violation
from harness.search.check import check
from harness.shrink.shrink import shrink
from harness.spec.generators import integers
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Mode, Operation, Overlaps

CONFORMANCE, CRASH = Mode.CONFORMANCE, Mode.CRASH
WRONG = [
    (SwapsStale, CONFORMANCE, "conformance", 2),
    (TidiesStale, CONFORMANCE, "conformance", 2),
    (ReadsTwice, CONFORMANCE, "conformance", 2),
    (TidiesForGood, CONFORMANCE, "deadlock", 2),
    (KeepsMonitor, CONFORMANCE, "lock misuse", 2),
    (SettlesLater, CRASH, "persistence", 3),
]


def plan_of(kind: type[Shelf], mode: Mode = CONFORMANCE) -> Plan:
    spec = shelf_spec(kind)
    return compile_plan(spec, spec.configurations[0], mode)


def run(text: str, kind: type[Shelf] = Shelf, mode: Mode = CONFORMANCE) -> Violation | None:
    return replay_program(plan_of(kind, mode), parse_program(text), strict=True).violation


@pytest.mark.parametrize("mode", [CONFORMANCE, CRASH])
def test_a_store_that_looks_again_passes(mode: Mode) -> None:
    verdict = check(shelf_spec(), mode, scenarios=1_500)
    assert verdict.answer is Answer.NONE_FOUND, verdict.reason
    assert verdict.counters.overlapped > 250


@pytest.mark.parametrize(("kind", "mode", "broken", "operations"), WRONG)
def test_a_store_that_does_not_look_again_is_found(kind: type[Shelf], mode: Mode, broken: str, operations: int) -> None:
    verdict = check(shelf_spec(kind), mode, scenarios=3_000)
    assert verdict.run is not None
    violation = verdict.run.violation
    assert violation is not None
    assert violation.property == broken
    shrunk = shrink(plan_of(kind, mode), verdict.run.program, violation)
    assert operation_count(shrunk.program) == operations
    assert shrunk.one_minimal
    assert parse_program(format_program(shrunk.program)) == shrunk.program


@pytest.mark.parametrize(("kind", "mode"), [row[:2] for row in WRONG])
def test_without_calls_in_the_middle_it_is_not(kind: type[Shelf], mode: Mode) -> None:
    assert check(shelf_spec(kind, overlaps=None), mode, scenarios=500).answer is Answer.NONE_FOUND


def test_a_run_is_a_function_of_its_choices() -> None:
    plan = plan_of(Shelf, CRASH)
    overlapped_count = 0
    for number in range(60):
        recorded = record_scenario(plan, scenario_seed(1, number))
        again = replay_program(plan, recorded.program, strict=True)
        assert again.history == recorded.history
        overlapped_count += recorded.counters.overlapped
    assert overlapped_count


def test_most_runs_have_none_and_shrinking_takes_them_away_first() -> None:
    plan = plan_of(Shelf)
    with_any = 0
    for number in range(200):
        program = record_scenario(plan, scenario_seed(2, number)).program
        with_any += any(lane_of(name) == OVERLAP for step in program.steps for name in step.choices)
    assert 25 < with_any < 75


def test_an_inner_call_is_told_where_it_came() -> None:
    program = parse_program("0 open overlap.0=1\n1 tidy meanwhile.0=2 meanwhile.0.key.0=1 meanwhile.0.value.0=4\n")
    told = replay_program(plan_of(Shelf), program, strict=True)
    assert comments(told.events)[1] == "tidy(); meanwhile swap(key=1, value=4); meanwhile -> 0, pending -> None"
    assert operation_count(program) == 2


def test_each_call_has_choices_of_its_own() -> None:
    steps = "1 swap key.0=1 value.0=3 {}\n2 get key.0=1\n"
    alone = replay_program(plan_of(Shelf), parse_program(steps.format("")), strict=True)
    inner = "meanwhile.0=2 meanwhile.0.key.0=1 meanwhile.0.value.0=5"
    program = parse_program("0 open overlap.0=1\n" + steps.format(inner))
    told = replay_program(plan_of(Shelf), program, strict=True)
    assert told.violation is None
    assert told.program == program
    assert told.history[0] == alone.history[0] == "1 swap(key=1, value=3)"
    assert "2 -> 3" in told.history  # the outer one came last: it lets others in, and then swaps


class Blind(Shelf):
    def put(self, key: int, value: int) -> None:
        self.swap(key, value)


class BlindModel(ShelfModel):
    def put(self, key: int, value: int) -> None:
        self.swap(key, value)


class BlindFirst(Blind):
    """Enters what it is given before it lets others in."""

    def put(self, key: int, value: int) -> None:
        with self._monitor:
            self._held[key] = value
            self._breathe()


@pytest.mark.parametrize(("kind", "left"), [(Blind, 3), (BlindFirst, 5)])
def test_the_keys_say_which_of_two_came_first(kind: type[Shelf], left: int) -> None:
    values = integers(0, 9)
    operations = [*shelf_spec().operations, Operation("put", key=integers(0, 2), value=values, writes="key")]
    spec = replace(shelf_spec(kind), model=BlindModel, operations=operations)
    plan = compile_plan(spec, spec.configurations[0], CONFORMANCE)
    inner = "meanwhile.0=5 meanwhile.0.value.0=5"
    program = parse_program(f"0 open overlap.0=1\n1 put value.0=3 {inner}\n2 get\n")
    told = replay_program(plan, program, strict=True)
    assert told.violation is None
    assert f"2 -> {left}" in told.history


def test_a_wait_for_the_other_call_is_no_deadlock() -> None:
    assert run("0 open overlap.0=1\n1 tidy meanwhile.0=3\n") is None


def test_the_turn_may_change_within_the_inner_call() -> None:
    inner = "meanwhile.0=2 meanwhile.0.value.0=5 meanwhile.0.turn.0=1"
    assert run(f"0 open overlap.0=1\n1 tidy {inner}\n2 get\n") is None


def test_a_promise_says_nothing_of_what_came_meanwhile() -> None:
    program = "0 open overlap.0=1\n1 sync meanwhile.1=2 meanwhile.1.value.0=5\n"
    assert run(program) is None


def test_the_power_may_fail_with_two_calls_under_way() -> None:
    verdict = check(shelf_spec(), CRASH, scenarios=2_000, seed=3)
    assert verdict.answer is Answer.NONE_FOUND, verdict.reason
    assert verdict.counters.operations_cut > 10


def test_a_program_of_before_asks_for_none() -> None:
    assert replay_program(plan_of(Shelf), Program(), strict=True).program == Program()


def test_a_spec_must_name_operations_to_spare() -> None:
    with pytest.raises(SpecError, match="'nothing'"):
        compile_plan(shelf_spec(overlaps=Overlaps(("nothing",))), shelf_spec().configurations[0], CONFORMANCE)


def test_a_spec_with_overlaps_has_a_model_that_can_be_copied() -> None:
    spec = replace(shelf_spec(), model=lambda: memoryview(b""))
    with pytest.raises(SpecError, match="cannot be copied"):
        compile_plan(spec, spec.configurations[0], CONFORMANCE)
