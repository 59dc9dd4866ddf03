"""Tracers: what they learn of dependencies that forget, and how they match it with what the device sees."""

from __future__ import annotations

from typing import Any

import pytest

from harness.choices.program import Program
from harness.choices.replay_policy import replay_tape
from harness.spec.device import MediumShape
from harness.spec.spec import Configuration
from harness.spec.tracing import Origin
from harness.trace.closure import Closure, numbers
from harness.trace.trace import Edge, Trace
from harness.trace.tracer import NO_TRIAL, LifeTracer, Trial
from harness.trace.witness import order_violations
from harness.world.devices import ZONED
from harness.world.world import World

SHAPE = MediumShape(4, 8, 16, device=ZONED)
PAGE = b"x" * 16
WRITER, READER = Origin("writer", "pages"), Origin("other", "pages", "about")


class Waiting:
    """Stands for its parts as long as they are not dropped."""

    def __init__(self, *parts: Any) -> None:
        self.kept = parts

    def parts(self) -> tuple[Any, ...]:
        return self.kept


NOTHING = Waiting()


def make_world(*shapes: MediumShape) -> World:
    return World(Configuration("only", shapes or (SHAPE,)), replay_tape(Program(), strict=False))


@pytest.fixture
def world() -> World:
    return make_world()


def make_tracer(world: World, trial: Trial = NO_TRIAL) -> LifeTracer:
    tracer = LifeTracer(world, trial)
    tracer.settled(NOTHING)
    return tracer


def write(tracer: LifeTracer, extent: int = 0, page: int = 0, after: Any = NOTHING, origin: Origin = WRITER) -> Waiting:
    node = Waiting()
    tracer.submitted(node, 0, extent, page, 1, origin, after)
    return node


def edges_of(trace: Trace) -> list[tuple[int, int]]:
    return sorted(trace.edges)


def test_an_edge_goes_through_whatever_stands_between(world: World) -> None:
    tracer = make_tracer(world)
    first, second = write(tracer, 0), write(tracer, 1)
    write(tracer, 2, after=Waiting(Waiting(first), Waiting(Waiting(second))))
    assert edges_of(tracer.finish()) == [(0, 2), (1, 2)]


def test_an_edge_is_not_drawn_past_another_node(world: World) -> None:
    tracer = make_tracer(world)
    first = write(tracer, 0)
    second = Waiting(first)
    tracer.submitted(second, 0, 1, 0, 1, WRITER, first)
    write(tracer, 2, after=second)
    assert edges_of(tracer.finish()) == [(0, 1), (1, 2)]


def test_what_was_seen_stays_though_the_dependency_forgets(world: World) -> None:
    tracer = make_tracer(world)
    joined = Waiting(write(tracer, 0))
    write(tracer, 1, after=joined)
    joined.kept = ()
    world.media[0].write(0, 0, PAGE)
    world.media[0].barrier()
    assert edges_of(tracer.finish()) == [(0, 1)]


def test_a_promise_that_is_bound_late_is_looked_at_before_the_next_event(world: World) -> None:
    tracer = make_tracer(world)
    promise = Waiting()
    write(tracer, 1, after=promise)
    promise.kept = (write(tracer, 0),)
    world.media[0].write(0, 0, PAGE)
    promise.kept = ()  # as after a barrier
    trace = tracer.finish()
    assert edges_of(trace) == [(1, 0)]
    assert not trace.unbound


def test_who_waits_for_an_unbound_promise_waits_for_what_nobody_asked_for(world: World) -> None:
    tracer = make_tracer(world)
    write(tracer, 0)
    write(tracer, 1, after=Waiting())
    assert tracer.finish().unbound == {1}


def test_types_can_say_otherwise_what_they_stand_for(world: World) -> None:
    tracer = make_tracer(world)
    tracer.take_apart(tuple, lambda each: each)
    write(tracer, 1, after=(write(tracer, 0),))
    assert edges_of(tracer.finish()) == [(0, 1)]


def test_a_change_is_carried_by_the_write_that_its_promise_is_bound_to(world: World) -> None:
    tracer = make_tracer(world)
    data, change = write(tracer, 0), Waiting()
    tracer.promised(change, READER, data, "extent 0")
    assert tracer.finish().nodes[1].carrier is None
    record = write(tracer, 1)
    change.kept = (record,)
    trace = tracer.finish()
    assert trace.nodes[1].carrier == 2
    assert trace.carried_by() == {2: [1]}
    assert trace.write_of(1) == 2
    assert "extent 0" in trace.nodes[1].describe()


def test_an_acknowledgement_has_the_nodes_it_stands_for(world: World) -> None:
    tracer = make_tracer(world)
    first, promise = write(tracer, 0), Waiting()
    assert tracer.acknowledged(Waiting(first), 1, "put", b"a") == 0
    assert tracer.acknowledged(Waiting(first, promise), 2, "put", b"b") == 1
    assert tracer.acknowledged(None, 3, "put", b"c") == 2
    whole, half, none = tracer.finish().acknowledgements
    assert (whole.nodes, whole.is_complete) == ((0,), True)
    assert (half.nodes, half.is_complete) == ((0,), False)
    assert not none.is_complete


# --- the device -------------------------------------------------------------------------------------


def test_nodes_are_matched_with_events_in_the_order_of_their_extent(world: World) -> None:
    tracer = make_tracer(world)
    write(tracer, 0, 0)
    write(tracer, 0, 1)
    tracer.submitted(Waiting(), 0, 1, 0, 0, WRITER, Waiting())
    medium = world.media[0]
    medium.write(0, 0, PAGE)
    medium.reset(1)
    medium.barrier()
    medium.write(0, 1, PAGE)
    first, second, reset = tracer.finish().nodes
    assert first.issued is not None
    assert reset.issued is not None
    assert second.issued is not None
    assert first.issued < reset.issued < second.issued
    assert first.passed is not None
    assert first.passed == reset.passed
    assert second.passed is None
    assert (first.data, reset.data) == (PAGE, None)


def test_a_barrier_passes_what_is_on_its_own_medium() -> None:
    world = make_world(SHAPE, SHAPE)
    tracer = make_tracer(world)
    write(tracer)
    world.media[0].write(0, 0, PAGE)
    world.media[1].barrier()
    assert tracer.finish().nodes[0].passed is None


def test_a_write_that_nobody_asked_for_is_a_breach(world: World) -> None:
    tracer = make_tracer(world)
    write(tracer, 0, 0)
    world.media[0].write(1, 0, PAGE)
    world.media[0].write(0, 0, PAGE + PAGE)  # longer than asked for
    trace = tracer.finish()
    assert [stray.place[1:] for stray in trace.strays] == [(1, 0, 1), (0, 0, 2)]
    assert [violation.place for violation in order_violations(trace)] == ["not asked for"] * 2


@pytest.mark.parametrize("with_barrier", [True, False])
def test_what_is_issued_before_a_barrier_has_passed_its_prerequisite_is_a_breach(
    world: World, with_barrier: bool
) -> None:
    tracer = make_tracer(world)
    write(tracer, 1, after=write(tracer, 0))
    world.media[0].write(0, 0, PAGE)
    if with_barrier:
        world.media[0].barrier()
    world.media[0].write(1, 0, PAGE)
    trace = tracer.finish()
    assert [violation.place for violation in order_violations(trace)] == ([] if with_barrier else ["issued early"])


def test_what_is_called_persistent_before_a_barrier_has_passed_it_is_a_breach(world: World) -> None:
    tracer = make_tracer(world)
    number = tracer.acknowledged(write(tracer, 0), 1, "put")
    world.media[0].write(0, 0, PAGE)
    tracer.called_persistent(number)
    assert [violation.place for violation in order_violations(tracer.finish())] == ["called persistent early"]
    world.media[0].barrier()
    late = make_tracer(world)
    number = late.acknowledged(write(late, 1), 1, "put")
    world.media[0].write(1, 0, PAGE)
    world.media[0].barrier()
    late.called_persistent(number)
    assert order_violations(late.finish()) == []


def test_without_a_tracer_a_medium_looks_at_nothing(world: World) -> None:
    medium = world.media[0]
    assert not medium._watched
    LifeTracer(world)
    assert medium._watched
    medium.watch(False)
    assert medium._watched
    assert not medium.reopen()._watched


# --- trials -----------------------------------------------------------------------------------------


def test_a_trial_adds_and_removes_edges_by_origin(world: World) -> None:
    third = Origin("third", "pages")
    added, removed = frozenset({(third, READER.plain())}), frozenset({(third, WRITER)})
    tracer = make_tracer(world, Trial(added, removed))
    first, second = write(tracer, 0), write(tracer, 1, origin=READER)
    node = write(tracer, 2, after=first, origin=third)
    assert tracer.prerequisites(node) == ([second], True)
    assert tracer.prerequisites(second) == ([], True)


def test_a_trial_does_not_add_an_edge_to_what_waits_already(world: World) -> None:
    tracer = make_tracer(world, Trial(added=frozenset({(WRITER, WRITER)})))
    first = write(tracer, 0)
    second = write(tracer, 1, after=first)
    assert tracer.prerequisites(first) == ([], True)
    assert tracer.prerequisites(second) == ([first], True)


# --- closed sets ------------------------------------------------------------------------------------


def test_a_record_needs_what_the_one_it_was_built_on_needed_though_not_that_one(world: World) -> None:
    tracer, medium = make_tracer(world), world.media[0]
    changes = (Waiting(), Waiting())
    for extent, change in enumerate(changes):
        tracer.promised(change, READER, write(tracer, extent))  # nodes 0 and 2, changes 1 and 3
    records: list[Waiting] = []
    for extent, change in enumerate(changes):
        medium.write(extent, 0, PAGE)
        medium.barrier()
        record = write(tracer, 2 + extent)  # nodes 4 and 5
        change.kept = (record,)
        medium.write(2 + extent, 0, PAGE)
        medium.barrier()
        records.append(record)
    tracer.follows(records[1], records[0])
    trace = tracer.finish()
    assert trace.built_on == (Edge(4, 5),)
    assert set(numbers(Closure(trace, [True]).needs(5))) == {0, 2, 4}
    assert set(numbers(Closure(trace, [True], lambda edge: edge in trace.built_on).needs(5))) == {0, 2}


def test_what_a_barrier_had_passed_before_it_was_asked_for_is_needed(world: World) -> None:
    tracer, medium = make_tracer(world), world.media[0]
    for extent in (0, 1):
        write(tracer, extent)
        medium.write(extent, 0, PAGE)
        medium.barrier()
    closure = Closure(tracer.finish(), [True])
    assert set(numbers(closure.needs(1))) == {0}
    assert closure.is_closed(0b11)
    assert closure.is_closed(0b01)
    assert not closure.is_closed(0b10)
    assert closure.dependents(0) == 0b11
