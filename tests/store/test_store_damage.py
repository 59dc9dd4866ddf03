"""Damaged disks: whatever was flipped, lost or swapped, the store gives back what was put or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_store import medium_of, new_store
from worlds import EXTENT_PAGES, FIRST, MANUAL, PAGE, Medium, PlainSeam, random_choices, reopened, with_contents

from shardstore.errors import ConfigurationError, CorruptionError, FormatVersionError, NotFoundError
from shardstore.store import Store, open_store

FLIPS_COUNT = 700
CONFIGURATION = replace(MANUAL, run_block_size_bytes=300)


def filled_store(*, zoned: bool) -> tuple[Store, dict[bytes, bytes]]:
    """Values, overwrites, deletions, several runs on two levels, an extent reclaimed; all of it persistent."""
    store, expected = new_store(zoned=zoned, configuration=CONFIGURATION), {}
    for number in range(26):
        key, value = b"%02d" % (number % 17), bytes([65 + number]) * (number * 11 % 260)
        store.put(key, value)
        expected[key] = value
        if number % 6 == 5:
            store.flush()
        if number == 14:
            store.compact()
        if number == 20:
            store.reclaim()
    store.delete(b"03")
    del expected[b"03"]
    store.shutdown()
    return store, expected


def check(medium: Medium, expected: dict[bytes, bytes]) -> str:
    """Open and read everything. Answers what came of it: "right", or the name of a typed error."""
    try:
        store = open_store(medium, PlainSeam(), CONFIGURATION)
    except (CorruptionError, FormatVersionError) as error:
        return place_of(error)
    outcome = "right"
    for key, value in {**expected, b"03": b"", b"other": b""}.items():
        try:
            found = store.get(key)
        except CorruptionError as error:
            outcome = place_of(error)
        except NotFoundError:
            assert key not in expected
        else:
            assert found == value
            assert key in expected
    try:  # may meet damage in a run that no look-up above had to read
        assert dict(store.contents()) == expected
    except CorruptionError as error:
        return place_of(error)
    return outcome


def place_of(error: CorruptionError | FormatVersionError) -> str:
    """The error's name, once it was seen to say where."""
    if isinstance(error, CorruptionError):
        assert 0 <= error.extent < 20
        assert 0 <= error.offset_bytes <= EXTENT_PAGES * PAGE
        assert f"extent {error.extent}, offset {error.offset_bytes}" in str(error)
    return type(error).__name__


def flips(extents: list[bytes]) -> Iterator[tuple[int, int, int]]:
    """Places spread evenly over all that is not empty, and of each a different bit."""
    places = [
        (number, offset) for number, data in enumerate(extents) for offset in range(len(data)) if any(data[offset:])
    ]
    stride = max(1, len(places) // FLIPS_COUNT) | 1
    for serial, (number, offset) in enumerate(places[::stride]):
        yield number, offset, serial % 8


def test_no_flipped_bit_gives_wrong_data(zoned: bool) -> None:
    store, expected = filled_store(zoned=zoned)
    whole = list(reopened(medium_of(store))._extents)
    outcomes: dict[str, int] = {}
    for number, offset, bit in flips(whole):
        data = bytearray(whole[number])
        data[offset] ^= 1 << bit
        extents = [*whole[:number], bytes(data), *whole[number + 1 :]]
        outcome = check(with_contents(medium_of(store).shape, extents), expected)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert outcome == "right" or number >= FIRST, "every record has a second copy"
    assert outcomes["right"] > 100
    assert outcomes["CorruptionError"] > 100


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xc5\x5c"])
def test_no_lost_page_of_chunks_gives_wrong_data(zoned: bool, filler: bytes) -> None:
    store, expected = filled_store(zoned=zoned)
    whole = list(reopened(medium_of(store))._extents)
    outcomes = set()
    for number in range(FIRST, 20):
        for page in range(len(whole[number].rstrip(b"\0")) // PAGE + 1):
            if (page + 1) * PAGE > len(whole[number]):
                continue
            lost = (filler * PAGE)[:PAGE]
            data = whole[number][: page * PAGE] + lost + whole[number][(page + 1) * PAGE :]
            extents = [*whole[:number], data, *whole[number + 1 :]]
            outcomes.add(check(with_contents(medium_of(store).shape, extents), expected))
    assert "CorruptionError" in outcomes


def test_no_two_extents_exchanged_give_wrong_data(zoned: bool) -> None:
    store, expected = filled_store(zoned=zoned)
    whole = list(reopened(medium_of(store))._extents)
    used = [number for number in range(FIRST, 20) if any(whole[number])]
    assert len(used) >= 3
    for first in used:
        for second in used:
            if first < second:
                extents = list(whole)
                extents[first], extents[second] = whole[second], whole[first]
                assert check(with_contents(medium_of(store).shape, extents), expected) != "right"


def test_a_zoned_extent_that_lost_its_end_is_corruption() -> None:
    store, _ = filled_store(zoned=True)
    whole = list(reopened(medium_of(store))._extents)
    for number in range(FIRST, 20):
        if whole[number]:
            extents = [*whole[:number], whole[number][:-PAGE], *whole[number + 1 :]]
            with pytest.raises(CorruptionError) as caught:
                open_store(with_contents(medium_of(store).shape, extents), PlainSeam(), CONFIGURATION)
            assert caught.value.extent == number


@pytest.mark.parametrize("extents", [(0, 1), (2, 3), (0, 1, 2, 3)])
def test_a_disk_whose_log_is_gone_is_damaged_not_fresh(zoned: bool, extents: tuple[int, ...]) -> None:
    store, _ = filled_store(zoned=zoned)
    whole = list(reopened(medium_of(store))._extents)
    for number in extents:
        whole[number] = b"" if zoned else bytes(len(whole[number]))
    with pytest.raises(CorruptionError):
        open_store(with_contents(medium_of(store).shape, whole), PlainSeam(), CONFIGURATION)


def test_noise_is_refused(zoned: bool) -> None:
    choose = random_choices(1)
    shape = new_store(zoned=zoned).disk.shape  # type: ignore[attr-defined]
    for size in (PAGE, EXTENT_PAGES * PAGE):
        noise = [bytes(choose(256) for _ in range(size)) for _ in range(20)]
        extents = noise if zoned else [data + bytes(EXTENT_PAGES * PAGE - size) for data in noise]
        with pytest.raises((CorruptionError, ConfigurationError, FormatVersionError)):
            open_store(with_contents(shape, extents), PlainSeam(), CONFIGURATION)


def damaged_block(*, zoned: bool) -> tuple[Store, dict[bytes, bytes], int]:
    """A store with one damaged block of a run, and the number of the block. All is persistent."""
    store, expected = filled_store(zoned=zoned)
    medium = reopened(medium_of(store))
    store = open_store(medium, PlainSeam(), CONFIGURATION)
    run = max((run for level in store.index._levels for run in level), key=lambda run: len(run.locators))
    number = len(run.locators) // 2
    locator = run.locators[number]
    data = bytearray(medium._extents[locator.extent])
    data[locator.offset_bytes + locator.length_bytes // 2] ^= 1
    medium._extents[locator.extent] = bytes(data)
    return store, expected, number


def test_damage_1_a_damaged_block_is_dropped_on_request_and_its_range_told(zoned: bool) -> None:
    store, expected, _ = damaged_block(zoned=zoned)
    with pytest.raises(CorruptionError):
        dict(store.contents())
    with pytest.raises(CorruptionError):
        store.compact()
    (lost,) = store.drop_damaged()
    assert store.drop_damaged() == []
    found = dict(store.contents())
    outside = {key: value for key, value in expected.items() if key < lost.first or (lost.end and key >= lost.end)}
    assert set(outside) < set(expected)
    assert {key: value for key, value in found.items() if key in outside} == outside
    store.put(lost.first, b"again")
    for _ in range(3):
        store.flush()
        store.compact()
        store.reclaim()
    store.shutdown()
    again = open_store(reopened(medium_of(store)), PlainSeam(), CONFIGURATION)
    found = dict(again.contents())
    assert found[lost.first] == b"again"
    assert {key: value for key, value in found.items() if key in outside and key != lost.first} == {
        key: value for key, value in outside.items() if key != lost.first
    }


def test_damage_2_upkeep_that_fails_is_told_until_it_has_been_done(zoned: bool) -> None:
    store, _, _ = damaged_block(zoned=zoned)
    store.shutdown()
    automatic = replace(CONFIGURATION, automatic=True, memtable_entries_max=2, level0_runs_max=1)
    store = open_store(reopened(medium_of(store)), PlainSeam(), automatic)
    assert store.health() == ()
    for number in range(9):
        store.put(b"new%d" % number, b"v")
    (trouble,) = [each for each in store.health() if each.work == "compaction"]
    assert isinstance(trouble.error, CorruptionError)
    assert "level 0" in trouble.stops
    assert 0 < trouble.since_change < 9
    store.drop_damaged()
    for number in range(9):
        store.put(b"new%d" % number, b"v")
    assert store.health() == ()
