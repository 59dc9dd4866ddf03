"""A record in doubt: a metadata delta that was issued with the appends that it names, and what recovery makes of it."""

from __future__ import annotations

from itertools import combinations

import pytest
from test_store import again, medium_of
from worlds import EXTENT_PAGES, FIRST, MANUAL, PAGE, PlainSeam, Stack, new_medium, new_stack, page_of, with_contents

from shardstore.dependency import PENDING, PERSISTENT, PERSISTENT_STATE, Promise
from shardstore.errors import CorruptionError, DiskError, NotFoundError
from shardstore.extents import Place, digest_of
from shardstore.index.metadata_log import Edit, MetadataLog, RunRecord
from shardstore.store import Store, format_store, open_store
from shardstore.units import METADATA_EXTENTS, Kind

VALUES, RUNS = FIRST, FIRST + 1

pytestmark = pytest.mark.parametrize("zoned", [True, False])


def settled_store(*, zoned: bool) -> Store:
    """A store with a value that superblock records cover, and whose next record is a delta."""
    store = format_store(new_medium(zoned=zoned), PlainSeam(), MANUAL)
    store.put(b"a", b"old").wait()
    store.write_back(99)
    return store


def extents_of(store: Store) -> list[bytes]:
    return list(medium_of(store)._extents)


def opened_on(store: Store, extents: list[bytes]) -> Store:
    return open_store(with_contents(medium_of(store).shape, extents), PlainSeam(), MANUAL)


def value(store: Store, key: bytes) -> bytes | None:
    try:
        return store.get(key)
    except NotFoundError:
        return None


def torn(*lost: int, zoned: bool) -> Store:
    """The store that finds of a new value the record, but not what these extents were to hold."""
    store = settled_store(zoned=zoned)
    before = extents_of(store)
    store.put(b"a", b"new").wait()
    return opened_on(store, [before[at] if at in lost else held for at, held in enumerate(extents_of(store))])


def test_one_barrier_makes_a_put_persistent(zoned: bool) -> None:
    store = settled_store(zoned=zoned)
    before = store.scheduler.barriers_count
    store.put(b"b", b"1").wait()
    assert store.scheduler.barriers_count == before + 1
    assert value(again(store), b"b") == b"1"


def test_rec_2_a_delta_is_taken_if_all_that_it_names_has_come(zoned: bool) -> None:
    assert value(torn(zoned=zoned), b"a") == b"new"


@pytest.mark.parametrize("lost", [lost for count in (1, 2) for lost in combinations((VALUES, RUNS), count)])
def test_rec_2_a_delta_is_cut_off_if_anything_that_it_names_has_not_come(lost: tuple[int, ...], zoned: bool) -> None:
    store = torn(*lost, zoned=zoned)
    assert value(store, b"a") == b"old"
    store.put(b"b", b"1").wait()
    assert [value(again(store), key) for key in (b"a", b"b")] == [b"old", b"1"]


def test_rec_3_a_delta_that_was_cut_off_has_been_replaced_when_the_store_is_open(zoned: bool) -> None:
    """Else it would hold once others are in its place: nothing tells what covered them."""
    store = torn(VALUES, zoned=zoned)
    opened = extents_of(store)
    assert medium_of(store).changes()[-1].kind == "barrier"
    store.put(b"b", b"other").wait()
    store.write_back(99)
    mixed = [opened[at] if at in METADATA_EXTENTS else held for at, held in enumerate(extents_of(store))]
    assert value(opened_on(store, mixed), b"a") == b"old"


def test_rec_3_opening_fails_if_what_was_cut_off_cannot_be_replaced(zoned: bool) -> None:
    store = settled_store(zoned=zoned)
    before = extents_of(store)
    store.put(b"a", b"new").wait()
    medium = with_contents(
        medium_of(store).shape, [before[at] if at == VALUES else held for at, held in enumerate(extents_of(store))]
    )
    medium.fails = lambda event: event.kind == "write" and event.extent in METADATA_EXTENTS
    with pytest.raises(DiskError):
        open_store(medium, PlainSeam(), MANUAL)
    medium.fails = lambda event: False
    assert value(open_store(medium, PlainSeam(), MANUAL), b"a") == b"old"


def test_damage_behind_a_superblock_record_is_told_and_cuts_nothing_off(zoned: bool) -> None:
    store = settled_store(zoned=zoned)
    store.put(b"a", b"new").wait()
    store.write_back(99)  # the superblock's record
    damaged = extents_of(store)
    at = store.extents.soft_pages(VALUES) * PAGE - PAGE // 2
    held = damaged[VALUES]
    start = held.index(b"new")
    damaged[VALUES] = held[:start] + b"NEW" + held[start + 3 :]
    assert start < at + PAGE
    with pytest.raises(CorruptionError):
        opened_on(store, damaged).get(b"a")


def test_damage_on_a_zoned_disk_is_told_even_in_doubt(zoned: bool) -> None:
    """On a file it cannot be told from a tear."""
    store = settled_store(zoned=zoned)
    store.put(b"a", b"new").wait()
    damaged = [held.replace(b"new", b"NEW") if at == VALUES else held for at, held in enumerate(extents_of(store))]
    if zoned:
        with pytest.raises(CorruptionError):
            opened_on(store, damaged).get(b"a")
    else:
        assert value(opened_on(store, damaged), b"a") == b"old"


def test_a_page_in_doubt_that_cannot_be_read_keeps_the_disk_from_opening(zoned: bool) -> None:
    store = settled_store(zoned=zoned)
    store.put(b"a", b"new").wait()
    medium = with_contents(medium_of(store).shape, extents_of(store))
    medium.fails = lambda event: event.kind == "read" and event.extent == VALUES
    if zoned:  # the hard pointer tells
        assert open_store(medium, PlainSeam(), MANUAL).is_open()
    else:
        with pytest.raises(DiskError):
            open_store(medium, PlainSeam(), MANUAL)


def test_what_deltas_have_covered_is_recorded_once_there_is_nothing_else_to_do(zoned: bool) -> None:
    store = settled_store(zoned=zoned)
    store.put(b"a", b"new").wait()
    store = opened_on(store, extents_of(store))
    assert value(store, b"a") == b"new"
    assert store.superblock.recorded(VALUES).soft_pages < store.extents.soft_pages(VALUES)
    store.write_back(99)
    assert store.superblock.recorded(VALUES).soft_pages == store.extents.soft_pages(VALUES)


# --- the metadata log ---------------------------------------------------------------------------------------


class InOrder:
    """Chooses what it is told to, and then the first."""

    def __init__(self) -> None:
        self.next: list[int] = []

    def __call__(self, count: int) -> int:
        return self.next.pop(0) if self.next else 0


def metadata_on(stack: Stack) -> MetadataLog:
    metadata = MetadataLog(stack.scheduler, stack.pool, stack)
    stack.scheduler.add_source(metadata)
    metadata.format(stack.superblock.secret())
    stack.drain()
    return metadata


def run(number: int) -> Edit:
    return Edit(added=(RunRecord(number, 0, 1, 0, ()),))


def test_log_7_a_delta_promises_nothing_before_what_it_names_is_persistent(zoned: bool) -> None:
    choose = InOrder()
    stack = new_stack(zoned=zoned, choose=choose)
    metadata = metadata_on(stack)
    put = stack.chunks.put(Kind.VALUE, b"k", b"v")
    stack.drain()  # the record of the owner
    stack.chunks.flush()
    promise = metadata.enqueue(run(1), put.dependency, "test")
    choose.next = [1, 1, 1]  # the record is built, and issued, and a barrier passes it, but not the page
    for _ in range(3):
        stack.scheduler.step()
    assert not stack.scheduler.on_its_way()[1]
    assert promise.poll() is PENDING
    later = metadata.enqueue(run(2), PERSISTENT, "test")
    assert not metadata.is_due()  # LOG-1: only one record is ever in doubt
    stack.scheduler.step()
    stack.scheduler.step()
    assert promise.poll() is PERSISTENT_STATE
    stack.drain()
    assert later.poll() is PERSISTENT_STATE


def test_log_8_a_full_record_waits_until_what_the_deltas_named_is_covered(zoned: bool) -> None:
    stack = new_stack(zoned=zoned)
    metadata_on(stack)
    again_ = Stack(with_contents(stack.medium.shape, list(stack.medium._extents))).recover()
    metadata = MetadataLog(again_.scheduler, again_.pool, again_)
    again_.scheduler.add_source(metadata)
    metadata.recover(again_.superblock.secret(), lambda place: True)
    covered = Promise(again_)
    metadata.wait_for([covered])
    promise = metadata.enqueue(run(1), PERSISTENT, "test")
    again_.drain()
    assert promise.poll() is PENDING
    covered.bind(PERSISTENT)
    again_.drain()
    assert promise.poll() is PERSISTENT_STATE


# --- extents ------------------------------------------------------------------------------------------------


def reset_once(*, zoned: bool) -> Stack:
    """Its first extent is in its second epoch, and has three pages, of which a record covers one."""
    stack = new_stack(zoned=zoned)
    stack.cache.reset(stack.extents.allocate(Kind.VALUE), PERSISTENT)
    stack.drain()
    assert stack.extents.allocate(Kind.VALUE) == FIRST
    for page_count in (1, 2):
        stack.pool.take(stack.scheduler.step)
        stack.extents.append(FIRST, page_of("x", page_count), PERSISTENT)
        while not stack.superblock.recorded(FIRST).soft_pages:
            stack.scheduler.step()
    while stack.scheduler.on_its_way() != ((), ()):
        stack.scheduler.step()
    return stack


def recovered(stack: Stack, *places: Place) -> Stack:
    medium = with_contents(stack.medium.shape, list(stack.medium._extents))
    other = Stack(medium)
    medium.barrier()
    assert other.superblock.recover()
    other.scheduler.add_source(other.superblock)
    other.extents.recover(places)
    return other


def place(epoch: int, first_page: int, end_page: int, letter: str = "x") -> Place:
    return Place(
        FIRST, epoch, first_page, end_page, digest_of(b"s" * 16, page_of(letter, max(0, end_page - first_page)))
    )


def test_rec_2_which_places_hold(zoned: bool) -> None:
    stack = new_stack(zoned=zoned)
    stack.cache.reset(stack.extents.allocate(Kind.VALUE), PERSISTENT)
    stack.drain()
    assert stack.extents.allocate(Kind.VALUE) == FIRST
    for page_count in (1, 2):
        stack.pool.take(stack.scheduler.step)
        stack.extents.append(FIRST, page_of("x", page_count), PERSISTENT)
    while not stack.medium._extents[FIRST].startswith(page_of("x", 3)):
        stack.scheduler.step()
    assert stack.superblock.recorded(FIRST).soft_pages == 0
    holds = recovered(stack).extents.holds
    assert holds(place(1, 0, 1))
    assert holds(place(1, 1, 3))
    assert holds(place(0, 0, 9))  # emptied since
    assert not holds(place(2, 0, 1))  # not yet
    assert not holds(place(1, 2, 4))
    assert not holds(place(1, 0, 0)._replace(extent=FIRST + 1, end_page=1))  # nobody owns it
    assert holds(place(1, 0, 1, "y")) is zoned
    for wrong in (place(1, 0, 1)._replace(extent=3), place(1, 0, EXTENT_PAGES + 1), place(1, 2, 1)):
        with pytest.raises(CorruptionError):
            holds(wrong)


def test_ext_7_a_pointer_of_an_older_epoch_counts_for_nothing(zoned: bool) -> None:
    stack = reset_once(zoned=zoned)
    recorded = stack.superblock.recorded(FIRST)
    assert recorded.epoch == 1
    assert recovered(stack, place(0, 0, 9)).extents.soft_pages(FIRST) == recorded.soft_pages
    raised = recovered(stack, place(0, 0, 9), place(1, 3, 3))
    assert raised.extents.soft_pages(FIRST) == 3
    raised.drain()
    assert raised.superblock.recorded(FIRST).soft_pages == 3
    for wrong in (place(2, 0, 1), place(0, 0, 1)._replace(extent=FIRST + 1)):
        with pytest.raises(CorruptionError):
            recovered(stack, wrong)
