"""The index: an LSM tree from shard id to the locators of its value.

    memtable --flush--> level 0: runs, newest first --compact--> level 1: one run --compact--> level 2 ...

A run is a sequence of sorted blocks, each a chunk; the metadata log names the live runs.

Guarantees. An entry is persistent only when its value's chunks are, the run that holds it is, and a record names that
run (IDX-1). A crash leaves a prefix of the edits (IDX-2). After a failed write the index takes no more entries until it
is opened again: no edit may build on one that is missing.

Memory: the memtable, and for each block of a run its first key and locator; never an entry a key.

Modelled on O'Neil et al., *The log-structured merge-tree* (1996), and ShardStore's index, which also keeps values
outside the tree and the tree in chunks. The caller holds the store's monitor. Compaction lets it go between blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from shardstore.chunk_frame import Frame
from shardstore.dependency import FAILED, PERSISTENT, Dependency, Promise, Waiter, join, reaches
from shardstore.errors import CorruptionError, DiskError, NoSpaceError, StoreError, TooLargeError
from shardstore.extents import Place
from shardstore.index import run_block
from shardstore.index.compaction import Choice, choose, merged
from shardstore.index.memtable import Memtable
from shardstore.index.metadata_log import (
    Block,
    Edit,
    MetadataLog,
    Move,
    RunRecord,
    run_size_bytes,
)
from shardstore.index.outlook import Figures, Outlook, Outlooks
from shardstore.index.outlook import outlook as outlook_of
from shardstore.index.run import Chunks, Run, RunReader, block_key, in_blocks, newest
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, ONE_LOCATOR_ENTRY_SIZE_BYTES, Entry, Item
from shardstore.index.run_bounds import RunLimits, run_bound
from shardstore.index.snapshot import Snapshot
from shardstore.units import KeyRange, Kind, Locator, RunBound, StoreConfiguration, new_tuple
from shardstore.upkeep import Upkeep


class _Totals(NamedTuple):
    """Of all live runs."""

    entries_size_bytes: int
    entry_count: int
    entry_size_max_bytes: int  # of those that are no deletions
    metadata_bytes: int  # that a full record takes to name them


class Index:
    """See the module."""

    def __init__(
        self,
        chunks: Chunks,
        metadata: MetadataLog,
        waiter: Waiter,
        configuration: StoreConfiguration,
        upkeep: Upkeep,
    ) -> None:
        self._chunks = chunks
        self._metadata = metadata
        self._waiter = waiter
        self._configuration = configuration
        self._upkeep = upkeep
        self._memtable = Memtable(Promise(waiter), configuration.prune_at_count)
        self._frozen: Memtable | None = None  # being written as a run
        self._levels: list[list[Run]] = [[]]  # level 0 newest first; each other level at most one run
        self._runs: dict[int, Run] = {}  # live or held by a snapshot
        self._reader = RunReader(chunks, configuration.block_cache_count)
        self._next_run_id = 1
        self._compacting = False
        self._limits = RunLimits(
            configuration.memtable_entries_max, configuration.key_size_max_bytes, configuration.run_block_size_bytes
        )
        self._outlooks = Outlooks()
        self._outlook: Outlook | None = None  # not worked out since the levels or the memtable's sizes changed
        self._entry_size_max_bytes = 0  # as of that outlook
        self._next_compaction: Choice | None = None
        self._plan_compaction()

    def recover(self, secret: bytes, holds: Callable[[Place], bool] = lambda place: True) -> None:
        """Open the runs that the newest metadata names, on a disk that has this secret. Raises `CorruptionError`.

        ``holds`` says whether an append is there that the metadata names.
        """
        for record in self._metadata.recover(secret, holds):
            self._install(self._levels, Run(record))
        self._plan_compaction()

    # --- entries ------------------------------------------------------------------------------------

    def put(self, key: bytes, locators: tuple[Locator, ...], values: Dependency) -> Dependency:
        """Enter the locators of a value whose chunks are persistent when ``values`` is.

        Raises `TooLargeError` for too many locators, and `DiskError` after a failed write.
        """
        if not locators:
            raise TooLargeError(f"an entry holds 1 to {run_block.LOCATORS_MAX} locators, not none")
        return self._set(key, locators, values)

    def delete(self, key: bytes) -> Dependency:
        """Enter that the key has no value. Raises `DiskError` after a failed write."""
        return self._set(key, None, PERSISTENT)

    def enter(self, entries: Sequence[tuple[bytes, tuple[Locator, ...], Dependency]]) -> Dependency:
        """Enter several at once, those without locators as deletions: others see all of them or none (BULK-1).

        Raises `TooLargeError` for too many locators, and `DiskError` after a failed write.
        """
        self._check_takes_changes()
        memtable = self._memtable
        new: dict[bytes, Entry] = {}
        for key, locators, values in entries:
            self._prepare(key, new.get(key, memtable.entries.get(key)), locators or None)
            memtable.wait_for(values)
            new[key] = locators or None
        memtable.entries.update(new)  # one step of the interpreter, so that no interrupt comes between
        return memtable.promise

    def get(self, key: bytes) -> tuple[Locator, ...] | None:
        """The locators of a key's value, or None if it has none. Raises `CorruptionError`, `DiskError`."""
        entries = self._memtable.entries
        if key in entries:
            return entries[key]
        if self._frozen is not None and key in self._frozen.entries:
            return self._frozen.entries[key]
        for level in self._levels:
            for run in level:
                item = self._reader.find(run, key)
                if item is not None:
                    return item[1]
        return None

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, tuple[Locator, ...]]]:
        """Live entries in order of their keys. Must not be interleaved with changes."""
        runs = self.runs()
        sources = [*self._memtables(start), *(self._reader.items(run, start) for run in runs)]
        for key, entry in newest(sources):
            if entry is not None:
                yield key, entry

    def _memtables(self, start: bytes = b"") -> list[Iterator[Item]]:
        """The entries that no run has yet, by memtable, the newest first."""
        return [memtable.items(start) for memtable in (self._memtable, self._frozen) if memtable is not None]

    def _set(self, key: bytes, entry: Entry, values: Dependency) -> Dependency:
        self._check_takes_changes()
        memtable = self._memtable
        self._prepare(key, memtable.entries.get(key), entry)
        memtable.set(key, entry, values)
        return memtable.promise

    def _check_takes_changes(self) -> None:
        if self._metadata.is_failed:
            raise DiskError("a write has failed: the disk must be opened again before it takes changes")

    def _prepare(self, key: bytes, before: Entry, entry: Entry) -> None:
        """Note what an entry that is about to come makes dead, and how large it is."""
        memtable = self._memtable
        if before is not None:
            if len(before) > 1:
                memtable.surplus_size_bytes -= LOCATOR_SIZE_BYTES * (len(before) - 1)
                self._outlook = None
            for locator in before:
                if entry is None or locator not in entry:
                    self._chunks.note_dead(locator)
        if entry is None:
            return
        count = len(entry)
        if count > run_block.LOCATORS_MAX:
            raise TooLargeError(f"an entry holds 1 to {run_block.LOCATORS_MAX} locators, not {count}")
        size_bytes = ONE_LOCATOR_ENTRY_SIZE_BYTES + len(key) + LOCATOR_SIZE_BYTES * (count - 1)
        if count > 1 or size_bytes > memtable.entry_size_max_bytes:
            memtable.surplus_size_bytes += LOCATOR_SIZE_BYTES * (count - 1)
            memtable.entry_size_max_bytes = max(memtable.entry_size_max_bytes, size_bytes)
            self._outlook = None

    def _note_dead(self, locators: Iterable[Locator] | None) -> None:
        for locator in locators or ():
            self._chunks.note_dead(locator)

    # --- memtable to run ----------------------------------------------------------------------------

    def room_count(self) -> int:
        """How many more keys the memtable takes; negative after a failed flush has put two memtables together."""
        return self._configuration.memtable_entries_max - len(self._memtable.entries)

    def flush(self) -> bool:
        """Write the memtable as a run of level 0. False if it was empty.

        Raises `NoSpaceError` or another `StoreError`, and then keeps every entry.
        """
        # Frozen first, since writing may wait and so let other threads in (IDX-5).
        self.await_flush()
        if not self._memtable.entries:
            return False
        frozen = self._frozen = self._memtable
        self._memtable = Memtable(Promise(self._waiter), self._configuration.prune_at_count)
        self._outlook = None  # there are two memtables now, whoever comes in while one is written
        try:
            run, written = self._write_run(0, frozen.items())
        except StoreError:
            self._thaw(frozen)
            raise
        prerequisites = join(chain(written, frozen.value_dependencies()), self._waiter)  # IDX-1
        frozen.promise.bind(self._publish(run, (), prerequisites, "flush edit"))
        self._frozen = None
        self._outlook = None
        self._upkeep.notify_all()
        return True

    def await_flush(self) -> None:
        """Wait for a flush that another thread is at, if there is one."""
        if self._frozen is not None:
            self._upkeep.wait_until(lambda: self._frozen is None)

    def _thaw(self, frozen: Memtable) -> None:
        if self._memtable.entries:
            frozen.put_under(self._memtable)
        else:
            self._memtable = frozen
        self._frozen = None
        self._outlook = None
        self._upkeep.notify_all()

    def _write_run(
        self, level: int, items: Iterable[Item], dropped: tuple[Run, ...] = ()
    ) -> tuple[RunRecord | None, list[Dependency]]:
        """Write the blocks of a new run, and pin them. `_publish` lets go of the pins."""
        run_id = self._next_run_id
        self._next_run_id += 1
        blocks: list[Block] = []
        written: list[Dependency] = []
        count = entry_size_max_bytes = 0
        try:
            for batch in in_blocks(items, self._configuration.run_block_size_bytes):
                put = self._chunks.put(Kind.RUN, block_key(run_id, len(blocks)), run_block.encode(batch))
                blocks.append(Block(batch[0][0], put.locator))
                written.append(put.dependency)
                count += len(batch)
                sizes = [run_block.entry_size_bytes(*item) for item in batch if item[1] is not None]
                entry_size_max_bytes = max(entry_size_max_bytes, *sizes, 0)
                self._upkeep.breathe()
            size_bytes = run_size_bytes([block.first_key for block in blocks])
            if not self._metadata.fits(self._metadata_size_bytes(dropped) + size_bytes):
                raise NoSpaceError("the metadata names as many blocks as fit its extents")
        except BaseException:
            for block in blocks:
                self._chunks.unpin(block.locator)
                self._chunks.note_dead(block.locator)
            raise
        return (RunRecord(run_id, level, count, entry_size_max_bytes, tuple(blocks)) if blocks else None), written

    def _metadata_size_bytes(self, dropped: tuple[Run, ...]) -> int:
        """How many bytes a full record needs for the live runs, without those that are about to be dropped."""
        return sum([run.metadata_size_bytes for level in self._levels for run in level if run not in dropped])

    # --- how much room it may need ------------------------------------------------------------------

    def outlook(
        self, entry_size_bytes: int = 0, surplus_size_bytes: int = 0, *, is_flush_ahead: bool = False
    ) -> Outlook:
        """The most that a flush and a merge of everything may take; the same object as long as nothing changes it.

        Entries that are yet to come may be as long as ``entry_size_bytes``, and have so much surplus. If a flush comes
        ahead of them, they are the beginning of another memtable.
        """
        known = self._outlook
        if known is None:
            known = self._outlook = self._outlooks.of(self._figures())
        if not surplus_size_bytes and not is_flush_ahead and entry_size_bytes <= self._entry_size_max_bytes:
            return known
        return self._outlooks.of(self._figures(entry_size_bytes, surplus_size_bytes, is_flush_ahead=is_flush_ahead))

    def _figures(
        self, entry_size_bytes: int = 0, surplus_size_bytes: int = 0, *, is_flush_ahead: bool = False
    ) -> Figures:
        memtable, frozen = self._memtable, self._frozen
        surplus = memtable.surplus_size_bytes + surplus_size_bytes
        totals = self._totals
        self._entry_size_max_bytes = max(
            totals.entry_size_max_bytes,
            memtable.entry_size_max_bytes,
            0 if frozen is None else frozen.entry_size_max_bytes,
        )
        figures = (
            self._limits,
            totals.entries_size_bytes,
            totals.entry_count,
            totals.metadata_bytes,
            1 if frozen is None else 2,
            max(self._entry_size_max_bytes, entry_size_bytes),
            surplus,
            surplus if frozen is None else surplus + frozen.surplus_size_bytes,
            is_flush_ahead,
        )
        return new_tuple(Figures, figures)

    def wrong_counts(self) -> list[str]:
        """Of the sizes that are kept until something changes, those that something has changed (COUNT-1)."""
        kept, known, longest = self._totals, self._outlook, self._entry_size_max_bytes
        wrong = [] if kept == self._add_up() else [f"runs: {kept}"]
        wrong += ["memtable" for each in (self._memtable, self._frozen) if each is not None and each.is_undercounted()]
        if known is not None and (known, longest) != (outlook_of(self._figures()), self._entry_size_max_bytes):
            wrong.append(f"outlook: {known}")
        self._entry_size_max_bytes = longest  # who looks must mend nothing
        return wrong

    def may_flush(self) -> bool:
        """Whether a full record has room for one more memtable's run, however long its keys."""
        return self._metadata.fits(self._totals.metadata_bytes + self.outlook().flush_named_bytes)

    def may_grow(self, outlook: Outlook) -> bool:
        """Whether a full record has room for the run of a flush, also after all are merged, in this outlook."""
        return self._metadata.fits(outlook.grown_named_bytes)

    # --- publishing a run ---------------------------------------------------------------------------

    def _publish(self, added: RunRecord | None, dropped: tuple[Run, ...], after: Dependency, label: str) -> Promise:
        """Enqueue the edit and make it visible. From here on the index refers to the new blocks."""
        records = () if added is None else (added,)
        promise = self._metadata.enqueue(Edit(tuple(run.run_id for run in dropped), records), after, label)
        levels = [[run for run in level if run not in dropped] for level in self._levels]
        for record in records:
            self._install(levels, Run(record))
        self._levels = levels  # at once, for a reader after an interrupt
        for run in dropped:
            self._let_go(run)
        for record in records:
            for block in record.blocks:
                self._chunks.unpin(block.locator)
        self._plan_compaction()
        return promise

    def _install(self, levels: list[list[Run]], run: Run) -> None:
        while len(levels) <= run.level:
            levels.append([])
        level = levels[run.level]
        if run.level and level:
            raise CorruptionError(2, 0, f"metadata names two runs on level {run.level}")  # 2: of the metadata log
        # The newest first. Of what is merged within level 0, others may have become newer meanwhile.
        level.insert(sum([other.run_id > run.run_id for other in level]), run)
        self._runs[run.run_id] = run
        self._next_run_id = max(self._next_run_id, run.run_id + 1)

    def _let_go(self, run: Run) -> None:
        # A snapshot may still read the run: its blocks are garbage only once nobody holds it (LIST-1).
        run.holders_count -= 1
        if not run.holders_count:
            del self._runs[run.run_id]
            for locator in run.locators:
                self._chunks.note_dead(locator)

    # --- compaction ---------------------------------------------------------------------------------

    def is_merging(self) -> bool:
        """Whether some thread is at a merge."""
        return self._compacting

    def is_compaction_due(self) -> bool:
        return not self._compacting and self._due_level() is not None

    def compact(self) -> bool:
        """Merge into the next the level that is over its limit, else the first that has anything to merge.

        False if there is nothing to merge, a merge is under way, or a write has failed. Raises `NoSpaceError`, and
        then leaves everything as it was.
        """
        choice = self._next_compaction
        if choice is None or self._compacting or self._metadata.is_failed:
            return False
        if choice.target == choice.level == 0:
            return self._merge_within_level0()
        self._merge((*self._levels[choice.level], *self._runs_of(choice.target)), choice.target)
        return True

    def _merge_within_level0(self) -> bool:
        # A run's id says how new it is: that of a run which is being written must not be lower than the merged one's.
        self.await_flush()
        choice = self._next_compaction
        if choice is None or choice.target or self._compacting:  # other threads have been at it meanwhile
            return False
        self._merge(tuple(self._levels[0][: choice.runs_count]), 0)
        return True

    def compact_all(self) -> bool:
        """Merge all levels into one run, without any deletion. False if they are, a merge is under way, or none may be.

        Raises `NoSpaceError`, and then leaves everything as it was.
        """
        levels = [level for level, runs in enumerate(self._levels) if runs]
        is_merged = len(levels) == 1 and levels[0] > 0  # a level below 0 has one run, and the last has no deletions
        if not levels or is_merged or self._compacting or self._metadata.is_failed:
            return False
        self._merge(tuple(chain.from_iterable(self._levels)), max(1, levels[-1]))
        return True

    def _due_level(self) -> int | None:
        choice = self._next_compaction
        return choice.level if choice is not None and choice.is_due else None

    def _plan_compaction(self) -> None:
        """Choose the next merge and add up its sizes, after the levels have changed.

        Every request asks for these sizes, so they are added up once. A move of a block changes none of them.
        """
        sizes = [[run.entry_count for run in level] for level in self._levels]
        self._next_compaction = choose(sizes, self._configuration)
        self._totals = self._add_up()
        self._outlook = None

    def _add_up(self) -> _Totals:
        runs = self.runs()
        return _Totals(
            _entries_size_bytes(runs),
            sum([run.entry_count for run in runs]),
            max([run.entry_size_max_bytes for run in runs], default=0),
            self._metadata_size_bytes(()),
        )

    def _runs_of(self, level: int) -> list[Run]:
        return self._levels[level] if level < len(self._levels) else []

    def _merge(self, dropped: tuple[Run, ...], target: int) -> None:
        """Merge these runs, which come newest first, into one of the target level. No level above that has others."""
        # Other threads may come in, so no second merge may begin.
        self._compacting = True
        try:
            is_bottom = target > 0 and not any(self._levels[target + 1 :])
            if not self._upkeep.may_merge(self._bound_of(dropped, is_bottom=is_bottom)):
                raise NoSpaceError(f"no room to merge {len(dropped)} runs into one")
            sources = [self._reader.items(run) for run in dropped]
            items = merged(sources, self._note_dead, is_bottom=is_bottom)
            run, written = self._write_run(target, items, dropped)
            self._publish(run, dropped, join(written, self._waiter), "compaction edit")
        finally:
            self._compacting = False
            self._upkeep.notify_all()

    def _bound_of(self, runs: Sequence[Run], *, is_bottom: bool) -> RunBound:
        """The most that these runs merged into one may take; on the bottom it has no deletions."""
        deletion = run_block.entry_size_bytes(bytes(self._configuration.key_size_max_bytes), None)
        entry_size_max_bytes = max([0 if is_bottom else deletion, *(run.entry_size_max_bytes for run in runs)])
        count = sum([run.entry_count for run in runs])
        return run_bound(
            count, _entries_size_bytes(runs), entry_size_max_bytes, self._configuration.run_block_size_bytes
        )

    # --- what reclamation asks ----------------------------------------------------------------------

    def is_live(self, frame: Frame, locator: Locator) -> bool:
        """Whether the index refers to exactly this chunk, not to another of the same key."""
        if frame.kind == Kind.VALUE:
            return locator in (self.get(frame.key) or ())
        run, number = self._run_block_of(frame)
        return run is not None and run.locators[number] == locator

    def move(self, frame: Frame, old: Locator, new: Locator, written: Dependency) -> bool:
        """Refer to the copy instead, if the index still refers to the chunk (GC-2). Else do nothing, and give False.

        Raises `DiskError` if the copy could not be written.
        """
        if written.poll() is FAILED:
            raise DiskError("the device refused the copy of a live chunk")
        if frame.kind == Kind.VALUE:
            locators = self.get(frame.key) or ()
            if old not in locators:
                return False
            self._set(frame.key, tuple([new if locator == old else locator for locator in locators]), written)
            return True
        run, number = self._run_block_of(frame)
        if run is None or run.locators[number] != old:
            return False
        run.locators[number] = new
        if run in self._levels[run.level]:  # else only a snapshot holds the run, and no record names it
            self._metadata.enqueue(Edit(moved=(Move(run.run_id, number, new),)), written, "move edit")
        return True

    # --- damage -------------------------------------------------------------------------------------

    def drop_damaged(self) -> list[KeyRange]:
        """Put an empty block in the place of each damaged one, and give the keys that it may have held (DAMAGE-1).

        Blocks keep their numbers, so that all else stays as it is. Raises `DiskError`, `NoSpaceError`.
        """
        lost = []
        for run in self.runs():
            for number in range(len(run.locators)):
                if self._reader.is_damaged(run, number) and self._empty(run, number):
                    lost.append(run.keys_of(number))
                self._upkeep.breathe()
        return lost

    def _empty(self, run: Run, number: int) -> bool:
        """Move a block to an empty one. False if the run is gone by now, or the block has moved."""
        old = run.locators[number]
        put = self._chunks.put(Kind.RUN, block_key(run.run_id, number), run_block.encode([]))
        is_there = run in self._levels[run.level] and run.locators[number] == old
        if is_there:
            run.locators[number] = put.locator
            edit = Edit(moved=(Move(run.run_id, number, put.locator),))
            self._metadata.enqueue(edit, put.dependency, "emptied block edit")
        self._chunks.unpin(put.locator)
        self._chunks.note_dead(old if is_there else put.locator)
        return is_there

    # --- what is not written yet --------------------------------------------------------------------

    def is_unwritten(self, dependency: Dependency) -> bool:
        """Whether it waits for entries of the memtable, so that a flush must come."""
        return bool(self._memtable.entries) and reaches(dependency, self._memtable.promise)

    def has_unwritten(self) -> bool:
        """Whether some entry is in no run yet."""
        return bool(self._memtable.entries) or self._frozen is not None

    def settled(self) -> Dependency:
        """The dependency that is persistent once everything is that the index has accepted so far (GC-3)."""
        if self._memtable.entries:
            return self._memtable.promise
        return self.recorded() if self._frozen is None else self._frozen.promise

    def names_any_in(self, extent: int) -> bool:
        """Whether any live chunk is in the extent. Walks the whole index."""
        if extent in self.extents_of_runs():
            return True
        return any(locator.extent == extent for _, locators in self.items() for locator in locators)

    def extents_of_runs(self) -> set[int]:
        """The extents that have blocks of runs, be they live or held by a snapshot."""
        return {locator.extent for run in self._runs.values() for locator in run.locators}

    def recorded(self) -> Dependency:
        """The dependency that is persistent once every edit so far is: what names a block changes by edits only."""
        return self._metadata.settled()

    def _run_block_of(self, frame: Frame) -> tuple[Run | None, int]:
        """The run, if it is known, and the number of the block that a frame claims to hold."""
        run = self._runs.get(int.from_bytes(frame.key[:8], "little"))
        number = int.from_bytes(frame.key[8:], "little")
        if run is None or number >= len(run.locators):
            return None, 0
        return run, number

    def superseded_runs_count(self) -> int:
        """The number of runs that are not live any more, but held by snapshots."""
        return len(self._runs) - sum(map(len, self._levels))

    # --- scrubbing ----------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """The live runs, the newest first."""
        return [run for level in self._levels for run in level]

    def unwritten(self) -> list[dict[bytes, Entry]]:
        """The entries that no run has yet, by memtable, the newest first. Only to be looked at."""
        return [memtable.entries for memtable in (self._memtable, self._frozen) if memtable is not None]

    # --- snapshots ----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The keys as they are now, to be read while the index changes; the caller must close the snapshot."""
        runs = self.runs()
        return Snapshot(list(newest(self._memtables())), runs, self._reader, self._let_go)


def _entries_size_bytes(runs: Iterable[Run]) -> int:
    return sum([run.entries_size_bytes for run in runs])
