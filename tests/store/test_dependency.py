"""Dependencies against a definition that is slow and obvious: look at every write it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import examples

from shardstore.dependency import (
    FAILED,
    PENDING,
    PERSISTENT,
    PERSISTENT_STATE,
    AcrossStores,
    Dependency,
    Promise,
    State,
    Write,
    join,
)
from shardstore.errors import DiskError, InvariantError


class PollingWaiter:
    """Answers without a monitor; `wait` does nothing but raise for what failed."""

    def poll(self, dependency: Dependency) -> State:
        return dependency.poll()

    def wait(self, dependency: Dependency) -> None:
        if dependency.poll() == FAILED:
            raise DiskError("failed")


WAITER = PollingWaiter()


def new_write() -> Write:
    return Write(WAITER, PERSISTENT)


class Graph:
    """The dependencies of one example, and next to each what it directly stands for."""

    def __init__(self) -> None:
        self.nodes: list[Dependency] = [new_write()]
        self.parts: list[list[int]] = [[]]
        self.leaf_state: dict[int, State] = {0: PENDING}
        self.unbound: set[int] = set()

    def add(self, node: Dependency, parts: list[int]) -> None:
        self.nodes.append(node)
        self.parts.append(parts)

    def write(self, *_: int) -> None:
        self.leaf_state[len(self.nodes)] = PENDING
        self.add(new_write(), [])

    def promise(self, *_: int) -> None:
        self.unbound.add(len(self.nodes))
        self.add(Promise(WAITER), [])

    def join(self, first: int, second: int) -> None:
        self.add(self.nodes[first] & self.nodes[second], [first, second])

    def bind(self, first: int, second: int) -> None:
        promise = self.nodes[first]
        if first not in self.unbound or not isinstance(promise, Promise):
            return
        if self.waits_for(second, first):
            with pytest.raises(InvariantError, match="DEP-1"):
                promise.bind(self.nodes[second])
        else:
            promise.bind(self.nodes[second])
            self.unbound.remove(first)
            self.parts[first] = [second]

    def settle(self, first: int, state: int) -> None:
        node = self.nodes[first]
        if self.leaf_state.get(first) == PENDING and isinstance(node, Write):
            self.leaf_state[first] = PERSISTENT_STATE if state % 3 else FAILED
            node.settle(self.leaf_state[first])

    def state(self, number: int) -> State:
        if number in self.leaf_state:
            return self.leaf_state[number]
        if number in self.unbound:
            return PENDING
        states = [self.state(part) for part in self.parts[number]]
        if FAILED in states:
            return FAILED
        return PENDING if PENDING in states else PERSISTENT_STATE

    def waits_for(self, number: int, goal: int) -> bool:
        if number == goal:
            return True
        return self.state(number) == PENDING and any(self.waits_for(part, goal) for part in self.parts[number])


calls = st.lists(
    st.tuples(
        st.sampled_from(["write", "promise", "join", "bind", "settle", "settle"]),
        st.integers(0, 1_000),
        st.integers(0, 1_000),
    ),
    max_size=40,
)


@examples(300)
@given(calls)
def test_a_dependency_is_as_its_writes_are_and_the_graph_has_no_cycle(sequence: list[tuple[str, int, int]]) -> None:
    """DEP-1: a binding is refused exactly where it would close a cycle; nothing leaves a settled state."""
    graph = Graph()
    settled: dict[int, int] = {}
    for name, first, second in sequence:
        size = len(graph.nodes)
        getattr(graph, name)(first % size, second % size)
        for number, node in enumerate(graph.nodes):
            assert node.poll() == graph.state(number)
            assert settled.get(number, node.state) == node.state
            if node.state:
                settled[number] = node.state
                assert node.parts() == ()  # so the graph does not grow with the past


def test_dep_1_a_promise_is_not_bound_to_what_waits_for_it() -> None:
    promise, other = Promise(WAITER), Promise(WAITER)
    other.bind(new_write() & promise)
    for target in (promise, other, other & new_write()):
        with pytest.raises(InvariantError, match="DEP-1"):
            promise.bind(target)


def test_dep_1_sees_through_the_prerequisite_of_a_queued_write() -> None:
    promise = Promise(WAITER)
    with pytest.raises(InvariantError, match="DEP-1"):
        promise.bind(Write(WAITER, promise))


def test_dep_2_a_promise_is_bound_once() -> None:
    bound, kept, broken = Promise(WAITER), Promise(WAITER), Promise(WAITER)
    bound.bind(new_write())
    kept.bind(PERSISTENT)
    broken.fail()
    for promise in (bound, kept, broken):
        with pytest.raises(InvariantError, match="DEP-2"):
            promise.bind(new_write())
    with pytest.raises(InvariantError, match="DEP-2"):
        bound.fail()


MANY = 20_000  # more than the interpreter's stack is deep


@pytest.mark.parametrize("waiters", [[WAITER], [PollingWaiter(), PollingWaiter(), PollingWaiter()]])
@pytest.mark.parametrize("last", [PERSISTENT_STATE, FAILED])
@pytest.mark.parametrize("is_turned", [False, True])
def test_any_number_is_joined_one_by_one(waiters: list[PollingWaiter], last: State, is_turned: bool) -> None:
    """Of one store or of several, from the left or from the right."""
    writes = [Write(waiters[number % len(waiters)], PERSISTENT) for number in range(200)]
    total: Dependency = PERSISTENT
    for number in range(MANY):
        write = writes[number % len(writes)]
        total = write & total if is_turned else total & write
    for write in writes[:-1]:
        assert not total.is_persistent()
        write.settle(PERSISTENT_STATE)
    assert not total.is_persistent()
    writes[-1].settle(last)
    assert total.is_failed() == (last is FAILED)
    assert total.is_persistent() == (last is PERSISTENT_STATE)


def test_joins_of_distinct_writes_are_flat() -> None:
    writes = [new_write() for _ in range(2_000)]
    total: Dependency = PERSISTENT
    for write in writes:
        total &= write
    assert set(total.parts()) == set(writes)
    assert total & total is total
    assert total & writes[7] is total


def test_joins_that_no_store_waits_for_arejoined() -> None:
    writes = [new_write() for _ in range(4)]
    joined = join(writes[:2], None) & join(writes[2:], None)
    assert not joined.is_persistent()
    for write in writes:
        write.settle(PERSISTENT_STATE)
        for each in joined.joined():
            each.poll()
    assert joined.is_persistent()


def test_a_total_that_is_polled_each_time_stays_flat() -> None:
    first = new_write()
    total: Dependency = first
    for _ in range(MANY):
        write = new_write()
        total = total & write
        write.settle(PERSISTENT_STATE)
        assert total.poll() == PENDING
    assert total.parts() == (first,)


def test_what_is_joined_for_ever_does_not_grow() -> None:
    total: Dependency = new_write()
    for _ in range(1_000):
        write = new_write()
        total = total & write
        write.settle(PERSISTENT_STATE)
    assert len(total.joined()) <= 3
    assert total.poll() == PENDING


def test_a_join_of_what_is_persistent_is_no_new_object() -> None:
    write = new_write()
    assert join([PERSISTENT, PERSISTENT], WAITER) is PERSISTENT
    assert join([PERSISTENT, write, write], WAITER) is write
    write.settle(FAILED)
    assert join([new_write(), write], WAITER) is write


def test_waiting_for_a_failed_dependency_raises() -> None:
    write = new_write()
    write.settle(FAILED)
    assert write.is_failed()
    assert not write.is_persistent()
    with pytest.raises(DiskError):
        write.wait()


@pytest.mark.parametrize("states", [(a, b) for a in State for b in State])
def test_across_stores_is_as_its_parts_are(states: tuple[State, State]) -> None:
    parts = [new_write(), new_write()]
    across = AcrossStores(parts)
    for part, state in zip(parts, states, strict=True):
        if state != PENDING:
            part.settle(state)
    assert across.is_failed() == (FAILED in states)
    assert across.is_persistent() == (states == (PERSISTENT_STATE, PERSISTENT_STATE))
    if FAILED in states:
        with pytest.raises(DiskError):
            across.wait()
