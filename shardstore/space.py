"""Space: decides whether a request fits, does the upkeep that is due, and finds room on a full disk.

    free extents   | flush | flush | merge of all runs | spare |<- for requests ->|
                   |<-- reserve: only the index, and copies ->|

Guarantees, as long as no listing holds old runs (SPACE-1). A request is refused before it has changed anything, and
leaves the reserve whole. So whatever was accepted can be made persistent, and deleting, reading and shutting down work
on a full disk. What is deleted can be used again.

Ahead of need, upkeep reclaims the extents that are known to hold most garbage, until the *goal* is free. When a request
does not fit, it reclaims known garbage first. Then it merges all runs, which brings garbage to light. As the last
resort it surveys the whole disk. When a flush has used up a part of the reserve, all runs are merged to make it whole.

The argument is in ``docs/PROTOCOLS.md``, section 11. Only a store that does its upkeep by itself (``automatic``) keeps
the guarantee. The caller holds the store's monitor.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from shardstore.chunk_store import ChunkStore
from shardstore.errors import NoSpaceError, StoreError
from shardstore.extents import Extents
from shardstore.index.index import Index
from shardstore.index.outlook import Outlook
from shardstore.reclamation import Reclamation
from shardstore.units import Kind, RunBound, StoreConfiguration
from shardstore.upkeep import Upkeep

_FRUITLESS_MAX = 8  # rounds of upkeep that free no extent, after which a search for space gives up


class Need(NamedTuple):
    """How much room a request takes: frames, and entries that name them."""

    frame_sizes: list[int]
    entries_count: int
    entry_size_max_bytes: int
    surplus_size_bytes: int  # of all locators but the first of each entry


class Trouble(NamedTuple):
    """Some upkeep that failed: what it was, what stands still because of it, the first error, and since when."""

    work: str
    stops: str
    error: StoreError
    since_change: int  # how many changes had been taken since the store was opened


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
        self._held: list[Need] = []  # what requests under way have reserved
        self._full_at_change: int | None = None  # the count of changes at which a search for space found none
        self._full_for = self._held_total()  # what it was to make room for
        self._seen_outlook: Outlook | None = None  # when the two counts below were worked out
        self._seen_flush_count = 0
        self._seen_reserve_count = 0
        self._restoring = False
        self._troubles: dict[str, Trouble] = {}

    # --- requests -----------------------------------------------------------------------------------

    def reserve(self, need: Need) -> None:
        """Hold room for this until `give_back`, without touching the reserve. Raises `NoSpaceError`."""
        self._held.append(need)  # before the search, which lets other threads in (SPACE-3)
        if self._fits(need):
            return
        changes_count = self._changes_count
        total = self._held_total()
        # After a search that found nothing, search again only once something has changed, or for less: it reads the
        # whole disk.
        if self._full_at_change != changes_count or not _is_no_less(total, self._full_for):
            try:
                if self._find(need):
                    return
            except BaseException:
                self.give_back(need)
                raise
            self._full_at_change = changes_count  # not of now: a deletion may have come meanwhile
            self._full_for = total
        self.give_back(need)
        raise NoSpaceError(f"no room for {sum(need.frame_sizes)} bytes")

    def give_back(self, need: Need) -> None:
        """End what `reserve` began, once the frames are written, or will never be."""
        self._held.remove(need)

    def make_room(self, entries_count: int = 1) -> None:
        """Flush the memtable unless it takes this many entries more. Raises `NoSpaceError`, `DiskError`."""
        while self._index.room_count() < entries_count:
            self.flush()

    def make_room_for_copy(self) -> None:
        """The same for the entry of one copy. Raises `NoSpaceError` rather than use up the reserve."""
        while self._index.room_count() < 1:
            if not self._is_reserve_whole():
                raise NoSpaceError("the reserve must be made whole before more is copied")
            self._index.flush()

    def changed(self) -> None:
        """Do the upkeep that a change has made due."""
        self._changes_count += 1
        if self._configuration.automatic and self._index.room_count() <= 0:
            # The change itself is done. An error of the upkeep will meet the next request that needs it.
            self._noted("reclamation", "garbage is not reclaimed", self._flush_and_reclaim)

    def flush(self, *, is_last: bool = False) -> bool:
        """Write the memtable as a run, and unless it is the last, do the merges that this makes due.

        False if the memtable was empty.
        """
        if not self._configuration.automatic:
            return self._index.flush()
        self._index.await_flush()  # first, since its run takes of the room that is asked for
        while not self._may_flush() and (self._wait_for_restoration() or self._restore()):
            self._index.await_flush()  # again
        flushed = self._index.flush()
        if not is_last:
            self._noted("compaction", "runs of level 0 are not merged, so that reads get slower", self._compact_if_due)
            self.restore_if_due()
        return flushed

    def _flush_and_reclaim(self) -> None:
        self.flush()
        self._evacuate_known(self._goal())

    def _compact_if_due(self) -> None:
        while self._index.is_compaction_due() and self._index.compact():
            pass

    def restore_if_due(self) -> None:
        """Make the reserve whole again after work that took of it. What stands against it, the next flush will meet."""
        if not self._configuration.automatic or self._restoring:
            return
        if not self._is_reserve_whole():
            self._noted("restoration", "deletions may be refused on a full disk", self._restore)
        else:
            self._troubles.pop("restoration", None)

    def reserved_count(self) -> int:
        """For how many requests room is held."""
        return len(self._held)

    def wrong_counts(self) -> list[str]:
        """The counts that are kept for an outlook, if they are not those of that outlook (COUNT-1)."""
        outlook = self._seen_outlook
        if outlook is None:
            return []
        flush_count, merge_count = self._extents_counts(outlook)
        kept = (self._seen_flush_count, self._seen_reserve_count)
        return [] if kept == (flush_count, 2 * flush_count + merge_count) else [f"reserve {kept}"]

    def troubles(self) -> tuple[Trouble, ...]:
        """What upkeep has failed at, and has not done since."""
        return tuple(self._troubles.values())

    def _noted(self, work: str, stops: str, upkeep: Callable[[], object]) -> None:
        """Let upkeep fail without harm to the request that made it due, but remember it (DAMAGE-2)."""
        try:
            upkeep()
        except NoSpaceError:
            pass  # nothing is wrong: it can wait until there is room
        except StoreError as error:
            self._troubles.setdefault(work, Trouble(work, stops, error, self._changes_count))
        else:
            self._troubles.pop(work, None)

    # --- the reserve --------------------------------------------------------------------------------

    def _may_flush(self) -> bool:
        return self._extents.free_count() >= self._flush_count() and self._index.may_flush()

    def _is_reserve_whole(self) -> bool:
        """Whether two flushes and a merge of everything have their room (SPACE-1)."""
        return self._extents.free_count() >= self._reserve_count() and self._index.may_flush()

    def _reserve_count(self) -> int:
        """How many extents flushes and merges may need before they give any back.

        Two flushes, since while all is merged and the old runs' extents are reset, a second memtable may fill.
        """
        self._look_ahead()
        return self._seen_reserve_count

    def _flush_count(self) -> int:
        self._look_ahead()
        return self._seen_flush_count

    def _look_ahead(self) -> None:
        outlook = self._index.outlook()
        if outlook is not self._seen_outlook:  # every request asks, and it seldom changes
            self._seen_outlook = outlook
            self._seen_flush_count, merge_count = self._extents_counts(outlook)
            self._seen_reserve_count = 2 * self._seen_flush_count + merge_count

    def _extents_counts(self, outlook: Outlook) -> tuple[int, int]:
        """How many extents the next flush and a merge of everything take at most."""
        sizes = self._extents.extent_size_bytes, self._extents.page_size_bytes
        return outlook.flush.extents_count(*sizes), outlook.merge.extents_count(*sizes)

    def _wait_for_restoration(self) -> bool:
        """Wait until no other thread restores the reserve. False if none does."""
        if not self._restoring:
            return False
        self._upkeep.wait_until(lambda: not self._restoring)
        return True

    def _restore(self) -> bool:
        """Merge all runs and reset the extents of the old ones, until the reserve is whole. False if that fails."""
        self._restoring = True
        try:
            return self._gain()
        finally:
            self._restoring = False
            self._upkeep.notify_all()

    def _gain(self) -> bool:
        surveyed = False
        most_count, fruitless_count = -1, 0
        while not self._is_reserve_whole():
            count = self._extents.free_count() + self._extents.resetting_count()
            fruitless_count = 0 if count > most_count else fruitless_count + 1
            most_count = max(most_count, count)
            if fruitless_count > _FRUITLESS_MAX:
                return False
            # Merge first if not even the memtable can be flushed, since resets wait for its entries.
            if self._may_settle() and self._reclaim_known(self._goal()):
                continue
            if self._finish_resets() or self._merge_all():
                continue
            if surveyed or not self._may_settle():
                return False
            surveyed = True
            self._reclamation.survey()
        return True

    def _may_settle(self) -> bool:
        return self._may_flush() or not self._index.has_unwritten()

    def _reclaim_known(self, goal_count: int) -> bool:
        """Reclaim known garbage and carry out the resets. False if there is none.

        Nothing is moved while a memtable that was filled by copies could not be flushed.
        """
        evacuated = self._may_flush() and self._evacuate_known(goal_count)
        if not evacuated and not self._extents.resetting_count():
            return False
        if self._may_settle():  # another thread may have used up the room meanwhile; then runs are merged first
            self._index.flush()  # resets wait for the entries in the memtable
        self._upkeep.drain()
        return True

    def _finish_resets(self) -> bool:
        """Carry out the resets that wait for nothing in the memtable. False if no extent is free by that."""
        before_count = self._extents.free_count()
        self._reclamation.reset_dead_runs()
        if self._extents.resetting_count():
            self._upkeep.drain()
        return self._extents.free_count() > before_count

    def _merge_all(self) -> bool:
        """Merge all runs, or wait for a merge that is under way. False if nothing is left to merge, or no room."""
        if self._await_merge():
            return True
        with suppress(NoSpaceError):
            return self._index.compact_all()
        return False

    def _await_merge(self) -> bool:
        """Wait for a merge that is under way, which may make room. False if there is none."""
        if not self._index.is_merging():
            return False
        self._upkeep.wait_until(lambda: not self._index.is_merging())
        return True

    # --- finding space ------------------------------------------------------------------------------

    def _fits(self, need: Need) -> bool:
        """Whether there is room for this, and for all else that is reserved, beside what requests leave."""
        # Even if an open extent has room for the frames: each entry may cost the index space.
        is_flush_ahead = self._is_flush_ahead(need)
        outlook = self._outlook_with(need, is_flush_ahead=is_flush_ahead)
        room_count = self._extents.free_count() - self._kept_count(outlook, is_flush_ahead=is_flush_ahead)
        sizes = self._held_sizes()
        if room_count < len(sizes):  # else it is enough: no frame takes more than one extent
            room_count -= self._chunks.extents_needed(Kind.VALUE, sizes)
        return room_count >= 0 and self._index.may_grow(outlook)

    def _outlook_with(self, need: Need, *, is_flush_ahead: bool) -> Outlook:
        """The index's outlook with these entries still to come, perhaps after a flush."""
        return self._index.outlook(need.entry_size_max_bytes, need.surplus_size_bytes, is_flush_ahead=is_flush_ahead)

    def _is_flush_ahead(self, need: Need) -> bool:
        """Whether the memtable has no room for all entries that are reserved."""
        held = self._held
        entries_count = need.entries_count if len(held) == 1 else sum([each.entries_count for each in held])
        return entries_count > self._index.room_count()

    def _held_sizes(self) -> list[int]:
        """The sizes of all frames that are reserved."""
        held = self._held
        return held[0].frame_sizes if len(held) == 1 else [size for each in held for size in each.frame_sizes]

    def _held_total(self) -> tuple[int, ...]:
        """How much is reserved, in each way in which room can run out."""
        held = self._held
        return (
            sum([sum(each.frame_sizes) for each in held]),
            max([max(each.frame_sizes, default=0) for each in held], default=0),
            sum([each.entries_count for each in held]),
            sum([each.surplus_size_bytes for each in held]),
            max([each.entry_size_max_bytes for each in held], default=0),
        )

    def _kept_count(self, outlook: Outlook, *, is_flush_ahead: bool = False) -> int:
        """How many extents requests leave: the reserve in this outlook, and some for the copies of evacuations."""
        spare_count = self._configuration.reserve_extents_count
        if outlook is self._index.outlook():
            return self._reserve_count() + spare_count
        flush_count, merge_count = self._extents_counts(outlook)
        return (3 if is_flush_ahead else 2) * flush_count + merge_count + spare_count

    def _find(self, need: Need) -> bool:
        """Reclaim until all frames that are reserved fit. False if no garbage is left that would make room."""
        most_count, fruitless_count = -1, 0
        while fruitless_count <= _FRUITLESS_MAX:
            goal_count = self._goal(need)
            # Where frames are large, moving may gain nothing, for ever: behind a fruitless round all runs are merged.
            is_stuck = fruitless_count == 1
            if is_stuck or (not self._evacuate_known(goal_count) and not self._extents.resetting_count()):
                if self._fits(need):
                    return True
                if not self._free_something(goal_count):
                    return False
            self.flush()  # resets wait for the entries in the memtable
            self._upkeep.drain()
            count = self._extents.free_count()
            if count >= goal_count and self._fits(need):
                return True
            fruitless_count = 0 if count > most_count else fruitless_count + 1
            most_count = max(most_count, count)
        return self._fits(need)

    def _free_something(self, goal_count: int) -> bool:
        """Merge all runs, which brings garbage to light, or else survey every extent. False if neither helps.

        Then even extents that are being filled are given back if nothing in them is live: on the smallest disks these
        are all there is (SPACE-7).
        """
        trouble: StoreError | None = None
        if self._await_merge():
            return True
        try:
            if self._index.compact_all():
                return True
        except StoreError as error:
            trouble = error
        self._reclamation.survey()
        if self._evacuate_known(goal_count) or self._evacuate_known(goal_count, even_open=True):
            return True
        if trouble is not None and not isinstance(trouble, NoSpaceError):
            raise trouble  # the disk is not full: it could not be read
        return False

    def _evacuate_known(self, goal_count: int, *, even_open: bool = False) -> bool:
        """Reclaim extents that are worth it, until so many are free or soon will be. False if that changed nothing."""
        done = False
        for extent in self._reclamation.known_victims(self._dead_bytes_min, even_open=even_open):
            if self._extents.free_count() + self._extents.resetting_count() >= goal_count:
                break
            before_count = self._reclamation.moved_count
            try:
                reclaimed = self._reclamation.reclaim(extent, dead_bytes_min=self._dead_bytes_min)
            except NoSpaceError:  # what was moved by then stays moved
                return done or self._reclamation.moved_count > before_count
            done = done or (reclaimed is not None and reclaimed.is_reset)
        return done

    def _goal(self, need: Need | None = None) -> int:
        """How many extents upkeep keeps free: those that requests leave, and some for them, this one at least."""
        goal_count = self._kept_count(self._index.outlook()) + self._configuration.reclaim_free_extents_min
        if need is None:
            return goal_count
        is_flush_ahead = self._is_flush_ahead(need)
        outlook = self._outlook_with(need, is_flush_ahead=is_flush_ahead)
        needed_count = self._chunks.extents_needed(Kind.VALUE, self._held_sizes())
        return max(goal_count, self._kept_count(outlook, is_flush_ahead=is_flush_ahead) + needed_count)

    # --- what upkeep may take -----------------------------------------------------------------------

    def may_copy(self) -> bool:
        """Whether copies may be made: they come out of the spare part, and leave the reserve."""
        return self._extents.free_count() > self._reserve_count()

    def may_merge(self, bound: RunBound) -> bool:
        """Whether compaction may write such a run. Unless it restores the reserve, it leaves a flush its room."""
        kept_count = 0 if self._restoring else self._flush_count()
        bound_count = bound.extents_count(self._extents.extent_size_bytes, self._extents.page_size_bytes)
        return self._extents.free_count() >= kept_count + bound_count


def _is_no_less(total: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether no way in which room can run out has become easier."""
    return all(mine >= theirs for mine, theirs in zip(total, other, strict=True))
