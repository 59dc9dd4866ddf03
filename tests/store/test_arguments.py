"""The door (ARG-1): what is refused has changed nothing, and what is taken cannot change any more."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import SMALL, PlainSeam, examples, new_medium

from shardstore.arguments import as_bytes, as_count
from shardstore.errors import ConfigurationError, NotFoundError, TooLargeError
from shardstore.node import Node, format_node, open_node
from shardstore.store import Store, format_store
from shardstore.units import Delete, Put, StoreConfiguration

TOO_LONG = b"k" * (SMALL.key_size_max_bytes + 1)


def new_store() -> Store:
    return format_store(new_medium(zoned=True, extent_size_pages=64), PlainSeam(), SMALL)


def new_node() -> Node:
    media = [new_medium(zoned=True, extent_size_pages=64) for _ in range(2)]
    return format_node(media, PlainSeam(), SMALL)


def refusals(subject: Any) -> list[tuple[Callable[[], object], type[Exception]]]:
    """Calls of store and node alike, and the error of each."""
    return [
        (lambda: subject.put("a", b"x"), TypeError),
        (lambda: subject.put(b"a", "x"), TypeError),
        (lambda: subject.put(b"a", None), TypeError),
        (lambda: subject.put(array("i", [1]), b"x"), TypeError),
        (lambda: subject.put(b"", b"x"), TooLargeError),
        (lambda: subject.put(TOO_LONG, b"x"), TooLargeError),
        (lambda: subject.get("a"), TypeError),
        (lambda: subject.delete((1, 2)), TypeError),
        (lambda: subject.delete(b""), TooLargeError),
        (lambda: subject.delete(TOO_LONG), TooLargeError),
        (lambda: subject.write_back(-1), ValueError),
        (lambda: subject.write_back(True), TypeError),
        (lambda: subject.reclaim("0"), TypeError),
    ]


STORE_REFUSALS: list[tuple[Callable[[Store], object], type[Exception]]] = [
    (lambda store: store.bulk_delete([b"a", None]), TypeError),  # type: ignore[list-item]
    (lambda store: store.bulk_delete([b"a", TOO_LONG]), TooLargeError),
    (lambda store: store.bulk_put([(b"b", b"x"), b"ab"]), TypeError),  # type: ignore[list-item]
    (lambda store: store.apply([Put(b"b", b"x"), (b"c", b"y")]), TypeError),  # type: ignore[list-item]
    (lambda store: store.apply([Put(b"b", b"x"), Delete(TOO_LONG)]), TooLargeError),
    (lambda store: store.snapshot().keys_after("a", 1), TypeError),  # type: ignore[arg-type]
    (lambda store: store.snapshot().keys_after(b"a", 0), ValueError),
]

NODE_REFUSALS: list[tuple[Callable[[Node], object], type[Exception]]] = [
    (lambda node: node.bulk_remove([b"a", "b"]), TypeError),  # type: ignore[list-item]
    (lambda node: node.bulk_create([(b"b", b"x", b"y")]), TypeError),  # type: ignore[list-item]
    (lambda node: node.list(0), ValueError),
    (lambda node: node.list("3"), TypeError),  # type: ignore[arg-type]
    (lambda node: node.remove_disk(-1), ValueError),
    (lambda node: node.remove_disk(2), ValueError),
    (lambda node: node.return_disk("0"), TypeError),  # type: ignore[arg-type]
]


def test_arg_1_what_a_store_refuses_has_changed_nothing() -> None:
    store = new_store()
    store.put(b"a", b"x")
    for call, error in [*refusals(store), *[(lambda each=each: each(store), error) for each, error in STORE_REFUSALS]]:
        with pytest.raises(error):
            call()
        assert dict(store.contents()) == {b"a": b"x"}
    store.shutdown()


def test_arg_1_what_a_node_refuses_has_changed_nothing() -> None:
    node = new_node()
    node.put(b"a", b"x")
    for call, error in [*refusals(node), *[(lambda each=each: each(node), error) for each, error in NODE_REFUSALS]]:
        with pytest.raises(error):
            call()
        assert dict(node.contents()) == {b"a": b"x"}
    node.shutdown()


@pytest.mark.parametrize("odd", [TOO_LONG, b"", "b", None])
def test_arg_1_a_bulk_request_is_checked_for_all_disks_before_any_does_its_share(odd: Any) -> None:
    node = new_node()
    by_disk = {node.disk_of(key): key for key in (b"a", b"b", b"c", b"d", b"e")}
    assert len(by_disk) == 2
    for keys in ([*by_disk.values(), odd], [odd, *by_disk.values()]):
        with pytest.raises((TooLargeError, TypeError)):
            node.bulk_create([(key, b"x") for key in keys])
        assert not dict(node.contents())


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda buffer: memoryview(buffer).cast("H")])
def test_arg_1_a_buffer_is_copied_before_anything_is_done(kind: Callable[[bytearray], Any]) -> None:
    store, key, value = new_store(), bytearray(b"ab"), bytearray(b"xy")
    store.put(kind(key), kind(value))
    key[:], value[:] = b"cd", b"zw"
    assert store.get(b"ab") == b"xy"
    with pytest.raises(NotFoundError):
        store.get(b"cd")
    store.delete(kind(bytearray(b"ab")))
    assert not dict(store.contents())


class _Shifty(bytes):
    """Says of itself what is not so."""

    def __bytes__(self) -> bytes:
        return self

    def __len__(self) -> int:
        return 1


def test_arg_1_a_class_of_the_callers_has_no_say() -> None:
    assert type(as_bytes(_Shifty(b"abc"), "it")) is bytes
    with pytest.raises(TooLargeError):
        new_store().put(_Shifty(TOO_LONG), b"x")


BAD_CONFIGURATIONS = [replace(SMALL, reserve_extents_count=100), replace(SMALL, chunk_payload_max_bytes=10**7)]


@pytest.mark.parametrize("bad", BAD_CONFIGURATIONS, ids=["too few extents", "chunks too large"])
def test_arg_1_a_configuration_is_refused_before_any_disk_is_erased(bad: StoreConfiguration) -> None:
    media = [new_medium(zoned=zoned, extent_size_pages=64) for zoned in (True, False)]
    node = format_node(media, PlainSeam(), SMALL)
    node.put(b"a", b"x")
    node.shutdown()
    with pytest.raises(ConfigurationError):
        format_node(media, PlainSeam(), bad)
    with pytest.raises(ConfigurationError):
        format_store(media[0], PlainSeam(), bad)
    assert dict(open_node(media, PlainSeam(), SMALL).contents()) == {b"a": b"x"}


def test_arg_1_a_node_has_a_disk() -> None:
    for opening in (format_node, open_node):
        with pytest.raises(ConfigurationError, match="at least one disk"):
            opening([], PlainSeam(), SMALL)


@given(st.one_of(st.binary(), st.binary().map(bytearray), st.binary().map(lambda data: memoryview(data))))
@examples(50)
def test_bytes_are_as_they_were_and_plain(value: Any) -> None:
    found = as_bytes(value, "it")
    assert type(found) is bytes
    assert found == bytes(value)


@given(st.integers(-3, 6))
@examples(20)
def test_a_count_is_in_its_range_or_refused(value: int) -> None:
    if 1 <= value < 4:
        assert as_count(value, "it", least=1, below=4) == value
    else:
        with pytest.raises(ValueError, match="it must be 1 or more, below 4"):
            as_count(value, "it", least=1, below=4)
