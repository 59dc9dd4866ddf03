"""Small worlds for the specs: media and sizes at which borders, turns and reclamation happen within a few operations.

A page has 128 bytes, so a chunk of one byte takes two fifths of one. An extent has 16 pages, and a superblock log turns
after half a dozen records. A memtable has room for 6 keys, the cache for 4 pages, level 1 for 2 entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from harness import (
    FILE,
    KEY_ALPHABET,
    ZONED,
    Configuration,
    DeviceModel,
    Generator,
    Knob,
    MediumShape,
    SimulatedMedium,
    ViolationError,
    World,
    keys_from,
    payloads,
)
from shardstore import chunk_frame
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.dependency import PENDING, PERSISTENT, Dependency, State
from shardstore.disk import Disk
from shardstore.errors import ConfigurationError, CorruptionError, InvariantError
from shardstore.extents import Extents
from shardstore.io_scheduler import IoScheduler
from shardstore.limits import value_size_max_bytes
from shardstore.seam import Seam
from shardstore.store import Store
from shardstore.superblock import ExtentRecord, Superblock
from shardstore.units import (
    RESERVED_EXTENTS_COUNT,
    SECRET_SIZE_BYTES,
    UNOWNED,
    Membership,
    RunBound,
    StoreConfiguration,
)

PAGE_SIZE_BYTES = 128
SECTOR_SIZE_BYTES = 64
EXTENT_SIZE_PAGES = 16
EXTENT_COUNT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedConfiguration(StoreConfiguration):
    """A store's configuration, and the number from which the counters of a new disk go on; see `age`."""

    first_number: int = 0


STORE = CheckedConfiguration(
    key_size_max_bytes=16,
    chunk_payload_max_bytes=300,
    write_buffer_size_bytes=512,
    buffer_count=6,
    cache_size_pages=4,
    scan_slab_size_pages=3,
    breathe_at_count=3,
    block_cache_count=1,
    memtable_entries_max=6,
    run_block_size_bytes=120,
    level0_runs_max=2,
    level1_entries_max=2,
    level_growth=2,
    prune_at_count=8,
    reserve_extents_count=3,
    reclaim_free_extents_min=4,
)

# The default of each first, then small, large and at an edge. `turn_knobs` makes room for what does not fit.
KNOBS = (
    Knob("memtable_entries_max", (6, 4, 5, 13), "memtable full"),  # a bulk request has up to four keys
    Knob("prune_at_count", (8, 1, 2), "dependencies pruned"),
    Knob("in_doubt_size_max_bytes", (64 * 1024, 0, 200, 700), "bytes in doubt wait"),
    Knob("waiting_changes_max", (128, 1, 3), "superblock changes cannot wait"),
    Knob("chunk_payload_max_bytes", (300, 100, 33, 1000), "value of several chunks"),
    Knob("write_buffer_size_bytes", (512, 1, 200, 4096), "write buffer full"),
    Knob("buffer_count", (6, 5, 8), "wait for a buffer"),
    Knob("cache_size_pages", (4, 1, 2, 1000), "cache full"),
    Knob("scan_slab_size_pages", (3, 1, 2, 64), "scan of several slabs"),
    Knob("breathe_at_count", (3, 1, 64), "breath within a scan"),
    Knob("block_cache_count", (1, 2, 64), "block cache full"),
    Knob("run_block_size_bytes", (120, 1, 60, 400), "run of several blocks"),
    Knob("level0_runs_max", (2, 1, 4), "level 0 over its limit"),
    Knob("level1_entries_max", (2, 1, 5, 12, 60), "level 1 over its limit"),
    Knob("level_growth", (2, 3, 5), "level 2 over its limit"),
    Knob("reserve_extents_count", (3, 2, 5), "search for room"),
    Knob("reclaim_free_extents_min", (4, 0, 1, 9), "search for room ends at its goal"),
    Knob("page_size_bytes", (PAGE_SIZE_BYTES, 64, 256), "chunk of several pages"),
    Knob("extent_size_pages", (EXTENT_SIZE_PAGES, 8, 11, 32), "extent full"),
    Knob("extent_count", (EXTENT_COUNT, 1, 30), "search for room"),  # 1: no more than it needs
)
# A record has room for counters of many years. No scenario lives so long, so it may begin late.
AGES = (Knob("first_number", (0, 255, 65_535, (1 << 31) - 1), "epoch beyond a byte"),)
_OF_MEDIA = frozenset(("page_size_bytes", "extent_size_pages", "extent_count"))
_VALUE_SIZE_MAX_BYTES = 2_100  # of the values below

SECRET = b"s" * SECRET_SIZE_BYTES  # of disks that hold a part of a store

# Endings that a choice may give to a frame's UUID, and so to its trailer. If the last two bytes are alone on a page, a
# crash may take them, and the magic of the next frame may stand in their place: see bug 10.
COLLISIONS = (chunk_frame.MAGIC,)


def _payloads(*sizes_bytes: int) -> Generator:
    return payloads(
        PAGE_SIZE_BYTES,
        pages_max=3,
        overhead_bytes=chunk_frame.OVERHEAD_SIZE_BYTES + 1,
        fragments=(chunk_frame.MAGIC,),
        sizes_bytes=sizes_bytes,
    )


chunk_payloads: Generator = _payloads(447, 448, 449, 511, 512, 513)  # around a write buffer
# Around multiples of the sizes that a chunk may have, see `KNOBS`, and more than an extent takes.
values: Generator = _payloads(99, 100, 101, 200, 299, 300, 301, 599, 600, 601, 900, 1000, 2000, _VALUE_SIZE_MAX_BYTES)

# As often as `KEY_ALPHABET` alone, one of these: so many that an index gets three levels and runs of several blocks.
_FURTHER_KEYS = (*(b"k%d" % number for number in range(8)), b"l" * 16, b"l" * 15 + b"m")
keys: Generator = keys_from((*KEY_ALPHABET, *_FURTHER_KEYS), (17, 11, 7, 3, 1, 1, 1, 1))


def shape(
    device: DeviceModel,
    *,
    extent_count: int = EXTENT_COUNT,
    extent_size_pages: int = EXTENT_SIZE_PAGES,
    sector_size_bytes: int = SECTOR_SIZE_BYTES,
) -> MediumShape:
    return MediumShape(
        extent_count=extent_count,
        extent_size_pages=extent_size_pages,
        page_size_bytes=PAGE_SIZE_BYTES,
        device=device,
        sector_size_bytes=sector_size_bytes,
    )


def turn_knobs(
    configuration: Configuration, values: Mapping[str, Any], longest_value_bytes: int = _VALUE_SIZE_MAX_BYTES
) -> Configuration:
    """The configuration with these values of `KNOBS`, or of some.

    Extents grow, and become more, until the longest value of the spec fits a disk.
    """
    store = replace(configuration.parameters, **{name: values[name] for name in values.keys() - _OF_MEDIA})
    for growth in count():
        media = tuple(_turned(shape, values, growth) for shape in configuration.media)
        try:
            if all(_value_size_max(shape, len(media), store) >= longest_value_bytes for shape in media):
                return replace(configuration, media=media, parameters=store)
        except ConfigurationError:
            pass
    raise AssertionError("extents grow until they fit")


def _turned(shape: MediumShape, values: Mapping[str, Any], growth: int) -> MediumShape:
    page_size_bytes = values.get("page_size_bytes", shape.page_size_bytes)
    return replace(
        shape,
        page_size_bytes=page_size_bytes,
        sector_size_bytes=min(SECTOR_SIZE_BYTES, page_size_bytes),
        extent_size_pages=values.get("extent_size_pages", shape.extent_size_pages) << growth // 8,
        extent_count=values.get("extent_count", shape.extent_count) + growth,
    )


def _value_size_max(shape: MediumShape, disk_count: int, store: StoreConfiguration) -> int:
    return value_size_max_bytes(SimulatedMedium(shape), store, disk_count)


def configurations(knobs: tuple[Knob, ...] = KNOBS) -> tuple[Configuration, Configuration]:
    """Two configurations of one disk: zoned, and as a file."""
    return (
        Configuration("zoned", (shape(ZONED),), STORE, COLLISIONS, knobs, turn_knobs),
        Configuration("file", (shape(FILE),), STORE, COLLISIONS, knobs, turn_knobs),
    )


def age(stores: Sequence[Store], number: int) -> None:
    """Let the epochs of new disks go on from this number, once the disks are opened again."""
    for store in stores:
        with store.monitor:
            for extent in range(RESERVED_EXTENTS_COUNT, store.extents.extent_count):
                store.superblock.change(extent, ExtentRecord(number, 0, UNOWNED), PERSISTENT, "epoch")
        store.shutdown()


def number_from(stores: Sequence[Store], number: int) -> None:
    """Let generations of records and ids of runs go on from this number. The next record of each log is a full one."""
    for store in stores:
        for log in (store.superblock.log, store.metadata.log):
            log._next_generation += number
        store.index._next_run_id += number


class SmallStack:
    """The bottom of a store by itself: a monitor, a pool and an IO scheduler on one medium.

    It serves as the `Upkeep` of the layers that are put on it, and has room for everything.
    """

    def __init__(self, medium: Disk, seam: Seam, store: StoreConfiguration = STORE) -> None:
        self.medium = medium
        self.monitor = seam.monitor("stack")
        self.pool = BufferPool(store.buffer_count, self.monitor)
        self.scheduler = IoScheduler(medium, seam, self.monitor, self.pool, self)

    def poll(self, dependency: Dependency) -> State:
        with self.monitor:
            return dependency.poll()

    def wait(self, dependency: Dependency) -> None:
        with self.monitor:
            self.monitor.wait_until(lambda: dependency.poll() is not PENDING, self.scheduler.step)

    def write_back(self, steps: int) -> int:
        with self.monitor:
            return sum(self.scheduler.step() for _ in range(steps))

    def drain(self) -> None:
        """Do all IO there is to do; the monitor is held."""
        while self.scheduler.step():
            pass

    def make_room(self) -> None:
        """There is no memtable."""

    def may_copy(self) -> bool:
        return True

    def may_merge(self, bound: RunBound) -> bool:
        return True

    def breathe(self) -> None:
        """There are no other threads."""

    def wait_until(self, done: Callable[[], bool]) -> None:
        self.monitor.wait_until(done, self.scheduler.step)

    def notify_all(self) -> None:
        self.monitor.notify_all()

    def settle_device(self) -> None:
        """Pass a barrier: everything that opening reads must still be there after the next crash (REC-1)."""
        self.medium.barrier()


class SuperblockStack(SmallStack):
    """A small stack with a superblock on it, formatted at first and recovered later."""

    def __init__(self, world: World) -> None:
        super().__init__(world.media[0], world.seam)
        self.superblock = Superblock(self.scheduler, self)
        self.scheduler.add_source(self.superblock)
        self.settle_device()
        with self.monitor:
            if "formatted" in world.kept:
                self._recover()
            else:
                self._format()
        world.kept["formatted"] = True

    def _format(self) -> None:
        self.superblock.format(SECRET, Membership(0, (SECRET,)))
        self.drain()

    def _recover(self) -> None:
        if not self.superblock.recover():
            raise CorruptionError(0, 0, "the superblock is gone")


class CountingExtents(Extents):
    """Extents that count how often they are read."""

    reads_count = 0

    def read(self, number: int, page: int, page_count: int) -> bytes:
        self.reads_count += 1
        return super().read(number, page, page_count)


class ExtentsStack(SuperblockStack):
    """A stack with extents and cache too."""

    def __init__(self, world: World, store: StoreConfiguration = STORE) -> None:
        super().__init__(world)
        self.cache = BufferCache(self.extents, store.cache_size_pages)

    def _format(self) -> None:
        super()._format()
        self.extents = CountingExtents(self.scheduler, self.superblock)
        self.extents.format()

    def _recover(self) -> None:
        super()._recover()
        self.extents = CountingExtents(self.scheduler, self.superblock)
        self.extents.recover()


@contextmanager
def violations() -> Iterator[None]:
    """Turn a rule that the model sees broken into a violation of the system, not of the model."""
    try:
        yield
    except InvariantError as error:
        raise ViolationError(error.rule, str(error), f"what rule {error.rule} of docs/INVARIANTS.md says") from None
