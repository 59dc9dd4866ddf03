"""Space: decides whether a request fits, does the upkeep that is due, and finds room on a full disk.

    free extents   |<- reserve ->|<- for requests, and for the next compaction ->|
                   flushes and the copies of evacuations only

Guarantees. A request is refused before it has changed anything, and never takes the reserve. So requests never take the
room that flushes and evacuations need to free space.

Ahead of need, upkeep reclaims the extents that are known to hold most garbage, until the *goal* is free. When a request
does not fit, it reclaims known garbage first. Then it merges levels, which brings garbage to light. As the last resort
it surveys the whole disk.

Not promised: that deleting never fails. On a disk filled to the brim with small values, the index may find no room for
a run of deletions.

The caller holds the store's monitor.
"""

from __future__ import annotations

from contextlib import suppress

from shardstore.chunk_store import ChunkStore
from shardstore.errors import NoSpaceError, StoreError
from shardstore.extents import Extents
from shardstore.index.index import Index
from shardstore.reclamation import Reclamation
from shardstore.units import Kind, StoreConfiguration
from shardstore.upkeep import Upkeep


class Space:
    """See the module."""

    def __init__(
        self,
        configuration: StoreConfiguration,
        extents: Extents,
        chunks: ChunkStore,
        index: Index,
        reclamation: Reclamation,
        upkeep: Upkeep,
    ) -> None:
        self._configuration = configuration
        self._extents = extents
        self._chunks = chunks
        self._index = index
        self._reclamation = reclamation
        self._upkeep = upkeep
        self._dead_bytes_min = max(1, extents.extent_size_bytes // 8)  # with less garbage, copying is not worth it
        self._changes_count = 0
        self._full_at_change: int | None = None  # the count of changes at which a search for space found none

    # --- requests -----------------------------------------------------------------------------------

    def reserve(self, sizes: list[int]) -> None:
        """Raise `NoSpaceError` unless frames of these sizes can be stored without touching the reserve."""
        # After a search that found nothing, search again only once something has changed: it reads the whole disk.
        if self._fits(sizes) or (self._full_at_change != self._changes_count and self._find(sizes)):
            return
        self._full_at_change = self._changes_count
        raise NoSpaceError(f"no room for {sum(sizes)} bytes")

    def make_room(self, entries_count: int = 1) -> None:
        """Flush the memtable unless it takes this many entries more. Raises `NoSpaceError`, `DiskError`."""
        while self._index.room_count() < entries_count:
            self.flush()

    def changed(self) -> None:
        """Do the upkeep that a change has made due."""
        self._changes_count += 1
        if self._configuration.automatic and self._index.room_count() <= 0:
            # The change itself is done. An error of the upkeep will meet the next request that needs it.
            with suppress(StoreError):
                self.flush()
                self._evacuate_known()

    def flush(self) -> bool:
        """Write the memtable as a run, and do the merges that this makes due. False if the memtable was empty."""
        flushed = self._index.flush()
        if self._configuration.automatic:
            with suppress(StoreError):  # a merge can wait, say until there is room
                while self._index.is_compaction_due() and self._index.compact():
                    pass
        return flushed

    # --- finding space ------------------------------------------------------------------------------

    def _fits(self, sizes: list[int]) -> bool:
        # Even if an open extent has room for the frames: each request may cost the index space, which comes from the
        # reserve. The next compaction keeps its room, too: without compaction the index would only grow.
        kept_count = self._configuration.reserve_extents_count + self._compaction_extents_count()
        room_count = self._extents.free_count() - kept_count
        if room_count < len(sizes):  # else it is enough: no frame takes more than one extent
            room_count -= self._chunks.extents_needed(Kind.VALUE, sizes)
        return room_count >= 0 and self._index.may_grow()

    def _find(self, sizes: list[int]) -> bool:
        """Reclaim until these frames fit. False if no garbage is left that would make room."""
        for _ in range(self._extents.extent_count):
            if not self._evacuate_known() and not self._extents.resetting_count():
                if self._fits(sizes):
                    return True
                if not self._free_something():
                    return False
            self.flush()  # resets wait for the entries in the memtable
            self._upkeep.drain()
            if self._extents.free_count() >= self._goal() and self._fits(sizes):
                return True
        return self._fits(sizes)

    def _free_something(self) -> bool:
        """Compact, which brings garbage to light, or else survey every extent. False if neither helps."""
        with suppress(StoreError):
            if self._index.compact():
                return True
        self._reclamation.survey()
        return self._evacuate_known()

    def _evacuate_known(self) -> bool:
        """Reclaim extents known to be worth it, until the goal is free or soon will be. False if none was reset."""
        done = False
        for extent in self._reclamation.known_victims(self._dead_bytes_min):
            if self._extents.free_count() + self._extents.resetting_count() >= self._goal():
                break
            reclaimed = self._reclamation.reclaim(extent, dead_bytes_min=self._dead_bytes_min)
            done = done or (reclaimed is not None and reclaimed.is_reset)
        return done

    def _goal(self) -> int:
        """How many extents upkeep keeps free: the reserve, those of the next compaction, and some for requests."""
        limits = self._configuration
        return limits.reserve_extents_count + limits.reclaim_free_extents_min + self._compaction_extents_count()

    def _compaction_extents_count(self) -> int:
        """How many extents the next compaction takes, counted as in `compaction_room_bytes`."""
        size_bytes = self._index.next_compaction_bytes()
        return 2 + -(-size_bytes // self._extents.extent_size_bytes) if size_bytes else 0

    # --- what upkeep may take -----------------------------------------------------------------------

    def may_copy(self) -> bool:
        """Whether copies may be made. They must leave the last extent: the originals are free only after a flush."""
        return self._extents.free_count() > 1

    def compaction_room_bytes(self) -> int:
        """How much compaction may write: it leaves one extent to the copies of an evacuation, and one to a flush."""
        return max(0, self._extents.free_count() - 2) * self._extents.extent_size_bytes
