"""Confirming a minimum: what is shorter and fails is found, and leaving runs early loses none of it."""

from __future__ import annotations

import pytest
from toy_store import CONFIGURATIONS, CRASH_BUGS, toy_spec

from harness.choices.program import Program, operation_count, parse_program
from harness.scenario.runner import replay_program
from harness.search.check import check
from harness.shrink.confirm import confirm
from harness.shrink.shrink import shrink
from harness.spec.plan import compile_plan
from harness.spec.spec import Configuration, Mode

ZONED, FILE = CONFIGURATIONS


def minimal(bug: str, configuration: Configuration) -> Program:
    verdict = check(toy_spec(bug), Mode.CRASH, configuration=configuration.name, scenarios=3_000, seed=1)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    return shrink(
        compile_plan(toy_spec(bug), configuration, Mode.CRASH), verdict.run.program, verdict.run.violation
    ).program


@pytest.mark.parametrize("bug", ["persistent when issued", "barrier left out", "group in pieces"])
def test_a_minimum_is_confirmed(bug: str) -> None:
    program = minimal(bug, ZONED)
    confirmation = confirm(compile_plan(toy_spec(bug), ZONED, Mode.CRASH), program, CRASH_BUGS[bug])
    assert confirmation.is_complete
    assert confirmation.violation is None
    assert confirmation.operations_tried == operation_count(program) - 1


# Each fails, and has steps to spare.
LONGER = {
    "persistent when issued": "1 put\n2 put\n3 write_back\n4 get\n5 crash survivor.3.0=1",
    "oldest record wins": "1 put\n2 put payload.0=1\n3 flush\n4 get\n5 reboot\n6 crash",
}


@pytest.mark.parametrize("bug", LONGER)
def test_what_is_shorter_is_found_whether_or_not_runs_are_left_early(bug: str) -> None:
    spec = toy_spec(bug)
    program = parse_program(LONGER[bug])
    assert replay_program(compile_plan(spec, ZONED, Mode.CRASH), program, strict=False).violation is not None
    merged, unmerged = (
        confirm(compile_plan(spec, ZONED, Mode.CRASH), program, CRASH_BUGS[bug], merging=merging)
        for merging in (True, False)
    )
    assert merged.violation is not None
    assert unmerged.violation is not None
    assert merged.operations_tried == unmerged.operations_tried < operation_count(program) - 1
    assert merged.runs <= unmerged.runs


def test_runs_that_meet_after_a_crash_are_left() -> None:
    program = parse_program("1 put\n2 crash\n3 put\n4 crash")
    merged, unmerged = (
        confirm(compile_plan(toy_spec(), ZONED, Mode.CRASH), program, "persistence", merging=merging)
        for merging in (True, False)
    )
    assert merged.is_complete
    assert unmerged.is_complete
    assert merged.runs < unmerged.runs


def test_out_of_time_is_not_complete() -> None:
    program = parse_program("1 put\n2 crash\n3 put\n4 crash")
    confirmation = confirm(compile_plan(toy_spec(), ZONED, Mode.CRASH), program, "persistence", seconds=0.0)
    assert not confirmation.is_complete
    assert confirmation.operations_tried == 0


def test_what_breaks_another_property_is_not_shorter() -> None:
    bug = "persistent when issued"
    program = parse_program(LONGER[bug])
    confirmation = confirm(compile_plan(toy_spec(bug), ZONED, Mode.CRASH), program, "recovery")
    assert confirmation.is_complete
    assert confirmation.violation is None
