"""The spec of the superblock by itself: a change is recorded once its prerequisite is persistent, and stays.

Every change has an epoch of its own. Its prerequisite is a page of a data extent, which holds that epoch. So the device
shows, for every change in a record, whether it was ready.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from harness import (
    FILE,
    ZONED,
    Background,
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
    lists_of,
    sampled,
)
from refmodel.superblock import Record, SuperblockModel
from shardstore.dependency import PENDING, PERSISTENT, Dependency, join
from shardstore.errors import NoSpaceError
from shardstore.spec_events import SUPERBLOCK
from shardstore.spec_trace import trace_stack
from shardstore.spec_world import PAGE_SIZE_BYTES, SuperblockStack, shape
from shardstore.superblock import ExtentRecord
from shardstore.units import RESERVED_EXTENTS_COUNT, UNOWNED

EXTENT_COUNT = 3  # that are named in records, and hold the pages that changes wait for
EXTENT_SIZE_PAGES = 8  # so that a log turns after four records
EXTENTS = range(RESERVED_EXTENTS_COUNT, RESERVED_EXTENTS_COUNT + EXTENT_COUNT)


class Prerequisite(NamedTuple):
    """A page that a change waits for. If ``behind``, the page in turn waits for the record of the change before."""

    extent: int
    behind: bool


class CheckedSuperblock(SuperblockStack):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._device = world.media[0]
        self._kept = world.kept
        self._kept.setdefault("epoch", 0)  # the last that was given
        self._places: dict[int, tuple[int, int]] = world.kept.setdefault("places", {})  # epoch -> extent, page
        self._asked: dict[int, tuple[ExtentRecord, Dependency]] = {}
        self._last: Dependency = PERSISTENT
        self._next_page = {extent: self._first_free_page(extent) for extent in EXTENTS}

    def _first_free_page(self, extent: int) -> int:
        if self.medium.zoned:
            return self.medium.write_pointer(extent)
        return 1 + max((page for at, page in self._places.values() if at == extent), default=-1)

    def change(self, extents: tuple[int, ...], state: tuple[int, int], after: Prerequisite | None) -> Dependency:
        with self.monitor:
            if after is not None and self._next_page[after.extent] == EXTENT_SIZE_PAGES:
                raise NoSpaceError("no page left to wait for")
            epoch = self._kept["epoch"] = self._kept["epoch"] + 1
            ready = PERSISTENT if after is None else self._write_page(epoch, after)
            record = ExtentRecord(epoch, *state)
            promises = [self.superblock.change(extent, record, ready, "change") for extent in extents]
            for extent, promise in zip(extents, promises, strict=True):
                self._asked[extent] = record, promise
            self._last = join(promises, self)
            return self._last

    def _write_page(self, epoch: int, after: Prerequisite) -> Dependency:
        self.pool.take(self.scheduler.step)
        page = self._next_page[after.extent]
        self._next_page[after.extent] += 1
        self._places[epoch] = after.extent, page
        behind = self._last if after.behind else PERSISTENT
        return self.scheduler.submit_write(after.extent, page, content(epoch), behind, "page")

    def recorded(self, extent: int) -> Record:
        """The record of an extent: as asked for while the change is on its way, else as recorded."""
        with self.monitor:
            record, promise = self._asked.get(extent, (None, PERSISTENT))
            if record is not None and promise.poll() is PENDING:
                return record
            return self.superblock.recorded(extent)

    def sync(self) -> None:
        """Make everything persistent."""
        with self.monitor:
            self.drain()

    def shutdown(self) -> None:
        self.sync()

    def is_ready(self, epoch: int) -> bool:
        """Whether the device holds the page that this change waits for, and will hold it after any crash."""
        extent, page = self._places.get(epoch, (0, 0))
        if not extent:
            return True  # it waits for nothing
        if self._device.zoned and page >= self._device.write_pointer(extent):
            return False
        unsettled = any((entry.extent, entry.page) == (extent, page) for entry in self._device.log)
        return self._device.read(extent, page, 1) == content(epoch) and not unsettled


def content(epoch: int) -> bytes:
    return epoch.to_bytes(4, "little") * (PAGE_SIZE_BYTES // 4)


def only_what_is_ready(system: CheckedSuperblock, _: SuperblockModel) -> None:
    for extent in EXTENTS:
        epoch = system.superblock.recorded(extent).epoch
        if not system.is_ready(epoch):
            raise ViolationError(
                "LOG-3", f"change {epoch} of extent {extent} is recorded", "what it waits for is not there"
            )


def contents(subject: Any) -> dict[int, Record]:
    return {extent: subject.recorded(extent) for extent in EXTENTS}


extents: Generator = integers(EXTENTS[0], EXTENTS[-1])
some_extents: Generator = lists_of(extents, 3, size_min=1)
states: Generator = sampled([(0, UNOWNED), (0, 1), (1, 1), (8, 2)])  # soft pointer, owner
prerequisites: Generator = sampled(
    [None, *[Prerequisite(extent, behind) for behind in (False, True) for extent in EXTENTS]]
)

SPEC = Spec(
    "superblock",
    system=CheckedSuperblock,
    model=SuperblockModel,
    operations=[
        Operation("recorded", extent=extents, weight=2),
        Operation(
            "change",
            extents=some_extents,
            state=states,
            after=prerequisites,
            weight=8,
            writes=lambda args, _: [[extent] for extent in args["extents"]],
        ),
        Background("sync"),
        WriteBack(weight=8),
        Reboot(),
        Crash(),
    ],
    configurations=[
        Configuration(device.name, (shape(device, extent_count=EXTENTS.stop, extent_size_pages=EXTENT_SIZE_PAGES),))
        for device in (ZONED, FILE)
    ],
    contents=contents,
    durability=Durability(
        read=lambda subject, extent: subject.recorded(extent),
        settle=lambda model, extent, record: model.settle(extent, record),
    ),
    invariants=[only_what_is_ready],
    excuses=(NoSpaceError,),
    trace=trace_stack,
    events=SUPERBLOCK,
)
