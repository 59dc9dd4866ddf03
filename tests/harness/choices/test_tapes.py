"""Tapes and their policies, alone and under the toy store."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest
from enumerating import EnumeratingPolicy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_store import CONFIGURATIONS, SPEC, toy_spec

from harness.choices.mix import Mix, place_crashes
from harness.choices.program import Program, Step, format_program, parse_program
from harness.choices.random_policy import (
    COLLISION_CHANCES,
    CRASH_STYLES,
    CrashStyle,
    random_tape,
)
from harness.choices.replay_policy import replay_tape
from harness.choices.script import NoLongerApplies
from harness.choices.tape import Tape
from harness.scenario.runner import record_scenario, replay_program, run_plan, run_recorded
from harness.scenario.verdict import Counters
from harness.spec.generators import sampled
from harness.spec.plan import compile_plan
from harness.spec.spec import Background, Configuration, Crash, Mode, Operation

ZONED, FILE = CONFIGURATIONS
MIX = Mix(["read", "write", "crash"], [1, 3, 1], crashes=[2], ordinary=[0, 1], writers=[1], steps_mean=10)

ARGUMENTS = ("key", "payload", "group", "steps", "flush")

seeds = st.integers(0, 2**64 - 1)
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@given(seed=seeds, configuration=st.sampled_from(CONFIGURATIONS), mode=st.sampled_from(Mode))
@few
def test_a_recorded_run_takes_the_same_stream(seed: int, configuration: Configuration, mode: Mode) -> None:
    plan = compile_plan(SPEC, configuration, mode)
    counters = Counters()
    run_plan(plan, random_tape(seed), counters)
    assert record_scenario(compile_plan(SPEC, configuration, mode), seed).counters == counters


@given(seed=seeds, configuration=st.sampled_from(CONFIGURATIONS), bug=st.sampled_from(["", "barrier left out"]))
@few
def test_replay_gives_the_same_history(seed: int, configuration: Configuration, bug: str) -> None:
    spec = toy_spec(bug)
    recorded = record_scenario(compile_plan(spec, configuration, Mode.CRASH), seed)
    program = parse_program(format_program(recorded.program))
    replayed = replay_program(compile_plan(spec, configuration, Mode.CRASH), program, strict=True)
    assert replayed == recorded


def arguments_of(choices: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in choices.items() if name.split(".")[0] in ARGUMENTS}


def is_of_step(name: str, identity: int) -> bool:
    return name.startswith(f"survivor.{identity}.")


@given(seed=seeds, data=st.data())
@few
def test_removing_a_step_moves_no_other_choice(seed: int, data: st.DataObject) -> None:
    recorded = record_scenario(compile_plan(SPEC, ZONED, Mode.CRASH), seed)
    for step in recorded.program.steps:
        if step.operation in ("open", "end") or data.draw(st.booleans()):
            continue
        shorter = recorded.program.without([step.identity])
        replayed = replay_program(compile_plan(SPEC, ZONED, Mode.CRASH), shorter, strict=False)
        assert replayed.violation is None
        kept = {each.identity: each for each in replayed.program.steps}
        for each in shorter.steps:
            # Draws for arguments depend on nothing but their step. What the device is asked does depend on what is
            # pending: some of it is not asked any more, or there is less of a write to lose; but never the other way.
            seen = kept[each.identity].choices if each.identity in kept else {}
            assert arguments_of(seen) == arguments_of(each.choices)
            assert all(value <= each.choices.get(name, 0) for name, value in seen.items())
            assert not any(is_of_step(name, step.identity) for name in seen)


def test_what_is_missing_reads_zero() -> None:
    tape = replay_tape(Program((Step(4, "write", {"key.1": 2}),)), strict=True)
    tape.begin(MIX)
    assert tape.choose("device", 9) == 0
    assert tape.next_step() == 1
    assert tape.step == 4
    assert [tape.choose("key", 3) for _ in range(3)] == [0, 2, 0]
    assert tape.choose_at("survivor.1.0", 3) == 0
    assert tape.next_step() == -1
    assert tape.step == 5
    tape.close()


def test_opening_and_end_have_their_own_choices() -> None:
    program = Program((Step(0, "open", {"device.0": 1}), Step(3, "read"), Step(9, "end", {"device.0": 2})))
    tape = replay_tape(program, strict=True)
    tape.begin(MIX)
    assert (tape.step, tape.choose("device", 3)) == (0, 1)
    assert tape.next_step() == 0
    assert tape.choose("device", 3) == 0
    assert tape.next_step() == -1
    assert (tape.step, tape.choose("device", 3)) == (9, 2)
    tape.close()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step(5, "swim"), "no operation 'swim'"),
        (Step(5, "write", {"key.0": 3}), "only 3"),
        (Step(5, "write", {"colour.0": 1}), "never asked"),
        (Step(5, "write", {"key.1": 1}), "never asked"),
    ],
)
def test_strict_replay_says_where_and_why_it_no_longer_applies(step: Step, reason: str) -> None:
    def run(*, strict: bool) -> None:
        tape = replay_tape(Program((Step(2, "read"), step)), strict=strict)
        tape.begin(MIX)
        while tape.next_step() >= 0:
            tape.choose("key", 3)
        tape.close()

    with pytest.raises(NoLongerApplies, match=reason) as caught:
        run(strict=True)
    assert caught.value.step == 5
    run(strict=False)


def test_lenient_replay_clamps() -> None:
    tape = replay_tape(Program((Step(1, "read", {"key.0": 9}),)), strict=False)
    tape.begin(MIX)
    tape.next_step()
    assert tape.choose("key", 3) == 2


def test_a_mode_without_crashes_does_not_know_them() -> None:
    program = Program((Step(1, "crash"),))
    with pytest.raises(NoLongerApplies):
        replay_program(compile_plan(SPEC, ZONED, Mode.CONFORMANCE), program, strict=True)
    assert replay_program(compile_plan(SPEC, ZONED, Mode.CONFORMANCE), program, strict=False).counters.crashes == 0


def test_a_step_that_refers_to_another_names_it() -> None:
    recording = replay_tape(Program((Step(5, "read", {"of.0": 3}),)), strict=True)
    recording.begin(MIX)
    recording.next_step()
    assert recording.choose_step("of", [1, 3]) == 3
    assert recording.choose_step("of", []) == 0
    assert recording.program().steps == (Step(5, "read", {"of.0": 3}),)


def test_a_reference_to_a_step_that_is_gone_is_none() -> None:
    tape = replay_tape(Program((Step(5, "read", {"of.0": 3}),)), strict=True)
    tape.begin(MIX)
    tape.next_step()
    assert tape.choose_step("of", [1, 2]) == 0


def test_random_steps_are_about_as_many_as_wanted_with_about_one_crash() -> None:
    steps = crashes = 0
    for seed in range(600):
        tape = random_tape(seed)
        tape.begin(MIX)
        while (index := tape.next_step()) >= 0:
            steps += 1
            crashes += index == 2
    assert 8 < steps / 600 < 12
    assert 0.75 < crashes / 600 < 1.1  # two may fall on the same step


def test_most_crashes_come_right_after_a_write() -> None:
    mix = Mix(["read", "write", "crash"], [9, 1, 1], crashes=[2], ordinary=[0, 1], writers=[1])
    before = []
    for seed in range(400):
        tape = random_tape(seed)
        tape.begin(mix)
        steps = list(iter(tape.next_step, -1))
        before += [steps[at - 1] for at in range(1, len(steps)) if steps[at] == 2]
    # four leads of five have a write; without them it would be one in ten
    assert before.count(1) > 0.7 * len(before) > 100


def begun(seed: int) -> Tape:
    tape = random_tape(seed)
    tape.begin(MIX)
    return tape


def test_rare_choices_are_rare_and_all_come_up() -> None:
    tape = begun(3)
    drawn = [tape.choose("again", 4) for _ in range(8_000)]
    assert set(drawn) == {0, 1, 2, 3}
    assert 0.9 < drawn.count(0) / len(drawn) < 0.97
    assert {tape.choose("again", 1) for _ in range(100)} == {0}


def test_identifiers_collide_never_rarely_often_or_always_in_a_scenario() -> None:
    collided: Counter[float] = Counter()
    for seed in range(400):
        tape = begun(seed)
        drawn = [tape.choose("entropy", 3) for _ in range(200)]
        collided[min(COLLISION_CHANCES, key=lambda chance: abs(chance - sum(map(bool, drawn)) / 200))] += 1
        assert set(drawn) in ({0}, {0, 1, 2}, {1, 2}) or drawn.count(0) > 150
        assert {tape.choose("entropy", 1) for _ in range(20)} == {0}
    # a quarter each, of 400: a standard deviation of 9
    assert all(60 < collided[chance] < 140 for chance in COLLISION_CHANCES)


def test_half_of_the_scenarios_draw_a_write_back_short_and_all_may_draw_anything() -> None:
    short = 0
    for seed in range(200):
        tape = begun(seed)
        drawn = [tape.choose("steps", 8) for _ in range(400)]
        assert set(drawn) == set(range(8))
        short += drawn.count(0) > 100  # of 400: 150 or more, against 50
        assert {tape.choose("inside", 2) for _ in range(50)} == {0, 1}  # the table has more
        assert {tape.choose("steps", 1) for _ in range(50)} == {0}
    assert 70 < short < 130


def test_a_write_loses_its_last_unit_alone_in_half_of_the_scenarios() -> None:
    last_alone = 0
    for seed in range(200):
        tape = begun(seed)
        lost = [value for value in (tape.choose_at("survivor.1.0", 20) for _ in range(2_000)) if value]
        last_alone += lost.count(1) > 0.2 * len(lost)  # 0.3 and more, against 0.05
        assert {tape.choose_at("survivor.1.0", 1) for _ in range(50)} == {0}
    assert 70 < last_alone < 130


@pytest.mark.parametrize("style", CRASH_STYLES, ids=lambda style: style.name)
def test_crashes_come_within_their_span_and_every_style_says_what_asked_for_it(style: CrashStyle) -> None:
    assert style.asked_by
    random = Random(1).random
    seen: set[int] = set()
    for _ in range(2_000):
        operations = [0] * 41  # 40 steps, the first of which is number 1
        place_crashes(operations, MIX, style.span, random)
        seen.update(step for step, index in enumerate(operations) if index == 2)
    assert seen == set(range(1 + int(40 * style.span.earliest), 1 + int(40 * style.span.latest)))


@given(steps=st.integers(1, 5), seed=st.integers(0, 99))
@few
def test_crashes_have_a_place_in_the_shortest_scenarios(steps: int, seed: int) -> None:
    for style in CRASH_STYLES:
        operations = [0] * (steps + 1)
        place_crashes(operations, MIX, style.span, Random(seed).random)
        assert len(operations) == steps + 1
        assert operations[0] == 0


def test_the_enumerator_tries_everything_once() -> None:
    policy = EnumeratingPolicy(2)
    tape = Tape(policy)
    seen: list[tuple[tuple[int, int], ...]] = []
    while True:
        tape.begin(MIX)
        steps = []
        while (index := tape.next_step()) >= 0:
            steps.append((index, tape.choose("key", 2 + index) if index else 0))
            assert tape.choose("entropy", 5) == 0
        seen.append(tuple(steps))
        if not policy.advance():
            break
    one_step = [(0, 0), *((1, key) for key in range(3)), *((2, key) for key in range(4))]
    assert seen == sorted(itertools.product(one_step, repeat=2))


def test_the_enumerator_leaves_entropy_open_if_told() -> None:
    policy = EnumeratingPolicy(0, pinned=())
    tape = Tape(policy)
    drawn = []
    while True:
        tape.begin(MIX)
        drawn.append(tape.choose("entropy", 3))
        if not policy.advance():
            break
    assert drawn == [0, 1, 2]


def enumerate_failures(bug: str) -> tuple[int, set[tuple[str, str]]]:
    """Every program of three steps over one key and one payload, and every crash state of each."""
    spec = replace(
        toy_spec(bug),
        operations=[
            Operation("put", key=sampled([b"a"]), payload=sampled([b"x" * 100]), writes="key"),
            Background("issue"),
            Crash(),
        ],
    )
    policy = EnumeratingPolicy(3, pinned=("entropy", "inside", "recovery", "death", "again"))
    plan = compile_plan(spec, FILE, Mode.CRASH)
    count, failures = 0, set()
    while True:
        run = run_recorded(plan, Tape(policy))
        count += 1
        if run.violation is not None:
            failures.add(run.violation.signature)
        if not policy.advance():
            return count, failures


def test_exhaustion_finds_a_planted_bug_and_nothing_else() -> None:
    count, failures = enumerate_failures("")
    assert failures == set()
    # 27 programs; one of them, put, issue and crash, with a write of four sectors to lose: 18 ways
    assert count == 26 + 18
    assert enumerate_failures("persistent when issued")[1] == {("persistence", "outcome")}


def test_swarm_tables_differ_and_all_can_write() -> None:
    plan = compile_plan(SPEC, ZONED, Mode.CRASH)
    tables = {plan.mix.swarm_table(number) for number in range(64)}
    assert len(tables) > 30
    for table in tables:
        assert set(table) & set(plan.mix.writers)
        assert not set(table) & set(plan.mix.crashes)
