"""The twin log: a log of records in two extents in turn, with each record written twice.

    extent a   | full g | full g | delta g+1 | delta g+1 | ...  | stale or empty
    extent b   | older turn, being reset, or empty

Guarantees. After any crash, `recover` gives the newest record that was persistent, or a newer one, together with all
records that it builds on. At most one record is on its way at a time (LOG-1). The old extent is reset only once the
full record that opens the new one is persistent (LOG-2).

A delta may be *in doubt*: issued together with other writes without which it says nothing. It is on its way until these
are persistent, too (LOG-7). Recovery asks its caller whether the newest delta holds, and cuts it off if not (REC-2).

Each record carries the *secret* of its disk, and others are ignored (LOG-6). So nobody who only chooses keys and values
can make one up, though a file may hold users' bytes behind the newest record.

Survives the loss of any one copy of each record. Not promised: damage at rest to both copies of the newest record looks
like a torn write, so `recover` takes the record before it for the newest.

The bytes are in ``docs/ON_DISK_FORMAT.md``; the argument in ``docs/PROTOCOLS.md``, sections 3 and 13.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

from crc32c import crc32c

from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Dependency
from shardstore.errors import CorruptionError, FormatVersionError, InvariantError, NoSpaceError
from shardstore.io_scheduler import IoScheduler
from shardstore.units import DEFAULTS, SECRET_SIZE_BYTES

FORMAT_VERSION = 3

# magic, format version, is full, generation, length of secret and payload; the CRC-32C of all of it follows
_HEADER = struct.Struct("<4sHBQI")
_CHECKSUM = struct.Struct("<I")
_SECRET_START = _HEADER.size + _CHECKSUM.size
RECORD_HEADER_SIZE_BYTES = _SECRET_START + SECRET_SIZE_BYTES


class Record(NamedTuple):
    """One copy of a record that a scan found."""

    page: int
    page_count: int  # of one copy
    is_full: bool
    generation: int
    secret: bytes
    payload: bytes


class Copies(NamedTuple):
    """Where both copies of a record of the live chain are, one right behind the other."""

    generation: int
    extent: int
    page: int  # of the first
    page_count: int  # of one
    may_be_torn: bool  # opening has found one copy of it, the newest then


class _Chain:
    """Where the records of a chain are: one behind the other from the start of an extent, each in two copies."""

    __slots__ = ("end_pages", "extent", "first_generation", "newest", "torn_number")

    def __init__(self, extent: int, first_generation: int) -> None:
        self.extent = extent
        self.first_generation = first_generation
        self.end_pages: list[int] = []  # of each record, behind its second copy
        self.newest: Dependency = PERSISTENT  # the write of the last
        self.torn_number = -1  # of the record, the last at opening, of which there was one copy; or none is

    def live_count(self) -> int:
        """How many of the records are live: the last is not if the device has refused it."""
        return len(self.end_pages) - (self.newest.poll() is FAILED)

    def copies(self, number: int) -> Copies:
        page = self.end_pages[number - 1] if number else 0
        page_count = (self.end_pages[number] - page) // 2
        return Copies(self.first_generation + number, self.extent, page, page_count, number == self.torn_number)


class TwinLog:
    """One log on a pair of reserved extents. The caller holds the store's monitor."""

    def __init__(
        self,
        scheduler: IoScheduler,
        extents: tuple[int, int],
        magic: bytes,
        name: str,
        scan_slab_size_pages: int = DEFAULTS.scan_slab_size_pages,
    ) -> None:
        self._scheduler = scheduler
        self._disk = scheduler.disk
        self._extents = extents
        self._magic = magic
        self._name = name
        self._scan_slab_size_pages = scan_slab_size_pages
        self._secret: bytes | None = None  # known once the log is formatted or recovered
        self._active = 0  # which of the two extents holds the newest full record
        self._next_page = 0
        self._next_generation = 1
        self._turn_due = True  # also after opening: a torn record may lie where the next would go
        self._newest: Dependency = PERSISTENT  # the newest record's write
        self._in_doubt: Dependency = PERSISTENT  # what that record is in doubt of
        self._outstanding: Dependency = PERSISTENT  # of that, and of what it is in doubt of
        self._outstanding_turned = False
        self._live = _Chain(extents[0], 0)  # the chain of the newest record
        self._left: _Chain | None = None  # the live one until the full record that opens `_live` is persistent
        self.bytes_submitted = 0
        self.needs_repair = False  # a record of the live chain has lost a copy, or was cut off
        self.was_cut = False  # recovery has found that the newest delta does not hold

    def format(self, secret: bytes) -> None:
        """Seal all records to come with this secret of the disk."""
        self._secret = secret

    def is_ready(self) -> bool:
        """Whether the next record may be built, because the one before is persistent or failed."""
        before = self._outstanding
        return before.state is not PENDING or before.poll() is not PENDING

    def is_failed(self) -> bool:
        """Whether the device refused the last record, or what that was in doubt of."""
        before = self._outstanding
        return before.state is FAILED or (before.state is PENDING and before.poll() is FAILED)

    def turns_with(self, delta: bytes) -> bool:
        """Whether the next record is a full one, this delta being all that is new. Nothing is on its way."""
        if self._turn_due or self._outstanding.state is FAILED:
            return True
        size_pages = -(-(RECORD_HEADER_SIZE_BYTES + len(delta)) // self._disk.page_size_bytes)
        return self._next_page + 2 * size_pages > self._disk.extent_size_pages

    def submit(
        self,
        delta: bytes,
        full: Callable[[], bytes],
        after: Dependency = PERSISTENT,
        in_doubt: Dependency = PERSISTENT,
    ) -> Dependency:
        """Write the next record: ``delta`` if it fits behind the last, else ``full()`` into the other extent.

        A full record waits for ``after``, which is persistent by now, and is not in doubt. A delta is, until
        ``in_doubt`` is persistent. Gives the dependency of the record and of that. The caller has taken a buffer.
        Raises `NoSpaceError` if two copies of the full record do not fit an extent.
        """
        if self._outstanding.poll() is PENDING:
            raise InvariantError("LOG-1", "a record was about to follow one that is not persistent")
        failed = self.is_failed()
        if failed and self._outstanding_turned:
            # The other extent still holds the newest chain, so try the same turn again.
            self._scheduler.submit_reset(self._extents[self._active], PERSISTENT, f"{self._name} reset")
            self._active ^= 1
        copy = self._encode(delta, is_full=False)
        if self._turn_due or failed or not self._fits(copy, self._next_page):
            if in_doubt.poll() is not PERSISTENT_STATE:
                raise InvariantError("LOG-8", "a full record was about to be in doubt")
            return self._turn(self._encode(full(), is_full=True), after)
        self._left = None
        return self._write(copy, self._in_doubt, in_doubt, turned=False)

    def _turn(self, copy: bytes, after: Dependency) -> Dependency:
        if not self._fits(copy, 0):
            raise NoSpaceError(f"a log record of {len(copy)} bytes does not fit an extent twice")
        old = self._extents[self._active]
        self._active ^= 1
        if self._extents[self._active] != self._live.extent:  # else a turn that failed is tried again
            self._left = self._live
        self._live = _Chain(self._extents[self._active], self._next_generation)
        self._next_page = 0
        self._turn_due = False
        self.needs_repair = False
        write = self._write(copy, after, PERSISTENT, turned=True)
        self._scheduler.submit_reset(old, write, f"{self._name} reset")  # LOG-2
        return write

    def _write(self, copy: bytes, after: Dependency, in_doubt: Dependency, *, turned: bool) -> Dependency:
        data = copy + copy
        self.bytes_submitted += len(data)
        label = f"{self._name} full record" if turned else f"{self._name} record"
        write = self._scheduler.submit_write(self._extents[self._active], self._next_page, data, after, label)
        if self._scheduler.observer is not None:
            self._scheduler.observer.followed(write, self._newest)
        self._next_page += len(data) // self._disk.page_size_bytes
        self._live.end_pages.append(self._next_page)
        self._live.newest = write
        self._next_generation += 1
        self._newest = write
        self._in_doubt = in_doubt
        self._outstanding = write if in_doubt is PERSISTENT else write & in_doubt  # LOG-7
        self._outstanding_turned = turned
        return self._outstanding

    def _fits(self, copy: bytes, page: int) -> bool:
        return page + 2 * len(copy) // self._disk.page_size_bytes <= self._disk.extent_size_pages

    def payload_size_max_bytes(self) -> int:
        """The size in bytes of the longest payload of a full record."""
        pages = self._disk.extent_size_pages // 2
        return pages * self._disk.page_size_bytes - RECORD_HEADER_SIZE_BYTES

    def _encode(self, payload: bytes, *, is_full: bool) -> bytes:
        if self._secret is None:
            raise InvariantError("LOG-6", "a record was about to be written without the disk's secret")
        record = encode_record(self._magic, self._secret, self._next_generation, payload, is_full=is_full)
        return record + bytes(-len(record) % self._disk.page_size_bytes)

    # --- recovery -----------------------------------------------------------------------------------

    def recover(self, secret: bytes | None = None, holds: Callable[[bytes], bool] = lambda delta: True) -> list[bytes]:
        """The payloads of the live chain, the full record first; empty if there was never a record.

        The newest is left out if it is a delta that does not hold; then a full record is due at once (REC-3).
        Without a secret it believes the newest full record's: only in a log that never holds users' bytes.
        On a zoned disk it resets the extent that the next record will open, unless that is empty. Raises
        `CorruptionError`, `DiskError`, `FormatVersionError`.
        """
        self._secret = secret
        # LOG-5: a full record is the first of its extent. Other bytes that look like one are left of a longer, older
        # record, behind the newest.
        logs = [
            [each for each in self._scan(extent) if not each.is_full or each.page in (0, each.page_count)]
            for extent in self._extents
        ]
        newest = max((record.generation for log in logs for record in log if record.is_full), default=None)
        if newest is None:
            if any(logs):
                raise CorruptionError(self._extents[0], 0, "log holds records but no full one")
            return []
        self._active = next(i for i in (0, 1) if any(record.generation == newest for record in logs[i]))
        self._secret = next(record.secret for record in logs[self._active] if record.generation == newest)
        logs = [[record for record in log if record.secret == self._secret] for log in logs]
        chain = self._chain(logs[self._active], newest)
        # A newer record in the other extent shows that its chain once was the live one, and has lost its full record.
        stray = [record for record in logs[self._active ^ 1] if record.generation > chain[-1].generation]
        if stray:
            raise self._gap(self._active ^ 1, chain[-1].generation + 1, stray[0])
        self._next_generation = chain[-1].generation + 1  # of a record that is cut off, too: none is given twice
        self._turn_due = True
        self._reset_inactive()
        payloads = [record.payload for record in chain]
        if len(payloads) > 1 and not holds(payloads[-1]):  # REC-2
            self.was_cut = self.needs_repair = True
            payloads.pop()
            self._live.end_pages.pop()
        return payloads

    def secret(self) -> bytes:
        """The secret that seals the records. Raises `InvariantError` before the log is formatted or recovered."""
        if self._secret is None:
            raise InvariantError("LOG-6", "the disk's secret is not known yet")
        return self._secret

    def _reset_inactive(self) -> None:
        inactive = self._extents[self._active ^ 1]
        if self._disk.zoned and self._scheduler.write_pointer(inactive):
            self._scheduler.submit_reset(inactive, PERSISTENT, f"{self._name} reset")

    def _chain(self, log: list[Record], first: int) -> list[Record]:
        copies: dict[int, list[Record]] = {}
        for record in log:
            if record.generation > first or (record.generation == first and record.is_full):
                copies.setdefault(record.generation, []).append(record)
        generations = sorted(copies)
        for expected, found in enumerate(generations, start=first):  # LOG-4
            if found != expected:
                raise self._gap(self._active, expected, copies[found][0])
        self.needs_repair = any(len(copies[generation]) < 2 for generation in generations)
        self._live = _Chain(self._extents[self._active], first)
        self._live.end_pages = list(accumulate(2 * copies[generation][0].page_count for generation in generations))
        if len(copies[generations[-1]]) < 2:
            self._live.torn_number = len(generations) - 1
        return [copies[generation][0] for generation in generations]

    def _gap(self, which: int, expected: int, found: Record) -> CorruptionError:
        offset_bytes = found.page * self._disk.page_size_bytes
        detail = f"log record {expected} is missing before {found.generation}"
        return CorruptionError(self._extents[which], offset_bytes, detail)

    def _scan(self, extent: int) -> Iterator[Record]:
        """Every whole copy of a record in the extent."""
        size = self._disk.page_size_bytes
        page_count = self._scheduler.write_pointer(extent) if self._disk.zoned else self._disk.extent_size_pages
        page = 0
        slab_start, slab = 0, b""
        while page < page_count:
            at = (page - slab_start) * size
            if at >= len(slab):
                slab_start, at = page, 0
                slab = self._scheduler.read(extent, page, min(self._scan_slab_size_pages, page_count - page))
            found = slab.find(self._magic, at)
            at = -(-(found if found >= 0 else len(slab)) // size) * size
            page = slab_start + at // size
            if found != at:  # nowhere, or within a page, where no record begins
                continue
            record = self._decode(extent, page, page_count, slab, at)
            if record is None:
                page += 1
                continue
            yield record
            page += record.page_count
            copy_size = record.page_count * size
            if slab.startswith(slab[at : at + copy_size], at + copy_size):  # its twin, bit for bit
                yield Record(page, *record[1:])
                page += record.page_count

    def _decode(self, extent: int, page: int, limit_page: int, slab: bytes, at: int) -> Record | None:
        """The record that begins at a page, or None. ``slab`` is a part of the extent and has the page at ``at``."""
        size = self._disk.page_size_bytes
        head_count = -(-_SECRET_START // size)
        if page + head_count > limit_page:
            return None
        if at + _SECRET_START > len(slab):
            slab, at = self._scheduler.read(extent, page, head_count), 0
        magic, version, is_full, generation, length = _HEADER.unpack_from(slab, at)
        page_count = -(-(_SECRET_START + length) // size)
        if magic != self._magic or page + page_count > limit_page:
            return None
        if at + _SECRET_START + length > len(slab):
            slab, at = self._scheduler.read(extent, page, page_count), 0
        start = at + _SECRET_START
        sealed = slab[start : start + length]
        (checksum,) = _CHECKSUM.unpack_from(slab, at + _HEADER.size)
        if checksum != crc32c(sealed, crc32c(slab[at : at + _HEADER.size])):
            return None
        secret = sealed[:SECRET_SIZE_BYTES]
        if self._secret is not None and secret != self._secret:  # LOG-6: before the version, which may be made up, too
            return None
        if version != FORMAT_VERSION:
            raise FormatVersionError(version)
        return Record(page, page_count, bool(is_full), generation, secret, sealed[SECRET_SIZE_BYTES:])

    # --- scrubbing ----------------------------------------------------------------------------------

    def newest_generation(self) -> int:
        """The generation that was given last."""
        return self._next_generation - 1

    def live_copies(self, generation: int) -> Copies | None:
        """The first live record from this generation on; None behind the newest.

        Until the full record of a turn is persistent, a crash may leave the chain before it, so that this is live, too.
        """
        chains = [self._live]
        if self._left is not None and self._newest.poll() is not PERSISTENT_STATE:
            chains.insert(0, self._left)
        for chain in chains:
            number = max(0, generation - chain.first_generation)
            if number < chain.live_count():
                return chain.copies(number)
        return None

    def is_whole(self, copies: Copies, copy: int) -> bool:
        """Whether the first or the second copy, 0 or 1, is on the device as far as it must be. Raises `DiskError`.

        A crash may have torn one copy of the record that was the newest at opening. A zoned device tells a tear from
        damage by its pointer; on a file the other copy is enough.
        """
        if not copies.may_be_torn:
            return self._is_there(copies, copy)
        if self._disk.zoned:
            end_page = copies.page + (copy + 1) * copies.page_count
            return end_page > self._scheduler.write_pointer(copies.extent) or self._is_there(copies, copy)
        return self._is_there(copies, copy) or self._is_there(copies, 1 - copy)

    def _is_there(self, copies: Copies, copy: int) -> bool:
        page = copies.page + copy * copies.page_count
        data = self._scheduler.read(copies.extent, page, copies.page_count)
        record = self._decode(copies.extent, page, page + copies.page_count, data, 0)
        return record is not None and record.generation == copies.generation


def encode_record(magic: bytes, secret: bytes, generation: int, payload: bytes, *, is_full: bool) -> bytes:
    """One copy of a record, without the padding behind it."""
    sealed = secret + payload
    header = _HEADER.pack(magic, FORMAT_VERSION, is_full, generation, len(sealed))
    return b"".join((header, _CHECKSUM.pack(crc32c(sealed, crc32c(header))), sealed))
