"""Reclamation with a table of references in the index's place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FIRST, PAGE, SMALL, Stack, examples, new_stack, random_choices, reopened, with_contents

from shardstore.chunk_frame import OVERHEAD_SIZE_BYTES, Frame
from shardstore.dependency import PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise, join
from shardstore.errors import NoSpaceError, StaleLocatorError
from shardstore.reclamation import Reclamation
from shardstore.units import Kind, Locator


class Table:
    """A reference a key. `on_move` may do what another thread would, just before the compare-and-swap."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.locators: dict[bytes, Locator] = {}
        self.dependencies: list[Dependency] = []
        self.asked_settled_at: int | None = None  # references moved by then
        self.moved_count = 0
        self.on_move: Callable[[], object] = lambda: None

    def put(self, key: bytes, payload: bytes) -> Locator:
        chunk = self.stack.chunks.put(Kind.VALUE, key, payload)
        self.locators[key] = chunk.locator
        self.dependencies.append(chunk.dependency)
        self.stack.chunks.unpin(chunk.locator)
        return chunk.locator

    def contents(self) -> dict[bytes, bytes]:
        return {key: self.stack.chunks.get(locator) for key, locator in self.locators.items()}

    def is_live(self, frame: Frame, locator: Locator) -> bool:
        return self.locators.get(frame.key) == locator

    def move(self, frame: Frame, old: Locator, new: Locator, written: Dependency) -> bool:
        self.on_move()
        if not self.is_live(frame, old):
            return False
        self.locators[frame.key] = new
        self.dependencies.append(written)
        self.moved_count += 1
        return True

    def settled(self) -> Dependency:
        self.asked_settled_at = self.moved_count
        return join(self.dependencies, self.stack)

    def names_any_in(self, extent: int) -> bool:
        return any(locator.extent == extent for locator in self.locators.values())

    def extents_of_runs(self) -> set[int]:
        return set()

    def recorded(self) -> Dependency:
        return self.settled()


class World:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.table = Table(stack)
        self.reclamation = Reclamation(stack.chunks, stack.extents, self.table, stack)

    def fill(self, count: int = 4, size: int = PAGE) -> int:
        """Chunks of a page and more in one extent, which is then closed; every second one is dropped."""
        extent = FIRST
        for number in range(count):
            extent = self.table.put(b"%d" % number, bytes([number]) * size).extent
        self.stack.settle()
        for number in range(0, count, 2):
            del self.table.locators[b"%d" % number]
        return extent


def new_world(*, zoned: bool = True, extent_count: int = 20) -> World:
    return World(new_stack(zoned=zoned, extent_count=extent_count))


def test_what_is_live_is_moved_and_the_extent_given_back(zoned: bool) -> None:
    world = new_world(zoned=zoned)
    extent = world.fill()
    before = world.table.contents()
    slabs_count = -(-world.stack.extents.soft_pages(extent) // SMALL.scan_slab_size_pages)
    reclaimed = world.reclamation.reclaim(extent)
    assert reclaimed == (extent, 2, 2, True)
    assert world.table.contents() == before
    assert not world.table.names_any_in(extent)
    world.stack.settle()
    assert extent in [world.stack.extents.allocate(Kind.VALUE) for _ in range(world.stack.extents.free_count())]
    assert world.table.contents() == before
    assert world.stack.breaths_count == 2 + slabs_count  # between chunks, and before each slab


def test_gc_1_an_extent_with_a_chunk_in_flight_is_no_victim() -> None:
    world = new_world()
    extent = world.fill()
    chunk = world.stack.chunks.put(Kind.VALUE, b"new", b"in flight")
    assert chunk.locator.extent == extent
    assert extent not in world.reclamation.victims()
    assert world.reclamation.reclaim(extent) is None
    world.stack.chunks.unpin(chunk.locator)
    world.stack.settle()
    assert extent in world.reclamation.victims()
    assert world.reclamation.reclaim(extent) is not None


def test_gc_1_an_extent_that_is_being_reclaimed_is_no_victim() -> None:
    world = new_world()
    extent = world.fill()
    seen = []
    world.table.on_move = lambda: seen.append((world.reclamation.victims(), world.reclamation.reclaim(extent)))
    world.reclamation.reclaim(extent)
    assert seen
    assert all(extent not in victims and again is None for victims, again in seen)


def test_gc_2_a_chunk_that_was_overwritten_meanwhile_is_not_brought_back() -> None:
    world = new_world()
    extent = world.fill()
    world.table.on_move = lambda: world.table.put(b"1", b"newer")
    reclaimed = world.reclamation.reclaim(extent)
    assert reclaimed is not None
    assert reclaimed.moved_count == 1  # key 3; key 1 lost its turn
    assert world.table.contents()[b"1"] == b"newer"


def test_gc_2_the_copy_is_pinned_until_it_is_referred_to() -> None:
    world = new_world()
    extent = world.fill()
    seen = []

    def look() -> None:
        others = [number for number in world.stack.extents.in_use() if number != extent]
        seen.append([number for number in range(FIRST, 20) if world.stack.chunks.has_pins(number)] or others)

    world.table.on_move = look
    world.reclamation.reclaim(extent)
    assert all(pinned and extent not in pinned for pinned in seen)
    assert not any(world.stack.chunks.has_pins(number) for number in range(FIRST, 20))


def test_gc_3_the_reset_waits_for_the_copies_and_for_what_made_the_rest_dead() -> None:
    world = new_world()
    extent = world.fill()
    late = Promise(world.stack)
    world.table.dependencies.append(late)
    world.reclamation.reclaim(extent)
    assert world.table.asked_settled_at == 2  # after the moves
    before = len(world.stack.medium.trace)
    world.stack.settle()
    assert not [e for e in world.stack.medium.trace[before:] if e.kind == "reset" and e.extent == extent]
    assert world.stack.superblock.recorded(extent).soft_pages
    late.bind(PERSISTENT)
    world.stack.settle()
    assert not world.stack.superblock.recorded(extent).soft_pages


def test_gc_4_an_extent_with_a_page_that_can_not_be_read_is_kept_while_something_names_it() -> None:
    world = new_world()
    extent = world.fill(6, size=PAGE - OVERHEAD_SIZE_BYTES - 1)
    world.stack.medium.fails = lambda event: event.kind == "read" and event.page <= 1 < event.page + event.page_count
    reclaimed = world.reclamation.reclaim(extent)
    assert reclaimed == (extent, 2, 3, False)
    world.stack.medium.fails = lambda event: False
    world.stack.settle()
    assert len(world.table.contents()) == 3
    again = world.reclamation.reclaim(extent)
    assert again is not None
    assert again.is_reset
    world.stack.settle()
    assert len(world.table.contents()) == 3


@pytest.mark.parametrize("is_named", [True, False])
def test_gc_4_an_extent_with_a_damaged_chunk_is_kept_while_something_names_it(is_named: bool) -> None:
    world = new_world()
    extent = world.fill()
    damaged = world.table.locators[b"1"]
    extents = list(reopened(world.stack.medium)._extents)
    data = bytearray(extents[extent])
    data[damaged.offset_bytes + OVERHEAD_SIZE_BYTES] ^= 1
    extents[extent] = bytes(data)
    locators = world.table.locators
    world = World(Stack(with_contents(world.stack.medium.shape, extents)).recover())
    world.table.locators = dict(locators)
    if not is_named:
        del world.table.locators[b"1"]
    reclaimed = world.reclamation.reclaim(extent)
    assert reclaimed is not None
    assert reclaimed.moved_count == 1  # key 3
    assert reclaimed.is_reset != is_named


def test_gc_5_an_extent_that_was_given_back_meanwhile_is_not_given_back_again() -> None:
    world = new_world()
    extent = world.fill()
    assert world.reclamation.reclaim(extent) is not None
    resetting_count = world.stack.extents.resetting_count()
    assert world.reclamation.reclaim(extent) is None
    assert world.stack.extents.resetting_count() == resetting_count


def test_victims_are_those_with_most_garbage_first_and_the_open_ones_last() -> None:
    world = new_world()
    extents = []
    for number in range(3):
        locator = world.table.put(b"%d" % number, bytes(10))
        for _ in range(number):
            world.stack.chunks.note_dead(locator)
        world.stack.chunks.close_extent(locator.extent)
        extents.append(locator.extent)
    still_open = world.table.put(b"open", b"").extent
    world.stack.settle()
    assert world.reclamation.victims() == [*reversed(extents), still_open]


def test_an_extent_with_too_little_garbage_is_left_alone() -> None:
    world = new_world()
    extent = world.fill()
    before = dict(world.table.locators)
    assert world.reclamation.reclaim(extent, dead_bytes_min=15 * PAGE) is None
    assert world.table.locators == before
    assert world.reclamation.reclaim(extent, dead_bytes_min=PAGE) is not None


def test_without_room_for_the_copies_what_was_moved_stays_moved() -> None:
    world = new_world(extent_count=FIRST + 2)
    world.fill(4, size=3 * PAGE)
    world.stack.extents.allocate(Kind.RUN)
    before = world.table.contents()
    with pytest.raises(NoSpaceError):
        world.reclamation.reclaim(FIRST)
    assert world.table.contents() == before
    assert world.stack.extents.in_use() == [FIRST]
    assert not world.stack.chunks.has_pins(FIRST)


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "put", "forget", "reclaim", "reclaim", "flush", "step"]),
            st.integers(0, 3),
            st.integers(0, 200),
        ),
        max_size=60,
    ),
    st.integers(0, 99),
    st.booleans(),
)
def test_what_is_referred_to_is_never_lost_and_space_comes_back(
    sequence: list[tuple[str, int, int]], seed: int, is_zoned: bool
) -> None:
    world = World(new_stack(zoned=is_zoned, choose=random_choices(seed)))
    expected: dict[bytes, bytes] = {}
    for number, (name, key_number, size) in enumerate(sequence):
        key = b"%d" % key_number
        if name == "put":
            expected[key] = bytes([number]) * size
            world.table.put(key, expected[key])
        elif name == "forget":
            expected.pop(key, None)
            world.table.locators.pop(key, None)
        elif name == "reclaim" and (victims := world.reclamation.victims()):
            world.reclamation.reclaim(victims[size % len(victims)])
        elif name == "flush":
            world.stack.chunks.flush()
        elif name == "step":
            world.stack.scheduler.step()
        assert world.table.contents() == expected
    world.stack.settle()
    for victim in world.reclamation.victims():
        world.reclamation.reclaim(victim)
        world.stack.settle()
    assert world.table.contents() == expected
    assert len(world.stack.extents.in_use()) <= 2  # four chunks of two pages, and an open end
    again = World(Stack(reopened(world.stack.medium)).recover())
    again.table.locators = world.table.locators
    assert again.table.contents() == expected


def test_a_locator_into_a_reclaimed_extent_finds_nothing() -> None:
    world = new_world()
    extent = world.fill()
    old = dict(world.table.locators)
    world.reclamation.reclaim(extent)
    for locator in old.values():
        with pytest.raises(StaleLocatorError):
            world.stack.chunks.get(locator)
    dependency = world.table.settled()
    assert dependency.poll() == PENDING
    world.stack.settle()
    assert dependency.poll() == PERSISTENT_STATE
