"""Space: when a request may be taken, what upkeep is due, and how room is found on a full disk.

    free extents   |<- reserve ->|<- for requests, and for the next compaction ->|
                   flushes and the copies of evacuations only

Guarantees that a request is refused before it has changed anything, and never takes the reserve; that what
frees space is never stopped by requests. Ahead of need, upkeep reclaims the extents that are known to hold most
garbage until the *goal* is free. When a request does not fit, known garbage is reclaimed first; then levels are
merged, which brings garbage to light; then, as the last resort, the whole disk is surveyed.

Not promised: that deleting never fails. On a disk filled to the brim with small values the index may find no room for
the run of deletions.

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
        self._dead_bytes_min = max(1, extents.extent_size_bytes // 8)  # how much garbage makes an extent worth it
        self._changes_count = 0
        self._full_at_change: int | None = None  # a search for space at this change found none

    # --- requests -----------------------------------------------------------------------------------

    def reserve(self, sizes: list[int]) -> None:
        """Raise `NoSpaceError` unless frames of these sizes can be stored without touching the reserve."""
        if self._fits(sizes) or (self._full_at_change != self._changes_count and self._find(sizes)):
            return
        self._full_at_change = self._changes_count
        raise NoSpaceError(f"no room for {sum(sizes)} bytes")

    def make_room(self, entries_count: int = 1) -> None:
        """Flush the memtable unless it takes this many entries more."""
        while self._index.room_count() < entries_count:
            self.flush()

    def changed(self) -> None:
        """A change was made: do the upkeep that is due by it."""
        self._changes_count += 1
        if self._configuration.automatic and self._index.room_count() <= 0:
            # The change itself is done; whatever the upkeep meets, a later request will meet too.
            with suppress(StoreError):
                self.flush()
                self._evacuate_known()

    def flush(self) -> bool:
        """Write the memtable as a run, and compact what has become due by it. False if it was empty."""
        flushed = self._index.flush()
        if self._configuration.automatic:
            with suppress(StoreError):  # compaction can wait, until there is room above all
                while self._index.is_compaction_due() and self._index.compact():
                    pass
        return flushed

    # --- finding space ------------------------------------------------------------------------------

    def _fits(self, sizes: list[int]) -> bool:
        needed_count = self._chunks.extents_needed(Kind.VALUE, sizes)
        # Even where an open extent has room: each request may cost the index space, and that comes from the reserve.
        # And what the next compaction takes is left to it: without it the index would only grow.
        kept_count = self._configuration.reserve_extents_count + self._compaction_extents_count()
        return self._extents.free_count() >= needed_count + kept_count and self._index.may_grow()

    def _find(self, sizes: list[int]) -> bool:
        """Reclaim until these frames fit. False if there is no garbage left that would make room."""
        for _ in range(self._extents.extent_count):
            if not self._evacuate_known() and not self._extents.resetting_count():
                if self._fits(sizes):
                    return True
                if not self._free_something():
                    return False
            self.flush()  # resets wait for what the memtable holds
            self._upkeep.drain()
            if self._extents.free_count() >= self._goal() and self._fits(sizes):
                return True
        return self._fits(sizes)

    def _free_something(self) -> bool:
        """Compact, which brings garbage to light, or else look at every extent. False if neither is of use."""
        with suppress(StoreError):
            if self._index.compact():
                return True
        self._reclamation.survey()
        return self._evacuate_known()

    def _evacuate_known(self) -> bool:
        """Reclaim what is known to be worth it until the goal is free, or soon will be. False if nothing was."""
        done = False
        for extent in self._reclamation.known_victims(self._dead_bytes_min):
            if self._extents.free_count() + self._extents.resetting_count() >= self._goal():
                break
            reclaimed = self._reclamation.reclaim(extent, dead_bytes_min=self._dead_bytes_min)
            done = done or (reclaimed is not None and reclaimed.is_reset)
        return done

    def _goal(self) -> int:
        """How many extents upkeep keeps free: what the next compaction takes, and some for requests."""
        limits = self._configuration
        return limits.reserve_extents_count + limits.reclaim_free_extents_min + self._compaction_extents_count()

    def _compaction_extents_count(self) -> int:
        """What the next compaction takes, as `compaction_room_bytes` counts it."""
        size_bytes = self._index.next_compaction_bytes()
        return 2 + -(-size_bytes // self._extents.extent_size_bytes) if size_bytes else 0

    # --- what upkeep may take -----------------------------------------------------------------------

    def may_copy(self) -> bool:
        """Copies may not take the last extent: what they replace is free only after a flush, which may need it."""
        return self._extents.free_count() > 1

    def compaction_room_bytes(self) -> int:
        """What compaction may write: it leaves an extent to the copies of an evacuation, and one to a flush."""
        return max(0, self._extents.free_count() - 2) * self._extents.extent_size_bytes
