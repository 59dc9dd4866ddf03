"""Several threads on one store, each sure of what it wrote. Deterministic in outcome, not in schedule."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from worlds import PAGE, SMALL, Medium, PlainSeam, new_medium, random_choices, reopened

from shardstore.errors import NotFoundError
from shardstore.node import format_node
from shardstore.seam import ThreadSeam
from shardstore.store import format_store, open_store
from shardstore.units import StoreConfiguration

THREADS_COUNT = 4
OPERATIONS_COUNT = 120
HANGS_AFTER_SECONDS = 30  # a watchdog, so that a lost wake-up fails the test instead of the whole run
CONFIGURATION = replace(SMALL, run_block_size_bytes=500, memtable_entries_max=16, buffer_count=64)
FEW_BUFFERS = replace(CONFIGURATION, buffer_count=4)


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@contextmanager
def running(tasks: list[Callable[[], None]]) -> Iterator[None]:
    """Run each in a thread of its own; the first error of any is raised."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(HANGS_AFTER_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def roomy_medium(*, zoned: bool) -> Medium:
    medium = new_medium(zoned=zoned, extent_count=40, extent_size_pages=64)
    medium.in_barrier = os.sched_yield
    return medium


@pytest.mark.parametrize(
    "configuration",
    [
        pytest.param(CONFIGURATION, id="many buffers"),
        pytest.param(FEW_BUFFERS, id="few buffers"),
    ],
)
def test_threads_on_one_store_do_not_disturb_each_other(zoned: bool, configuration: StoreConfiguration) -> None:
    medium = roomy_medium(zoned=zoned)
    store = format_store(medium, ThreadSeam(), configuration)
    finals: list[dict[bytes, bytes | None]] = [{} for _ in range(THREADS_COUNT)]

    def client(number: int) -> None:
        choose, mine = random_choices(number), finals[number]
        for serial in range(OPERATIONS_COUNT):
            key = b"%d.%d" % (number, choose(6))
            what = choose(10)
            if what < 5:
                mine[key] = b"%d." % serial + bytes(choose(2 * PAGE))
                dependency = store.put(key, mine[key] or b"")
                if choose(4) == 0:
                    dependency.wait()
                    assert dependency.is_persistent()
            elif what == 5:
                store.delete(key)
                mine[key] = None
            elif what == 6:
                (store.flush, store.flush_buffers, store.compact, store.reclaim)[choose(4)]()
            elif mine.get(key) is not None:
                assert store.get(key) == mine[key]
            else:
                with pytest.raises(NotFoundError):
                    store.get(key)

    with running([partial(client, number) for number in range(THREADS_COUNT)]):
        pass
    expected = {key: value for mine in finals for key, value in mine.items() if value is not None}
    assert dict(store.contents()) == expected
    store.shutdown()
    assert dict(open_store(reopened(medium), PlainSeam(), configuration).contents()) == expected


def test_bulk_1_a_listing_sees_all_of_a_share_or_none() -> None:
    medium = roomy_medium(zoned=True)
    store = format_store(medium, ThreadSeam(), CONFIGURATION)
    keys = [b"%d" % number for number in range(8)]

    def writer() -> None:
        for number in range(60):
            store.bulk_put([(key, b"%d" % number) for key in keys])
            store.bulk_delete(keys)

    def upkeep() -> None:
        for _ in range(60):
            store.flush()
            store.compact()
            store.reclaim()
            store.sync()  # an extent comes back once its reset is persistent

    def reader() -> None:
        for _ in range(150):
            snapshot = store.snapshot()
            assert snapshot.keys_after(b"", 100) in ([], keys)
            snapshot.close()

    with running([writer, upkeep, reader]):
        pass


def test_group_commit_many_waiters_share_barriers() -> None:
    medium = roomy_medium(zoned=False)
    store = format_store(medium, ThreadSeam(), CONFIGURATION)

    def client(number: int) -> None:
        store.put(b"%d" % number, b"v").wait()

    with running([partial(client, number) for number in range(8)]):
        pass
    assert sorted(dict(open_store(reopened(medium), PlainSeam(), CONFIGURATION).contents())) == [
        b"%d" % number for number in range(8)
    ]


def test_threads_on_one_node() -> None:
    media = [roomy_medium(zoned=zoned) for zoned in (True, False)]
    node = format_node(media, ThreadSeam(), CONFIGURATION)

    def client(number: int) -> None:
        for serial in range(60):
            key = b"%d.%d" % (number, serial % 7)
            dependency = node.put(key, b"%d" % serial)
            if serial % 9 == 0:
                dependency.wait()
            assert node.get(key) == b"%d" % serial
            if serial % 10 == 0:
                node.flush()
                node.compact()
                node.reclaim()
                assert all(page for page in node.list(page_size_keys=3))

    with running([partial(client, number) for number in range(3)]):
        pass
    node.shutdown()
    stores = [open_store(reopened(medium), PlainSeam(), CONFIGURATION) for medium in media]
    found = {key: value for store in stores for key, value in store.contents()}
    expected = {b"%d.%d" % (number, n): b"%d" % max(range(n, 60, 7)) for number in range(3) for n in range(7)}
    assert found == expected
