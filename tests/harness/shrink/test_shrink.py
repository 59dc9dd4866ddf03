"""Shrinking: known minima are reached, and nothing else is called 1-minimal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_store import CONFIGURATIONS, toy_spec

from harness.choices.program import ENDING, OPENING, Program, Step, cost, operation_count, parse_program
from harness.choices.replay_policy import VARIATIONS, varying_tape
from harness.scenario.runner import replay_program, run_recorded
from harness.scenario.verdict import Run
from harness.scenario.violation import Violation
from harness.search.check import check
from harness.shrink.passes import CANDIDATES_MAX, Search, ddmin, minimise, neighbours
from harness.shrink.shrink import NotReproducedError, Reproducer, ShrinkResult, shrink, swapped_failures
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode

ZONED = CONFIGURATIONS[0]


def program_of(*values: int) -> Program:
    return Program(tuple(Step(identity, "put", {"key.0": value}) for identity, value in enumerate(values, start=1)))


def search_for(needed: set[int], steps: Program, candidates_max: int = CANDIDATES_MAX) -> Search:
    """A system that fails if the steps named are all there."""

    def reproduce(candidate: Program) -> Program | None:
        return candidate if needed <= {step.identity for step in candidate.steps} else None

    return Search(reproduce, steps, candidates_max)


@given(st.sets(st.integers(1, 60), max_size=6), st.integers(60, 80))
def test_ddmin_and_singles_leave_exactly_the_steps_needed(needed: set[int], length: int) -> None:
    search = search_for(needed, program_of(*[0] * length))
    assert minimise(search)
    assert {step.identity for step in search.best.steps} == needed


def test_thousands_of_steps_need_few_candidates() -> None:
    search = search_for({7, 9_000, 19_999}, program_of(*[0] * 20_000))
    ddmin(search)
    assert [step.identity for step in search.best.steps] == [7, 9_000, 19_999]
    assert search.tried < 400


def test_a_pair_that_only_goes_together_is_removed() -> None:
    def reproduce(candidate: Program) -> Program | None:
        present = {step.identity for step in candidate.steps}
        return candidate if 5 in present and (2 in present) == (4 in present) else None

    search = Search(reproduce, program_of(0, 0, 0, 0, 0, 0))
    assert minimise(search)
    assert [step.identity for step in search.best.steps] == [5]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=4), st.data())
def test_values_go_to_the_smallest_that_fails(values: list[int], data: st.DataObject) -> None:
    least = [data.draw(st.integers(0, value)) for value in values]

    def reproduce(candidate: Program) -> Program | None:
        found = [step.choices.get("key.0", 0) for step in candidate.steps]
        alike = len(found) == len(least) and all(a >= b for a, b in zip(found, least, strict=True))
        return candidate if alike else None

    search = Search(reproduce, program_of(*values))
    assert minimise(search)
    assert [step.choices.get("key.0", 0) for step in search.best.steps] == least


def test_choices_that_matter_by_being_equal_fall_together() -> None:
    def reproduce(candidate: Program) -> Program | None:
        found = [step.choices.get("key.0", 0) for step in candidate.steps]
        return candidate if len(found) == 2 and found[0] == found[1] >= 3 else None

    search = Search(reproduce, program_of(9, 9))
    assert minimise(search)
    assert search.best == program_of(3, 3)


def test_a_step_is_traded_for_lower_and_earlier_choices_elsewhere() -> None:
    """Without a write, a write-back has one step fewer to take and the lost write is an earlier one."""

    def reproduce(candidate: Program) -> Program | None:
        writes = sum(step.operation == "put" for step in candidate.steps)
        last = candidate.steps[-1] if candidate.steps else Step(0, "none")
        alike = last.operation == "crash" and writes and last.choices == {"steps.0": writes, f"survivor.9.{writes}": 1}
        return candidate if alike else None

    puts = tuple(Step(identity, "put") for identity in range(1, 5))
    search = Search(reproduce, Program((*puts, Step(9, "crash", {"steps.0": 4, "survivor.9.4": 1}))))
    assert minimise(search)
    assert search.best == Program((puts[0], Step(9, "crash", {"steps.0": 1, "survivor.9.1": 1})))


@given(st.lists(st.integers(0, 5), max_size=5))
def test_every_neighbour_is_simpler(values: list[int]) -> None:
    program = program_of(*values)
    assert all(cost(neighbour) < cost(program) for neighbour in neighbours(program))


def test_the_opening_and_the_end_are_no_operations() -> None:
    program = Program((Step(0, OPENING, {"entropy.0": 1}), Step(1, "put"), Step(2, ENDING, {"device.0": 1})))
    assert operation_count(program) == 1
    assert cost(program) == (1, 2, 2)


def test_a_search_that_reaches_its_bound_is_not_called_minimal() -> None:
    assert not minimise(search_for({1, 30}, program_of(*[0] * 60), candidates_max=20))


def test_what_fails_only_sometimes_is_not_called_minimal() -> None:
    runs = iter([True] + [False] * 1000)
    search = Search(lambda candidate: candidate if next(runs) else None, program_of(1, 1))
    assert not minimise(search)


def test_a_suggestion_is_kept_only_if_what_comes_of_it_is_simpler() -> None:
    two_ways = [{1, 2, 3}, {7}, {4, 5}]

    def reproduce(candidate: Program) -> Program | None:
        present = {step.identity for step in candidate.steps}
        return candidate if any(way <= present for way in two_ways) else None

    whole = program_of(*[0] * 8)
    others = [whole.without([1, 7]), whole.without(range(4, 9)), whole.without(range(1, 6)), whole.without([7])]
    search = Search(reproduce, program_of(0, 0, 0))
    assert minimise(search, [("again", lambda best: others)])
    assert [step.identity for step in search.best.steps] == [7]
    assert search.passes["again"].improved == 2


def shrink_bug(bug: str, mode: Mode, seed: int) -> tuple[ShrinkResult, Violation]:
    spec = toy_spec(bug)
    verdict = check(spec, mode, configuration=ZONED.name, scenarios=3_000, seed=seed)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    result = shrink(compile_plan(spec, ZONED, mode), verdict.run.program, verdict.run.violation)
    assert replay_program(compile_plan(spec, ZONED, mode), result.program, strict=True).violation == result.violation
    return result, verdict.run.violation


@pytest.mark.parametrize(
    ("bug", "mode", "operations"),
    [
        ("shutdown forgets a write", Mode.CONFORMANCE, 1),  # put, and the shutdown at the end
        ("tombstones forgotten at opening", Mode.CONFORMANCE, 2),  # put, delete, and the reopening at the end
        ("count off by one", Mode.CONFORMANCE, 1),  # one group of three keys
        ("wait that nothing ends", Mode.CONFORMANCE, 4),  # three puts, flush
        ("barrier left out", Mode.CRASH, 3),  # put, something that issues and confirms, crash
        ("group in pieces", Mode.CRASH, 2),  # a group of two, and a crash that flushes and loses one
    ],
)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_known_minima_are_reached_from_any_seed(bug: str, mode: Mode, operations: int, seed: int) -> None:
    result, failure = shrink_bug(bug, mode, seed)
    if failure.signature == ("deadlock", "end"):
        operations -= 1  # the shutdown at the end flushes
    assert operation_count(result.program) == operations
    assert result.one_minimal
    assert result.violation.signature == failure.signature


@pytest.mark.parametrize("how", ["a limit of seconds", "an interrupt"])
def test_what_ends_early_gives_the_best_so_far(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, violation = failing_crash_program("barrier left out")
    plan = compile_plan(toy_spec("barrier left out"), ZONED, Mode.CRASH)
    runs_count = 0

    def run_some(*arguments: Any, **named: Any) -> Run:
        nonlocal runs_count
        runs_count += 1
        if runs_count == 20:
            now.append(1e9)
            if how == "an interrupt":
                raise KeyboardInterrupt
        return replay_program(*arguments, **named)

    now = [0.0]
    monkeypatch.setattr("harness.shrink.shrink.replay_program", run_some)
    monkeypatch.setattr("harness.shrink.shrink.time.perf_counter", lambda: now[-1])
    result = shrink(plan, program, violation, seconds_max=10)
    assert result.stopped == ("interrupted" if how == "an interrupt" else "stopped after 10 s")
    assert runs_count < 30
    assert not result.one_minimal
    assert operation_count(result.program) < operation_count(program)
    found = replay_program(plan, result.program, strict=True).violation
    assert found is not None
    assert found.signature == violation.signature


def test_one_minimal_means_what_it_says() -> None:
    result, failure = shrink_bug("barrier left out", Mode.CRASH, 3)
    reproduce = Reproducer(compile_plan(toy_spec("barrier left out"), ZONED, Mode.CRASH), failure.signature)
    assert result.one_minimal
    assert reproduce(result.program) is not None
    assert all(reproduce(neighbour) is None for neighbour in neighbours(result.program))


def failing_crash_program(bug: str) -> tuple[Program, Violation]:
    verdict = check(toy_spec(bug), Mode.CRASH, configuration=ZONED.name, scenarios=3_000, seed=1)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    return verdict.run.program, verdict.run.violation


def varied(program: Program, seed: int) -> Program:
    return run_recorded(compile_plan(toy_spec(), ZONED, Mode.CRASH), varying_tape(program, seed)).program


def test_varying_draws_the_choices_of_crashes_anew_and_of_others_at_every_third_seed() -> None:
    program, _ = failing_crash_program("persistent when issued")
    program = varied(program, 0)  # as it runs on the clean store

    def others(each: Program) -> list[Step]:
        return [step for step in each.steps if step.operation != "crash"]

    changed = [seed for seed in range(60) if others(varied(program, seed)) != others(program)]
    assert changed
    assert all(seed % len(VARIATIONS) == len(VARIATIONS) - 1 for seed in changed)
    assert len({str(varied(program, seed)) for seed in range(0, 60, len(VARIATIONS))}) > 10
    assert varied(program, 5) == varied(program, 5)


def test_what_two_steps_do_may_be_done_by_one_of_another_kind() -> None:
    """Flush and compaction, or a reboot, bring the oldest record back."""
    spec = toy_spec("oldest record wins")
    program = parse_program("1 put\n2 put payload.0=1\n3 flush\n4 reboot")
    failure = replay_program(compile_plan(spec, ZONED, Mode.CONFORMANCE), program, strict=True).violation
    assert failure is not None
    found = list(swapped_failures(compile_plan(spec, ZONED, Mode.CONFORMANCE), failure.signature, program))
    assert found
    assert all(operation_count(each) == 3 for each in found)
    for each in found[:20]:
        again = replay_program(compile_plan(spec, ZONED, Mode.CONFORMANCE), each, strict=True).violation
        assert again is not None
        assert again.signature == failure.signature


def test_a_program_that_does_not_fail_cannot_be_shrunk() -> None:
    failure = Violation("conformance", "put", "", "", 1, "put")
    with pytest.raises(NotReproducedError, match="does not break conformance at put"):
        shrink(compile_plan(toy_spec(), ZONED, Mode.CRASH), program_of(1), failure)
