"""A full disk refuses cleanly and recovers; and a store that runs for long does not grow."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace

import pytest
from test_store import again, drain, medium_of, new_store
from worlds import FIRST, SMALL, Event

from shardstore.dependency import Join, Promise, Write
from shardstore.errors import NoSpaceError
from shardstore.index.metadata_log import _Waiting
from shardstore.store import Store
from shardstore.superblock import _Change

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
wedges = pytest.mark.xfail(strict=True, raises=NoSpaceError, reason="once the reserve is spent nothing can be flushed")


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


@pytest.mark.parametrize(
    ("extent_count", "size"),
    [
        pytest.param(*BY_VALUES, id="by values"),
        pytest.param(*BY_RUNS, id="by runs"),
        pytest.param(*BY_METADATA, id="by metadata", marks=wedges),
    ],
)
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
