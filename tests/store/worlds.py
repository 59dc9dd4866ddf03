"""Small deterministic worlds for the tests: a seam, media that fail or tell on request, and the layers put together.

A page is 128 bytes and an extent has 16, so a record log turns after a few records and an extent fills after a few
chunks. Nothing here draws a random number of its own: open choices come from ``choose``, identifiers are serials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings

from harness.spec.device import MediumShape
from harness.world.devices import FILE, ZONED
from harness.world.medium import SimulatedMedium
from harness.world.sequential_seam import Monitor
from shardstore import chunk_frame
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.chunk_store import ChunkStore
from shardstore.dependency import PENDING, Dependency, State
from shardstore.extents import Extents
from shardstore.io_scheduler import IoScheduler
from shardstore.superblock import Superblock
from shardstore.units import Membership, RunBound, StoreConfiguration

PAGE = 128
EXTENT_PAGES = 16
EXTENT = PAGE * EXTENT_PAGES
SECRET = b"s" * 16
MEMBERSHIP = Membership(0, (b"d" * 16,))
SEED = chunk_frame.seed_of(SECRET)
FIRST = 4  # the first extent that holds chunks

SMALL = StoreConfiguration(
    key_size_max_bytes=16,
    chunk_payload_max_bytes=200,
    write_buffer_size_bytes=256,
    buffer_count=6,
    cache_size_pages=4,
    scan_slab_size_pages=3,
    memtable_entries_max=6,
    run_block_size_bytes=120,
    level0_runs_max=2,
    level_growth=2,
    reserve_extents_count=3,
    reclaim_free_extents_min=4,
)
MANUAL = replace(SMALL, automatic=False)  # nothing happens but what the test asks for


def examples(count_max: int = 60) -> settings:
    """Hypothesis settings: the same examples every time, and no clock."""
    return settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=count_max,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


Choose = Callable[[int], int]
_serials = count(1)


def first_choice(option_count: int) -> int:
    return 0


def random_choices(seed: int) -> Choose:
    draw = Random(seed).random
    return lambda option_count: int(draw() * option_count)


class PlainSeam:
    """One task, checked locks, serial identifiers."""

    def __init__(self, choose: Choose = first_choice, serials: Iterator[int] = _serials) -> None:
        self.choose = choose
        self._serials = serials

    def monitor(self, name: str) -> Monitor:
        return Monitor(name)

    def unique_id(self) -> bytes:
        return next(self._serials).to_bytes(16, "big")


class Event(NamedTuple):
    """What the device was asked to do."""

    kind: str  # read, write, reset, barrier
    extent: int = -1
    page: int = 0
    data: bytes = b""
    page_count: int = 0


class Medium(SimulatedMedium):
    """A medium that keeps a trace, fails where ``fails`` says so, and runs ``in_barrier`` while one is under way."""

    def __init__(self, shape: MediumShape) -> None:
        super().__init__(shape)
        self.trace: list[Event] = []
        self.fails: Callable[[Event], bool] = lambda event: False
        self.in_barrier: Callable[[], Any] = lambda: None

    def _enter_trace(self, event: Event) -> None:
        if self.fails(event):
            raise OSError(f"{event.kind} refused")
        self.trace.append(event)

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        self._enter_trace(Event("read", extent, page, page_count=page_count))
        if self.zoned and (page + page_count) * self.page_size_bytes > len(self._extents[extent]):
            raise OSError("read past the write pointer")  # as a device would; it happens after a refused write
        return super().read(extent, page, page_count)

    def write(self, extent: int, page: int, data: bytes) -> None:
        self._enter_trace(Event("write", extent, page, bytes(data), len(data) // self.page_size_bytes))
        super().write(extent, page, data)

    def reset(self, extent: int) -> None:
        self._enter_trace(Event("reset", extent))
        super().reset(extent)

    def barrier(self) -> None:
        self.in_barrier()
        self._enter_trace(Event("barrier"))
        super().barrier()

    def changes(self) -> list[Event]:
        """The trace without reads."""
        return [event for event in self.trace if event.kind != "read"]


def new_medium(*, zoned: bool = True, extent_count: int = 20, extent_size_pages: int = EXTENT_PAGES) -> Medium:
    return Medium(shape(zoned=zoned, extent_count=extent_count, extent_size_pages=extent_size_pages))


def shape(*, zoned: bool = True, extent_count: int = 20, extent_size_pages: int = EXTENT_PAGES) -> MediumShape:
    return MediumShape(extent_count, extent_size_pages, PAGE, ZONED if zoned else FILE, sector_size_bytes=64)


def reopened(medium: SimulatedMedium) -> Medium:
    """A copy: what a restart would find if everything issued so far survives."""
    return with_contents(medium.shape, list(medium._extents))


def with_contents(shape: MediumShape, extents: list[bytes]) -> Medium:
    medium = Medium(shape)
    medium._extents = extents
    return medium


def page_of(letter: str, page_count: int = 1) -> bytes:
    return letter.encode() * (PAGE * page_count)


class Stack:
    """The layers up to the chunk store on one medium, with the monitor held throughout, and their `Upkeep`."""

    def __init__(
        self, medium: Medium, choose: Choose = first_choice, configuration: StoreConfiguration = SMALL
    ) -> None:
        seam = PlainSeam(choose)
        self.medium = medium
        self.monitor = seam.monitor("stack")
        self.monitor.acquire()
        self.pool = BufferPool(configuration.buffer_count, self.monitor)
        self.scheduler = IoScheduler(medium, seam, self.monitor, self.pool, self)
        self.superblock = Superblock(self.scheduler, self)
        self.extents = Extents(self.scheduler, self.superblock)
        self.cache = BufferCache(self.extents, configuration.cache_size_pages)
        self.chunks = ChunkStore(self.cache, self.extents, self.pool, self.scheduler.step, seam, self, configuration)
        self.breaths_count = 0

    def make_room(self) -> None:
        """There is no memtable."""

    def may_copy(self) -> bool:
        return True

    def may_merge(self, bound: RunBound) -> bool:
        return True

    def breathe(self) -> None:
        self.breaths_count += 1
        self.monitor.release()
        self.monitor.acquire()

    def wait_until(self, done: Callable[[], bool]) -> None:
        self.monitor.wait_until(done, self.scheduler.step)

    def notify_all(self) -> None:
        self.monitor.notify_all()

    def poll(self, dependency: Dependency) -> State:
        return dependency.poll()

    def wait(self, dependency: Dependency) -> None:
        while dependency.poll() == PENDING and self.progress():
            pass

    def progress(self) -> bool:
        return self.scheduler.step() or self.chunks.flush()

    def drain(self) -> None:
        """Do all IO there is to do. Twice over, for a step that finds out about a failure does nothing else."""
        while self.scheduler.step() or self.scheduler.step():
            pass

    def settle(self) -> None:
        """Flush the buffers, and do all IO there is to do."""
        while self.progress():
            pass

    def format(self) -> Stack:
        self.scheduler.add_source(self.superblock)
        self.superblock.format(SECRET, MEMBERSHIP)
        self.drain()
        self.extents.format()
        self.chunks.format(SECRET)
        return self

    def recover(self) -> Stack:
        self.medium.barrier()
        assert self.superblock.recover()
        self.scheduler.add_source(self.superblock)
        self.extents.recover()
        self.chunks.recover(SECRET)
        return self


def new_stack(*, zoned: bool = True, choose: Choose = first_choice, extent_count: int = 20) -> Stack:
    return Stack(new_medium(zoned=zoned, extent_count=extent_count), choose).format()


def golden(name: str) -> bytes:
    """Bytes as a release wrote them. They are never edited: a new format gets new files."""
    return bytes.fromhex((Path(__file__).parent / "golden" / f"{name}.hex").read_text())
