"""A draining in which barriers are paced leaves every crash state that one leaves in which they come anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from write_graphs import EXTENT_COUNT, PAGE_SIZE_BYTES, Asked, Submitting, graphs

from harness.choices.program import Program, Step
from harness.scenario.verdict import Counters, Mode
from harness.search.exhaust import exhaust
from harness.search.exploring import Explorer, Visited
from harness.search.pacing import Pace, Pacer
from harness.spec.loader import find_configuration
from harness.spec.plan import compile_plan
from harness.spec.spec import (
    Background,
    Bounds,
    Configuration,
    Crash,
    Durability,
    MediumShape,
    Operation,
    Spec,
    WriteBack,
)
from harness.world.legal_images import Image
from shardstore.node_spec import SPEC

STEPS_MAX = 16


class Counting:
    """A model of how many were submitted, as a key of its own each."""

    def __init__(self) -> None:
        self.count = 0

    def submit_next(self) -> None:
        self.count += 1


BOUNDS = Bounds(
    operations=[],
    starts={},
    in_memory=lambda stack: stack.scheduler.on_its_way(),
    device_options=lambda stack: stack.scheduler.options(),
)


def _left(graph: tuple[Asked, ...], *, zoned: bool, pacing: bool) -> tuple[set[tuple[tuple[str, ...], Image]], int]:
    """What each write was said to be, with what was left, over all moments; and how many schedules that took."""
    shape = MediumShape(EXTENT_COUNT, 8, PAGE_SIZE_BYTES, zoned, None if zoned else PAGE_SIZE_BYTES)
    spec = Spec(
        "submitting",
        system=Submitting,
        model=Counting,
        operations=[
            Operation("submit_next", writes=lambda arguments, result: [["all"]]),
            Background("sync"),
            WriteBack(steps_max=STEPS_MAX),
            Crash(),
        ],
        configurations=[Configuration("only", (shape,), graph)],
        durability=Durability(read=lambda subject, key: None, settle=lambda model, key, outcome: None),
    )
    plan = compile_plan(spec, spec.configurations[0], Mode.CRASH)
    steps = [Step(number, "submit_next") for number in range(1, len(graph) + 1)]
    steps.append(Step(len(graph) + 1, "write_back", {"steps.0": STEPS_MAX - 1}))
    explorer = Explorer(plan, BOUNDS, Counters(), merging=True, pacing=pacing)
    found: set[tuple[tuple[str, ...], Image]] = set()
    for schedule in explorer.schedules(Program(tuple(steps)), 0, (), Visited()):
        assert schedule.failure is None
        found |= {(moment.states, image) for moment in schedule.moments for image, _ in moment.images}
    assert explorer.pacing == pacing  # nothing was seen that would forbid it
    return found, explorer.schedules_count


@pytest.mark.parametrize("zoned", [True, False], ids=["zoned", "file"])
@given(graph=graphs())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_what_is_left_and_what_is_said_to_be_persistent_is_the_same(zoned: bool, graph: tuple[Asked, ...]) -> None:
    paced, schedules_paced = _left(graph, zoned=zoned, pacing=True)
    free, schedules_free = _left(graph, zoned=zoned, pacing=False)
    assert paced == free
    assert schedules_paced <= schedules_free


def test_independent_writes_take_fewer_schedules() -> None:
    graph = (Asked(0, 1, ()), Asked(1, 1, ()), Asked(2, 1, ()), Asked(0, 1, ()))
    paced, schedules_paced = _left(graph, zoned=True, pacing=True)
    free, schedules_free = _left(graph, zoned=True, pacing=False)
    assert paced == free
    assert schedules_paced < schedules_free / 2


@pytest.mark.parametrize("start", ["one flushed", "extent half dead"])
@pytest.mark.parametrize("configuration", ["zoned", "file"])
def test_no_state_of_the_node_is_left_out(configuration: str, start: str) -> None:
    """Records, which gather what is ready when they are built, are choices too."""
    setting = find_configuration(SPEC, configuration)
    paced, free = (exhaust(SPEC, setting, start, 1, pacing=pacing).tally for pacing in (True, False))
    assert (paced.states, paced.states_judged) == (free.states, free.states_judged)
    assert paced.schedules < free.schedules


# --- seen to be another system ----------------------------------------------------------------------


def _pacer(*answers: tuple[int, bool]) -> Pacer:
    following = iter(answers)
    return Pacer(lambda system: next(following))


def test_after_the_first_of_three_writes_comes_a_barrier_or_the_next() -> None:
    pacer = _pacer((3, False), (2, True), (1, True))
    assert list(pacer.options(None, 4)) == [0, 1, 2, 3]
    pacer.before_event(False, 0)
    assert list(pacer.options(None, 4)) == [0, 2]
    pacer.before_event(False, 0)
    assert list(pacer.options(None, 3)) == [0]
    pacer.before_event(False, 0)
    pacer.before_event(True, 0)  # nothing else is left to do, so nobody was asked
    assert pacer.pace is Pace.FREE
    assert not pacer.is_broken


def test_after_another_write_comes_a_barrier() -> None:
    pacer = _pacer((3, False), (2, True))
    pacer.options(None, 3)
    pacer.before_event(False, 1)
    assert pacer.pace is Pace.SINGLE
    assert list(pacer.options(None, 3)) == [2]


def test_a_write_that_comes_without_a_choice_behind_a_record_is_the_first() -> None:
    pacer = _pacer((0, False))
    pacer.options(None, 2)
    pacer.before_event(False, 1)  # the choice was the second record; then there was only its write to be done
    assert pacer.pace is Pace.FIRST


def test_a_record_may_be_built_behind_all_that_is_ready() -> None:
    """It takes in no more than before, unless the system has it take in what is only issued."""
    pacer = _pacer((1, False), (0, True), (1, True))
    assert list(pacer.options(None, 2)) == [0, 1]
    pacer.before_event(False, 0)
    assert list(pacer.options(None, 2)) == [0, 1]
    assert list(pacer.options(None, 2)) == [0, 1]  # it was built, and its write is ready
    assert not pacer.is_broken


def test_a_record_that_a_write_makes_due_is_seen_also_where_nobody_was_asked() -> None:
    pacer = _pacer((0, True))
    pacer.before_event(False, 0)
    pacer.options(None, 2)
    assert pacer.is_broken


def test_more_options_than_there_are_is_seen() -> None:
    pacer = _pacer((2, True))
    assert list(pacer.options(None, 2)) == [0, 1]
    assert pacer.is_broken


@pytest.mark.parametrize(
    ("then", "option_count"),
    [((0, True), 2), ((3, True), 4), ((1, True), 3), ((1, False), 2)],
    ids=["another is gone", "two more are ready", "a record is due", "there is nothing to pass a barrier over"],
)
def test_a_write_that_brings_something_about_is_seen(then: tuple[int, bool], option_count: int) -> None:
    pacer = _pacer((2, False), then)
    pacer.options(None, 2)
    pacer.before_event(False, 0)
    assert list(pacer.options(None, option_count)) == list(range(option_count))
    assert pacer.is_broken


def test_what_is_persistent_without_a_barrier_is_seen() -> None:
    pacer = _pacer((2, False))
    pacer.options(None, 2)
    pacer.see(["pending", "pending"])
    pacer.before_event(False, 0)
    pacer.see(["pending", "pending"])
    assert not pacer.is_broken
    pacer.see(["pending", "persistent"])
    assert pacer.is_broken


@pytest.mark.parametrize("picked", [1, 2], ids=["said to be a write", "said to be a barrier"])
def test_options_that_are_not_what_they_are_said_to_be_are_seen(picked: int) -> None:
    pacer = _pacer((2, True))
    pacer.options(None, 3)
    pacer.before_event(picked == 1, picked)
    assert pacer.is_broken


def test_a_system_that_is_another_is_drained_again_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing it may leave is left out, whatever it says of its options."""
    zoned = find_configuration(SPEC, "zoned")
    see = Pacer.see

    def suspicious(pacer: Pacer, states: Any) -> None:
        see(pacer, states)
        pacer.is_broken = pacer.is_broken or pacer.pace is Pace.SINGLE

    free = exhaust(SPEC, zoned, "one flushed", 1, pacing=False).tally
    monkeypatch.setattr(Pacer, "see", suspicious)
    doubted = exhaust(SPEC, zoned, "one flushed", 1).tally
    assert (doubted.states, doubted.states_judged) == (free.states, free.states_judged)
    assert doubted.schedules >= free.schedules
