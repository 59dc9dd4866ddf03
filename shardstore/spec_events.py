"""Rare events of the store: where its behaviour changes, for specs to say that their scenarios should get there.

Each set belongs to the layers that a spec runs. What a spec cannot have is explained with `without`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness import Event
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.chunk_store import ChunkStore, _Slab
from shardstore.extents import Extents
from shardstore.index.compaction import _over_limit, choose
from shardstore.index.index import Index
from shardstore.index.memtable import Memtable
from shardstore.index.metadata_log import MetadataLog
from shardstore.index.run import RunReader
from shardstore.reclamation import Reclamation
from shardstore.space import Space
from shardstore.store import Store
from shardstore.superblock import Superblock
from shardstore.twin_log import TwinLog

Events = tuple[Event, ...]

SUPERBLOCK: Events = (
    Event("superblock turn", TwinLog._turn, when="self._name == 'superblock'"),
    Event(
        "one superblock record for several extents", Superblock.submit_record, "self._check_steps", "len(changed) > 1"
    ),
    Event("one copy of a record lost", TwinLog._chain, "return [copies", "self.needs_repair"),
)
EXTENTS: Events = (
    Event("epoch beyond 5", Extents.reset, "extent.soft_pages = ", "extent.epoch > 5"),
    Event("dead tail behind a soft pointer", Extents._recover_zoned, ".next_page = ", "hard_pages > record.soft_pages"),
    Event("reset repeated by recovery", Extents._recover_zoned, "self._resetting.append"),
)
AGED: Events = (Event("epoch beyond a byte", Extents.reset, "extent.soft_pages = ", "extent.epoch > 255"),)
CACHE: Events = (
    Event("cache miss", BufferCache._read_through),
    Event("cache full", BufferCache._read_through, "del pages["),
    Event("read larger than the cache", BufferCache._read_through, "size = ", "page_count > self._capacity_pages"),
    Event("page dropped with its extent", BufferCache._drain, "self._pages.pop", "key in self._pages"),
)
CHUNKS: Events = (
    Event("chunk of several pages", ChunkStore.put, "buffer += ", "size > self._page_size_bytes"),
    Event("write buffer full", ChunkStore.put, "self._flush(stream)"),
    Event("wait for a buffer", BufferPool.take, "self._monitor.wait_until"),
    Event("extent full", ChunkStore._make_ready, "extent = self._extents.allocate", "extent is not None"),
    Event("breath within a scan", ChunkStore.scan, "breathe()"),
    Event("scan of several slabs", _Slab._read_up_to, "self._first_page, ", "first_page > 0"),
    Event("torn frame scanned", ChunkStore.scan, "return Scan", "covered_bytes != slab.end"),
    Event("extent kept, since it does not decode", Reclamation._may_reset, "return scan", "not scan.is_complete"),
)
INDEX: Events = (
    Event("metadata turn", TwinLog._turn, when="self._name == 'metadata'"),
    Event("one metadata record for several edits", MetadataLog._submit_in_doubt, "self._note", "len(carried) > 1"),
    Event("metadata record too long for a delta", MetadataLog._submit_in_doubt, "self._turn_due = "),
    Event("run of several blocks", Index._write_run, "size_bytes = ", "len(blocks) > 1"),
    Event("block cache full", RunReader._block, "del blocks["),
    Event("level 0 over its limit", choose, "if not due and ", "due == 0"),
    Event("level 1 over its limit", _over_limit, "return level", "level == 1"),
    Event("level 2 over its limit", _over_limit, "return level", "level > 1"),
    Event("merge within level 0", Index._merge_within_level0, "self._merge("),
    Event("third level", Index._merge, "self._compacting = True", "target > 1"),
)
RECORDS: Events = (
    Event("metadata's dependencies pruned", MetadataLog._note_uncovered, "self._uncovered = "),
    Event(
        "bytes in doubt wait", MetadataLog._in_doubt_bytes, "return size", "size_bytes > self._in_doubt_size_max_bytes"
    ),
    Event(
        "superblock changes cannot wait",
        Superblock.may_wait,
        "return self",
        "self._pending_count >= self._waiting_changes_max",
    ),
    Event("log read in several slabs", TwinLog._scan, "slab_start, at = ", "page > 0"),
)
DEPENDENCIES: Events = (Event("dependencies pruned", Memtable.wait_for, "dependencies[:] ="),)
MOVES: Events = (
    Event("record in doubt cut off", TwinLog.recover, "self.was_cut = "),
    Event("soft pointer raised by recovery", Extents._raised, "raised[place.extent] = "),
    Event("block of a run moved", Index.move, "self._metadata.enqueue"),
    Event("value moved", Index.move, "self._set("),
)
DAMAGE: Events = (
    Event("extent kept, since it does not decode", Reclamation._may_reset, "return scan", "not scan.is_complete"),
    Event("extent with damage given back", Reclamation._reclaim, "self._chunks.reset", "not scan.is_complete"),
    Event("one copy of a record lost", TwinLog._chain, "return [copies", "self.needs_repair"),
    Event("damaged block emptied", Index._empty, "edit = "),
    Event("compaction stopped by damage", Space._noted, "self._troubles.setdefault"),
)
STORE: Events = (
    Event("memtable full", Space.make_room, "self.flush()"),
    Event("value of several chunks", Store._store_value, "pieces: list"),
    Event("value of exact multiples of a chunk", Store._store_value, "pieces: list", "len(value) % size == 0"),
    Event(
        "value in two extents",
        Store._store_value,
        "return key, tuple(",
        "pieces[0].locator.extent != pieces[-1].locator.extent",
    ),
    Event("search for room", Space._find, "goal_count = "),
    Event("search for room ends at its goal", Space._evacuate_known, "break"),
    Event("refusal for want of room", Space.reserve, "raise NoSpaceError"),
    Event("reclaim during flush", Space._flush_and_reclaim, "self._evacuate_known", "self._extents._resetting"),
    Event("flush waits for room", Space.flush, "self._index.await_flush()  # again"),
    Event("reserve restored", Space._gain),
    Event("copies stopped by the reserve", Space.make_room_for_copy, "raise NoSpaceError"),
    Event("survey of all extents", Reclamation.survey),
    Event("extent of dead runs given back at once", Reclamation.reset_dead_runs, "self._chunks.close_extent"),
    Event("listing holds a superseded run", Index._let_go, "run.holders_count -= 1", "run.holders_count > 1"),
    Event("metadata full", Index._write_run, "raise NoSpaceError"),
    Event(
        "copy came too late",
        Reclamation._move,
        "self._chunks.note_dead",
        because="another call must come in the middle of a move, and change what is moved",
    ),
)
WHOLE_STORE: Events = (*SUPERBLOCK, *EXTENTS, *CACHE, *CHUNKS, *INDEX, *RECORDS, *DEPENDENCIES, *MOVES, *STORE)


def without(events: Sequence[Event], names: Iterable[str], because: str) -> Events:
    """The events, some of which cannot happen, and why."""
    excepted = set(names)
    unknown = excepted - {event.name for event in events}
    assert not unknown, f"no such events: {unknown}"
    return tuple(replace(event, because=because) if event.name in excepted else event for event in events)


def names_of(events: Sequence[Event]) -> set[str]:
    return {event.name for event in events}
