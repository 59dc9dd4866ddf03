"""Rewrites: each gives the programs that it says, and in crashes keeps what is taken of which write."""

from __future__ import annotations

from toy_store import CONFIGURATIONS, toy_spec

from harness.choices.program import parse_program
from harness.shrink.rewrites import POINTS_COUNT, calmed, elsewhere, enclosed, joined, moved, refitted, swapped
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode

PLAN = compile_plan(toy_spec(), CONFIGURATIONS[0], Mode.CRASH)
KINDS = [PLAN.mix.names[index] for index in PLAN.mix.ordinary]


def place_among_interruptible(plan: Plan, name: str) -> int:
    return [action.name for action in plan.interruptible].index(name)


def test_an_operation_that_a_crash_interrupts_is_let_run() -> None:
    during = place_among_interruptible(PLAN, "put")
    text = f"1 flush\n2 crash inside.0=2 during.0={during} key.0=1 cut.0=3 far.0=1 flush.0=1 device.0=1 survivor.2.0=1"
    assert list(calmed(parse_program(text), PLAN)) == [parse_program("1 flush\n2 put key.0=1 device.0=1")]


def test_so_is_a_write_back_and_each_crash_by_itself() -> None:
    program = parse_program("1 put\n2 crash inside.0=1 steps.0=2\n3 crash\n4 crash inside.0=1")
    assert list(calmed(program, PLAN)) == [
        parse_program("1 put\n2 write_back steps.0=2\n3 crash\n4 crash inside.0=1"),
        parse_program("1 put\n2 crash inside.0=1 steps.0=2\n3 crash\n4 write_back"),
    ]


def test_what_a_crash_no_longer_can_interrupt_is_left_alone() -> None:
    assert not list(calmed(parse_program("1 crash inside.0=2 during.0=99"), PLAN))


def test_an_operation_before_a_crash_is_interrupted_late() -> None:
    during = place_among_interruptible(PLAN, "flush")
    program = parse_program("1 put\n2 put key.0=1\n3 flush device.1=1\n4 crash survivor.3.0=1 survivor.1.0=1")
    late = f"4 crash device.1=1 inside.0=2 during.0={during} far.0=1 survivor.4.0=1 survivor.1.0=1"
    assert parse_program(f"1 put\n2 put key.0=1\n{late}") in list(enclosed(program, PLAN))


def test_a_crash_flushes_by_itself_what_was_flushed_before_the_operation() -> None:
    (name,) = PLAN.action_of["crash"].flushes
    program = parse_program(f"1 put\n2 {name}\n3 write_back steps.0=5\n4 crash")
    assert list(enclosed(program, PLAN)) == [
        parse_program(f"1 put\n2 {name}\n4 crash steps.0=5 inside.0=1 far.0=1"),
        parse_program("1 put\n4 crash steps.0=5 inside.0=1 far.0=1 flush.0=1"),
        parse_program(f"1 put\n2 {name}\n4 crash steps.0=5 inside.0=1 strike.0=2"),
        parse_program("1 put\n4 crash steps.0=5 inside.0=1 strike.0=2 flush.0=1"),
    ]
    assert not list(enclosed(parse_program("1 crash\n2 crash inside.0=1"), PLAN))


def test_a_step_is_moved_and_what_is_taken_of_the_others_moves_with_them() -> None:
    program = parse_program("2 put key.0=1\n5 write_back steps.0=5\n9 crash survivor.2.1=1 survivor.5.0=1")
    found = list(moved(program, PLAN))
    assert parse_program("2 compact\n5 put key.0=1\n9 crash survivor.5.1=1 survivor.2.0=1") in found
    assert parse_program("2 put key.0=1\n5 crash survivor.2.1=1 survivor.5.0=1\n9 compact") not in found
    assert all(len(each.steps) == 3 for each in found)
    assert all([step.operation for step in each.steps].count("crash") == 1 for each in found)
    assert len(found) == 2 * 3 * len(KINDS)


def test_without_a_step_an_argument_is_any_other_value() -> None:
    program = parse_program("1 put key.0=2\n2 flush\n3 crash survivor.1.0=1")
    found = list(refitted(program, PLAN))
    assert parse_program("1 put key.0=9\n3 crash survivor.1.0=1") in found
    assert parse_program("1 put\n2 flush") in found
    assert all(len(each.steps) == 2 for each in found)
    assert all(each.steps[-1].operation == "flush" or each.steps[-1].choices == {"survivor.1.0": 1} for each in found)


def test_two_neighbours_become_one_and_fewer_writes_come_before_the_others() -> None:
    program = parse_program("1 put key.0=1\n2 flush\n3 write_back steps.0=5\n4 crash inside.0=1 survivor.4.1=1")
    found = list(joined(program, PLAN))
    assert parse_program("1 put key.0=1\n2 compact\n4 crash inside.0=1 survivor.4.1=1") in found
    assert parse_program("1 put key.0=1\n2 compact\n4 crash inside.0=1 survivor.4.0=1") in found
    assert parse_program("1 put\n2 compact\n4 crash inside.0=1 survivor.4.0=1") in found
    assert all([step.operation for step in each.steps].count("crash") == 1 for each in found)
    assert all(len(each.steps) == 3 for each in found)
    assert parse_program("1 compact\n2 flush\n4 crash inside.0=1 survivor.4.0=1") in found  # with one between


def test_a_swap_leaves_one_step_out_and_makes_another_of_another_kind() -> None:
    program = parse_program("1 put\n2 flush\n3 delete\n4 crash inside.0=1")
    swaps = list(swapped(program, PLAN))
    assert "crash" not in KINDS
    # The crash stays a crash: with it left out one of three is swapped, with another one left out one of two.
    assert len(swaps) == (3 + 3 * 2) * (len(KINDS) - 1)
    assert parse_program("1 put\n3 compact\n4 crash inside.0=1") in swaps
    assert all(len(each.steps) == 3 for each in swaps)


def test_a_call_in_the_middle_begins_elsewhere_with_its_own_choices() -> None:
    program = parse_program("1 put key.0=1\n2 flush device.0=1 meanwhile.2=3 meanwhile.2.key.0=1 meanwhile.1=1")
    found = list(elsewhere(program, PLAN))
    moved_call = "1 put key.0=1\n2 flush device.0=1 meanwhile.{0}=3 meanwhile.{0}.key.0=1 meanwhile.1=1"
    assert parse_program(moved_call.format(0)) in found
    assert parse_program(moved_call.format(5).partition("\n")[2]) in found
    assert parse_program("1 put key.0=1") not in found
    assert len(found) == 4 * (POINTS_COUNT - 2)  # two calls, with the first step and without
