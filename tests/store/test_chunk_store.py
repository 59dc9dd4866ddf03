"""The chunk store: put, get, flush, scan, reset; and what another thread may do while one waits for a buffer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    EXTENT_PAGES,
    FIRST,
    PAGE,
    SEED,
    SMALL,
    Event,
    Stack,
    examples,
    new_stack,
    page_of,
    random_choices,
    reopened,
    with_contents,
)

from refmodel.chunk_store import ChunkStoreModel
from shardstore import chunk_frame
from shardstore.chunk_store import PutChunk
from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE
from shardstore.errors import CorruptionError, DiskError, InvariantError, NoSpaceError, StaleLocatorError
from shardstore.units import Kind, Locator

OVERHEAD = chunk_frame.OVERHEAD_SIZE_BYTES + 1  # with a key of one byte


def put(stack: Stack, payload: bytes = b"value", kind: Kind = Kind.VALUE, key: bytes = b"k") -> PutChunk:
    """Put, and let go of the pin."""
    chunk = stack.chunks.put(kind, key, payload)
    stack.chunks.unpin(chunk.locator)
    return chunk


def uuids(stack: Stack, extent: int) -> list[bytes]:
    return [scanned.locator.uuid for scanned in stack.chunks.scan(extent, stack.breathe).frames]


def damage(stack: Stack, extent: int, offset: int) -> Stack:
    """The same disk after a restart, with one bit flipped."""
    extents = list(reopened(stack.medium)._extents)
    data = bytearray(extents[extent])
    data[offset] ^= 1
    extents[extent] = bytes(data)
    return Stack(with_contents(stack.medium.shape, extents)).recover()


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "put", "flush", "step", "close", "reopen"]),
            st.one_of(st.integers(0, 200), st.sampled_from([PAGE - OVERHEAD + d for d in (-1, 0, 1, 2)])),
            st.sampled_from(Kind),
        ),
        max_size=40,
    ),
    st.integers(0, 99),
    st.booleans(),
)
def test_every_chunk_is_read_and_scanned_as_it_was_put(
    sequence: list[tuple[str, int, Kind]], seed: int, is_zoned: bool
) -> None:
    """CHUNK-1, SCAN-1 and POOL-2: buffered, queued, on disk, and after a restart."""
    stack, model = new_stack(zoned=is_zoned, choose=random_choices(seed)), ChunkStoreModel()
    used: dict[Locator, bytes] = {}
    for number, (name, size, kind) in enumerate(sequence):
        if name == "put":
            payload = bytes([number]) * size
            locator = put(stack, payload, kind).locator
            model.adopt(locator, payload)
            used[locator] = payload
        elif name == "flush":
            stack.chunks.flush()
        elif name == "step":
            stack.scheduler.step()
        elif name == "close" and used:
            stack.chunks.close_extent(list(used)[size % len(used)].extent)
        elif name == "reopen":
            stack.settle()
            assert stack.pool.free_count == stack.pool.buffer_count
            stack = Stack(reopened(stack.medium), random_choices(seed)).recover()
        for locator, payload in used.items():
            assert stack.chunks.get(locator) == payload == model.get(locator)
    stack.settle()
    for extent in sorted({locator.extent for locator in used}):
        scan = stack.chunks.scan(extent, stack.breathe)
        assert scan.is_complete
        expected = {locator: payload for locator, payload in used.items() if locator.extent == extent}
        assert {scanned.locator: scanned.frame.payload for scanned in scan.frames} == expected


def test_the_frames_of_a_buffer_share_one_dependency_and_one_append() -> None:
    stack = new_stack()
    first, second = put(stack), put(stack)
    assert first.dependency is second.dependency
    stack.settle()
    writes = [event for event in stack.medium.changes() if event.extent == first.locator.extent]
    assert len(writes) == 1
    assert first.dependency.poll() == PERSISTENT_STATE


def test_a_buffer_is_flushed_once_it_is_full() -> None:
    stack = new_stack()
    before = put(stack, bytes(SMALL.write_buffer_size_bytes - 2 * OVERHEAD - 1))
    assert not any(event.extent == FIRST for event in stack.medium.changes())
    stack.drain()
    assert before.dependency.poll() == PENDING
    put(stack, b"")
    put(stack, b"")
    stack.drain()
    assert before.dependency.poll() == PERSISTENT_STATE


def test_kinds_do_not_share_extents() -> None:
    stack = new_stack()
    value, run = put(stack), put(stack, kind=Kind.RUN)
    assert value.locator.extent != run.locator.extent
    assert (stack.extents.owner(value.locator.extent), stack.extents.owner(run.locator.extent)) == (1, 2)


def test_chunk_1_a_locator_is_not_used_twice_though_its_place_is() -> None:
    stack = new_stack()
    old = put(stack, b"old").locator
    stack.settle()
    stack.chunks.close_extent(old.extent)
    stack.chunks.reset(old.extent, PERSISTENT)
    with pytest.raises(StaleLocatorError):
        stack.chunks.get(old)
    stack.settle()
    new = put(stack, b"new").locator
    assert (new.extent, new.offset_bytes, new.length_bytes) == (old.extent, old.offset_bytes, old.length_bytes)
    for _ in range(2):  # in the buffer, and on disk
        assert stack.chunks.get(new) == b"new"
        with pytest.raises(StaleLocatorError):
            stack.chunks.get(old)
        stack.settle()


def test_chunk_2_a_flush_that_goes_elsewhere_is_asserted() -> None:
    stack = new_stack()
    extent = put(stack).locator.extent
    stack.extents.append(extent, page_of("x"), PERSISTENT)
    with pytest.raises(InvariantError, match="CHUNK-2"):
        stack.chunks.flush()


def test_gc_1_pins_are_counted_and_an_extent_with_any_is_not_reset() -> None:
    stack = new_stack()
    first, second = stack.chunks.put(Kind.VALUE, b"k", b"1"), stack.chunks.put(Kind.VALUE, b"k", b"2")
    extent = first.locator.extent
    with pytest.raises(InvariantError, match="GC-1"):
        stack.chunks.reset(extent, PERSISTENT)
    stack.chunks.close_extent(extent)
    stack.chunks.unpin(first.locator)
    assert stack.chunks.has_pins(extent)
    with pytest.raises(InvariantError, match="GC-1"):
        stack.chunks.reset(extent, PERSISTENT)
    stack.chunks.unpin(second.locator)
    assert not stack.chunks.has_pins(extent)
    with pytest.raises(InvariantError, match="GC-1"):
        stack.chunks.unpin(second.locator)
    stack.chunks.reset(extent, PERSISTENT)


def test_gc_1_an_open_extent_is_not_reset() -> None:
    stack = new_stack()
    extent = put(stack).locator.extent
    with pytest.raises(InvariantError, match="GC-1"):
        stack.chunks.reset(extent, PERSISTENT)


@pytest.mark.parametrize("offset", [0, 2, 17, 40, OVERHEAD])
def test_a_damaged_chunk_is_never_returned(zoned: bool, offset: int) -> None:
    stack = new_stack(zoned=zoned)
    first, second = put(stack, b"first").locator, put(stack, b"second").locator
    stack.settle()
    stack = damage(stack, first.extent, first.offset_bytes + offset)
    with pytest.raises((CorruptionError, StaleLocatorError)) as caught:
        stack.chunks.get(first)
    if isinstance(caught.value, CorruptionError):
        assert (caught.value.extent, caught.value.offset_bytes) == first[:2]
    assert stack.chunks.get(second) == b"second"


def test_a_locator_of_another_length_is_refused() -> None:
    stack = new_stack()
    locator = put(stack).locator
    with pytest.raises(CorruptionError):
        stack.chunks.get(locator._replace(length_bytes=locator.length_bytes - 1))


# --- scanning -------------------------------------------------------------------------------------------


def test_scan_1_a_torn_frame_completed_by_the_next_flush_does_not_hide_it(zoned: bool) -> None:
    """The last two bytes of the torn frame are lost, and equal to the magic that the next frame starts with."""
    stack = new_stack(zoned=zoned)
    kept = put(stack)
    stack.settle()
    extents = list(reopened(stack.medium)._extents)
    uuid, payload = b"?" * 14 + chunk_frame.MAGIC, bytes(PAGE + 2 - OVERHEAD)
    torn = chunk_frame.encode(uuid, Kind.VALUE, b"k", payload, SEED)
    extents[FIRST] = extents[FIRST][:PAGE] + torn[:PAGE] + extents[FIRST][2 * PAGE :]
    stack = Stack(with_contents(stack.medium.shape, extents)).recover()
    if not zoned:  # a file would go on at the soft pointer, over the torn page: nothing is left to complete
        assert stack.extents.next_page(FIRST) == 1
        return
    new = put(stack, b"new").locator
    stack.settle()
    assert new.offset_bytes == 2 * PAGE
    assert stack.chunks.get(Locator(FIRST, PAGE, len(torn), uuid)) == payload  # it does look whole
    assert set(uuids(stack, FIRST)) == {kept.locator.uuid, uuid, new.uuid}


def test_a_scan_that_meets_damage_is_not_complete(zoned: bool) -> None:
    stack = new_stack(zoned=zoned)
    chunks = [put(stack, bytes([number]) * 60).locator for number in range(6)]
    stack.settle()
    stack = damage(stack, FIRST, chunks[3].offset_bytes + 50)
    scan = stack.chunks.scan(FIRST, stack.breathe)
    assert not scan.is_complete
    assert chunks[3].uuid not in uuids(stack, FIRST)
    assert {locator.uuid for locator in chunks[:3]} <= set(uuids(stack, FIRST))


def test_damage_in_the_padding_makes_a_scan_incomplete() -> None:
    stack = new_stack()
    locator = put(stack).locator
    stack.settle()
    assert stack.chunks.scan(FIRST, stack.breathe).is_complete
    stack = damage(stack, FIRST, PAGE - 1)
    scan = stack.chunks.scan(FIRST, stack.breathe)
    assert [scanned.locator for scanned in scan.frames] == [locator]
    assert not scan.is_complete


def test_a_scan_that_can_not_read_a_page_is_not_complete_and_gives_the_rest() -> None:
    stack = new_stack()
    chunks = [put(stack, bytes(PAGE - OVERHEAD)).locator for _ in range(4)]
    stack.settle()
    stack.medium.fails = lambda event: event.kind == "read" and event.page <= 1 < event.page + event.page_count
    scan = stack.chunks.scan(FIRST, stack.breathe)
    assert not scan.is_complete
    assert {scanned.locator for scanned in scan.frames} == {chunks[0], *chunks[2:]}


@pytest.mark.parametrize("slab_size_pages", [1, 2, 3, 64])
def test_a_scan_finds_frames_that_cross_its_slabs(slab_size_pages: int) -> None:
    stack = new_stack()
    chunks = [put(stack, bytes(size)).locator for size in (PAGE - OVERHEAD, 200, 3, 150, 3 * PAGE)]
    stack.settle()
    small = replace(SMALL, scan_slab_size_pages=slab_size_pages)
    stack = Stack(reopened(stack.medium), configuration=small).recover()
    scan = stack.chunks.scan(FIRST, stack.breathe)
    assert scan.is_complete
    assert [scanned.locator for scanned in scan.frames] == chunks


def test_chunk_3_a_store_believes_no_frame_of_another_disk() -> None:
    stack = new_stack()
    foreign = chunk_frame.encode(bytes(16), Kind.VALUE, b"k", b"made up", chunk_frame.seed_of(b"another secret!!"))
    outer = put(stack, bytes(PAGE - OVERHEAD + 17) + foreign).locator  # from the second page on
    stack.settle()
    assert foreign in stack.medium._extents[FIRST]
    assert [scanned.locator for scanned in stack.chunks.scan(FIRST, stack.breathe).frames] == [outer]


def test_a_frame_within_a_value_is_found_too_and_is_told_by_its_place() -> None:
    stack = new_stack()
    inner = put(stack, b"inner").locator
    forged = chunk_frame.encode(inner.uuid, Kind.VALUE, b"k", b"forged", SEED)
    outer = put(stack, bytes(2 * PAGE - OVERHEAD - inner.length_bytes - inner.offset_bytes + 29) + forged).locator
    stack.settle()
    found = stack.chunks.scan(FIRST, stack.breathe).frames
    assert {inner, outer} <= {scanned.locator for scanned in found}
    assert [scanned.frame.payload for scanned in found if scanned.locator == inner] == [b"inner"]


# --- trouble --------------------------------------------------------------------------------------------


def test_a_refused_flush_fails_its_chunks_and_the_next_goes_to_another_extent() -> None:
    stack = new_stack()
    kept = put(stack, b"kept")
    stack.settle()
    stack.medium.fails = lambda event: event.kind == "write" and event.extent == FIRST
    refused = put(stack, b"refused")
    stack.settle()
    assert refused.dependency.poll() == FAILED
    late = put(stack, b"late")
    stack.chunks.flush()
    stack.settle()
    again = put(stack, b"again")
    stack.settle()
    assert late.dependency.poll() == FAILED
    assert again.dependency.poll() == PERSISTENT_STATE
    assert again.locator.extent != FIRST
    assert stack.chunks.get(kept.locator) == b"kept"
    assert stack.pool.free_count == stack.pool.buffer_count


def test_a_chunk_that_finds_no_extent_changes_nothing() -> None:
    stack = new_stack()
    while stack.extents.free_count():
        stack.extents.allocate(Kind.VALUE)
    with pytest.raises(NoSpaceError):
        stack.chunks.put(Kind.VALUE, b"k", b"v")
    assert stack.pool.free_count == stack.pool.buffer_count
    assert not stack.chunks.flush()


def test_a_read_error_is_a_disk_error() -> None:
    stack = new_stack()
    locator = put(stack).locator
    stack.settle()

    def fails(event: Event) -> bool:
        return event.kind == "read"

    stack.medium.fails = fails
    with pytest.raises(DiskError):
        stack.chunks.get(locator)


class Interrupted:
    """A chunk store whose next `put` waits for a buffer; meanwhile another thread does something."""

    def __init__(self, another_thread: Callable[[Interrupted], object]) -> None:
        self.stack = new_stack()
        self.given_back_count = 0
        self.extent = put(self.stack).locator.extent
        self.stack.settle()
        while self.stack.pool.can_take():
            self.stack.pool.take(self.stack.scheduler.step)

        def io_step() -> bool:
            self.stack.chunks._io_step = self.give_back
            another_thread(self)
            return self.give_back()

        self.stack.chunks._io_step = io_step

    def give_back(self) -> bool:
        self.given_back_count += 1
        self.stack.pool.give_back()
        return True

    def close_extent(self) -> None:
        self.stack.chunks.close_extent(self.extent)

    def take_all_extents(self) -> None:
        self.close_extent()
        while self.stack.extents.free_count():
            self.stack.extents.allocate(Kind.VALUE)

    def fill_extent(self) -> None:
        self.give_back()
        page_count = EXTENT_PAGES - self.stack.extents.next_page(self.extent)
        put(self.stack, bytes(page_count * PAGE - OVERHEAD))


def test_pool_2_no_buffer_is_lost_when_the_extent_is_closed_while_its_writer_waits() -> None:
    interrupted = Interrupted(Interrupted.close_extent)
    pool = interrupted.stack.pool
    free_count = pool.free_count
    put(interrupted.stack, b"new")
    assert pool.free_count == free_count + interrupted.given_back_count - 1  # the one that holds the new chunk


def test_flushing_ends_though_no_extent_was_left_when_the_writer_got_its_buffer() -> None:
    stack = Interrupted(Interrupted.take_all_extents).stack
    with pytest.raises(NoSpaceError):
        put(stack, b"new")
    assert [stack.chunks.flush() for _ in range(2)] == [False, False]


def test_a_writer_whose_extent_was_filled_while_it_waited_goes_to_another() -> None:
    interrupted = Interrupted(Interrupted.fill_extent)
    chunk = put(interrupted.stack, b"new")
    assert chunk.locator.extent != interrupted.extent
    interrupted.stack.settle()
    assert chunk.dependency.poll() == PERSISTENT_STATE
