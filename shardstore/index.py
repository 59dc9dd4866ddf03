"""The index: an LSM tree from shard id to the locators of its value.

    memtable --flush--> level 0: runs, newest first --compact--> level 1: one run --compact--> level 2 ...

A run is a sequence of sorted blocks, each a chunk; the metadata log names the live runs. Guarantees that an
entry is persistent only when its value's chunks are, the run that holds it is, and a record names that run
(IDX-1); that a crash leaves a prefix of the edits (IDX-2). After a failed write the index takes no more entries
until it is opened again: nothing may be recorded on top of what is missing.

Memory: the memtable, and for each block of a run its first key and locator; never an entry a key.

Modelled on O'Neil et al., *The log-structured merge-tree* (1996), and ShardStore's index, which also keeps
values outside the tree and the tree in chunks. The caller holds the store's monitor, which compaction lets go
between blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import chain
from operator import itemgetter
from typing import Protocol

from shardstore import run_block
from shardstore.chunk_frame import Frame
from shardstore.chunk_store import PutChunk
from shardstore.dependency import FAILED, PERSISTENT, Dependency, Promise, Waiter, join
from shardstore.errors import (
    CorruptionError,
    DiskError,
    NoSpaceError,
    StaleLocatorError,
    StoreError,
    TooLargeError,
)
from shardstore.memtable import Memtable
from shardstore.metadata_log import Block, Edit, MetadataLog, Move, RunRecord, memtable_run_size_bytes, run_size_bytes
from shardstore.run_block import BlockError, Entry, Item
from shardstore.seam import Monitor
from shardstore.units import Kind, Locator, StoreConfiguration


class Chunks(Protocol):
    """Where runs are kept: what the index needs of a chunk store."""

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk: ...
    def get(self, locator: Locator) -> bytes: ...
    def unpin(self, locator: Locator) -> None: ...
    def note_dead(self, locator: Locator) -> None: ...


class Run:
    """A live run. Its locators change when reclamation moves a block; nothing else does."""

    __slots__ = (
        "entry_count",
        "first_keys",
        "holders_count",
        "level",
        "locators",
        "metadata_size_bytes",
        "run_id",
        "size_bytes",
    )

    def __init__(self, record: RunRecord) -> None:
        self.run_id = record.run_id
        self.level = record.level
        self.entry_count = record.entry_count
        self.first_keys = [block.first_key for block in record.blocks]
        self.locators = [block.locator for block in record.blocks]
        self.size_bytes = sum(locator.length_bytes for locator in self.locators)  # a move keeps a block's length
        self.metadata_size_bytes = run_size_bytes(self.first_keys)
        self.holders_count = 1  # the index, and each snapshot


class Index:
    def __init__(
        self,
        chunks: Chunks,
        metadata: MetadataLog,
        waiter: Waiter,
        configuration: StoreConfiguration,
        monitor: Monitor,
        io_step: Callable[[], bool],
        compaction_room_bytes: Callable[[], int],
    ) -> None:
        self._chunks = chunks
        self._metadata = metadata
        self._waiter = waiter
        self._configuration = configuration
        self._monitor = monitor
        self._io_step = io_step
        self._compaction_room_bytes = compaction_room_bytes
        self._memtable = Memtable(Promise(waiter))
        self._frozen: Memtable | None = None  # being written as a run
        self._levels: list[list[Run]] = [[]]  # level 0 newest first; each other level at most one run
        self._runs: dict[int, Run] = {}  # live or held by a snapshot
        # Least recently used first. Never out of date, since no locator is used twice (CHUNK-1).
        self._blocks: dict[Locator, bytes] = {}
        self._next_run_id = 1
        self._compacting = False
        self._memtable_run_size_bytes = memtable_run_size_bytes(configuration)

    def recover(self) -> None:
        """Open the runs that the newest metadata names. Raises `CorruptionError`."""
        for record in sorted(self._metadata.recover(), reverse=True):
            self._install(Run(record), newest=False)

    # --- entries ------------------------------------------------------------------------------------

    def put(self, key: bytes, locators: tuple[Locator, ...], values: Dependency) -> Dependency:
        """Enter the locators of a value whose chunks are persistent when ``values`` is."""
        if not 0 < len(locators) <= run_block.LOCATORS_MAX:
            raise TooLargeError(f"an entry holds 1 to {run_block.LOCATORS_MAX} locators, not {len(locators)}")
        return self._set(key, locators, values)

    def delete(self, key: bytes) -> Dependency:
        return self._set(key, None, PERSISTENT)

    def get(self, key: bytes) -> tuple[Locator, ...] | None:
        """The locators, or None. Raises `CorruptionError`, `DiskError`."""
        if key in self._memtable:
            return self._memtable.get(key)
        if self._frozen is not None and key in self._frozen:
            return self._frozen.get(key)
        for level in self._levels:
            for run in level:
                item = self._find(run, key)
                if item is not None:
                    return item[1]
        return None

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, tuple[Locator, ...]]]:
        """Live entries in order of their keys. Must not be interleaved with changes."""
        runs = [run for level in self._levels for run in level]
        sources = [*self._memtables(start), *(self._run_items(run, start) for run in runs)]
        for key, entry in _newest(sources):
            if entry is not None:
                yield key, entry

    def _memtables(self, start: bytes = b"") -> list[Iterator[Item]]:
        """What no run has yet, newest first."""
        return [memtable.items(start) for memtable in (self._memtable, self._frozen) if memtable is not None]

    def _set(self, key: bytes, entry: Entry, values: Dependency) -> Dependency:
        if self._metadata.is_failed:
            raise DiskError("a write has failed: the disk must be opened again before it takes changes")
        memtable = self._memtable
        if key in memtable:
            self._note_dead([locator for locator in memtable.get(key) or () if locator not in (entry or ())])
        memtable.set(key, entry, values)
        return memtable.promise

    def _note_dead(self, locators: Iterable[Locator] | None) -> None:
        for locator in locators or ():
            self._chunks.note_dead(locator)

    # --- memtable to run ----------------------------------------------------------------------------

    def room_count(self) -> int:
        """How many more keys the memtable takes."""
        return self._configuration.memtable_entries_max - len(self._memtable)

    def flush(self) -> bool:
        """Write the memtable as a run of level 0. False if it was empty.

        The memtable is frozen first, since writing may wait and so let other threads in (IDX-5). Raises
        `NoSpaceError` and leaves every entry where it was.
        """
        if self._frozen is not None:
            self._monitor.wait_until(lambda: self._frozen is None, self._io_step)
        if not len(self._memtable):
            return False
        frozen = self._frozen = self._memtable
        self._memtable = Memtable(Promise(self._waiter))
        try:
            run, written = self._write_run(0, frozen.items())
        except StoreError:
            self._thaw(frozen)
            raise
        prerequisites = join(chain(written, frozen.value_dependencies()), self._waiter)  # IDX-1
        frozen.promise.bind(self._publish(run, (), prerequisites))
        self._frozen = None
        self._monitor.notify_all()
        return True

    def _thaw(self, frozen: Memtable) -> None:
        if len(self._memtable):
            frozen.put_under(self._memtable)
        else:
            self._memtable = frozen
        self._frozen = None
        self._monitor.notify_all()

    def _write_run(
        self, level: int, items: Iterable[Item], dropped: tuple[Run, ...] = ()
    ) -> tuple[RunRecord | None, list[Dependency]]:
        """Put the blocks of a new run, pinned; `_publish` lets go of the pins."""
        run_id = self._next_run_id
        self._next_run_id += 1
        blocks: list[Block] = []
        written: list[Dependency] = []
        count = 0
        try:
            for batch in self._batches(items):
                key = run_id.to_bytes(8, "little") + len(blocks).to_bytes(4, "little")
                put = self._chunks.put(Kind.RUN, key, run_block.encode(batch))
                blocks.append(Block(batch[0][0], put.locator))
                written.append(put.dependency)
                count += len(batch)
                if level:
                    self._breathe()
            size_bytes = run_size_bytes(block.first_key for block in blocks)
            if not self._metadata.fits(self._metadata_size_bytes(dropped) + size_bytes):
                raise NoSpaceError("the metadata names as many blocks as fit its extents")
        except BaseException:
            for block in blocks:
                self._chunks.unpin(block.locator)
                self._chunks.note_dead(block.locator)
            raise
        return (RunRecord(run_id, level, count, tuple(blocks)) if blocks else None), written

    def _metadata_size_bytes(self, dropped: tuple[Run, ...]) -> int:
        """What naming the live runs takes, without those that are about to be dropped."""
        return sum(run.metadata_size_bytes for level in self._levels for run in level if run not in dropped)

    def may_grow(self) -> bool:
        """Whether the metadata can name one more memtable's run, however long its keys."""
        return self._metadata.fits(self._metadata_size_bytes(()) + self._memtable_run_size_bytes)

    def _breathe(self) -> None:
        """Let other threads have the monitor in the middle of long work."""
        self._monitor.release()
        self._monitor.acquire()

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Entries in portions of about a block's size."""
        batch: list[Item] = []
        size = 0
        for item in items:
            item_size = run_block.entry_size_bytes(*item)
            if batch and size + item_size > self._configuration.run_block_size_bytes:
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += item_size
        if batch:
            yield batch

    def _publish(self, added: RunRecord | None, dropped: tuple[Run, ...], after: Dependency) -> Promise:
        """Enqueue the edit and make it visible; the new blocks are referred to from here on."""
        records = () if added is None else (added,)
        promise = self._metadata.enqueue(Edit(tuple(run.run_id for run in dropped), records), after)
        for run in dropped:
            self._levels[run.level].remove(run)
            self._let_go(run)
        for record in records:
            self._install(Run(record), newest=True)
            for block in record.blocks:
                self._chunks.unpin(block.locator)
        return promise

    def _install(self, run: Run, *, newest: bool) -> None:
        while len(self._levels) <= run.level:
            self._levels.append([])
        level = self._levels[run.level]
        if run.level and level:
            raise CorruptionError(2, 0, f"metadata names two runs on level {run.level}")
        level.insert(0 if newest else len(level), run)
        self._runs[run.run_id] = run
        self._next_run_id = max(self._next_run_id, run.run_id + 1)

    def _let_go(self, run: Run) -> None:
        run.holders_count -= 1
        if not run.holders_count:
            del self._runs[run.run_id]
            for locator in run.locators:
                self._chunks.note_dead(locator)

    # --- reading runs -------------------------------------------------------------------------------

    def _find(self, run: Run, key: bytes) -> Item | None:
        number = bisect_right(run.first_keys, key) - 1
        if number < 0:
            return None
        try:
            return run_block.find(self._block(run, number), key)
        except BlockError as error:
            raise self._damaged(run, number, str(error)) from None

    def _block(self, run: Run, number: int) -> bytes:
        locator = run.locators[number]
        blocks = self._blocks
        block = blocks.pop(locator, None)
        if block is None:
            try:
                block = self._chunks.get(locator)
            except StaleLocatorError:
                raise self._damaged(run, number, "a live block of a run is gone") from None
            if len(blocks) >= self._configuration.block_cache_count:
                del blocks[next(iter(blocks))]
        blocks[locator] = block
        return block

    def _damaged(self, run: Run, number: int, detail: str) -> CorruptionError:
        locator = run.locators[number]
        return CorruptionError(locator.extent, locator.offset_bytes, detail)

    def _run_items(self, run: Run, start: bytes = b"") -> Iterator[Item]:
        for number in range(max(0, bisect_right(run.first_keys, start) - 1), len(run.locators)):
            try:
                for item in run_block.decode(self._block(run, number)):
                    if item[0] >= start:
                        yield item
            except BlockError as error:
                raise self._damaged(run, number, str(error)) from None

    # --- compaction ---------------------------------------------------------------------------------

    def is_compaction_due(self) -> bool:
        return not self._compacting and self._due_level() is not None

    def compact(self) -> bool:
        """Merge the level that is most over its limit, else the first that has anything to merge, into the next.

        False if there is nothing to merge. Raises `NoSpaceError` and leaves everything as it was.
        """
        level = self._due_level()
        if level is None:
            level = next((i for i in range(len(self._levels)) if self._can_merge(i)), None)
        if level is None or self._compacting or self._metadata.is_failed:
            return False
        self._compacting = True
        try:
            self._merge_into_next(level)
        finally:
            self._compacting = False
        return True

    def next_compaction_bytes(self) -> int:
        """What the merge that is due, else that of level 0 into the next, reads and at the most writes."""
        level = self._due_level() or 0
        return _size_bytes(run for merged in self._levels[level : level + 2] for run in merged)

    def _due_level(self) -> int | None:
        limits = self._configuration
        if len(self._levels[0]) > limits.level0_runs_max:
            return 0
        entries_max = limits.level1_entries_max
        for number, level in enumerate(self._levels[1:], start=1):
            if level and level[0].entry_count > entries_max:
                return number
            entries_max *= limits.level_growth
        return None

    def _can_merge(self, level: int) -> bool:
        below = level + 1 < len(self._levels) and self._levels[level + 1]
        return len(self._levels[level]) + bool(below) > 1 and bool(self._levels[level])

    def _merge_into_next(self, level: int) -> None:
        target = level + 1
        dropped = (*self._levels[level], *(self._levels[target] if target < len(self._levels) else ()))
        if _size_bytes(dropped) > self._compaction_room_bytes():
            raise NoSpaceError(f"no room to merge level {level} into the next")
        is_bottom = not any(self._levels[target + 1 :])  # then nothing is left for a deletion to hide
        sources = [self._run_items(run) for run in dropped]
        merged = (item for item in _newest(sources, self._note_dead) if item[1] is not None or not is_bottom)
        run, written = self._write_run(target, merged, dropped)
        self._publish(run, dropped, join(written, self._waiter))

    # --- what reclamation asks ----------------------------------------------------------------------

    def is_live(self, frame: Frame, locator: Locator) -> bool:
        """Whether the index names exactly this chunk."""
        if frame.kind == Kind.VALUE:
            return locator in (self.get(frame.key) or ())
        run, number = self._run_block_of(frame)
        return run is not None and run.locators[number] == locator

    def move(self, frame: Frame, old: Locator, new: Locator, written: Dependency) -> bool:
        """Name the copy instead, if the chunk is still named (GC-2). False, and nothing done, if not."""
        if written.poll() is FAILED:
            raise DiskError("the device refused the copy of a live chunk")
        if not self.is_live(frame, old):
            return False
        if frame.kind == Kind.VALUE:
            locators = self.get(frame.key) or ()
            self._set(frame.key, tuple(new if locator == old else locator for locator in locators), written)
            return True
        run, number = self._run_block_of(frame)
        if run is None:
            return False
        run.locators[number] = new
        if run in self._levels[run.level]:
            self._metadata.enqueue(Edit(moved=(Move(run.run_id, number, new),)), written)
        return True

    def settled(self) -> Dependency:
        """Persistent once everything the index has accepted so far is (GC-3)."""
        if len(self._memtable):
            return self._memtable.promise
        return self._metadata.settled() if self._frozen is None else self._frozen.promise

    def names_any_in(self, extent: int) -> bool:
        """Whether anything live is in the extent. Walks the whole index."""
        if any(locator.extent == extent for run in self._runs.values() for locator in run.locators):
            return True
        return any(locator.extent == extent for _, locators in self.items() for locator in locators)

    def _run_block_of(self, frame: Frame) -> tuple[Run | None, int]:
        run = self._runs.get(int.from_bytes(frame.key[:8], "little"))
        number = int.from_bytes(frame.key[8:], "little")
        if run is None or number >= len(run.locators):
            return None, 0
        return run, number

    # --- snapshots ----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The keys as they are now, to be read at leisure; `Snapshot.close` when done."""
        return Snapshot(self, list(_newest(self._memtables())), [run for level in self._levels for run in level])


class Snapshot:
    """An unchanging view of the keys. Keeps the runs it reads from being reclaimed until it is closed."""

    def __init__(self, index: Index, memtable: list[Item], runs: list[Run]) -> None:
        self._index = index
        self._memtable = memtable
        self._runs = runs
        for run in runs:
            run.holders_count += 1

    def keys_after(self, start: bytes, limit_count: int) -> list[bytes]:
        """Up to ``limit_count`` live keys from ``start`` on, in order. The caller holds the monitor."""
        keys: list[bytes] = []
        recent = ((key, entry) for key, entry in self._memtable if key >= start)
        for key, entry in _newest([recent, *(self._index._run_items(run, start) for run in self._runs)]):
            if entry is not None:
                keys.append(key)
                if len(keys) == limit_count:
                    break
        return keys

    def close(self) -> None:
        runs, self._runs = self._runs, []
        for run in runs:
            self._index._let_go(run)


def _size_bytes(runs: Iterable[Run]) -> int:
    return sum(run.size_bytes for run in runs)


def _newest(sources: list[Iterator[Item]], superseded: Callable[[Entry], None] | None = None) -> Iterator[Item]:
    """Merge sources, the newest first: of each key the newest entry, deletions included."""
    last: bytes | None = None
    for key, entry in merge(*sources, key=itemgetter(0)):  # stable: of equal keys the newest source comes first
        if key != last:
            last = key
            yield key, entry
        elif superseded is not None:
            superseded(entry)
