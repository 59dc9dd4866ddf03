"""The node: shard ids steered to disks, listings, bulk requests, disks that leave and come back."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FIRST, SMALL, Medium, PlainSeam, examples, new_medium, random_choices, reopened

from refmodel.node import NodeModel
from shardstore.dependency import Dependency
from shardstore.errors import DiskError, InUseError, NotFoundError, OutOfServiceError, TooLargeError, WrongDisksError
from shardstore.node import Node, format_node, open_node
from shardstore.seam import ThreadSeam
from shardstore.store import format_store, open_store
from shardstore.units import Change

HANGS_AFTER_SECONDS = 30  # a watchdog
KEYS = [bytes([ord("a") + i]) for i in range(8)]


def new_node(disk_count: int = 2, seed: int | None = None) -> tuple[Node, Sequence[Medium]]:
    media = [new_medium(zoned=number % 2 == 0, extent_size_pages=64) for number in range(disk_count)]
    seam = PlainSeam() if seed is None else PlainSeam(random_choices(seed))
    return format_node(media, seam, SMALL), media


def on_disk(node: Node, disk: int) -> list[bytes]:
    return [key for key in KEYS if node.disk_of(key) == disk]


def keys_of(node: Node, page_size_keys: int = 3) -> list[bytes]:
    return [key for page in node.list(page_size_keys) for key in page]


calls = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "bulk_create", "bulk_remove", "remove_disk", "return_disk", "work"]),
        st.integers(0, len(KEYS) - 1),
        st.integers(0, 300),
    ),
    max_size=40,
)


@examples(80)
@given(calls, st.integers(0, 99))
def test_a_node_is_as_its_model(sequence: list[tuple[str, int, int]], seed: int) -> None:
    node, media = new_node(3, seed)
    model = NodeModel(node.disk_of)
    for name, place, number in sequence:
        keys, value = [KEYS[place], KEYS[number % len(KEYS)]], bytes([number % 256]) * number
        arguments = {
            "put": (keys[0], value),
            "delete": (keys[0],),
            "bulk_create": ([(key, value[:20]) for key in keys],),
            "bulk_remove": (keys,),
            "remove_disk": (number % 3,),
            "return_disk": (number % 3,),
        }.get(name)
        if arguments is None:
            getattr(node, ("flush", "compact", "reclaim", "flush_buffers")[number % 4])()
            node.write_back(number % 10)
        else:
            outcomes = []
            for subject in (node, model):
                try:
                    getattr(subject, name)(*arguments)
                    outcomes.append("done")
                except OutOfServiceError:
                    outcomes.append("out of service")
            assert outcomes[0] == outcomes[1]
        assert dict(node.contents()) == model.contents()
        assert tuple(keys_of(node)) == model.list_keys()
    node.shutdown()
    model.reopened()
    again = open_node([reopened(medium) for medium in media], PlainSeam(), SMALL)
    assert dict(again.contents()) == model.contents()


def test_node_2_the_wrong_disks_are_refused_and_nothing_changes() -> None:
    node, media = new_node(3)
    stranger, others = new_node(2)
    for key in KEYS:
        node.put(key, key * 20)
    for each in (node, stranger):
        each.shutdown()
    for wrong, told in (
        ([media[1], media[0], media[2]], "disk 0 of those given is number 1 of a node of 3 disks"),
        (media[:2], "2 disks were given of a node of 3 disks"),
        (media[:1], "1 disks were given of a node of 3 disks"),
        ([*media[:2], others[1]], "disk 2 belongs to a node of 2 disks"),
        ([*media, others[1]], "disk 3 belongs to a node of 2 disks"),
        ([media[0], media[1], media[1]], "twice"),
    ):
        before = [list(medium._extents) for medium in media]
        with pytest.raises(WrongDisksError, match=told):
            open_node(wrong, PlainSeam(), SMALL)
        assert [list(medium._extents) for medium in media] == before
    with pytest.raises(WrongDisksError, match="twice"):
        format_node([media[0], media[0]], PlainSeam(), SMALL)
    assert dict(open_node(media, PlainSeam(), SMALL).contents()) == {key: key * 20 for key in KEYS}


def test_node_2_another_disk_may_not_come_back_in_the_place_of_one_that_left() -> None:
    node, media = new_node(2)
    stranger, others = new_node(2)
    stranger.shutdown()
    node.remove_disk(0)
    media[0]._extents = list(others[0]._extents)
    with pytest.raises(WrongDisksError, match="not to this node"):
        node.return_disk(0)
    with pytest.raises(OutOfServiceError):
        node.get(on_disk(node, 0)[0])


def test_node_2_a_disk_has_one_open_store() -> None:
    medium = new_medium()
    store = format_store(medium, PlainSeam(), SMALL)
    for opening in (format_store, open_store):
        with pytest.raises(InUseError):
            opening(medium, PlainSeam(), SMALL)
    store.put(b"k", b"v")
    store.shutdown()
    assert open_store(medium, PlainSeam(), SMALL).get(b"k") == b"v"
    medium = reopened(medium)
    medium.fails = lambda event: event.kind == "read"
    with pytest.raises(DiskError):
        open_store(medium, PlainSeam(), SMALL)
    medium.fails = lambda event: False
    assert open_store(medium, PlainSeam(), SMALL).get(b"k") == b"v"


def test_every_disk_gets_some_of_the_keys_and_always_the_same() -> None:
    node, _ = new_node()
    assert on_disk(node, 0)
    assert on_disk(node, 1)
    assert [node.disk_of(key) for key in KEYS] == [new_node()[0].disk_of(key) for key in KEYS]


def test_a_disk_out_of_service_refuses_its_shards_and_has_them_when_it_is_back() -> None:
    node, _ = new_node()
    for key in KEYS:
        node.put(key, b"value of " + key)
    node.remove_disk(0)
    gone, there = on_disk(node, 0)[0], on_disk(node, 1)[0]
    for call in (
        lambda: node.get(gone),
        lambda: node.put(gone, b""),
        lambda: node.delete(gone),
        lambda: node.bulk_create([(there, b"changed"), (gone, b"changed")]),
        lambda: node.bulk_remove([there, gone]),
        lambda: node.remove_disk(0),
    ):
        with pytest.raises(OutOfServiceError):
            call()
    assert node.get(there) == b"value of " + there
    assert keys_of(node) == on_disk(node, 1)
    node.return_disk(0)
    node.return_disk(0)
    assert dict(node.contents()) == {key: b"value of " + key for key in KEYS}


def test_a_listing_goes_on_without_a_disk_that_leaves_while_it_begins() -> None:
    node, _ = new_node()
    for key in KEYS:
        node.put(key, b"v")
    leaving = node.in_service()[0]
    leaving.shutdown()  # as another thread's `remove_disk` has done by the time its snapshot is asked for
    assert [key for page in node.list() for key in page] == on_disk(node, 1)


def test_a_listing_says_so_when_a_disk_leaves_before_its_last_page() -> None:
    node, _ = new_node()
    for key in KEYS:
        node.put(key, b"v")
    listing = node.list(1)
    next(listing)
    node.remove_disk(0)
    with pytest.raises(OutOfServiceError):
        list(listing)
    listing.close()


def test_node_3_a_disk_leaves_only_once_the_bulk_requests_under_way_are_done() -> None:
    """The second disk's share has yet to be done when another thread wants to take that disk out."""
    media = [new_medium(zoned=False, extent_size_pages=64) for _ in range(2)]
    node = format_node(media, ThreadSeam(), SMALL)
    first, second = on_disk(node, 0)[0], on_disk(node, 1)[0]
    removal = threading.Thread(target=lambda: node.remove_disk(1), daemon=True)
    apply = node.in_service()[0].apply

    def slow_apply(batch: Sequence[Change]) -> Dependency:
        removal.start()
        while 1 not in node._leaving:
            os.sched_yield()
        with pytest.raises(OutOfServiceError):  # no later request begins
            node.put(second, b"late")
        return apply(batch)

    node.in_service()[0].apply = slow_apply  # type: ignore[method-assign]
    node.bulk_create([(first, b"v"), (second, b"v")])
    removal.join(HANGS_AFTER_SECONDS)
    assert not removal.is_alive()
    node.return_disk(1)
    assert dict(node.contents()) == {first: b"v", second: b"v"}


def test_a_share_too_large_for_a_memtable_is_refused_whole() -> None:
    node, _ = new_node(1)
    items = [(b"%d" % number, b"") for number in range(SMALL.memtable_entries_max + 1)]
    with pytest.raises(TooLargeError):
        node.bulk_create(items)
    with pytest.raises(TooLargeError):
        node.bulk_remove([key for key, _ in items])
    assert keys_of(node) == []


def test_the_dependency_of_a_bulk_request_covers_every_disk() -> None:
    node, _ = new_node()
    dependency = node.bulk_create([(key, b"v") for key in KEYS[:6]])
    assert not dependency.is_persistent()
    dependency.wait()
    assert dependency.is_persistent()
    removed = node.bulk_remove(KEYS[:6])
    node.sync()
    assert removed.is_persistent()


@pytest.mark.parametrize("page_size_keys", [1, 2, 100])
def test_a_listing_does_not_change_while_it_is_read(page_size_keys: int) -> None:
    node, _ = new_node()
    for key in KEYS[:5]:
        node.put(key, b"v")
    listing = node.list(page_size_keys)
    pages = [next(listing)]
    for key in KEYS[:3]:
        node.delete(key)
    for key in KEYS[5:]:
        node.put(key, b"v")
    node.flush()
    node.compact()
    node.reclaim()
    pages += list(listing)
    assert [key for page in pages for key in page] == KEYS[:5]
    assert all(len(page) <= page_size_keys for page in pages)
    assert list(listing) == []
    assert keys_of(node) == KEYS[3:]


def test_a_listing_that_is_left_early_lets_go_of_what_it_held() -> None:
    node, _ = new_node()
    node.put(KEYS[0], b"v")
    with node.list(1) as listing:
        next(listing)
    listing.close()
    with pytest.raises(StopIteration):
        next(listing)


def test_a_node_opened_again_has_everything() -> None:
    node, media = new_node()
    for key in KEYS:
        node.put(key, key * 100)
    node.delete(KEYS[0])
    node.shutdown()
    again = open_node([reopened(medium) for medium in media], PlainSeam(), SMALL)
    assert dict(again.contents()) == {key: key * 100 for key in KEYS[1:]}
    with pytest.raises(NotFoundError):
        again.get(KEYS[0])


def test_puts_on_different_disks_are_waited_for_together() -> None:
    node, _ = new_node()
    first, second = node.put(on_disk(node, 0)[0], b"v"), node.put(on_disk(node, 1)[0], b"v")
    both = first & second
    both.wait()
    assert both.is_persistent()
    assert first.is_persistent()
    assert second.is_persistent()


def test_a_bulk_request_and_a_put_are_waited_for_together() -> None:
    node, _ = new_node()
    both = node.bulk_create([(key, b"v") for key in KEYS[:3]]) & node.put(KEYS[3], b"v")
    both.wait()
    assert both.is_persistent()


def test_a_disk_that_could_not_be_shut_down_cleanly_can_be_returned() -> None:
    node, media = new_node(1)
    node.put(KEYS[0], b"old")
    node.sync()
    node.put(KEYS[0], b"new")
    media[0].fails = lambda event: event.kind == "write" and event.extent >= FIRST
    with pytest.raises(DiskError):
        node.remove_disk(0)
    media[0].fails = lambda event: False
    node.return_disk(0)
    assert node.get(KEYS[0]) == b"old"
