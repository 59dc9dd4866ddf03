"""The store of one disk: a dictionary, its limits, its shutdown, and what other threads and failures may do to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from device_audit import audit, check_opening
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    FIRST,
    MANUAL,
    SMALL,
    Choose,
    Event,
    Medium,
    PlainSeam,
    examples,
    first_choice,
    new_medium,
    random_choices,
    reopened,
    with_contents,
)

from shardstore import chunk_frame
from shardstore.dependency import PERSISTENT, Dependency
from shardstore.errors import (
    ConfigurationError,
    CorruptionError,
    DiskError,
    InterruptedStoreError,
    NoSpaceError,
    NotFoundError,
    OutOfServiceError,
    StoreError,
    TooLargeError,
)
from shardstore.index.run_block import LOCATORS_MAX
from shardstore.seam import ThreadSeam
from shardstore.store import Store, format_store, open_store
from shardstore.units import Delete, Put, StoreConfiguration

KEYS = [bytes([ord("a") + i]) for i in range(5)]


def new_store(
    *, zoned: bool = True, choose: Choose = first_choice, configuration: StoreConfiguration = MANUAL, **shape: int
) -> Store:
    return format_store(new_medium(zoned=zoned, **shape), PlainSeam(choose), configuration)


def again(store: Store, configuration: StoreConfiguration = MANUAL) -> Store:
    """The store that a restart finds if everything issued so far survives."""
    return open_store(reopened(medium_of(store)), PlainSeam(), configuration)


def medium_of(store: Store) -> Medium:
    assert isinstance(store.disk, Medium)
    return store.disk


def lost_since_barrier(medium: Medium) -> Medium:
    """What a crash leaves that takes everything which no barrier has passed."""
    before = {entry.extent: entry.before for entry in reversed(medium.log)}
    return with_contents(medium.shape, [before.get(number, data) for number, data in enumerate(medium._extents)])


def drain(store: Store) -> None:
    while store.write_back(100):
        pass


# --- a dictionary ---------------------------------------------------------------------------------------


class Dictionary:
    """Calls on a store and on a dictionary."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.expected: dict[bytes, bytes] = {}
        self.dependencies: list[Dependency] = []
        self.is_first_life = True

    def put(self, key: bytes, number: int) -> None:
        value = bytes([number % 256]) * number
        self.dependencies.append(self.store.put(key, value))
        self.expected[key] = value

    def delete(self, key: bytes, number: int) -> None:
        self.dependencies.append(self.store.delete(key))
        self.expected.pop(key, None)

    def bulk_put(self, key: bytes, number: int) -> None:
        items = [(each, bytes([number % 256]) * (number % 50)) for each in (key, *KEYS[: number % 4])]
        self.dependencies.append(self.store.bulk_put(items))
        self.expected.update(items)

    def bulk_delete(self, key: bytes, number: int) -> None:
        keys = [key, *KEYS[: number % 3]]
        self.dependencies.append(self.store.bulk_delete(keys))
        for each in keys:
            self.expected.pop(each, None)

    def work(self, key: bytes, number: int) -> None:
        getattr(self.store, ("flush", "flush_buffers", "compact", "reclaim", "reclaim")[number % 5])()

    def step(self, key: bytes, number: int) -> None:
        self.store.write_back(number % 10)

    def reopen(self, key: bytes, number: int) -> None:
        self.store.shutdown()
        assert all(dependency.is_persistent() for dependency in self.dependencies)
        if self.is_first_life:
            audit(medium_of(self.store).trace, extent_count=self.store.disk.extent_count)
        self.is_first_life = False
        self.store = again(self.store, self.store.configuration)
        check_opening(medium_of(self.store).trace)

    def check(self) -> None:
        assert dict(self.store.contents()) == self.expected
        for key in KEYS:
            if key in self.expected:
                assert self.store.get(key) == self.expected[key]
            else:
                with pytest.raises(NotFoundError):
                    self.store.get(key)


calls = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "bulk_put", "bulk_delete", "work", "work", "step", "reopen"]),
        st.sampled_from(KEYS),
        st.one_of(st.integers(0, 9), st.integers(0, 700)),
    ),
    max_size=40,
)


@examples(200)
@given(calls, st.integers(0, 99), st.booleans(), st.booleans())
def test_a_store_is_a_dictionary_and_the_device_saw_no_rule_broken(
    sequence: list[tuple[str, bytes, int]], seed: int, is_zoned: bool, is_automatic: bool
) -> None:
    """Every rule that the audit knows, IDX-3 and REC-1, for any calls and any choice of what is written first."""
    configuration = SMALL if is_automatic else replace(MANUAL, memtable_entries_max=8)
    dictionary = Dictionary(
        new_store(zoned=is_zoned, choose=random_choices(seed), configuration=configuration, extent_size_pages=64)
    )
    for name, key, number in sequence:
        getattr(dictionary, name)(key, number)
        dictionary.check()
    dictionary.reopen(b"", 0)
    dictionary.check()


@pytest.mark.parametrize("seed", range(25))
def test_after_a_crash_each_key_is_as_its_last_persistent_change_left_it_or_a_later_one(seed: int, zoned: bool) -> None:
    choose = random_choices(seed)
    store = new_store(zoned=zoned, choose=choose, configuration=SMALL)
    history: dict[bytes, list[tuple[bytes | None, Dependency | None]]] = {key: [(None, None)] for key in KEYS}
    for number in range(60):
        key = KEYS[choose(len(KEYS))]
        value = None if choose(5) == 0 else bytes([number]) * choose(300)
        history[key].append((value, store.delete(key) if value is None else store.put(key, value)))
        background: Sequence[Callable[[], object]] = (store.flush, store.compact, store.reclaim, store.flush_buffers)
        if choose(3) == 0:
            background[choose(4)]()
        store.write_back(choose(8))
    least = {
        key: max(i for i, (_, dependency) in enumerate(entries) if dependency is None or dependency.is_persistent())
        for key, entries in history.items()
    }
    image = medium_of(store).crash_image(lambda name, count: choose(count))
    crashed = with_contents(image.shape, list(image._extents))
    found = dict(open_store(crashed, PlainSeam(), SMALL).contents())
    for key, entries in history.items():
        assert found.get(key) in [value for value, _ in entries[least[key] :]]
    assert dict(open_store(reopened(crashed), PlainSeam(choose), SMALL).contents()) == found  # recovering twice


def test_rec_1_opening_begins_with_a_barrier(zoned: bool) -> None:
    store = new_store(zoned=zoned)
    store.put(b"a", b"1")
    store.sync()
    medium = medium_of(again(store))
    assert medium.trace[0].kind == "barrier"
    check_opening(medium.trace)


# --- limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 199, 200, 201, 400, 401, 1_000])
def test_values_of_any_size_around_a_chunk(size: int, zoned: bool) -> None:
    store = new_store(zoned=zoned)
    value = bytes(number % 251 for number in range(size))
    store.put(b"k", value)
    assert store.get(b"k") == value
    store.sync()
    assert again(store).get(b"k") == value


@pytest.mark.parametrize("key", [b"", b"k" * 17])
def test_keys_have_a_size(key: bytes) -> None:
    store = new_store()
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.delete(key),
        lambda: store.bulk_put([(b"good", b""), (key, b"")]),
    ]
    for call in calls:
        with pytest.raises(TooLargeError):
            call()
    assert dict(store.contents()) == {}


def test_values_have_a_size() -> None:
    store = new_store()
    with pytest.raises(TooLargeError):
        store.put(b"k", bytes(MANUAL.chunk_payload_max_bytes * LOCATORS_MAX + 1))
    assert dict(store.contents()) == {}


def test_a_batch_takes_puts_and_deletions_in_order() -> None:
    store = new_store()
    store.put(b"a", b"old")
    store.put(b"b", b"old")
    store.apply([Put(b"c", b"first"), Delete(b"a"), Put(b"c", bytes(500)), Put(b"b", b"new"), Delete(b"none")]).wait()
    assert dict(again(store).contents()) == {b"b": b"new", b"c": bytes(500)}


def test_a_bulk_request_larger_than_a_memtable_is_refused_before_anything_is_written() -> None:
    store = new_store()
    before = len(medium_of(store).trace)
    keys = [b"%d" % number for number in range(MANUAL.memtable_entries_max + 1)]
    with pytest.raises(TooLargeError):
        store.bulk_put([(key, b"") for key in keys])
    with pytest.raises(TooLargeError):
        store.bulk_delete(keys)
    assert dict(store.contents()) == {}
    assert len(medium_of(store).trace) == before


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ({"extent_count": 8}, {}),
        ({"extent_size_pages": 1}, {}),
        ({"extent_count": 200}, {}),
        ({}, {"chunk_payload_max_bytes": 2_000}),
        ({}, {"run_block_size_bytes": 2_000}),
    ],
)
def test_a_disk_that_does_not_fit_the_configuration_is_refused(shape: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        format_store(new_medium(**shape), PlainSeam(), replace(MANUAL, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"key_size_max_bytes": 0},
        {"key_size_max_bytes": 1025},
        {"buffer_count": 3},
        {"cache_size_pages": 0},
        {"scan_slab_size_pages": 0},
        {"level_growth": 1},
        {"reserve_extents_count": 1},
    ],
)
def test_a_configuration_that_can_not_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        StoreConfiguration(**change)


def test_the_fewest_buffers_there_may_be_are_enough(zoned: bool) -> None:
    """POOL-1."""
    store = new_store(zoned=zoned, configuration=replace(SMALL, buffer_count=4, write_buffer_size_bytes=1))
    for number in range(60):
        store.put(KEYS[number % 5], bytes([number]) * 300)
    store.sync()
    assert [store.get(key)[0] for key in KEYS] == [55, 56, 57, 58, 59]


# --- all or none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_bulk_1_a_crash_at_any_moment_leaves_all_of_a_share_or_none(seed: int, zoned: bool) -> None:
    store = new_store(zoned=zoned, choose=random_choices(seed))
    old = {key: b"old" + key for key in KEYS[:4]}
    store.bulk_put(list(old.items()))
    store.sync()
    store.put(b"z", b"so that the memtable has to make room")
    store.put(b"y", b"first")
    new = {key: bytes([seed]) * 150 + key for key in KEYS}
    images: list[Medium] = []
    medium = medium_of(store)

    def look(event: Event) -> bool:
        images.extend((reopened(medium), lost_since_barrier(medium)))
        return False

    medium.fails = look
    dependency = store.bulk_put(list(new.items()))
    dependency.wait()
    look(Event("end"))
    seen = []
    for image in images:
        found = dict(open_store(image, PlainSeam(), MANUAL).contents())
        share = {key: found.get(key) for key in KEYS}
        assert share in ({**dict.fromkeys(KEYS), **old}, new)
        seen.append(share == new)
    assert seen[0] is False
    assert seen[-1] is True


def test_bulk_1_a_share_waits_for_a_memtable_that_has_room_for_all_of_it() -> None:
    store = new_store()
    for key in KEYS[:4]:
        store.put(key, b"old")
    store.bulk_put([(b"x%d" % number, b"") for number in range(4)])
    assert store.index.room_count() == MANUAL.memtable_entries_max - 4  # the four old ones were flushed
    store.bulk_delete([*KEYS[:4], b"x0"])
    assert store.index.room_count() == MANUAL.memtable_entries_max - 5
    assert sorted(dict(store.contents())) == [b"x1", b"x2", b"x3"]


# --- snapshots ------------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change_whatever_happens_meanwhile() -> None:
    store = new_store(configuration=SMALL, extent_size_pages=64)
    for number in range(20):
        store.put(b"%02d" % number, b"old")
    store.delete(b"07")
    snapshot = store.snapshot()
    for number in range(0, 60, 2):
        store.put(b"%02d" % number, bytes(100))
        store.delete(b"%02d" % (number + 1))
        store.flush()
        store.compact()
        store.reclaim()
        drain(store)
    found: list[bytes] = []
    while page := snapshot.keys_after(found[-1] + b"\0" if found else b"", 3):
        found += page
    assert found == [b"%02d" % number for number in range(20) if number != 7]
    snapshot.close()


def test_what_only_a_closed_snapshot_held_is_reclaimed() -> None:
    store = new_store(extent_count=40)
    for number in range(3):
        store.put(b"a", b"%d" % number)
        store.flush()
    snapshot = store.snapshot()
    store.compact()
    assert len(store.index._runs) == 4
    snapshot.close()
    snapshot.close()
    assert len(store.index._runs) == 1


# --- the end --------------------------------------------------------------------------------------------


def test_idx_3_a_clean_shutdown_makes_everything_persistent(zoned: bool) -> None:
    store = new_store(zoned=zoned)
    dependencies = [store.put(key, b"value of " + key) for key in KEYS]
    store.flush()
    store.compact()
    store.reclaim()
    dependencies.append(store.delete(b"a"))
    store.shutdown()
    assert all(dependency.is_persistent() for dependency in dependencies)
    lost = open_store(lost_since_barrier(medium_of(store)), PlainSeam(), MANUAL)
    assert dict(lost.contents()) == {key: b"value of " + key for key in KEYS[1:]}


def test_a_store_that_was_shut_down_takes_no_requests() -> None:
    store = new_store()
    snapshot = store.snapshot()
    store.shutdown()
    for call in (
        lambda: store.put(b"a", b""),
        lambda: store.get(b"a"),
        lambda: store.delete(b"a"),
        lambda: store.bulk_put([]),
        lambda: store.bulk_delete([]),
        store.snapshot,
        store.flush,
        store.sync,
        store.shutdown,
        lambda: snapshot.keys_after(b"", 1),
        lambda: next(store.contents()),
    ):
        with pytest.raises(OutOfServiceError):
            call()
    snapshot.close()


def test_idx_3_a_put_during_a_shutdown_is_refused_or_made_persistent() -> None:
    store = new_store()
    store.put(b"a", b"1")
    taken: list[Dependency] = []

    def another_thread() -> None:
        """The monitor is free while the device is busy."""
        if not taken:
            try:
                taken.append(store.put(b"b", b"2"))
            except OutOfServiceError:
                medium_of(store).in_barrier = lambda: None

    medium_of(store).in_barrier = another_thread
    store.shutdown()
    assert all(dependency.is_persistent() for dependency in taken)


class Asleep(BaseException):
    """A thread is about to sleep."""


class SleeplessSeam(ThreadSeam):
    """Real monitors, but who would sleep raises `Asleep`."""

    def monitor(self, name: str) -> Any:
        monitor: Any = super().monitor(name)

        def wait(timeout: float | None = None) -> None:
            raise Asleep

        monitor.wait = wait
        return monitor


def shut_down_in_barrier(nth: int) -> bool:
    """Shut a store down in the n-th barrier of another thread's wait. Whether that waited, or all was persistent."""
    store = format_store(new_medium(), SleeplessSeam(), MANUAL)
    dependency = store.put(b"a", b"1")
    barriers, outcomes = count(1), []

    def another_thread() -> None:
        if next(barriers) == nth:
            try:
                store.shutdown()
            except Asleep:  # as it should: it waits
                outcomes.append(True)
            else:
                outcomes.append(dependency.is_persistent())

    medium_of(store).in_barrier = another_thread
    with suppress(InterruptedStoreError):  # the shutdown that was broken off has stopped the store
        dependency.wait()
    (outcome,) = outcomes
    return outcome


def test_idx_3_a_shutdown_waits_for_the_barrier_of_another_thread() -> None:
    """Whichever barrier of a wait it falls into, the last one above all: then there is nothing else to do."""
    plain = format_store(new_medium(), SleeplessSeam(), MANUAL)
    before = plain.scheduler.barriers_count
    plain.put(b"a", b"1").wait()
    barriers_count = plain.scheduler.barriers_count - before
    assert barriers_count >= 2  # the first put takes an extent, whose owner must be recorded
    assert all(shut_down_in_barrier(nth) for nth in range(1, barriers_count + 1))


class SignallingSeam(ThreadSeam):
    """Real monitors that tell when a thread is about to sleep."""

    def __init__(self) -> None:
        self.asleep = threading.Event()

    def monitor(self, name: str) -> Any:
        monitor: Any = super().monitor(name)
        wait = monitor.wait

        def signalling_wait(timeout: float | None = None) -> bool:
            self.asleep.set()
            return bool(wait(timeout))

        monitor.wait = signalling_wait
        return monitor


def test_idx_3_a_put_that_waits_while_the_store_is_shut_down_is_refused_or_made_persistent() -> None:
    """It was taken before the shutdown began, and waits for a buffer, in a barrier, when it does."""
    seam = SignallingSeam()
    store = format_store(new_medium(), seam, replace(MANUAL, buffer_count=4, write_buffer_size_bytes=1))
    shutdown = threading.Thread(target=store.shutdown)

    def begin_shutdown() -> None:
        medium_of(store).in_barrier = lambda: None
        shutdown.start()
        seam.asleep.wait()  # it waits for this very barrier

    medium_of(store).in_barrier = begin_shutdown
    taken = []
    with suppress(OutOfServiceError):
        for number in range(6):
            taken.append(store.put(b"%d" % number, bytes(200)))
    assert shutdown.ident is not None
    shutdown.join()
    assert all(dependency.is_persistent() for dependency in taken)


# --- failures -------------------------------------------------------------------------------------------


def fail_one(medium: Medium, kind: str, nth: int) -> None:
    """Refuse the n-th operation of this kind from now on."""
    seen = [0]

    def fails(event: Event) -> bool:
        seen[0] += event.kind == kind
        return event.kind == kind and seen[0] == nth

    medium.fails = fails


@pytest.mark.parametrize("kind", ["write", "reset", "barrier"])
def test_what_was_persistent_before_a_refusal_is_there_after_a_restart(kind: str, zoned: bool) -> None:
    for nth in range(1, 12):
        store = new_store(zoned=zoned, configuration=SMALL)
        for key in KEYS:
            store.put(key, b"old" + key)
        store.sync()
        fail_one(medium_of(store), kind, nth)
        dependencies = []
        for key in KEYS:
            try:
                dependencies.append((key, store.put(key, b"new" + key)))
                store.flush()
                store.reclaim()
                drain(store)
            except StoreError:  # what was refused can not be read either
                break
        persistent = {key for key, dependency in dependencies if dependency.is_persistent()}
        for image in (reopened(medium_of(store)), lost_since_barrier(medium_of(store))):
            found = dict(open_store(image, PlainSeam(), SMALL).contents())
            for key in KEYS:
                assert found[key] in ([b"new" + key] if key in persistent else [b"new" + key, b"old" + key])


@pytest.mark.parametrize("kind", ["write", "barrier"])
def test_a_waiter_is_told_of_every_refusal(kind: str) -> None:
    for nth in range(1, 8):
        store = format_store(new_medium(), SleeplessSeam(), MANUAL)
        store.put(b"a", b"0")
        store.sync()
        fail_one(medium_of(store), kind, nth)
        try:
            store.put(b"a", b"1").wait()
        except DiskError:
            continue


@pytest.mark.parametrize("is_bulk", [True, False])
def test_gc_1_a_put_that_the_index_refuses_leaves_no_pin(is_bulk: bool) -> None:
    store = new_store()
    medium_of(store).fails = lambda event: event.kind == "write" and event.extent >= FIRST
    store.put(b"a", b"1")
    store.flush()
    store.flush_buffers()
    drain(store)
    medium_of(store).fails = lambda event: False
    with pytest.raises(DiskError):
        store.bulk_put([(b"b", b"2"), (b"c", b"3")]) if is_bulk else store.put(b"b", bytes(500))
    assert not [extent for extent in range(FIRST, 20) if store.chunks.has_pins(extent)]


def test_a_chunk_of_another_key_is_not_returned() -> None:
    store = new_store()
    store.put(b"a", b"1")
    store.index.put(b"b", store.index.get(b"a") or (), PERSISTENT)
    with pytest.raises(CorruptionError, match="belongs to b'a'"):
        store.get(b"b")


def test_a_shutdown_after_a_failed_write_says_so() -> None:
    store = new_store()
    store.put(b"a", b"1")
    store.sync()
    store.put(b"a", b"2")
    medium_of(store).fails = lambda event: event.kind == "write" and event.extent >= FIRST
    with pytest.raises(DiskError):
        store.shutdown()
    assert again(store).get(b"a") == b"1"


def test_reading_what_could_not_be_written_is_a_typed_error() -> None:
    store = new_store()
    medium_of(store).fails = lambda event: event.kind == "write" and event.extent >= FIRST
    dependency = store.put(b"a", b"1")
    store.flush_buffers()
    drain(store)
    assert dependency.is_failed() or not dependency.is_persistent()
    with pytest.raises(StoreError):
        store.get(b"a")


@pytest.mark.parametrize("number", range(5))
def test_a_read_error_while_reading_is_a_disk_error_and_passes(number: int) -> None:
    store = new_store()
    for each in range(6):
        store.put(b"%d" % each, bytes([each]) * 200)
    store.sync()
    store = again(store)
    fail_one(medium_of(store), "read", number + 1)
    refused = 0
    for _ in range(2):
        for each in range(6):
            try:
                assert store.get(b"%d" % each) == bytes([each]) * 200
            except DiskError:
                refused += 1
    assert refused == 1


def test_a_put_that_is_refused_has_changed_nothing() -> None:
    store = new_store(configuration=replace(SMALL, cache_size_pages=1))
    for number in range(60):
        key = b"%02d" % (number % 30)
        before = dict(store.contents())
        medium_of(store).fails = lambda event: event.kind == "read"
        try:
            store.put(key, b"%d" % number)
        except (DiskError, NoSpaceError):  # garbage that cannot be read cannot be reclaimed
            medium_of(store).fails = lambda event: False
            assert dict(store.contents()) == before
        medium_of(store).fails = lambda event: False


def test_a_put_that_waits_takes_three_barriers(zoned: bool) -> None:
    store = new_store(zoned=zoned, configuration=SMALL)
    for number in range(4):
        before = store.scheduler.barriers_count
        store.put(b"%d" % number, b"v").wait()
        first_of_its_extent = number == 0  # whose owner is recorded beforehand
        assert store.scheduler.barriers_count - before <= 3 + first_of_its_extent


@pytest.mark.parametrize("seed", range(12))
def test_read_1_whoever_comes_in_while_upkeep_breathes_finds_the_store_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each breath of a flush, merge, scan or survey another thread reads, lists, puts or deletes."""
    choose = random_choices(seed)
    configuration = replace(SMALL, memtable_entries_max=8, scan_slab_size_pages=1)
    store = new_store(choose=choose, configuration=configuration, extent_size_pages=64)
    world = Dictionary(store)
    breaths, breathe = [0], store._upkeep.breathe

    def another_thread() -> None:
        breaths[0] += 1
        breathe()
        if not store.is_open():
            return
        store.monitor.release()
        try:
            key = KEYS[choose(len(KEYS))]
            if choose(2) and store.index.room_count() > 1 and store.chunks._pool.free_count > 3:
                (world.put, world.delete)[choose(2)](key, choose(60))
            snapshot = store.snapshot()
            assert snapshot.keys_after(b"", 100) == sorted(world.expected)
            snapshot.close()
            assert dict(store.contents()) == world.expected
        finally:
            store.monitor.acquire()

    monkeypatch.setattr(store._upkeep, "breathe", another_thread)
    for number in range(60):
        world.put(KEYS[choose(len(KEYS))], choose(300))
        (store.flush, store.compact, store.reclaim, store.sync)[choose(4)]()
        if number % 10 == 9:
            with store.monitor:
                store.reclamation.survey()
    assert breaths[0] > 100
    assert dict(store.contents()) == world.expected
    store.shutdown()
    assert dict(again(store, configuration).contents()) == world.expected


def test_of_a_key_that_comes_twice_in_a_batch_the_last_counts_and_the_first_is_garbage() -> None:
    store = new_store()
    store.bulk_put([(b"k", b"1" * 150), (b"k", b"2" * 60)])
    assert store.get(b"k") == b"2" * 60
    store.flush_buffers()
    (live_bytes,) = store.chunks._live_bytes.values()
    assert live_bytes == chunk_frame.frame_size_bytes(b"k", 60)


def test_wait_1_a_flush_that_waited_for_another_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While this thread waits for the flush of another, that one writes the run, and leaves its block in the buffer."""
    store = new_store()
    dependency = store.put(b"k", b"v")
    drain(store)
    flush = store.index.flush

    def flush_of_another() -> bool:
        monkeypatch.setattr(store.index, "flush", flush)
        assert flush()
        return flush()  # nothing is left by the time this thread gets its turn

    monkeypatch.setattr(store.index, "flush", flush_of_another)
    with store.monitor:
        while store.chunks.flush() or store.scheduler.step():
            pass
        assert store._progress(dependency)
    dependency.wait()
    assert dependency.is_persistent()


def test_a_store_that_is_shut_down_wakes_who_waits() -> None:
    medium = new_medium(zoned=False)
    store = format_store(medium, ThreadSeam(), MANUAL)
    asleep, errors = threading.Event(), []

    def wait() -> None:
        try:
            with store.monitor:
                asleep.set()
                store.monitor.wait_until(store.scheduler.is_stopped, lambda: False)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    asleep.wait(30)
    store.shutdown()  # takes the monitor, so the other is asleep by then
    waiting.join(30)
    assert not waiting.is_alive()
    assert not errors


def test_a_disk_that_is_formatted_again_is_empty(zoned: bool) -> None:
    store = new_store(zoned=zoned)
    for number in range(12):
        store.put(b"old", b"%d" % number)
        store.flush()
    store.shutdown()
    store = format_store(reopened(medium_of(store)), PlainSeam(), MANUAL)
    store.put(b"new", b"value")
    store.shutdown()
    assert dict(again(store).contents()) == {b"new": b"value"}


def test_the_largest_value_can_be_made_persistent(zoned: bool) -> None:
    """Its entry names so many chunks that it fills the block of a run."""
    store = new_store(zoned=zoned, extent_count=40)
    size = store._value_size_max_bytes
    assert size > 60 * MANUAL.chunk_payload_max_bytes
    with pytest.raises(TooLargeError):
        store.put(b"k" * 16, bytes(size + 1))
    dependency = store.put(b"k" * 16, bytes(size))
    store.sync()
    assert dependency.is_persistent()
    assert again(store).get(b"k" * 16) == bytes(size)


def test_waiting_for_every_put_does_not_wear_the_store_out() -> None:
    store = new_store(configuration=SMALL)
    for number in range(40):
        store.put(b"key", b"%d" % number).wait()
    assert store.get(b"key") == b"39"


def test_a_disk_without_a_superblock_is_no_disk_of_a_store(zoned: bool) -> None:
    with pytest.raises(CorruptionError, match="no superblock") as caught:
        open_store(new_medium(zoned=zoned), PlainSeam(), MANUAL)
    assert (caught.value.extent, caught.value.offset_bytes) == (0, 0)


@pytest.mark.parametrize("kind", ["write", "barrier"])
def test_a_disk_that_can_not_be_formatted_is_a_disk_error(kind: str) -> None:
    medium = new_medium()
    medium.fails = lambda event: event.kind == kind
    with pytest.raises(DiskError):
        format_store(medium, PlainSeam(), MANUAL)


def test_a_disk_that_does_not_settle_is_a_disk_error() -> None:
    store = new_store()
    medium = reopened(medium_of(store))
    medium.fails = lambda event: event.kind == "barrier"
    with pytest.raises(DiskError):
        open_store(medium, PlainSeam(), MANUAL)


def test_a_shutdown_that_is_interrupted_touches_the_disk_no_more() -> None:
    def interrupted(event: Event) -> bool:
        if event.kind == "barrier":
            raise KeyboardInterrupt
        return False

    store = new_store()
    dependency = store.put(b"a", b"1")
    medium_of(store).fails = interrupted
    with pytest.raises(KeyboardInterrupt):
        store.shutdown()
    traced_count = len(medium_of(store).trace)
    with pytest.raises(InterruptedStoreError):
        dependency.wait()
    assert len(medium_of(store).trace) == traced_count


def test_what_thousands_of_puts_return_can_be_joined_and_waited_for() -> None:
    store = format_store(new_medium(zoned=False, extent_size_pages=64), PlainSeam(), SMALL)
    total = store.put(b"a", b"x")
    for number in range(3_000):
        total &= store.put(b"%d" % (number % 9), b"x")
    total.wait()
    assert total.is_persistent()
