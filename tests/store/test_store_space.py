"""A full disk refuses cleanly and recovers; and a store that runs for long does not grow."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace

import pytest
from test_store import again, drain, medium_of, new_store
from worlds import FIRST, SMALL, Event, random_choices

from shardstore import chunk_frame
from shardstore.dependency import Join, Promise, Write
from shardstore.errors import NoSpaceError
from shardstore.index import run_block
from shardstore.index.metadata_log import _Waiting
from shardstore.index.run import in_blocks
from shardstore.index.run_bounds import run_bound
from shardstore.space import Need
from shardstore.store import Store
from shardstore.superblock import _Change
from shardstore.units import Locator

LOCATOR = Locator(4, 0, 60, bytes(16))
ROOMY = replace(SMALL, run_block_size_bytes=500, memtable_entries_max=12)


def fill(store: Store, size: int) -> dict[bytes, bytes]:
    expected: dict[bytes, bytes] = {}
    while True:
        key, value = b"k%04d" % len(expected), bytes([len(expected) % 256]) * size
        try:
            store.put(key, value)
        except NoSpaceError:
            return expected
        expected[key] = value


# What fills first. Large values fill the chunk extents; small ones the space for runs, or the metadata's extents.
BY_VALUES, BY_RUNS, BY_METADATA = (20, 1_500), (20, 200), (40, 100)
full_disks = pytest.mark.parametrize(
    ("extent_count", "size"), [BY_VALUES, BY_RUNS, BY_METADATA], ids=["by values", "by runs", "by metadata"]
)


def full_store(extent_count: int, size: int, *, zoned: bool) -> tuple[Store, dict[bytes, bytes]]:
    store = new_store(zoned=zoned, configuration=ROOMY, extent_count=extent_count, extent_size_pages=64)
    return store, fill(store, size)


@full_disks
def test_a_refused_put_has_changed_nothing(extent_count: int, size: int, zoned: bool) -> None:
    store, expected = full_store(extent_count, size, zoned=zoned)
    assert dict(store.contents()) == expected
    for key in (b"new", next(iter(expected))):
        for _ in range(3):
            with pytest.raises(NoSpaceError):
                store.put(key, b"x" * size)
        with pytest.raises(NoSpaceError):
            store.bulk_put([(key, b"x" * size), (b"other", b"x" * size)])
    assert dict(store.contents()) == expected


def test_a_full_disk_is_read_and_opened_again(zoned: bool) -> None:
    store, expected = full_store(*BY_VALUES, zoned=zoned)
    store.shutdown()
    store = again(store, ROOMY)
    assert dict(store.contents()) == expected


@full_disks
def test_on_a_full_disk_everything_can_be_deleted_and_then_put_again(extent_count: int, size: int, zoned: bool) -> None:
    store, expected = full_store(extent_count, size, zoned=zoned)
    for key in expected:
        store.delete(key)
    assert dict(store.contents()) == {}
    for number in range(len(expected) // 2):
        store.put(b"n%04d" % number, b"y" * size)
    store.sync()
    assert len(dict(again(store, ROOMY).contents())) == len(expected) // 2


def test_a_full_disk_serves_put_and_delete_in_turn_for_ever(zoned: bool) -> None:
    store, expected = full_store(*BY_VALUES, zoned=zoned)
    for number in range(30):
        for key in list(expected)[:8]:
            store.delete(key)
        for key in list(expected)[:4]:
            store.put(key, bytes([number]) * BY_VALUES[1])
    store.sync()


@pytest.mark.parametrize("keys_count", [5, 7])
def test_overwriting_for_ever_needs_no_more_space_than_the_data(zoned: bool, keys_count: int) -> None:
    store = new_store(zoned=zoned, configuration=SMALL)
    expected = {}
    for number in range(1_000):
        key, value = b"%d" % (number % keys_count), bytes([number % 256]) * 150
        store.put(key, value)
        expected[key] = value
    assert dict(store.contents()) == expected


def test_a_reset_that_the_device_refuses_costs_one_extent_and_no_more() -> None:
    store = new_store(configuration=SMALL)
    refused: list[int] = []

    def fails_once(event: Event) -> bool:
        if event.kind == "reset" and event.extent >= FIRST and not refused:
            refused.append(event.extent)
            return True
        return False

    medium_of(store).fails = fails_once
    for number in range(600):
        store.put(b"%d" % (number % 7), bytes([number % 256]) * 150)
    assert refused


def test_space_3_what_is_reserved_is_held_until_it_is_given_back() -> None:
    """Each of several puts may wait for a buffer once it was promised room; together they must leave the reserve."""
    store = new_store(zoned=False, configuration=ROOMY)
    size_bytes = store.extents.extent_size_bytes // 2 + 1  # so that no two share an extent
    needs = [Need([size_bytes], 0, 0, 0) for _ in range(store.disk.extent_count)]
    with store.monitor:
        room_count = store.extents.free_count() - store.space._kept_count(store.index.outlook())
        for need in needs[:room_count]:
            store.space.reserve(need)
        with pytest.raises(NoSpaceError):
            store.space.reserve(needs[room_count])
        for need in needs[:room_count]:
            store.space.give_back(need)
        store.space.changed()
        store.space.reserve(needs[0])


def test_a_deletion_that_comes_during_a_search_for_space_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    store, expected = full_store(*BY_VALUES, zoned=False)
    searches: list[Need] = []

    def find(need: Need) -> bool:
        """Find nothing; the first time, another thread deletes something meanwhile."""
        searches.append(need)
        if len(searches) == 1:
            store.space.changed()
        return False

    store.space.changed()
    monkeypatch.setattr(store.space, "_find", find)
    for searches_count in (1, 2, 2):
        with pytest.raises(NoSpaceError):
            store.put(next(iter(expected)), b"x" * BY_VALUES[1])
        assert len(searches) == searches_count


def test_space_1_a_run_is_within_its_bounds() -> None:
    """Entries of random sizes, in blocks as the index makes them, each padded, on one extent after another."""
    choose = random_choices(5)
    for _ in range(300):
        page_size, pages = 1 << choose(8), 1 + choose(64)
        configuration = replace(ROOMY, run_block_size_bytes=1 + choose(600))
        items = [
            (bytes([choose(256)]) * (1 + choose(1 + choose(90))), (LOCATOR,) * (1 + choose(3)) if choose(3) else None)
            for _ in range(choose(60))
        ]
        sizes = [run_block.entry_size_bytes(*item) for item in items]
        bound = run_bound(len(items), sum(sizes), max(sizes, default=0), configuration.run_block_size_bytes)
        frames = [
            chunk_frame.frame_size_bytes(bytes(12), run_block.block_size_bytes(block))
            for block in in_blocks(items, configuration.run_block_size_bytes)
        ]
        assert len(frames) <= bound.blocks_count
        assert sum(frames) <= bound.frames_size_bytes
        assert max(frames, default=0) <= bound.frame_size_max_bytes
        if max(frames, default=0) <= page_size * pages:
            extents_count = room = 0
            for frame in frames:
                padded = -(-frame // page_size) * page_size
                if padded > room:
                    extents_count, room = extents_count + 1, page_size * pages
                room -= padded
            assert extents_count <= bound.extents_count(page_size * pages, page_size)


def sizes(store: Store) -> Counter[str]:
    """Objects of the classes that make up the graph of dependencies, and entries in the tables that hold them."""
    gc.collect()
    counted = (Write, Promise, Join, _Change, _Waiting)
    found = Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, counted))
    for layer in (store.scheduler, store.superblock, store.metadata, store.extents, store.chunks, store.index):
        for name, value in vars(layer).items():
            if isinstance(value, dict | list | set):
                found[f"{type(layer).__name__}.{name}"] = len(value)
    return found


def test_a_store_that_runs_for_long_does_not_grow(zoned: bool) -> None:
    """DEP-1's other half: what has become persistent is forgotten."""
    store = new_store(zoned=zoned, configuration=SMALL)
    counts = []
    for number in range(3_000):
        store.put(b"%d" % (number % 7), bytes([number % 256]) * (number % 150))
        if number % 100 == 99:
            store.delete(b"%d" % (number % 7))
            store.sync()
            store.compact()
            drain(store)
            counts.append(sizes(store))
    early, late = counts[len(counts) // 3], counts[-1]
    for name in late:
        assert late[name] <= early[name] + 20, name
