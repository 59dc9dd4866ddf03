"""The scrub: what it tells, what it does not, and what may happen between its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import pytest
from test_store import drain, medium_of, new_store
from worlds import MANUAL, PAGE, Event, PlainSeam, new_medium, reopened

from shardstore.errors import CorruptionError, InterruptedStoreError, OutOfServiceError
from shardstore.node import format_node
from shardstore.scrub import Damage, Part, Scrub, Verification
from shardstore.store import Store, open_store
from shardstore.twin_log import Copies
from shardstore.units import KeyRange, Locator

CONFIGURATION = replace(MANUAL, run_block_size_bytes=100, cache_size_pages=64)
KEYS = [b"%02d" % number for number in range(12)]


def filled(*, zoned: bool = True) -> Store:
    """Values of one and of two chunks on two levels, runs of several blocks, logs that have turned."""
    store = new_store(zoned=zoned, configuration=CONFIGURATION, extent_count=40, extent_size_pages=32)
    for number, key in enumerate(KEYS):
        store.put(key, key * (number * 11 + 1))
        if number % 4 == 3:
            store.flush()
        if number == 7:
            store.compact()
        store.sync()
    return store


def rest_of(verification: Verification) -> list[Damage]:
    return [damage for found in verification for damage in found]


def damage_of(store: Store) -> list[Damage]:
    return rest_of(store.verify())


def flip(store: Store, extent: int, offset_bytes: int) -> None:
    medium = medium_of(store)
    data = bytearray(medium._extents[extent])
    data[offset_bytes] ^= 1
    medium._extents[extent] = bytes(data)


def flip_chunk(store: Store, locator: Locator) -> None:
    flip(store, locator.extent, locator.offset_bytes + locator.length_bytes // 2)


def locators_of(store: Store, key: bytes) -> tuple[Locator, ...]:
    with store.monitor:
        return store.index.get(key) or ()


# --- what is told ---------------------------------------------------------------------------------------


def test_a_healthy_store_is_read_as_a_whole_and_nothing_is_told(zoned: bool) -> None:
    store = filled(zoned=zoned)
    verification = store.verify()
    assert rest_of(verification) == []
    tally = verification.tally
    assert tally.keys_count == len(KEYS)
    assert tally.value_chunks_count == sum(len(locators_of(store, key)) for key in KEYS) > len(KEYS)
    assert tally.run_blocks_count == sum(len(run.locators) for run in store.index.runs()) > 3
    assert tally.log_copies_count >= 4
    assert tally.size_bytes > sum(len(value) for _, value in store.contents())


def test_scrub_1_damage_to_a_value_is_told_though_its_pages_are_cached(zoned: bool) -> None:
    store = filled(zoned=zoned)
    first, second = locators_of(store, KEYS[10])
    assert store.get(KEYS[10])
    flip_chunk(store, second)
    assert store.get(KEYS[10])  # from the cache
    assert [damage[:5] for damage in damage_of(store)] == [
        (Part.VALUE_CHUNK, second.extent, second.offset_bytes, KeyRange(KEYS[10], KEYS[10] + b"\0"), False)
    ]
    flip_chunk(store, first)
    assert [damage.offset_bytes for damage in damage_of(store)] == [first.offset_bytes, second.offset_bytes]


def test_scrub_1_a_damaged_block_is_told_with_its_keys_and_the_others_are_read(zoned: bool) -> None:
    store = filled(zoned=zoned)
    newest, *_, oldest = store.index.runs()
    number = len(oldest.locators) // 2
    flip_chunk(store, oldest.locators[number])
    within = oldest.first_keys[number]
    newer, beside = locators_of(store, newest.first_keys[0]), locators_of(store, KEYS[0])
    flip_chunk(store, newer[0])
    flip_chunk(store, beside[0])
    told = {(damage.part, damage.keys.first): damage for damage in damage_of(store)}
    assert told.keys() == {
        (Part.RUN_BLOCK, within),
        (Part.VALUE_CHUNK, newest.first_keys[0]),
        (Part.VALUE_CHUNK, KEYS[0]),
    }
    assert told[Part.RUN_BLOCK, within].keys == oldest.keys_of(number)
    assert store.drop_damaged() == [oldest.keys_of(number)]
    store.sync()
    assert {damage.part for damage in damage_of(store)} == {Part.VALUE_CHUNK}


@pytest.mark.parametrize("copy", [0, 1])
def test_scrub_1_each_copy_of_each_record_is_read(zoned: bool, copy: int) -> None:
    store = filled(zoned=zoned)
    store.put(b"x", b"")
    store.sync()  # so that the chain of the metadata has a delta
    for part, log in (
        (Part.SUPERBLOCK_RECORD, store.superblock.log),
        (Part.METADATA_RECORD, store.metadata.log),
    ):
        records: list[Copies] = []
        while (record := log.live_copies(records[-1].generation + 1 if records else 0)) is not None:
            records.append(record)
        assert part != Part.METADATA_RECORD or len(records) > 1
        for record in records:
            offset_bytes = (record.page + copy * record.page_count) * PAGE
            flip(store, record.extent, offset_bytes + 20)
            (damage,) = damage_of(store)
            assert damage[:5] == (part, record.extent, offset_bytes, KeyRange(b"", None), False)
            flip(store, record.extent, offset_bytes + 20)


def test_scrub_1_an_older_record_in_the_place_of_a_newer_one_is_told(zoned: bool) -> None:
    store = filled(zoned=zoned)
    for _ in range(3):
        store.put(b"x", b"")
        store.sync()
    log, records = store.metadata.log, list[Copies]()
    while (record := log.live_copies(records[-1].generation + 1 if records else 0)) is not None:
        records.append(record)
    older, newer = records[-2:]
    assert older.page_count == newer.page_count
    data = medium_of(store)._extents[newer.extent]
    start, size = newer.page * PAGE, newer.page_count * PAGE
    lost = data[older.page * PAGE : older.page * PAGE + size]
    medium_of(store)._extents[newer.extent] = data[:start] + lost + data[start + size :]
    assert [damage.offset_bytes for damage in damage_of(store)] == [start]


def test_a_copy_that_recovery_did_without_is_told_until_the_log_has_turned(zoned: bool) -> None:
    store = filled(zoned=zoned)
    record = store.metadata.log.live_copies(0)
    assert record is not None
    flip(store, record.extent, 20)
    again = open_store(reopened(medium_of(store)), PlainSeam(), CONFIGURATION)
    assert [damage.part for damage in damage_of(again)] == [Part.METADATA_RECORD]
    drain(again)
    assert damage_of(again) == []


def test_what_cannot_be_read_is_told_as_that(zoned: bool) -> None:
    store = filled(zoned=zoned)
    (locator,) = locators_of(store, KEYS[0])

    def fails(event: Event) -> bool:
        page = locator.offset_bytes // PAGE
        return (
            event.kind == "read"
            and event.extent == locator.extent
            and event.page <= page < event.page + event.page_count
        )

    medium_of(store).fails = fails
    found = damage_of(store)
    assert KEYS[0] in {damage.keys.first for damage in found}
    assert all(damage.is_unreadable for damage in found)


def test_a_device_that_has_lost_pages_is_told() -> None:
    store = filled(zoned=True)
    (locator,) = locators_of(store, KEYS[0])
    medium = medium_of(store)
    medium._extents[locator.extent] = medium._extents[locator.extent][:-PAGE]
    damage = next(damage for damage in damage_of(store) if damage.part is Part.SOFT_POINTER)
    assert (damage.extent, damage.offset_bytes) == (locator.extent, len(medium._extents[locator.extent]))


def test_damage_that_recovery_meets_is_told_by_the_same_place(zoned: bool) -> None:
    store = filled(zoned=zoned)
    (locator,) = locators_of(store, KEYS[1])
    flip_chunk(store, locator)
    again = open_store(reopened(medium_of(store)), PlainSeam(), CONFIGURATION)
    with pytest.raises(CorruptionError) as caught:
        again.get(KEYS[1])
    (damage,) = damage_of(again)
    assert (damage.extent, damage.offset_bytes) == (caught.value.extent, caught.value.offset_bytes)


# --- what is not ----------------------------------------------------------------------------------------


def test_scrub_2_what_is_still_to_be_written_is_no_damage(zoned: bool) -> None:
    store = new_store(zoned=zoned, configuration=CONFIGURATION, extent_count=40, extent_size_pages=32)
    turns_count = 0
    for number, key in enumerate(KEYS * 2):
        store.put(key, key * (number * 5 + 1))
        if number % 3 == 2:
            store.flush()
        while True:
            turns_count += store.metadata.log._left is not None
            verification = store.verify()
            assert rest_of(verification) == []
            assert verification.tally.keys_count == min(number + 1, len(KEYS))
            if not store.write_back(1):
                break
    assert turns_count > 1


@pytest.mark.parametrize("kind", ["write", "barrier"])
def test_scrub_2_a_record_that_the_device_refused_is_no_damage(zoned: bool, kind: str) -> None:
    store = filled(zoned=zoned)
    medium = medium_of(store)
    medium.fails = lambda event: event.kind == kind and event.extent in (-1, 0, 1)
    store.put(b"x", b"y" * 100)
    store.flush()
    drain(store)
    medium.fails = lambda event: False
    parts = {damage.part for damage in damage_of(store)}
    assert not parts & {Part.SUPERBLOCK_RECORD, Part.METADATA_RECORD}


@pytest.mark.parametrize("copy", [0, 1])
def test_scrub_2_a_copy_that_a_crash_has_torn_is_no_damage(zoned: bool, copy: int) -> None:
    store = filled(zoned=zoned)
    store.put(b"x", b"")
    store.sync()
    log, generation = store.metadata.log, 0
    while (record := log.live_copies(generation)) is not None:
        newest, generation = record, record.generation + 1
    medium = medium_of(store)
    start, size = (newest.page + copy * newest.page_count) * PAGE, newest.page_count * PAGE
    data = medium._extents[newest.extent]
    if zoned:
        medium._extents[newest.extent] = data[: (newest.page + newest.page_count) * PAGE]  # of a prefix
    else:
        medium._extents[newest.extent] = data[:start] + bytes(size) + data[start + size :]
    again = open_store(reopened(medium), PlainSeam(), CONFIGURATION)
    assert again.get(b"x") == b""
    assert damage_of(again) == []
    flip(again, newest.extent, (newest.page + (0 if zoned else 1 - copy) * newest.page_count) * PAGE + 20)
    assert len(damage_of(again)) == (1 if zoned else 2)  # then the other copy is told


def test_scrub_2_whatever_moves_between_the_steps_is_no_damage(zoned: bool) -> None:
    store = filled(zoned=zoned)
    changes: list[Callable[[], object]] = [
        store.reclaim,
        lambda: store.put(KEYS[3], b"other"),
        store.flush,
        store.compact,
        lambda: store.delete(KEYS[5]),
        store.sync,
    ]
    moved_before = store.reclamation.moved_count
    for first in range(len(changes)):
        turn = cycle(changes[first:] + changes[:first])
        for found in store.verify():
            assert found == []
            next(turn)()
    assert store.reclamation.moved_count > moved_before + 20


def test_scrub_1_what_stays_is_read_whatever_else_moves(zoned: bool) -> None:
    store = filled(zoned=zoned)
    for key in KEYS:
        locators = locators_of(store, key)
        flip_chunk(store, locators[0])
        told = []
        for number, found in enumerate(store.verify()):
            told += found
            if number % 3 == 0:
                store.put(KEYS[0] if key != KEYS[0] else KEYS[1], b"other")
                store.flush()
                store.sync()
                store.compact()
        assert [damage.keys.first for damage in told] == [key]
        flip_chunk(store, locators[0])


def test_scrub_2_an_older_value_behind_a_damaged_block_is_not_taken_for_the_newest(zoned: bool) -> None:
    store = filled(zoned=zoned)
    (old,) = locators_of(store, KEYS[9])
    store.put(KEYS[9], b"newer")
    store.flush()
    store.sync()
    while store.extents.soft_pages(old.extent):
        assert store.reclaim() is not None
        store.sync()
    newest, *older = [run for run in store.index.runs() if store.index._reader.find(run, KEYS[9])]
    assert older
    flip_chunk(store, newest.locators[newest.number_of(KEYS[9])])
    assert {damage.part for damage in damage_of(store)} == {Part.RUN_BLOCK}


# --- how it is used -------------------------------------------------------------------------------------


def test_a_scrub_keeps_a_block_of_each_run_in_memory_and_no_more() -> None:
    store = filled()
    with store.monitor:
        scrub = Scrub(store.superblock.log, store.metadata.log, store.extents, store.chunks, store.index)
        blocks_count = 0
        while scrub.step() is not None:
            assert len(scrub._blocks) <= len(store.index.runs())
            blocks_count = max(blocks_count, len(scrub._blocks))
    assert blocks_count > 1


def test_a_scrub_ends_though_a_record_is_written_between_any_two_steps(zoned: bool) -> None:
    store = filled(zoned=zoned)
    for number, _ in enumerate(store.verify()):
        assert number < 200
        store.put(KEYS[0], b"%d" % number)
        store.sync()


def test_a_scrub_of_a_store_that_is_shut_down_ends_with_an_error() -> None:
    store = filled()
    verification = store.verify()
    next(verification)
    store.shutdown()
    with pytest.raises(OutOfServiceError):
        next(verification)
    with pytest.raises(OutOfServiceError):
        store.verify()


def test_a_scrub_that_was_interrupted_does_not_claim_to_be_at_its_end() -> None:
    store = filled()
    verification = store.verify()

    def interrupt(event: Event) -> bool:
        raise KeyboardInterrupt

    medium_of(store).fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        next(verification)
    medium_of(store).fails = lambda event: False
    with pytest.raises(InterruptedStoreError):
        next(verification)
    assert damage_of(store) == []
    store.put(b"x", b"y")  # a read that was cut short breaks nothing


def test_a_node_verifies_the_disks_in_service() -> None:
    media = [new_medium(zoned=number % 2 == 0) for number in range(3)]
    node = format_node(media, PlainSeam(), CONFIGURATION)
    for key in KEYS:
        node.put(key, key * 9)
    node.sync()
    node.remove_disk(1)
    verifications = node.verify()
    assert verifications.keys() == {0, 2}
    assert all(rest_of(each) == [] for each in verifications.values())
    assert [each.tally.keys_count for each in verifications.values()] == [
        sum(node.disk_of(key) == disk for key in KEYS) for disk in (0, 2)
    ]


def test_scrub_1_the_chain_that_a_log_leaves_is_read_until_the_new_one_is_persistent(zoned: bool) -> None:
    store = filled(zoned=zoned)
    drain(store)
    log, number = store.metadata.log, 0
    while log._left is None or not store.scheduler.has_requests():
        store.put(b"x", b"%d" % number)
        store.flush()
        while store.write_back(1) and log._left is None:
            pass
        number += 1
    record = log.live_copies(0)
    assert record is not None
    assert record.extent == log._left.extent
    assert damage_of(store) == []
    flip(store, record.extent, 20)
    assert [damage.extent for damage in damage_of(store)] == [record.extent]
    drain(store)
    assert damage_of(store) == []
