"""The superblock: records the owner and the epoch of each extent, how far it may be read, and whose disk this is.

Guarantees. A change is recorded only once its prerequisite is persistent. The changes of one extent are recorded in the
order in which they were made. The promise of a change is persistent once the first record that carries it is.

Many changes share one record. Soft pointers may wait for others, since records of the metadata name what is not covered
yet. A record's size depends on how many extents have changed since the last, not on how many
there are. A full record has them all, and the disk's `Membership`, which never changes; each record is sealed with the
disk's secret. Crash safety is that of `TwinLog`.

    change() --> pending, in order per extent --> carried by a record being written --> persistent
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from shardstore.dependency import FAILED, PENDING, PERSISTENT_STATE, Dependency, Promise, Waiter
from shardstore.errors import ConfigurationError, CorruptionError, InvariantError
from shardstore.io_scheduler import IoScheduler
from shardstore.observer import Observer
from shardstore.twin_log import RECORD_HEADER_SIZE_BYTES, TwinLog
from shardstore.units import (
    DEFAULTS,
    DISK_ID_SIZE_BYTES,
    RESERVED_EXTENTS_COUNT,
    SUPERBLOCK_EXTENTS,
    UNOWNED,
    Membership,
    Owner,
    StoreConfiguration,
    new_tuple,
)

MAGIC = b"SSB1"
_GEOMETRY = struct.Struct("<IIIB")  # extents, pages an extent, bytes a page, zoned
_MEMBERSHIP = struct.Struct("<HH")  # place of the disk in its node, number of disks; the id of each disk follows
_ENTRY = struct.Struct("<IIIB")  # extent, epoch, soft pointer in pages, owner


class ExtentRecord(NamedTuple):
    """The recorded state of one extent."""

    epoch: int
    soft_pages: int
    owner: Owner


PRISTINE = ExtentRecord(0, 0, UNOWNED)
_NOT_KNOWN = Membership(0, ())


class _Change(NamedTuple):
    """A change that is not in a record yet."""

    after: Dependency
    record: ExtentRecord
    promise: Promise
    may_wait: bool


class Superblock:
    """The caller holds the store's monitor. A `RecordSource` of the IO scheduler."""

    def __init__(self, scheduler: IoScheduler, waiter: Waiter, configuration: StoreConfiguration = DEFAULTS) -> None:
        self._scheduler = scheduler
        self._disk = scheduler.disk
        self._waiter = waiter
        self._log = TwinLog(scheduler, SUPERBLOCK_EXTENTS, MAGIC, "superblock", configuration.scan_slab_size_pages)
        self._waiting_changes_max = configuration.waiting_changes_max
        self._recorded: dict[int, ExtentRecord] = {}  # as of the newest record; without pristine extents
        self._pending: dict[int, deque[_Change]] = {}  # by extent; never an empty queue
        self._pending_count = 0
        self._urgent_count = 0  # of these, which may not wait
        self._format_due = False
        self.membership = _NOT_KNOWN

    @property
    def bytes_recorded(self) -> int:
        """Bytes of records submitted since the superblock was opened, both copies counted."""
        return self._log.bytes_submitted

    # --- opening ------------------------------------------------------------------------------------

    def format(self, secret: bytes, membership: Membership) -> None:
        """Make the next record the first of a fresh disk."""
        self._log.format(secret)
        self.membership = membership
        self._format_due = True

    def recover(self) -> bool:
        """Read the newest state. False if the disk was never formatted.

        Raises `CorruptionError`, `DiskError`, `FormatVersionError`, and `ConfigurationError` for another geometry.
        """
        payloads = self._log.recover()
        for number, payload in enumerate(payloads):
            self._apply(payload, is_full=number == 0)
        return bool(payloads)

    @property
    def log(self) -> TwinLog:
        """Its records on the disk."""
        return self._log

    def secret(self) -> bytes:
        """The disk's secret. Known once the superblock is formatted or recovered."""
        return self._log.secret()

    def recorded(self, extent: int) -> ExtentRecord:
        """The state of an extent as of the newest record that was submitted."""
        return self._recorded.get(extent, PRISTINE)

    def _apply(self, payload: bytes, *, is_full: bool) -> None:
        entries = payload
        if is_full:
            self._check_geometry(payload)
            self.membership, entries = _decode_membership(payload[_GEOMETRY.size :])
        if len(entries) % _ENTRY.size:
            raise CorruptionError(SUPERBLOCK_EXTENTS[0], 0, "superblock record ends within an entry")
        for extent, epoch, soft_pages, owner in _ENTRY.iter_unpack(entries):
            if not RESERVED_EXTENTS_COUNT <= extent < self._disk.extent_count:
                raise CorruptionError(SUPERBLOCK_EXTENTS[0], 0, f"superblock names extent {extent}")
            if soft_pages > self._disk.extent_size_pages:
                raise CorruptionError(extent, 0, f"soft pointer {soft_pages} is past the extent's end")
            if soft_pages and owner == UNOWNED:
                raise CorruptionError(extent, 0, f"{soft_pages} pages have no owner")
            self._recorded[extent] = ExtentRecord(epoch, soft_pages, owner)

    def _check_geometry(self, payload: bytes) -> None:
        if len(payload) < _GEOMETRY.size:
            raise CorruptionError(SUPERBLOCK_EXTENTS[0], 0, "superblock record is too short")
        found = _GEOMETRY.unpack_from(payload)
        if found != self._geometry():
            raise ConfigurationError(f"disk was formatted as {found}, opened as {self._geometry()}")

    def _geometry(self) -> tuple[int, int, int, bool]:
        disk = self._disk
        return (disk.extent_count, disk.extent_size_pages, disk.page_size_bytes, disk.zoned)

    # --- changes ------------------------------------------------------------------------------------

    def change(
        self, extent: int, record: ExtentRecord, after: Dependency, label: str, *, may_wait: bool = False
    ) -> Promise:
        """Record this state of the extent once ``after`` is persistent. Gives the promise of that record.

        A change that may wait does not make a record due as long as there is anything else to do.
        """
        promise = Promise(self._waiter)
        if self._scheduler.observer is not None:
            after = self._scheduler.observer.promised(promise, label, extent, after)
        change = new_tuple(_Change, (after, record, promise, may_wait))
        self._pending_count += 1
        self._urgent_count += not may_wait
        changes = self._pending.get(extent)
        if changes is None:
            self._pending[extent] = deque((change,))
        else:
            changes.append(change)
        return promise

    def tell(self, observer: Observer) -> None:
        """Tell the observer of the changes that opening has left to be recorded."""
        for extent, changes in self._pending.items():
            for at, change in enumerate(changes):
                after = observer.promised(change.promise, "soft pointer", extent, change.after)
                changes[at] = change._replace(after=after)

    def has_pending(self) -> bool:
        """Whether some change is not recorded persistently yet, or the last record has failed."""
        return bool(self._pending) or not self._log.is_ready() or self._log.is_failed()

    def wrong_counts(self) -> list[str]:
        """Of the changes that are counted as they come and go, the counts that are wrong (COUNT-1)."""
        changes = [change for queue in self._pending.values() for change in queue]
        counted = (self._pending_count, self._urgent_count)
        return [] if counted == (len(changes), sum([not each.may_wait for each in changes])) else [f"changes {counted}"]

    # --- records ------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether a record can be built now and would carry something."""
        if not self._log.is_ready():
            return False
        if self._format_due or self._log.needs_repair:
            return True
        for changes in self._pending.values():
            state = changes[0].after.poll()
            if state is not PENDING:
                return state is PERSISTENT_STATE or bool(self._ready_extents())
        return False

    def may_wait(self) -> bool:
        """Whether nobody needs a record now: what it would carry are few changes that may all wait."""
        if self._urgent_count or self._format_due or self._log.needs_repair:
            return False
        return self._pending_count < self._waiting_changes_max

    def submit_record(self) -> None:
        """Build a record of all changes that are ready and hand it to the IO scheduler."""
        changed: dict[int, ExtentRecord] = {}
        carried: list[Promise] = []
        for extent in self._ready_extents():
            changed[extent] = self._take_ready(extent, carried)
        self._check_steps(changed)
        self._recorded.update(changed)
        self._scheduler.pool.take_reserved()
        write = self._log.submit(self._encode(changed.items()), self._encode_full)
        self._format_due = False
        for promise in carried:
            promise.bind(write)

    def _ready_extents(self) -> list[int]:
        ready = []
        for extent in list(self._pending):
            state = self._pending[extent][0].after.poll()
            if state is PERSISTENT_STATE:
                ready.append(extent)
            elif state is FAILED:
                self._fail(extent)
        return ready

    def _take_ready(self, extent: int, carried: list[Promise]) -> ExtentRecord:
        changes = self._pending[extent]
        record = PRISTINE
        while changes and changes[0].after.poll() is PERSISTENT_STATE:
            change = changes.popleft()
            self._pending_count -= 1
            self._urgent_count -= not change.may_wait
            record = change.record
            carried.append(change.promise)
        if not changes:
            del self._pending[extent]
        return record

    def _fail(self, extent: int) -> None:
        """Fail all changes of an extent, since the prerequisite of the first has failed and the others build on it."""
        for change in self._pending.pop(extent):
            self._pending_count -= 1
            self._urgent_count -= not change.may_wait
            change.promise.fail()

    def _check_steps(self, changed: dict[int, ExtentRecord]) -> None:
        """Raise `InvariantError` if a record would take an extent back, or give pages to one without an owner."""
        for extent, record in changed.items():
            old = self.recorded(extent)
            if record.epoch < old.epoch or (record.epoch == old.epoch and record.soft_pages < old.soft_pages):
                raise InvariantError("SB-1", f"extent {extent} would go from {old} back to {record}")
            if record.soft_pages and record.owner == UNOWNED:
                raise InvariantError("SB-2", f"extent {extent} would have pages but no owner: {record}")

    def _encode_full(self) -> bytes:
        entries = self._encode(sorted(self._recorded.items()))
        return _GEOMETRY.pack(*self._geometry()) + _encode_membership(self.membership) + entries

    def _encode(self, entries: Iterable[tuple[int, ExtentRecord]]) -> bytes:
        return b"".join([_ENTRY.pack(extent, *record) for extent, record in entries])


def _encode_membership(membership: Membership) -> bytes:
    return _MEMBERSHIP.pack(membership.place, len(membership.disks)) + b"".join(membership.disks)


def _decode_membership(data: bytes) -> tuple[Membership, bytes]:
    """The membership, and the bytes behind it. Raises `CorruptionError`."""
    start = _MEMBERSHIP.size
    place, count = _MEMBERSHIP.unpack_from(data) if len(data) >= start else (0, 0)
    end = start + count * DISK_ID_SIZE_BYTES
    if place >= count or end > len(data):
        raise CorruptionError(SUPERBLOCK_EXTENTS[0], 0, f"superblock names disk {place} of {count}")
    return Membership(
        place, tuple(data[at : at + DISK_ID_SIZE_BYTES] for at in range(start, end, DISK_ID_SIZE_BYTES))
    ), data[end:]


def superblock_full_size_bytes(extent_count: int, page_size_bytes: int, disk_count: int = 1) -> int:
    """The size in bytes of one copy of the largest full record of a node's disk, padded to whole pages."""
    identity_size = _MEMBERSHIP.size + disk_count * DISK_ID_SIZE_BYTES
    size = RECORD_HEADER_SIZE_BYTES + _GEOMETRY.size + identity_size + _ENTRY.size * extent_count
    return -(-size // page_size_bytes) * page_size_bytes
