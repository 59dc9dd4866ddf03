"""Reclamation: copies the live chunks out of an extent, then gives the extent back.

    pick a victim --> scan it --> move each live chunk --> reset once the index has settled

Guarantees that no live chunk is lost, whatever a crash leaves:

    GC-1   an extent with a chunk that nobody refers to yet is never a victim
    GC-2   a chunk is moved by compare-and-swap
    GC-3   the extent is reset only when everything the index has accepted so far is persistent: the copies, the entries
           that name them, and the changes that made the other chunks dead; for blocks of runs these are edits alone
    GC-4   if part of the extent cannot be read or decoded, it is kept unless the index shows that nothing live is in it
    GC-5   an extent that is empty is not reset: by then another thread may have given it back

Reclamation asks `References`, which is passed in, whether a chunk is live. It cannot import the index, which keeps
itself in chunks. The caller holds the store's monitor, which is let go between slabs and between chunks.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shardstore.chunk_frame import Frame
from shardstore.chunk_store import ChunkStore, Scan, ScannedFrame
from shardstore.dependency import Dependency
from shardstore.extents import Extents
from shardstore.units import Kind, Locator
from shardstore.upkeep import Upkeep


class References(Protocol):
    """The holder of locators: the index, in a store."""

    def is_live(self, frame: Frame, locator: Locator) -> bool: ...

    def move(self, frame: Frame, old: Locator, new: Locator, written: Dependency) -> bool:
        """Refer to the copy instead, if the chunk is still referred to; else give False."""

    def settled(self) -> Dependency:
        """The dependency that is persistent once every change accepted so far is."""

    def names_any_in(self, extent: int) -> bool:
        """Whether any live chunk is in the extent."""

    def extents_of_runs(self) -> set[int]:
        """The extents that have blocks of runs, be they live or held by a listing."""

    def recorded(self) -> Dependency:
        """The dependency that is persistent once every edit so far is: what names a block changes by edits only."""


class Reclaimed(NamedTuple):
    """The result of reclaiming one extent."""

    extent: int
    moved_count: int
    dropped_count: int
    is_reset: bool


class Reclamation:
    """See the module."""

    def __init__(
        self,
        chunks: ChunkStore,
        extents: Extents,
        references: References,
        upkeep: Upkeep,
    ) -> None:
        self._chunks = chunks
        self._extents = extents
        self._references = references
        self._upkeep = upkeep
        self._running: set[int] = set()  # other threads may come in while chunks are moved
        self.moved_count = 0  # chunks, since the store was opened
        self._rotation = 0  # the last victim: of equal candidates, those behind it come first

    def victims(self) -> list[int]:
        """Extents that may be reclaimed, the most promising first. Those that are still being filled come last."""
        gain_bytes = self._chunks.gain_bytes
        candidates = [
            (self._chunks.is_open(extent), -gain_bytes(extent), extent <= self._rotation, extent)
            for extent in self._extents.in_use()
            if extent not in self._running and not self._chunks.has_pins(extent)
        ]
        return [candidate[-1] for candidate in sorted(candidates)]

    def known_victims(self, dead_bytes_min: int, *, even_open: bool = False) -> list[int]:
        """Victims that are thought to gain this much, or to have nothing live; the most promising first.

        Of those that are still being filled only the former, unless ``even_open``.
        """
        chunks = self._chunks
        promising = []
        for extent in self._extents.in_use():
            size = chunks.gain_bytes(extent)
            if size >= dead_bytes_min or (chunks.is_known_dead(extent) and (even_open or not chunks.is_open(extent))):
                promising.append((-size, extent))
        return [extent for _, extent in sorted(promising) if self._may_be_victim(extent)]

    def _may_be_victim(self, extent: int) -> bool:
        is_used = self._extents.soft_pages(extent) > 0
        return is_used and extent not in self._running and not self._chunks.has_pins(extent)

    def running_count(self) -> int:
        """How many extents are being reclaimed or surveyed."""
        return len(self._running)

    def survey(self) -> None:
        """Find out how much garbage every victim has. Reads the whole disk: the last resort of a full one."""
        for extent in self.victims():
            if not self._may_be_victim(extent):  # other threads have been at it meanwhile
                continue
            self._running.add(extent)
            try:
                self._note_live(extent, self._live(self._chunks.scan(extent, self._upkeep.breathe)))
            finally:
                self._running.discard(extent)

    def _live(self, scan: Scan) -> list[ScannedFrame]:
        """The frames that the index names. Other threads may come in; what is dead by then stays dead."""
        by_key = sorted(scan.frames, key=lambda scanned: scanned.frame.key)  # so that look-ups share run blocks
        live = []
        for number, scanned in enumerate(by_key, start=1):
            if self._references.is_live(scanned.frame, scanned.locator):
                live.append(scanned)
            if not number % self._chunks.breathe_at_count:
                self._upkeep.breathe()
        return live

    def reclaim(self, extent: int, *, dead_bytes_min: int = 0) -> Reclaimed | None:
        """Reclaim one extent. None if it may not be, has less garbage than asked for, or there is no room for copies.

        An extent that is being filled is closed first. Raises `NoSpaceError` if the room runs out on the way; chunks
        that were moved by then stay moved.
        """
        if not self._may_be_victim(extent):  # GC-5: whoever chose it may have waited since
            return None
        self._chunks.close_extent(extent)
        self._running.add(extent)
        try:
            return self._reclaim(extent, dead_bytes_min)
        finally:
            self._running.discard(extent)

    def reset_dead_runs(self) -> None:
        """Give back the extents of runs in which nothing is named any more. Unlike others they wait for no memtable."""
        named = self._references.extents_of_runs()
        for extent in self._extents.in_use():
            if self._extents.owner(extent) == Kind.RUN and extent not in named and self._may_be_victim(extent):
                self._chunks.close_extent(extent)
                self._chunks.reset(extent, self._settled(extent))  # GC-3

    def _settled(self, extent: int) -> Dependency:
        """The dependency that is persistent once nothing on the disk names what is in the extent."""
        is_of_runs = self._extents.owner(extent) == Kind.RUN
        return self._references.recorded() if is_of_runs else self._references.settled()

    def _reclaim(self, extent: int, dead_bytes_min: int) -> Reclaimed | None:
        scan = self._chunks.scan(extent, self._upkeep.breathe)
        live = self._live(scan)
        self._note_live(extent, live)  # the estimate misses older entries that no merge has met yet
        if live and (self._chunks.gain_bytes(extent) < dead_bytes_min or not self._upkeep.may_copy()):
            return None
        self._rotation = extent
        moved_count = sum(self._move(scanned) for scanned in live)
        dropped_count = len(scan.frames) - moved_count
        if not self._may_reset(extent, scan):
            return Reclaimed(extent, moved_count, dropped_count, is_reset=False)
        self._chunks.reset(extent, self._settled(extent))  # GC-3: taken after the moves, so it covers them
        return Reclaimed(extent, moved_count, dropped_count, is_reset=True)

    def _note_live(self, extent: int, live: list[ScannedFrame]) -> None:
        self._chunks.note_live(extent, sum([scanned.locator.length_bytes for scanned in live]))

    def _move(self, scanned: ScannedFrame) -> bool:
        old, frame = scanned
        self._upkeep.make_room()  # the index may need to flush before it can name the copy
        copy = self._chunks.put(Kind(frame.kind), frame.key, frame.payload)
        moved = False
        try:
            moved = self._references.move(frame, old, copy.locator, copy.dependency)
        finally:
            self._chunks.unpin(copy.locator)
            if moved:
                self.moved_count += 1
            else:
                self._chunks.note_dead(copy.locator)
        self._upkeep.breathe()
        return moved

    def _may_reset(self, extent: int, scan: Scan) -> bool:
        if self._chunks.has_pins(extent):  # since the scan, other threads may have put chunks
            return False
        return scan.is_complete or not self._references.names_any_in(extent)  # GC-4
