"""The index on the chunk store's model: a dictionary, whatever is flushed, compacted, moved or snapshotted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dependency import new_write
from worlds import SECRET, SMALL, Stack, examples, new_medium, random_choices, reopened

from harness.world.medium import SimulatedMedium
from refmodel.chunk_store import ChunkStoreModel
from refmodel.index import IndexModel
from shardstore.chunk_frame import Frame, frame_size_bytes
from shardstore.chunk_store import PutChunk
from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise
from shardstore.errors import CorruptionError, DiskError, NoSpaceError, TooLargeError
from shardstore.index.index import Index
from shardstore.index.metadata_log import MetadataLog
from shardstore.index.run_block import LOCATORS_MAX
from shardstore.units import Kind, Locator, StoreConfiguration

CONFIGURATION = replace(SMALL, run_block_size_bytes=80, memtable_entries_max=100)
LOCATORS = [Locator(1000 + i, 7 * i, 100 + i, bytes([i]) * 16) for i in range(8)]
KEYS = [bytes([ord("a") + i]) for i in range(6)]


class FakeChunks:
    """Chunks kept by the model; counts pins, and may run something or refuse when a chunk is put."""

    def __init__(self, model: ChunkStoreModel) -> None:
        self.model = model
        self.frames: dict[Locator, Frame] = {}
        self.pins: list[Locator] = []
        self.dead: list[Locator] = []
        self.dependency: Dependency = PERSISTENT
        self.on_put: Callable[[], object] = lambda: None

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk:
        self.on_put()
        locator = self.model.put(kind, key, payload, overhead_bytes=frame_size_bytes(key, 0))
        self.frames[locator] = Frame(locator.uuid, kind, key, payload, locator.length_bytes)
        self.pins.append(locator)
        return PutChunk(locator, self.dependency)

    def get(self, locator: Locator) -> bytes:
        return self.model.get(locator)

    def unpin(self, locator: Locator) -> None:
        self.pins.remove(locator)

    def note_dead(self, locator: Locator) -> None:
        self.dead.append(locator)


class World:
    """An index on fake chunks, with its metadata on a medium; `reopen` keeps both."""

    def __init__(self, seed: int | None = None, configuration: StoreConfiguration = CONFIGURATION) -> None:
        self.configuration = configuration
        self.choose = random_choices(seed) if seed is not None else lambda count: 0
        self.model = ChunkStoreModel()
        self.open(new_medium())
        self.metadata.format(SECRET)
        self.stack.drain()

    def open(self, medium: SimulatedMedium) -> None:
        self.stack = Stack(reopened(medium), self.choose)
        self.chunks = FakeChunks(self.model)
        self.metadata = MetadataLog(self.stack.scheduler, self.stack.pool, self.stack)
        self.stack.scheduler.add_source(self.metadata)
        self.index = Index(self.chunks, self.metadata, self.stack, self.configuration, self.stack)

    def reopen(self) -> None:
        self.index.flush()
        self.stack.drain()
        self.open(self.stack.medium)
        self.index.recover(SECRET)

    def put(self, key: bytes, number: int = 0, values: Dependency = PERSISTENT) -> Dependency:
        return self.index.put(key, (LOCATORS[number],), values)


calls = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "put", "put", "delete", "flush", "compact", "move", "snapshot", "close", "step", "reopen"]
        ),
        st.sampled_from(KEYS),
        st.integers(0, 7),
    ),
    max_size=50,
)


@examples(150)
@given(calls, st.integers(0, 99))
def test_an_index_is_a_dictionary(sequence: list[tuple[str, bytes, int]], seed: int) -> None:
    world, model = World(seed), IndexModel()
    snapshots = []
    for name, key, number in sequence:
        if name == "put":
            locators = tuple(LOCATORS[number : number + 1 + number % 2])
            world.index.put(key, locators, PERSISTENT)
            model.put(key, locators)
        elif name == "delete":
            world.index.delete(key)
            model.delete(key)
        elif name in ("flush", "compact"):
            getattr(world.index, name)()
        elif name == "move":
            move_a_block(world, number)
        elif name == "snapshot":
            snapshots.append((world.index.snapshot(), sorted(model.items())))
        elif name == "close" and snapshots:
            snapshots.pop(0)[0].close()
        elif name == "step":
            world.stack.scheduler.step()
        elif name == "reopen":
            world.reopen()
            snapshots.clear()
        assert dict(world.index.items()) == model.items()
        assert [world.index.get(each) for each in KEYS] == [model.get(each) for each in KEYS]
        assert world.chunks.pins == []
        for snapshot, keys in snapshots:
            start = keys[number % len(keys)] if keys else b""
            assert snapshot.keys_after(start, 3) == [each for each in keys if each >= start][:3]
    start = KEYS[2]
    assert list(world.index.items(start)) == sorted(item for item in model.items().items() if item[0] >= start)


def move_a_block(world: World, number: int) -> None:
    """As reclamation does, with a block of a live run, or one that only a snapshot holds."""
    frames = [(locator, frame) for locator, frame in world.chunks.frames.items()]
    if frames:
        old, frame = frames[number % len(frames)]
        copy = world.chunks.put(Kind.RUN, frame.key, frame.payload)
        was_live = world.index.is_live(frame, old)
        assert world.index.move(frame, old, copy.locator, PERSISTENT) == was_live
        assert world.index.is_live(frame, copy.locator) == was_live
        world.chunks.unpin(copy.locator)


def test_a_put_is_persistent_when_a_record_names_its_run_and_not_before() -> None:
    world = World()
    dependency = world.put(b"a")
    world.stack.drain()
    assert dependency.poll() == PENDING
    world.index.flush()
    assert dependency.poll() == PENDING
    world.stack.drain()
    assert dependency.poll() == PERSISTENT_STATE


def test_idx_1_no_record_names_a_value_or_a_block_that_is_not_persistent() -> None:
    for late_part in ("value", "block"):
        world = World()
        late = Promise(world.stack)
        if late_part == "block":
            world.chunks.dependency = late
        dependency = world.put(b"a", values=late if late_part == "value" else PERSISTENT)
        world.index.flush()
        before = len(world.stack.medium.trace)
        world.stack.drain()
        assert len(world.stack.medium.trace) == before
        late.bind(PERSISTENT)
        world.stack.drain()
        assert dependency.poll() == PERSISTENT_STATE


def test_idx_2_a_later_flush_is_not_recorded_before_an_earlier_one() -> None:
    world = World()
    late = Promise(world.stack)
    first = world.put(b"a", values=late)
    world.index.flush()
    second = world.put(b"b")
    world.index.flush()
    assert_both_wait(world, late, first, second)


def assert_both_wait(world: World, late: Promise, first: Dependency, second: Dependency) -> None:
    """Neither entry is persistent until ``late`` is."""
    world.stack.drain()
    assert (first.poll(), second.poll()) == (PENDING, PENDING)
    late.bind(PERSISTENT)
    world.stack.drain()
    assert (first.poll(), second.poll()) == (PERSISTENT_STATE, PERSISTENT_STATE)


def test_a_superseded_put_becomes_persistent_with_its_successor() -> None:
    world = World()
    late = Promise(world.stack)
    first = world.put(b"a", 1)
    second = world.put(b"a", 2, values=late)
    world.index.flush()
    assert_both_wait(world, late, first, second)


def test_idx_5_what_comes_while_a_memtable_is_written_goes_to_the_next_and_both_are_seen() -> None:
    world = World()
    world.put(b"a", 1)
    world.put(b"b", 1)
    seen: list[object] = []

    def another_thread() -> None:
        if not seen:
            world.put(b"b", 2)
            world.put(b"c", 2)
            seen.append(dict(world.index.items()))
            assert world.index.get(b"a") == (LOCATORS[1],)

    world.chunks.on_put = another_thread
    world.index.flush()
    expected = {b"a": (LOCATORS[1],), b"b": (LOCATORS[2],), b"c": (LOCATORS[2],)}
    assert seen == [expected]
    assert dict(world.index.items()) == expected
    world.reopen()
    assert dict(world.index.items()) == expected


@pytest.mark.parametrize("has_newer", [False, True])
def test_a_flush_without_space_leaves_every_entry_where_it_was(has_newer: bool) -> None:
    world = World()
    first = world.put(b"a", 1)
    world.put(b"b", 1)

    def full() -> None:
        if has_newer:
            world.put(b"b", 2)
        raise NoSpaceError("full")

    world.chunks.on_put = full
    with pytest.raises(NoSpaceError):
        world.index.flush()
    expected = {b"a": (LOCATORS[1],), b"b": (LOCATORS[2 if has_newer else 1],)}
    assert dict(world.index.items()) == expected
    assert world.chunks.pins == []
    world.chunks.on_put = lambda: None
    world.reopen()
    assert dict(world.index.items()) == expected
    assert first.poll() == PERSISTENT_STATE


def test_a_compaction_without_space_leaves_everything_as_it_was() -> None:
    world = World()
    for number in range(3):
        world.put(b"a", number)
        world.index.flush()

    def full() -> None:
        raise NoSpaceError("full")

    world.chunks.on_put = full
    for _ in range(2):
        with pytest.raises(NoSpaceError):
            world.index.compact()
    assert world.index.get(b"a") == (LOCATORS[2],)
    assert world.chunks.pins == []
    world.chunks.on_put = lambda: None
    assert world.index.compact()
    assert world.index.get(b"a") == (LOCATORS[2],)


def test_compaction_drops_deletions_at_the_bottom_only() -> None:
    world = World()
    for key in KEYS:
        world.put(key)
    world.index.flush()
    world.index.delete(b"a")
    world.index.flush()
    assert world.index.compact()
    world.index.delete(b"b")
    world.index.flush()
    world.index.delete(b"c")
    world.index.flush()
    assert world.index.compact()
    assert sorted(dict(world.index.items())) == [b"d", b"e", b"f"]
    world.reopen()
    assert sorted(dict(world.index.items())) == [b"d", b"e", b"f"]


def test_compaction_keeps_a_deletion_while_a_deeper_level_may_hold_what_it_hides() -> None:
    world = World(configuration=replace(CONFIGURATION, level0_runs_max=1, level1_entries_max=2))

    def flush_and_compact() -> None:
        world.put(b"x")
        world.index.flush()
        world.put(b"y")
        world.index.flush()
        assert world.index.compact()

    for key in KEYS:
        world.put(key)
    flush_and_compact()
    assert world.index.compact()  # level 1 is over its limit
    assert [len(level) for level in world.index._levels] == [0, 0, 1]
    world.index.delete(b"a")
    flush_and_compact()
    assert [len(level) for level in world.index._levels] == [0, 1, 1]
    assert world.index.get(b"a") is None
    assert sorted(dict(world.index.items())) == [*KEYS[1:], b"x", b"y"]


def test_gc_2_a_chunk_is_moved_only_if_it_is_still_named() -> None:
    world = World()
    world.index.put(b"a", (LOCATORS[0], LOCATORS[1]), PERSISTENT)
    frame = Frame(LOCATORS[1].uuid, Kind.VALUE, b"a", b"", 0)
    assert not world.index.move(frame, LOCATORS[2], LOCATORS[3], PERSISTENT)
    assert world.index.move(frame, LOCATORS[1], LOCATORS[3], PERSISTENT)
    assert world.index.get(b"a") == (LOCATORS[0], LOCATORS[3])
    assert not world.index.move(frame, LOCATORS[1], LOCATORS[4], PERSISTENT)
    world.index.delete(b"a")
    assert not world.index.move(frame, LOCATORS[3], LOCATORS[4], PERSISTENT)
    assert world.index.get(b"a") is None


def test_gc_2_a_chunk_is_not_moved_to_a_copy_that_failed() -> None:
    world = World()
    world.put(b"a")
    broken = Promise(world.stack)
    broken.fail()
    with pytest.raises(DiskError):  # not False: the extent must not be reset
        world.index.move(Frame(LOCATORS[0].uuid, Kind.VALUE, b"a", b"", 0), LOCATORS[0], LOCATORS[1], broken)
    assert world.index.get(b"a") == (LOCATORS[0],)


def test_gc_3_settled_is_persistent_only_when_all_that_was_accepted_is() -> None:
    world = World()
    assert world.index.settled().poll() == PERSISTENT_STATE
    world.put(b"a")
    entry = world.index.settled()
    world.stack.drain()
    assert entry.poll() == PENDING
    world.index.flush()
    edit = world.index.settled()
    assert (entry.poll(), edit.poll()) == (PENDING, PENDING)
    world.stack.drain()
    assert (entry.poll(), edit.poll()) == (PERSISTENT_STATE, PERSISTENT_STATE)


def test_gc_3_settled_covers_a_memtable_that_is_being_written() -> None:
    world = World()
    world.put(b"a")
    seen = []
    world.chunks.on_put = lambda: seen.append(world.index.settled())
    world.index.flush()
    assert seen[0].poll() == PENDING
    world.stack.drain()
    assert seen[0].poll() == PERSISTENT_STATE


def test_gc_4_what_is_named_in_an_extent_is_found_in_memtable_values_and_runs() -> None:
    world = World()
    world.put(b"a", 0)
    assert world.index.names_any_in(LOCATORS[0].extent)
    world.index.flush()
    assert world.index.names_any_in(LOCATORS[0].extent)
    assert world.index.names_any_in(0)  # where the model says that blocks are
    world.index.delete(b"a")
    assert not world.index.names_any_in(LOCATORS[0].extent)


def test_after_a_failed_edit_the_index_takes_no_changes_and_is_still_read() -> None:
    world = World()
    world.put(b"a", 1)
    broken = new_write()
    world.put(b"b", 1, values=broken)
    world.index.flush()
    broken.settle(FAILED)
    world.stack.drain()
    with pytest.raises(DiskError):
        world.put(b"c")
    with pytest.raises(DiskError):
        world.index.delete(b"a")
    assert not world.index.compact()
    assert sorted(dict(world.index.items())) == [b"a", b"b"]


def test_a_live_block_that_is_gone_is_corruption_with_its_place() -> None:
    world = World()
    world.put(b"a")
    world.index.flush()
    (locator,) = world.chunks.frames
    del world.model._payloads[locator]
    for read in (lambda: world.index.get(b"a"), lambda: list(world.index.items()), world.index.compact):
        if read == world.index.compact:
            world.put(b"b")
            world.index.flush()
        with pytest.raises(CorruptionError) as caught:
            read()
        assert (caught.value.extent, caught.value.offset_bytes) == locator[:2]


@pytest.mark.parametrize("count", [0, LOCATORS_MAX + 1])
def test_an_entry_holds_a_limited_number_of_locators(count: int) -> None:
    with pytest.raises(TooLargeError):
        World().index.put(b"a", tuple(LOCATORS[:1] * count), PERSISTENT)
