"""Extents: append, read and reset; their owners, and their soft and hard write pointers.

    free --allocate--> owned, empty --append--> open --append--> ... --reset--> resetting --persistent--> free

Guarantees, whatever a crash leaves:

    EXT-1   a page on an extent without an owner is damage: no crash of a correct store leaves one
    EXT-2   nothing below a recorded soft pointer is lost
    EXT-4   an extent is recorded as empty only after everything is persistent that the caller of `reset` waits for
    EXT-5   an extent is reset on the device only after that record is persistent

A record of the metadata may name an append before a superblock record covers it, by its `Place`. Recovery asks `holds`
whether the append is there, and then covers it.

Survives crashes within recovery, which issues nothing but resets. The argument is in ``docs/PROTOCOLS.md``, sections 4
and 13.

The caller holds the store's monitor.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from sortedcontainers import SortedList

from shardstore.dependency import PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise, Waiter, Write
from shardstore.errors import CorruptionError, InvariantError, NoSpaceError, StaleLocatorError
from shardstore.io_scheduler import IoScheduler
from shardstore.superblock import PRISTINE, ExtentRecord, Superblock
from shardstore.units import METADATA_EXTENTS, RESERVED_EXTENTS_COUNT, UNOWNED, Owner, new_tuple


class Appended(NamedTuple):
    """Where an append went, and its two dependencies: of the bytes, and of the pointer that covers them."""

    extent: int
    epoch: int
    page: int
    end_page: int
    size_bytes: int
    data: Write
    pointer: Promise


class AppendPromise(Promise):
    """Stands for an append that is yet to come, its bytes and its pointer; then knows where it went."""

    __slots__ = ("appended",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.state = PENDING
        self._target = None
        self.appended: Appended | None = None


class Place(NamedTuple):
    """An append as a record of the metadata names it. If its bytes are not in doubt, the digest is of no page."""

    extent: int
    epoch: int
    first_page: int
    end_page: int
    digest: bytes


DIGEST_SIZE_BYTES = 16


def digest_of(secret: bytes, pages: bytes) -> bytes:
    """The digest of whole pages, which nobody can aim at who does not know the secret."""
    return sha256(secret + pages.rstrip(b"\0")).digest()[:DIGEST_SIZE_BYTES]  # how many zeros follow is in the place


class _Extent:
    """The state of one extent in memory, which is ahead of the recorded one."""

    __slots__ = ("epoch", "next_page", "owner", "ownership", "soft_pages")

    def __init__(self, record: ExtentRecord) -> None:
        self.epoch = record.epoch
        self.soft_pages = record.soft_pages  # pages that may be read
        self.next_page = record.soft_pages  # where the next append goes
        self.owner = record.owner
        self.ownership: Dependency = PERSISTENT  # of the record that names the owner


_UNUSED = _Extent(PRISTINE)  # to look at only


class Extents:
    """See the module."""

    def __init__(self, scheduler: IoScheduler, superblock: Superblock) -> None:
        self._scheduler = scheduler
        self._superblock = superblock
        self._disk = scheduler.disk
        self.extent_count = scheduler.disk.extent_count
        self.extent_size_pages = scheduler.disk.extent_size_pages
        self.page_size_bytes = scheduler.disk.page_size_bytes
        self.zoned = scheduler.disk.zoned
        self.extent_size_bytes = self.extent_size_pages * self.page_size_bytes
        self._extents: dict[int, _Extent] = {}  # a pristine extent has no entry before it is allocated
        self._free: SortedList[int] = SortedList()  # the lowest is taken first
        self._resetting: list[tuple[int, Write]] = []

    # --- opening ------------------------------------------------------------------------------------

    def format(self) -> None:
        """Make every extent of a fresh disk free."""
        self._free.update(range(RESERVED_EXTENTS_COUNT, self._disk.extent_count))

    def holds(self, place: Place) -> bool:
        """Whether an append that may not have been persistent is there as it was (REC-2). Raises `DiskError`."""
        self._check(place)
        record = self._superblock.recorded(place.extent)
        if record.epoch != place.epoch:
            return record.epoch > place.epoch  # emptied since, behind the promise of the record that names the place
        if record.soft_pages >= place.end_page:
            return True
        if record.owner == UNOWNED:
            return False
        if self._disk.zoned:
            return self._scheduler.write_pointer(place.extent) >= place.end_page
        if place.first_page == place.end_page:
            return True
        pages = self._scheduler.read(place.extent, place.first_page, place.end_page - place.first_page)
        return digest_of(self._superblock.secret(), pages) == place.digest

    def _check(self, place: Place) -> None:
        is_extent = RESERVED_EXTENTS_COUNT <= place.extent < self._disk.extent_count
        if not is_extent or not place.first_page <= place.end_page <= self.extent_size_pages:
            raise CorruptionError(METADATA_EXTENTS[0], 0, f"metadata names {place}")

    def recover(self, places: Iterable[Place] = ()) -> list[Promise]:
        """Make every extent usable again; see the table in ``docs/PROTOCOLS.md``. Raises `CorruptionError`.

        These places hold, and are covered from now on. Gives the promises of the records that will say so.
        """
        raised = self._raised(places)
        for number in range(RESERVED_EXTENTS_COUNT, self._disk.extent_count):
            record = raised.get(number) or self._superblock.recorded(number)
            hard_pages = self._scheduler.write_pointer(number) if self._disk.zoned else 0
            if record is not PRISTINE:
                self._extents[number] = _Extent(record)
            if self._disk.zoned and (record is not PRISTINE or hard_pages):
                self._recover_zoned(number, record, hard_pages)
            elif not record.soft_pages:
                self._free.add(number)

        return [self._superblock.change(*item, PERSISTENT, "soft pointer", may_wait=True) for item in raised.items()]

    def _raised(self, places: Iterable[Place]) -> dict[int, ExtentRecord]:
        """The extents whose soft pointers these places raise above the superblock's. Raises `CorruptionError`."""
        raised: dict[int, ExtentRecord] = {}
        for place in places:
            self._check(place)
            record = raised.get(place.extent) or self._superblock.recorded(place.extent)
            if place.epoch > record.epoch or (place.epoch == record.epoch and record.owner == UNOWNED):
                raise CorruptionError(place.extent, 0, f"metadata names {place}, the superblock knows {record}")
            if place.epoch == record.epoch and place.end_page > record.soft_pages:  # EXT-7
                raised[place.extent] = record._replace(soft_pages=place.end_page)
        return raised

    def _recover_zoned(self, number: int, record: ExtentRecord, hard_pages: int) -> None:
        if record.soft_pages > hard_pages:
            detail = f"soft pointer {record.soft_pages} is past the {hard_pages} pages that the device holds"
            raise CorruptionError(number, hard_pages * self.page_size_bytes, detail)
        if record.owner == UNOWNED and hard_pages:
            raise CorruptionError(number, 0, f"an extent without an owner holds {hard_pages} pages")
        if record.soft_pages:
            self._extents[number].next_page = hard_pages  # the pages between the pointers are a dead tail
        elif hard_pages:  # a crash came between the record that it is empty and its reset (EXT-5)
            self._resetting.append((number, self._scheduler.submit_reset(number, PERSISTENT, "reset")))
        else:
            self._free.add(number)

    # --- allocating ---------------------------------------------------------------------------------

    def free_count(self) -> int:
        """The number of extents that can be allocated now."""
        if self._resetting:
            self._collect_resets()
        return len(self._free)

    def resetting_count(self) -> int:
        """The number of extents that are free once their reset is persistent."""
        self._collect_resets()
        return len(self._resetting)

    def allocate(self, owner: Owner) -> int:
        """Take a free extent. Raises `NoSpaceError`."""
        self._collect_resets()
        if not self._free:
            raise NoSpaceError("no free extent")
        number: int = self._free.pop(0)
        extent = self._extents.get(number)
        if extent is None:
            extent = self._extents[number] = _Extent(PRISTINE)
        if extent.owner != owner:
            extent.owner = owner
            owned = ExtentRecord(extent.epoch, 0, owner)
            extent.ownership = self._superblock.change(number, owned, PERSISTENT, "owner")
        return number

    def _collect_resets(self) -> None:
        waiting = []
        for number, reset in self._resetting:
            if reset.state is PERSISTENT_STATE:
                self._free.add(number)
            elif reset.state is PENDING:  # an extent whose reset failed is out of use until the disk is reopened
                waiting.append((number, reset))
        self._resetting = waiting

    # --- using --------------------------------------------------------------------------------------

    def append(self, number: int, data: bytes, after: Dependency) -> Appended:
        """Write whole pages at the write pointer once ``after`` is persistent. The caller has taken a buffer.

        Raises `InvariantError` if the extent has no owner or no room for them.
        """
        extent = self._extents.get(number, _UNUSED)
        page = extent.next_page
        end = page + len(data) // self.page_size_bytes
        if extent.owner == UNOWNED or end > self.extent_size_pages or len(data) % self.page_size_bytes:
            raise InvariantError("EXT-6", f"append of {len(data)} bytes at page {page} of extent {number}")
        write = self._scheduler.submit_write(number, page, data, after & extent.ownership, "pages")  # EXT-1
        extent.next_page = extent.soft_pages = end
        record = new_tuple(ExtentRecord, (extent.epoch, end, extent.owner))
        pointer = self._superblock.change(number, record, write, "soft pointer", may_wait=True)  # EXT-2
        return new_tuple(Appended, (number, extent.epoch, page, end, len(data), write, pointer))

    def read(self, number: int, page: int, page_count: int) -> bytes:
        """The bytes of pages below the soft pointer. Raises `StaleLocatorError` past it, `DiskError`."""
        if page + page_count > self.soft_pages(number):
            raise StaleLocatorError(f"extent {number}: pages {page}..{page + page_count} are past the soft pointer")
        return self._scheduler.read(number, page, page_count)

    def reset(self, number: int, after: Dependency) -> Dependency:
        """Empty the extent once ``after`` is persistent. Gives the dependency after which it can be allocated again."""
        extent = self._extents[number]
        extent.epoch += 1
        extent.soft_pages = extent.next_page = 0
        emptied = ExtentRecord(extent.epoch, 0, extent.owner)
        recorded = self._superblock.change(number, emptied, after, "emptied")  # EXT-4
        reset = self._scheduler.submit_reset(number, recorded, "reset")  # EXT-5
        extent.owner = UNOWNED
        released = ExtentRecord(extent.epoch, 0, UNOWNED)
        extent.ownership = self._superblock.change(number, released, reset, "release")
        self._resetting.append((number, reset))
        return reset

    # --- scrubbing ----------------------------------------------------------------------------------

    def check_pointer(self, number: int) -> None:
        """See whether a zoned device holds what it was given up to the soft pointer. More may be a dead tail.

        Raises `CorruptionError`, `DiskError`.
        """
        given_pages = self._scheduler.given_pages(number, self.soft_pages(number))
        hard_pages = self._scheduler.write_pointer(number)
        if hard_pages < given_pages:
            detail = f"{given_pages} pages were written, the device holds {hard_pages}"
            raise CorruptionError(number, hard_pages * self.page_size_bytes, detail)

    # --- looking ------------------------------------------------------------------------------------

    def soft_pages(self, number: int) -> int:
        """The number of readable pages; 0 for an extent that does not exist or is reserved."""
        return self._extents.get(number, _UNUSED).soft_pages

    def next_page(self, number: int) -> int:
        """The page that the next append goes to: behind the soft pointer if there is a dead tail."""
        return self._extents.get(number, _UNUSED).next_page

    def owner(self, number: int) -> Owner:
        return self._extents.get(number, _UNUSED).owner

    def epoch(self, number: int) -> int:
        """How many times the extent was reset."""
        return self._extents.get(number, _UNUSED).epoch

    def in_use(self) -> list[int]:
        """Extents with readable pages, in order."""
        return sorted([number for number, extent in self._extents.items() if extent.soft_pages])
