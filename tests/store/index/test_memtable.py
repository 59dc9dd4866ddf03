"""The memtable: a sorted dictionary whose entries share one fate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from test_dependency import WAITER, new_write
from worlds import examples

from shardstore.dependency import PERSISTENT, PERSISTENT_STATE, Promise
from shardstore.index.memtable import Memtable
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, Entry
from shardstore.units import Locator

ENTRIES: list[Entry] = [None, *((Locator(number, 0, 1, bytes(16)),) * (1 + number) for number in range(3))]


def new_memtable() -> Memtable:
    return Memtable(Promise(WAITER), prune_at_count=2)


def surplus_of(memtable: Memtable) -> int:
    return sum(LOCATOR_SIZE_BYTES * (len(entry) - 1) for entry in memtable.entries.values() if entry is not None)


tables = st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.sampled_from(ENTRIES)), max_size=15)


@examples()
@given(tables, st.binary(max_size=2))
def test_a_memtable_is_a_sorted_dictionary(items: list[tuple[bytes, Entry]], start: bytes) -> None:
    memtable = new_memtable()
    for key, entry in items:
        memtable.set(key, entry, PERSISTENT)
    model = dict(items)
    assert memtable.entries == model
    assert list(memtable.items(start)) == sorted(item for item in model.items() if item[0] >= start)


@examples()
@given(tables, tables)
def test_what_is_put_under_shows_where_the_newer_says_nothing(
    old: list[tuple[bytes, Entry]], new: list[tuple[bytes, Entry]]
) -> None:
    older, newer = new_memtable(), new_memtable()
    for memtable, items in ((older, old), (newer, new)):
        for key, entry in items:
            memtable.set(key, entry, PERSISTENT)
        memtable.surplus_size_bytes = surplus_of(memtable)
    older.put_under(newer)
    assert newer.surplus_size_bytes == surplus_of(newer)
    assert dict(newer.items()) == {**dict(old), **dict(new)}
    newer.promise.bind(PERSISTENT)
    assert older.promise.poll() == PERSISTENT_STATE


def test_the_dependencies_of_its_values_are_each_kept_once() -> None:
    memtable, other = new_memtable(), new_memtable()
    first, second = new_write(), new_write()
    for key, dependency in ((b"a", first), (b"b", first), (b"c", second), (b"d", PERSISTENT), (b"a", first)):
        memtable.set(key, None, dependency)
    assert memtable.value_dependencies() == [first, second]
    other.set(b"x", None, second)
    memtable.put_under(other)
    assert other.value_dependencies() == [first, second]
