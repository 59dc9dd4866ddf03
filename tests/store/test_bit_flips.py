"""Every single flipped bit of a small disk: the newest persistent value or the typed error, and `verify` finds it.

The disk has overwrites, deletions, two levels of the index and an extent that was reclaimed. It is opened after each
flip, and every key is read. What the byte is for says what must come of it:

    a copy of a log record   nothing is lost; `verify` tells the copy, but on a file not of a record that was the
                             newest at opening: a crash may have torn it. A full record is due, which takes its place
    a run block              keys in its range may answer `CorruptionError`; `verify` tells the block and the range
    a value's chunk          its key answers `CorruptionError`; `verify` tells the chunk
    padding, what is dead    nothing is lost, nothing is told
    in doubt, on a file      taken for a tear: the state before the newest record, without an error

The last is the one exception (``docs/PROTOCOLS.md``, section 13). No flip keeps the disk from opening.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import pytest
from image_map import Byte, ImageMap, Role
from worlds import MANUAL, Medium, PlainSeam, with_contents

from harness.spec.device import MediumShape
from harness.world.devices import FILE, ZONED
from shardstore.errors import CorruptionError, NotFoundError
from shardstore.scrub import Damage, Part
from shardstore.store import Store, format_store, open_store

PAGE = 64
IN_USE_MAX_BYTES = 8 * 1024
CONFIGURATION = replace(
    MANUAL,
    key_size_max_bytes=3,
    chunk_payload_max_bytes=40,
    write_buffer_size_bytes=150,
    memtable_entries_max=4,
    run_block_size_bytes=80,
    cache_size_pages=2,
    reserve_extents_count=2,
)
Contents = dict[bytes, bytes]
PARTS = {
    Role.SUPERBLOCK_1: Part.SUPERBLOCK_RECORD,
    Role.SUPERBLOCK_2: Part.SUPERBLOCK_RECORD,
    Role.METADATA_1: Part.METADATA_RECORD,
    Role.METADATA_2: Part.METADATA_RECORD,
    Role.RUN_HEADER: Part.RUN_BLOCK,
    Role.RUN_PAYLOAD: Part.RUN_BLOCK,
    Role.RUN_TRAILER: Part.RUN_BLOCK,
    Role.VALUE_HEADER: Part.VALUE_CHUNK,
    Role.VALUE_PAYLOAD: Part.VALUE_CHUNK,
    Role.VALUE_TRAILER: Part.VALUE_CHUNK,
}
LOG_PARTS = (Part.SUPERBLOCK_RECORD, Part.METADATA_RECORD)


class Image(NamedTuple):
    medium: Medium
    contents: Contents
    before_newest: Contents  # without the newest group of changes


def image(*, zoned: bool, clean: bool) -> Image:
    """A disk as a shutdown, or a crash that took nothing, has left it. All changes were persistent."""
    medium = Medium(MediumShape(13, 16, PAGE, ZONED if zoned else FILE, sector_size_bytes=PAGE))
    store = format_store(medium, PlainSeam(serials=count(1)), CONFIGURATION)
    contents: Contents = {}

    def put(key: bytes, value: bytes) -> None:
        store.put(key, value)
        contents[key] = value

    for number in range(8):
        put(b"%d" % (number % 5), bytes([65 + number]) * (number * 7 % 50 + 1))
        if number % 4 == 3:
            store.flush()
    store.compact()
    store.sync()
    assert store.reclaim() is not None
    store.sync()
    store.delete(b"3")
    del contents[b"3"]
    put(b"1", b"new")
    store.sync()
    put(b"0", b"newer")
    store.sync()
    before = dict(contents)
    put(b"8", b"y" * 45)
    put(b"2", b"z")
    if clean:
        store.shutdown()
    else:
        store.sync()
    return Image(medium, contents, before)


def whole_map(whole: Image) -> ImageMap:
    found = ImageMap(whole.medium.contents(), PAGE)
    assert len(found.levels) >= 2
    assert sum(1 for _ in found.bytes_in_use()) <= IN_USE_MAX_BYTES
    return found


def flipped(whole: Image, extent: int, offset: int, bit: int) -> Medium:
    extents = list(whole.medium.contents())
    data = bytearray(extents[extent])
    data[offset] ^= 1 << bit
    extents[extent] = bytes(data)
    return with_contents(whole.medium.shape, extents)


def damage_of(store: Store) -> list[Damage]:
    return [damage for found in store.verify() for damage in found]


def read_all(store: Store, contents: Contents) -> tuple[Contents, dict[bytes, CorruptionError]]:
    """What each key reads as: those that are there, were there, or never were."""
    found: Contents = {}
    errors = {}
    for key in (*contents, b"3", b"7", b"other"):
        try:
            found[key] = store.get(key)
        except NotFoundError:
            pass
        except CorruptionError as error:
            errors[key] = error
    return found, errors


def check(whole: Image, extent: int, offset: int, byte: Byte, bit: int) -> str:
    """Answers what came of the flip."""
    store = open_store(flipped(whole, extent, offset, bit), PlainSeam(), CONFIGURATION)
    found, errors = read_all(store, whole.contents)
    damage = damage_of(store)
    if byte.is_in_doubt and not store.disk.zoned:
        assert (found, errors, damage) == (whole.before_newest, {}, [])
        return "taken for a tear"
    assert found == {key: value for key, value in whole.contents.items() if key not in errors}
    part = PARTS.get(byte.role)
    if part is None:
        assert (errors, damage) == ({}, [])
        return "no damage"
    if byte.is_newest and not store.disk.zoned:
        assert (errors, damage) == ({}, [])
        store.write_back(100)
        assert not any(log.needs_repair for log in (store.superblock.log, store.metadata.log))
        return "the other copy is read; not told, it may be torn"
    (only,) = damage
    assert (only.part, only.extent, only.offset_bytes) == (part, extent, byte.start_bytes)
    assert not only.is_unreadable
    assert all((error.extent, error.offset_bytes) == (extent, byte.start_bytes) for error in errors.values())
    assert all(only.keys.first <= key and (only.keys.end is None or key < only.keys.end) for key in errors)
    assert bool(errors) == (part not in LOG_PARTS)
    return "the other copy is read" if part in LOG_PARTS else "a typed error"


Flip = tuple[int, int, Byte, int]


def one_bit_a_byte(whole: ImageMap) -> Iterator[Flip]:
    for serial, (extent, offset, byte) in enumerate(whole.bytes_in_use()):
        yield extent, offset, byte, serial * 5 % 8  # a page's bytes have all bits among them


def every_bit(whole: ImageMap) -> Iterator[Flip]:
    for extent, offset, byte in whole.bytes_in_use():
        for bit in range(8):
            yield extent, offset, byte, bit


def outcomes(whole: Image, flips: Callable[[ImageMap], Iterator[Flip]]) -> Counter[tuple[Role, str]]:
    found: Counter[tuple[Role, str]] = Counter()
    for extent, offset, byte, bit in flips(whole_map(whole)):
        found[byte.role, check(whole, extent, offset, byte, bit)] += 1
    return found


@pytest.mark.parametrize("clean", [True, False], ids=["after a shutdown", "after a crash"])
def test_one_bit_of_each_byte(zoned: bool, clean: bool) -> None:
    found = outcomes(image(zoned=zoned, clean=clean), one_bit_a_byte)
    assert {role for role, _ in found} == set(Role)
    assert ("taken for a tear" in {outcome for _, outcome in found}) == (not zoned and not clean)


@pytest.mark.nightly
@pytest.mark.parametrize("clean", [True, False], ids=["after a shutdown", "after a crash"])
def test_every_bit(zoned: bool, clean: bool, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcomes(image(zoned=zoned, clean=clean), every_bit)
    with capsys.disabled():
        print(f"\n{'zoned' if zoned else 'file'}, after a {'shutdown' if clean else 'crash'}")
        for (role, outcome), bits_count in sorted(found.items()):
            print(f"{bits_count:7,}  {role}: {outcome}")
