"""Scrubs with something to find: one bit of a live object reads flipped, as long as the scrub reads, and for it alone.

What was live from the scrub's beginning to its end must be told (SCRUB-1), and nothing else (SCRUB-2), whatever comes
between its steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from harness import ViolationError
from shardstore.disk import Disk
from shardstore.errors import DiskError
from shardstore.scrub import Damage, Part
from shardstore.store import Store
from shardstore.twin_log import RECORD_HEADER_SIZE_BYTES, TwinLog


class _Object(NamedTuple):
    """Something live on a disk. What names it is never given twice."""

    part: Part
    extent: int
    start_bytes: int
    size_bytes: int
    name: Any  # a locator, or generation and page of a log record


class _FlippedDisk:
    """A disk of which one bit reads flipped. It is only read."""

    def __init__(self, disk: Disk, extent: int, offset_bytes: int, bit: int) -> None:
        self.holder = disk.holder
        self.extent_count = disk.extent_count
        self.extent_size_pages = disk.extent_size_pages
        self.page_size_bytes = disk.page_size_bytes
        self.zoned = disk.zoned
        self._disk = disk
        self._extent = extent
        self._offset_bytes = offset_bytes
        self._mask = 1 << bit

    def write_pointer(self, extent: int) -> int:
        return self._disk.write_pointer(extent)

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        data = self._disk.read(extent, page, page_count)
        at = self._offset_bytes - page * self._disk.page_size_bytes
        if extent != self._extent or not 0 <= at < len(data):
            return data
        return data[:at] + bytes((data[at] ^ self._mask,)) + data[at + 1 :]

    def write(self, extent: int, page: int, data: bytes) -> None:
        raise ViolationError("SCRUB-2", f"a write to extent {extent}", "a scrub only reads")

    def reset(self, extent: int) -> None:
        raise ViolationError("SCRUB-2", f"a reset of extent {extent}", "a scrub only reads")

    def barrier(self) -> None:
        raise ViolationError("SCRUB-2", "a barrier", "a scrub only reads")


class FlippedScrub:
    """One scrub of a store. ``at`` picks the object, its byte and bit; 0 picks none."""

    def __init__(self, store: Store, at: int) -> None:
        self._store = store
        objects = [None, *_objects(store)]
        self._target = objects[at % len(objects)]
        self._byte = self._target.start_bytes + at * 37 % self._target.size_bytes if self._target else 0
        self._disk: Disk = store.disk
        if self._target is not None:
            self._disk = _FlippedDisk(store.disk, self._target.extent, self._byte, at % 8)
        self._verification = store.verify()
        self._found: list[Damage] = []

    def go_on(self, steps_count: int) -> bool:
        """Do so many steps. False once it is at its end, and has found what it should.

        Raises `DiskError` if something could not be read: then a fault must excuse that.
        """
        with self._flipped():
            for _ in range(steps_count):
                found = next(self._verification, None)
                if found is None:
                    break
                self._found += found
        for damage in self._found:
            if damage.is_unreadable:
                raise DiskError(str(damage))
            if not self._is_target(damage):
                raise ViolationError("SCRUB-2", damage, "only what is damaged is told")
        if found is None:
            self._check_end()
        return found is not None

    @contextmanager
    def _flipped(self) -> Iterator[None]:
        scheduler, disk = self._store.scheduler, self._store.scheduler.disk
        scheduler.disk = self._disk
        try:
            yield
        finally:
            scheduler.disk = disk

    def _is_target(self, damage: Damage) -> bool:
        """Whether it is where the flipped byte is. The extent may have been emptied and filled again meanwhile."""
        target = self._target
        return target is not None and damage.extent == target.extent and damage.offset_bytes <= self._byte

    def _check_end(self) -> None:
        target = self._target
        if target in _objects(self._store) and not any(
            (damage.part, damage.extent, damage.offset_bytes) == target[:3] for damage in self._found
        ):
            raise ViolationError("SCRUB-1", self._found, f"told: {target}")


def _objects(store: Store) -> list[_Object]:
    """What is live and on the device, not in a queue or a buffer, found without the code of the scrub."""
    with store.monitor:
        try:
            return _objects_on_device(store)
        except OSError as error:
            raise DiskError(str(error)) from error


def _objects_on_device(store: Store) -> list[_Object]:
    size = store.disk.page_size_bytes
    found = records_on_device(Part.SUPERBLOCK_RECORD, store.superblock.log, store.disk)
    found += records_on_device(Part.METADATA_RECORD, store.metadata.log, store.disk)
    named = [(Part.RUN_BLOCK, locator) for run in store.index.runs() for locator in run.locators]
    named += [(Part.VALUE_CHUNK, locator) for _, locators in store.index.items() for locator in locators]
    for part, locator in named:
        extent, start, length, _ = locator
        if start + length <= store.extents.soft_pages(extent) * size:
            found.append(_Object(part, extent, start, length, locator))
    queued, _ = store.scheduler.on_its_way()
    places = [
        (extent, page * size, page * size + len(data))
        for extent, writes in queued
        for page, data in writes
        if data is not None
    ]
    return [each for each in found if not any(_overlaps(each, *place) for place in places)]


def records_on_device(part: Part, log: TwinLog, disk: Disk) -> list[_Object]:
    """Both copies of each record on the device from the newest full one on, if both are there."""
    found = []
    for extent in log._extents:
        page_count = disk.write_pointer(extent) if disk.zoned else disk.extent_size_pages
        data = disk.read(extent, 0, page_count) if page_count else b""
        for page in range(page_count):
            record = log._decode(extent, page, page_count, data, page * disk.page_size_bytes)
            if record is not None and record.secret == log.secret():
                found.append((extent, record))
    newest = max((record.generation for _, record in found if record.is_full), default=0)
    live_extent = next((extent for extent, record in found if record.generation == newest), None)
    return [
        _Object(
            part,
            extent,
            record.page * disk.page_size_bytes,
            RECORD_HEADER_SIZE_BYTES + len(record.payload),
            (record.generation, record.page),
        )
        for extent, record in found
        if extent == live_extent
        and record.generation >= newest
        and not (record.generation == log.newest_generation() and log.is_failed())
        and [other.generation for _, other in found].count(record.generation) == 2  # else a crash has torn one
    ]


def _overlaps(each: _Object, extent: int, start: int, end: int) -> bool:
    return each.extent == extent and each.start_bytes < end and start < each.start_bytes + each.size_bytes
