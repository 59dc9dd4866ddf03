"""The spec of extents, superblock and buffer cache: appended pages stay, a reset empties, pointers never disagree.

The system is a handful of named slots, each the content of one extent at a time. A directory stands in place of the
index: it remembers the pages and the epoch of each slot's appends. Its memory survives crashes, but it names only pages
that the recovered pointers cover, as an index would.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from harness import (
    BLOCK,
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Durability,
    Generator,
    Operation,
    Reboot,
    Spec,
    ViolationError,
    World,
    WriteBack,
    integers,
)
from refmodel.extents import ExtentsModel
from shardstore.dependency import PERSISTENT, Dependency, join
from shardstore.errors import NoSpaceError
from shardstore.spec_events import CACHE, EXTENTS, SUPERBLOCK, without
from shardstore.spec_trace import trace_stack
from shardstore.spec_world import PAGE_SIZE_BYTES, STORE, ExtentsStack, shape

SLOT_COUNT = 3
EXTENT_COUNT = 4 + SLOT_COUNT + 2  # more extents than slots, so that a slot need not come back to the same one


class Appended(NamedTuple):
    slot: int
    extent: int
    epoch: int
    page: int
    page_count: int


class CheckedExtents(ExtentsStack):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._directory: list[Appended] = world.kept.setdefault("directory", [])
        self._after: dict[int, Dependency] = {}  # of each slot, its last reset
        # Extent and page of the pages that were read last, the oldest first.
        self._read_last: dict[tuple[int, int], None] = {}
        # Pages that recovery does not show were lost, and must not come back when the pointer passes over them.
        self._directory[:] = [appended for appended in self._directory if self._is_there(appended)]

    def _is_there(self, appended: Appended) -> bool:
        return self.extents.epoch(
            appended.extent
        ) == appended.epoch and appended.page + appended.page_count <= self.extents.soft_pages(appended.extent)

    def _of(self, slot: int) -> list[Appended]:
        return [appended for appended in self._directory if appended.slot == slot and self._is_there(appended)]

    def append(self, slot: int, data: bytes) -> Dependency:
        with self.monitor:
            extent = self._extent_for(slot, len(data) // PAGE_SIZE_BYTES)
            self.pool.take(self.scheduler.step)
            epoch = self.extents.epoch(extent)
            appended, dependency = self.cache.append(extent, data, self._after.get(slot, PERSISTENT))
            self._directory.append(Appended(slot, extent, epoch, appended.page, len(data) // PAGE_SIZE_BYTES))
            return join((dependency, self._after.get(slot, PERSISTENT)), self)

    def _extent_for(self, slot: int, page_count: int) -> int:
        pages = self._of(slot)
        if not pages:
            return self.extents.allocate(slot + 1)
        if self.extents.next_page(pages[0].extent) + page_count > self.extents.extent_size_pages:
            raise NoSpaceError("the slot is full")
        return pages[0].extent

    def read(self, slot: int) -> bytes:
        with self.monitor:
            pages = self._of(slot)
            return b"".join([self._read(each) for each in pages])

    def _read(self, appended: Appended) -> bytes:
        """Read pages through the cache, which must have those that were read last (COST-3)."""
        keys = [(appended.extent, appended.page + at) for at in range(appended.page_count)]
        before_count = self.extents.reads_count
        data = self.cache.read(appended.extent, appended.page, appended.page_count)
        if self.extents.reads_count > before_count and all(key in self._read_last for key in keys):
            raise ViolationError("COST-3", f"{keys} were read again", f"the cache has {list(self._read_last)}")
        for key in keys:
            self._read_last.pop(key, None)
            self._read_last[key] = None
        while len(self._read_last) > STORE.cache_size_pages:
            del self._read_last[next(iter(self._read_last))]
        return data

    def reset(self, slot: int) -> Dependency:
        with self.monitor:
            pages = self._of(slot)
            if not pages:
                return self._after.get(slot, PERSISTENT)
            extent = pages[0].extent
            self._after[slot] = self.cache.reset(extent, self._after.get(slot, PERSISTENT))
            self._read_last = {key: None for key in self._read_last if key[0] != extent}
            return self._after[slot]

    def contents(self) -> dict[int, bytes]:
        contents = {slot: self.read(slot) for slot in range(SLOT_COUNT)}
        return {slot: data for slot, data in contents.items() if data}

    def sync(self) -> None:
        """Make everything persistent."""
        with self.monitor:
            self.drain()

    def shutdown(self) -> None:
        self.sync()


def pages(choose: Choose, name: str) -> bytes:
    """One to three pages of one letter."""
    count = 1 + choose(name, 3)
    return bytes([ord("a") + choose(name, 26)]) * (count * PAGE_SIZE_BYTES)


slots: Generator = integers(0, SLOT_COUNT - 1)


def contents(subject: Any) -> dict[int, bytes]:
    found: dict[int, bytes] = subject.contents()
    return found


SPEC = Spec(
    "extents",
    system=CheckedExtents,
    model=ExtentsModel,
    operations=[
        Operation("read", slot=slots, weight=4),
        Operation("append", slot=slots, data=pages, weight=8, writes="slot"),
        Operation("reset", slot=slots, weight=2, writes="slot"),
        Background("sync", weight=2),
        WriteBack(weight=8),
        Reboot(),
        Crash(),
    ],
    configurations=(
        Configuration("zoned", (shape(ZONED, extent_count=EXTENT_COUNT),)),
        Configuration("file", (shape(FILE, extent_count=EXTENT_COUNT),)),
        Configuration("block", (shape(BLOCK, extent_count=EXTENT_COUNT),)),
    ),
    contents=contents,
    durability=Durability(
        read=lambda subject, slot: subject.read(slot),
        settle=lambda model, slot, data: model.settle(slot, data),
    ),
    excuses=(NoSpaceError,),
    trace=trace_stack,
    events=without(
        (*SUPERBLOCK, *EXTENTS, *CACHE),
        ("epoch beyond 5", "read larger than the cache"),
        "it resets three extents a run, reads three pages at once and keeps four",
    ),
)
