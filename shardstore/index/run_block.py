"""The bytes of a sorted block of index entries: encoding, decoding, searching.

    | entry | entry | ... | offset of each entry 4 | entry count 4 |
    entry:  | key length 2 | key | locator count 1 (255: deleted) | locator 28 | ... |

A block is the payload of one chunk. `find` looks a key up in it by bisection, without decoding the rest. Any bytes at
all decode or raise `BlockError`; reading raises no other error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from shardstore.units import KEY_SIZE_MAX_BYTES, Locator, new_tuple

Entry = tuple[Locator, ...] | None  # None: deleted
Item = tuple[bytes, Entry]

_KEY_LENGTH = struct.Struct("<H")
_LOCATOR = struct.Struct("<III16s")
_COUNT = struct.Struct("<I")
_DELETED = 255
LOCATORS_MAX = 254

LOCATOR_SIZE_BYTES = _LOCATOR.size
ONE_LOCATOR_ENTRY_SIZE_BYTES = 2 + 1 + LOCATOR_SIZE_BYTES + 4  # of an entry that names one chunk, without its key


class BlockError(Exception):
    """The bytes are not a block."""


def entry_size_bytes(key: bytes, entry: Entry) -> int:
    return 2 + len(key) + 1 + (len(entry) * LOCATOR_SIZE_BYTES if entry else 0) + 4


def block_size_bytes(items: Sequence[Item]) -> int:
    """The size of a block with these entries."""
    return _COUNT.size + sum(entry_size_bytes(key, entry) for key, entry in items)


def encode_locator(locator: Locator) -> bytes:
    return _LOCATOR.pack(*locator)


def decode_locator(data: bytes, offset: int) -> Locator:
    return new_tuple(Locator, _LOCATOR.unpack_from(data, offset))


def encode(items: Sequence[Item]) -> bytes:
    """A block of these entries, which must be sorted by key."""
    pieces: list[bytes] = []
    offsets: list[int] = []
    size = 0
    for key, entry in items:
        offsets.append(size)
        head = _KEY_LENGTH.pack(len(key)) + key
        if entry is None:
            piece = head + b"\xff"
        elif len(entry) == 1:  # nearly all entries: this is on the path of every flush and merge
            piece = head + b"\x01" + _LOCATOR.pack(*entry[0])
        else:
            piece = b"".join((head, bytes((len(entry),)), *[_LOCATOR.pack(*locator) for locator in entry]))
        pieces.append(piece)
        size += len(piece)
    pieces.append(struct.pack(f"<{len(offsets) + 1}I", *offsets, len(offsets)))
    return b"".join(pieces)


def find(block: bytes, key: bytes) -> Item | None:
    """The entry of this key, or None. Raises `BlockError`."""
    try:
        count, table = _table(block)
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            (offset,) = _COUNT.unpack_from(block, table + 4 * middle)
            (length,) = _KEY_LENGTH.unpack_from(block, offset)
            found = block[offset + 2 : offset + 2 + length]
            if found < key:
                low = middle + 1
            elif found > key:
                high = middle
            else:
                return _item(block, offset, table)
        return None
    except struct.error as error:
        raise BlockError(str(error)) from None


def decode(block: bytes) -> Iterator[Item]:
    """All entries, in order. Raises `BlockError`."""
    try:
        count, table = _table(block)
        for (offset,) in _COUNT.iter_unpack(block[table : table + 4 * count]):
            yield _item(block, offset, table)
    except struct.error as error:
        raise BlockError(str(error)) from None


def _table(block: bytes) -> tuple[int, int]:
    """The number of entries, and the offset at which the table of their offsets starts."""
    (count,) = _COUNT.unpack_from(block, len(block) - 4) if len(block) >= 4 else (0,)
    table = len(block) - 4 - 4 * count
    if table < 0:
        raise BlockError("more entries than bytes")
    return count, table


def _item(block: bytes, offset: int, table: int) -> Item:
    (length,) = _KEY_LENGTH.unpack_from(block, offset)
    end = offset + 2 + length
    if length > KEY_SIZE_MAX_BYTES or end >= table:
        raise BlockError("an entry reaches past the entries")
    key = block[offset + 2 : end]
    count = block[end]
    if count == _DELETED:
        return key, None
    if not count or end + 1 + count * LOCATOR_SIZE_BYTES > table:
        raise BlockError("an entry reaches past the entries")
    if count == 1:
        return key, (new_tuple(Locator, _LOCATOR.unpack_from(block, end + 1)),)
    locators = block[end + 1 : end + 1 + count * LOCATOR_SIZE_BYTES]
    return key, tuple([new_tuple(Locator, fields) for fields in _LOCATOR.iter_unpack(locators)])
