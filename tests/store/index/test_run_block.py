"""The block of a run: a sorted dictionary in bytes."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import examples, golden

from shardstore.index import run_block
from shardstore.index.run_block import LOCATORS_MAX, BlockError, Entry
from shardstore.units import Locator

locators = st.builds(
    Locator,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=16, max_size=16),
)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.none(), st.lists(locators, min_size=1, max_size=4).map(tuple), locators.map(lambda locator: (locator,))
)
tables = st.dictionaries(st.binary(min_size=1, max_size=6), entries, max_size=12)


def block_of(table: dict[bytes, Entry]) -> bytes:
    return run_block.encode(sorted(table.items()))


@examples()
@given(tables, st.binary(max_size=6))
def test_a_block_is_a_dictionary(table: dict[bytes, Entry], other: bytes) -> None:
    block = block_of(table)
    assert list(run_block.decode(block)) == sorted(table.items())
    for key in [*table, other]:
        assert run_block.find(block, key) == ((key, table[key]) if key in table else None)
    assert len(block) == 4 + sum(run_block.entry_size_bytes(*item) for item in table.items())


def test_the_longest_entry() -> None:
    item = (b"k" * 1024, tuple(Locator(i, i, i, bytes(16)) for i in range(LOCATORS_MAX)))
    assert run_block.find(run_block.encode([item]), item[0]) == item


def read_all(block: bytes, keys: list[bytes]) -> None:
    with suppress(BlockError):
        list(run_block.decode(block))
    for key in keys:
        with suppress(BlockError):
            run_block.find(block, key)


@examples(300)
@given(st.one_of(st.binary(max_size=80), st.lists(st.integers(0, 40), max_size=12).map(bytes)), st.binary(max_size=3))
def test_any_bytes_at_all_decode_or_raise_the_typed_error(block: bytes, key: bytes) -> None:
    read_all(block, [key, b""])


@examples(200)
@given(tables, st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_flipped_block_decodes_or_raises_the_typed_error(
    table: dict[bytes, Entry], flips: list[tuple[int, int]]
) -> None:
    block = bytearray(block_of(table))
    for place, mask in flips:
        block[place % len(block)] ^= mask
    read_all(bytes(block), [*table, b"other"])


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x01\0\0",
        struct.pack("<I", 1),
        struct.pack("<II", 99, 1),  # an offset behind the end
        struct.pack("<II", 2**32 - 1, 1),
        struct.pack("<HII", 2000, 0, 1),  # a key longer than may be
        struct.pack("<H2sII", 2, b"ab", 0, 1),  # nothing behind the key
        struct.pack("<H2sBII", 2, b"ab", 3, 0, 1),  # three locators, none there
    ],
)
def test_bytes_that_are_no_block_are_refused(block: bytes) -> None:
    with pytest.raises(BlockError):
        list(run_block.decode(block))


def test_an_entry_without_locators_is_refused() -> None:
    """It would read as an empty value that nobody put."""
    with pytest.raises(BlockError):
        list(run_block.decode(struct.pack("<H1sBII", 1, b"k", 0, 0, 1)))


def test_golden_bytes() -> None:
    one, two = Locator(4, 128, 60, bytes(range(16))), Locator(5, 0, 2**31, bytes(range(16, 32)))
    assert run_block.encode([(b"a", (one,)), (b"gone", None), (b"many", (one, two))]) == golden("run_block")
