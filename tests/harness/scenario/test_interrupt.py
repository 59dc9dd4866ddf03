"""Exceptions from outside: what a store makes of them is found, shrunk, told and replayed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pocket
import pytest
from pocket import Pocket, pocket_spec
from toy_store import SPEC as TOY

from harness.choices import random_policy
from harness.choices.lanes import lane_of
from harness.choices.program import Program, operation_count, parse_program
from harness.choices.random_policy import scenario_seed
from harness.cli.timeline import timeline
from harness.scenario.failing_sequence import failing_sequence
from harness.scenario.runner import record_scenario, replay_program
from harness.scenario.verdict import Answer, Run
from harness.search.check import check
from harness.shrink.confirm import confirm
from harness.shrink.rewrites import fewer
from harness.shrink.shrink import shrink
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Interrupts, Mode, Spec
from harness.world.interruption import ArrivedInterrupt, Interruption, Where

SCENARIOS = 2_000
LANES = {"interrupt", "thrown", "arrival", "afterwards", "next", "closed"}

# Of the operations that can be interrupted, and of those that may follow.
GET, PUT, PUT_ALL, SYNC, REBOOT = range(5)
AT_CALL, AT_LINE = Where.CALL.value, Where.LINE.value


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception comes in every operation that something comes in, within its first lines."""
    monkeypatch.setattr(random_policy, "INTERRUPT_DRAWS", (1, 2))
    monkeypatch.setattr(random_policy, "SCALE_HALVINGS", (5, 6))


def plan_of(spec: Spec) -> Plan:
    return compile_plan(spec, spec.configurations[0], Mode.CRASH)


def run(program: str, kind: type[Pocket] = Pocket, **interrupts: Any) -> Run:
    return replay_program(plan_of(pocket_spec(kind, **interrupts)), parse_program(program), strict=True)


def notes(ran: Run, step: int) -> list[str]:
    return [line.removeprefix(f"{step} ") for line in ran.history if line.startswith(f"{step} ")]


# --- what is found ------------------------------------------------------------------------------------


def test_a_store_that_is_whole_or_broken_passes() -> None:
    verdict = check(pocket_spec(), Mode.CRASH, scenarios=SCENARIOS)
    assert verdict.answer is Answer.NONE_FOUND, verdict.reason
    assert verdict.counters.interrupts > SCENARIOS / 40


@pytest.mark.usefixtures("often")
def test_a_store_that_is_whole_or_broken_passes_often() -> None:
    verdict = check(pocket_spec(), Mode.CRASH, scenarios=SCENARIOS)
    assert verdict.answer is Answer.NONE_FOUND, verdict.reason
    assert verdict.counters.interrupts > SCENARIOS / 4


@pytest.mark.usefixtures("often")
def test_a_store_that_keeps_an_exception_to_itself_may_refuse_what_follows() -> None:
    verdict = check(pocket_spec(pocket.Swallows), Mode.CRASH, scenarios=SCENARIOS)
    assert verdict.answer is Answer.NONE_FOUND, verdict.reason


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        (pocket.KeyByKey, ("interrupt", "mixture")),
        (pocket.KeepsMonitor, ("lock misuse", "")),
        (pocket.RefusesReads, ("interrupt", "BrokenError in Pocket.check")),
        (pocket.Lies, ("interrupt", "shutdown")),
        (pocket.GoesOn, ("persistence", "contents")),
        (pocket.Relents, ("interrupt", "accepted again")),
        (pocket.Untyped, ("interrupt", "RuntimeError in Untyped.check")),
        (pocket.Hides, ("interrupt", "ValueError in Hides.put")),
    ],
)
def test_what_is_wrong_is_found(kind: type[Pocket], signature: tuple[str, str]) -> None:
    assert check(replace(pocket_spec(kind), interrupts=None), Mode.CRASH, scenarios=600).answer is Answer.NONE_FOUND
    found = set()
    for seed in range(8):
        verdict = check(pocket_spec(kind), Mode.CRASH, scenarios=SCENARIOS, seed=seed)
        assert verdict.answer is Answer.VIOLATED
        assert verdict.run is not None
        assert verdict.run.violation is not None
        violation = verdict.run.violation
        found.add((violation.property, violation.place if signature[1] else ""))
        if signature in found:
            return
    raise AssertionError(found)


def test_what_a_broken_store_refuses_is_no_result_without_an_interrupt() -> None:
    class Moody(Pocket):
        def check(self) -> None:
            if len(self.queue) > 3:
                raise pocket.BrokenError

    verdict = check(pocket_spec(Moody), Mode.CRASH, scenarios=200)
    assert verdict.reason.startswith("unexpected error at BrokenError")


# --- shrinking and replay -----------------------------------------------------------------------------


@pytest.mark.usefixtures("often")
def test_a_failure_is_shrunk_told_and_replayed() -> None:
    plan = plan_of(pocket_spec(pocket.KeyByKey))
    run = next(
        run
        for run in (record_scenario(plan, scenario_seed(0, number)) for number in range(SCENARIOS))
        if run.violation is not None
    )
    assert run.violation is not None
    assert replay_program(plan, run.program, strict=True) == run
    shrunk = shrink(plan, run.program, run.violation)
    assert shrunk.one_minimal
    assert operation_count(shrunk.program) == 2
    minimal = replay_program(plan, shrunk.program, strict=True)
    text = failing_sequence(minimal, spec="pocket", mode=Mode.CRASH, configuration="zoned")
    assert "KeyboardInterrupt arrives within put_all, at pocket.py:" in text
    assert "in KeyByKey.see" in text
    assert "after an exception from outside a call is whole or absent" in text
    assert 'class="crash"' in timeline(minimal, "pocket")
    mended = replay_program(plan_of(pocket_spec()), shrunk.program, strict=False)
    assert mended.violation is None


def test_the_same_seed_is_the_same_run() -> None:
    plan = plan_of(pocket_spec())
    for number in range(60):
        first = record_scenario(plan, scenario_seed(3, number))
        assert first == record_scenario(plan, scenario_seed(3, number))
        assert first.history == replay_program(plan, first.program, strict=True).history


def test_what_follows_counts_and_can_be_left_out() -> None:
    program = parse_program("1 crash inside.0=1 during.0=2 interrupt.0=1 afterwards.0=2 next.0=0 next.1=1")
    assert operation_count(program) == 4
    shorter = list(fewer(program, plan_of(pocket_spec())))
    assert parse_program("1 crash inside.0=1 during.0=2 interrupt.0=1 afterwards.0=1 next.0=1") in shorter


def test_a_minimum_is_confirmed() -> None:
    """That of `Lies` is an interrupted put and a shutdown: a crash in it makes two operations."""
    plan = plan_of(pocket_spec(pocket.Lies))
    put = "1 put\n2 crash inside.0=1 during.0=1 interrupt.0=1 closed.0=1"
    ran = replay_program(plan, parse_program(put), strict=True)
    assert ran.violation is not None
    assert ran.violation.signature == ("interrupt", "shutdown")
    confirmation = confirm(plan, parse_program(put), "interrupt")
    assert confirmation.is_complete
    assert confirmation.violation is None
    follow = parse_program("1 crash inside.0=1 during.0=1 interrupt.0=1 afterwards.0=2 next.0=1 next.1=1")
    relenting = confirm(plan_of(pocket_spec(pocket.Relents)), follow, "interrupt")
    assert relenting.is_complete
    assert relenting.violation is None


# --- what happens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "place"),
    [
        (0, "before Monitor.__enter__ is called"),
        (1, "after Monitor.__enter__ was called"),
        (2, "before Monitor.__exit__ is called"),
        (3, "after Monitor.__exit__ was called"),
    ],
)
def test_an_exception_comes_before_or_after_a_call_of_the_seam(count: int, place: str) -> None:
    ran = run(f"1 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL} arrival.0={count}")
    assert ran.violation is None
    assert ran.counters.interrupts == 1
    told = next(line for line in notes(ran, 1) if "arrives" in line)
    assert told.startswith(f"-> KeyboardInterrupt arrives within put, {place} at pocket.py:")
    seen = "b'x'" if count > 1 else "None"
    assert f"reads b'a': {seen} (allowed: None, b'x')" in notes(ran, 1)
    assert "recovered b'a': None (allowed: None, b'x')" in notes(ran, 1)


def test_every_place_of_a_call_is_one_at_which_a_store_may_be_interrupted() -> None:
    places = set()
    for where in (AT_CALL, AT_LINE):
        for count in range(200):
            program = f"1 put_all keys.more.0=1 keys.1=1\n2 crash inside.0=1 during.0={SYNC} interrupt.0={where}"
            ran = run(f"{program} thrown.0=1 arrival.0={count}")
            assert ran.violation is None
            if not ran.counters.interrupts:
                break
            places.add(next(line for line in notes(ran, 2) if "arrives" in line))
        assert not ran.counters.interrupts
    assert any("before SimulatedMedium.barrier is called" in place for place in places)
    assert any("MemoryError arrives within sync, at pocket.py:" in place for place in places)
    assert len(places) > 20


def test_a_call_with_fewer_places_is_performed_as_usual() -> None:
    ran = run(f"1 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL} arrival.0=99")
    assert ran.violation is None
    assert ran.counters.interrupts == 0
    assert "-> pending" in notes(ran, 1)


def test_what_is_refused_is_told_and_reads_go_on() -> None:
    program = f"1 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL} afterwards.0=3"
    ran = run(f"{program} next.0={PUT} next.1={GET} next.2={SYNC} closed.0=1")
    assert ran.violation is None
    assert notes(ran, 1).count("-> BrokenError()") == 3  # put, sync and shutdown
    assert "-> None" in notes(ran, 1)  # get


def test_after_a_shutdown_that_claims_success_the_crash_takes_nothing() -> None:
    ran = run(f"1 put\n2 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL}", pocket.GoesOn)
    assert "polled: 1 put b'a' pending" in notes(ran, 2)
    ran = run(f"1 put\n2 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL} closed.0=1", pocket.GoesOn)
    assert ran.violation is None
    assert "polled: 1 put b'a' persistent" in notes(ran, 2)
    assert not any(line.startswith("recovered") for line in notes(ran, 2))  # contents are compared, and nothing else


def test_after_an_interrupted_shutdown_nothing_is_asked() -> None:
    ran = run(f"1 put\n2 crash inside.0=1 during.0={REBOOT} interrupt.0={AT_CALL} closed.0=1")
    assert ran.violation is None
    assert not any(line.startswith("reads") for line in notes(ran, 2))
    assert "-> BrokenError()" in notes(ran, 2)


def test_operations_that_are_spared_are_not_interrupted() -> None:
    ran = replay_program(
        plan_of(pocket_spec(sparing=("put",))),
        parse_program(f"1 crash inside.0=1 during.0={PUT} interrupt.0={AT_CALL}"),
        strict=False,
    )
    assert ran.counters.interrupts == 0
    assert [action.name for action in plan_of(pocket_spec(sparing=("put",))).following] == ["get", "put_all", "sync"]


def test_files_that_are_left_out_do_not_count() -> None:
    program = f"1 crash inside.0=1 during.0={PUT} interrupt.0={AT_LINE}"
    assert run(program).counters.interrupts == 1
    assert run(program, within=Path(pocket.__file__).parent).counters.interrupts == 1
    assert run(program, leaving_out=("pocket.*",)).counters.interrupts == 0


# --- specs --------------------------------------------------------------------------------------------


def test_a_spec_without_interrupts_is_asked_for_none() -> None:
    for spec in (TOY, replace(pocket_spec(), interrupts=None)):
        plan = plan_of(spec)
        for number in range(100):
            assert not _lanes(record_scenario(plan, scenario_seed(0, number)).program) & LANES


def _lanes(program: Program) -> set[str]:
    return {lane_of(name) for step in program.steps for name in step.choices}


def test_a_spec_with_interrupts_is_asked_for_all() -> None:
    plan = plan_of(pocket_spec())
    lanes: set[str] = set()
    for number in range(400):
        lanes |= _lanes(record_scenario(plan, scenario_seed(0, number)).program)
    assert lanes >= LANES


@pytest.mark.parametrize(
    "interrupts", [Interrupts(Path("/nowhere")), Interrupts(Path(__file__), sparing=("no such operation",))]
)
def test_interrupts_that_could_find_nothing_are_refused(interrupts: Interrupts) -> None:
    with pytest.raises(SpecError):
        plan_of(replace(pocket_spec(), interrupts=interrupts))


# --- the context --------------------------------------------------------------------------------------


def test_a_trace_function_that_was_set_is_set_again() -> None:
    def other(frame: FrameType, event: str, argument: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(other)
    try:
        for count, arrives in ((0, True), (99, False)):
            interruption = Interruption(Interrupts(Path(__file__)), Where.LINE, count, ArrivedInterrupt)
            try:
                with interruption:
                    _work()
            except ArrivedInterrupt:
                pass
            assert sys.gettrace() is other
            assert interruption.has_arrived is arrives
    finally:
        sys.settrace(before)


def _work() -> int:
    total = 0
    for number in range(100):
        total += number
    return total


def test_of_a_loop_only_the_first_rounds_count() -> None:
    arrived = []
    for count in range(20):
        interruption = Interruption(Interrupts(Path(__file__)), Where.LINE, count, ArrivedInterrupt)
        try:
            with interruption:
                _work()
        except ArrivedInterrupt:
            arrived.append(count)
    assert arrived == list(range(9))  # two lines before, in and behind the loop, and three rounds of two
