"""The buffer cache: what it keeps, what it forgets, and that neither shows but in speed."""

from __future__ import annotations

import pytest
from test_extents import append
from worlds import Stack, new_stack, page_of

from shardstore.dependency import PERSISTENT
from shardstore.errors import StaleLocatorError

CAPACITY = 4


def filled_stack() -> tuple[Stack, int]:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    for letter in "abcdefgh":
        append(stack, extent, letter)
    stack.drain()
    return stack, extent


def reads_count(stack: Stack) -> int:
    return sum(event.kind == "read" for event in stack.medium.trace)


def test_a_page_is_read_from_the_disk_once() -> None:
    stack, extent = filled_stack()
    before = reads_count(stack)
    for _ in range(3):
        assert stack.cache.read(extent, 1, 2) == page_of("b") + page_of("c")
        assert stack.cache.read(extent, 2, 1) == page_of("c")
    assert reads_count(stack) == before + 1


def test_the_page_least_recently_used_is_forgotten_first() -> None:
    stack, extent = filled_stack()
    for page in (0, 1, 2, 3, 0, 4):  # 1 is the oldest when 4 comes
        stack.cache.read(extent, page, 1)
    before = reads_count(stack)
    for page in (0, 2, 3, 4):
        stack.cache.read(extent, page, 1)
    assert reads_count(stack) == before
    assert stack.cache.read(extent, 1, 1) == page_of("b")
    assert reads_count(stack) == before + 1


def test_what_is_larger_than_the_cache_passes_through() -> None:
    stack, extent = filled_stack()
    stack.cache.read(extent, 0, CAPACITY)
    assert stack.cache.read(extent, 0, CAPACITY + 1) == b"".join(map(page_of, "abcde"))
    before = reads_count(stack)
    assert stack.cache.read(extent, 4, 1) == page_of("e")
    assert reads_count(stack) == before + 1


def test_a_read_of_pages_partly_kept_gives_all_of_them() -> None:
    stack, extent = filled_stack()
    stack.cache.read(extent, 1, 1)
    assert stack.cache.read(extent, 0, 3) == b"".join(map(page_of, "abc"))
    assert stack.cache.read(extent, 0, 1) == page_of("a")


def test_cache_1_a_reset_drops_the_pages_of_the_extent() -> None:
    stack, extent = filled_stack()
    stack.cache.read(extent, 0, 2)
    stack.cache.reset(extent, PERSISTENT)
    with pytest.raises(StaleLocatorError):
        stack.cache.read(extent, 1, 1)  # even before anything of the reset is persistent
    stack.drain()
    assert stack.extents.allocate(1) == extent
    append(stack, extent, "n", 2)
    assert stack.cache.read(extent, 0, 2) == page_of("n", 2)


def test_cache_1_other_extents_keep_their_pages() -> None:
    stack, extent = filled_stack()
    other = stack.extents.allocate(1)
    append(stack, other, "o")
    stack.drain()
    stack.cache.read(other, 0, 1)
    stack.cache.reset(extent, PERSISTENT)
    before = reads_count(stack)
    assert stack.cache.read(other, 0, 1) == page_of("o")
    assert reads_count(stack) == before
