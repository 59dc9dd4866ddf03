"""The scrub: reads everything live on a disk, and tells what is damaged, while the store is used.

    superblock log --> metadata log --> soft pointers --> keys in ascending order: run blocks, then value chunks

Guarantees. Whatever is live from the beginning of a scrub to its end is read from the device once at least: both copies
of each log record, the blocks of all runs, the chunks of all values (SCRUB-1). What is called damaged was live, and not
as it was written, at the moment it was read (SCRUB-2): each object is looked up and read without letting others in
between, so what was moved or dropped is no damage. What is still to be written is read from the queue or the write
buffer. Memory: one block for each run.

Not told: a copy that a crash may have torn, see `TwinLog.is_whole`. Not read: what nothing refers to, padding, and runs
that only listings hold. A file has no pointers of its own, so its soft pointers are compared with nothing.

The caller holds the store's monitor during each step, and lets it go between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Self

from shardstore.chunk_store import ChunkStore
from shardstore.errors import CorruptionError, DiskError, InterruptedStoreError, StaleLocatorError, StoreError
from shardstore.extents import Extents
from shardstore.index import run_block
from shardstore.index.index import Index
from shardstore.index.run import Run, block_key
from shardstore.index.run_block import BlockError, Entry
from shardstore.twin_log import Copies, TwinLog
from shardstore.units import RESERVED_EXTENTS_COUNT, KeyRange, Kind, Locator

_ALL_KEYS = KeyRange(b"", None)
_Entries = dict[bytes, Entry]


class Part(StrEnum):
    """What a scrub reads."""

    SUPERBLOCK_RECORD = "copy of a superblock record"
    METADATA_RECORD = "copy of a metadata record"
    SOFT_POINTER = "soft pointer"
    RUN_BLOCK = "run block"
    VALUE_CHUNK = "value chunk"


class Damage(NamedTuple):
    """An object that is not as it was written, and the keys concerned: of a log record, all, if its twin goes, too."""

    part: Part
    extent: int
    offset_bytes: int
    keys: KeyRange
    is_unreadable: bool  # the device gave an error, rather than other bytes
    detail: str


class Tally(NamedTuple):
    """What a scrub has read by now, the damaged included."""

    log_copies_count: int = 0
    run_blocks_count: int = 0
    value_chunks_count: int = 0
    keys_count: int = 0
    size_bytes: int = 0  # of records and frames, without padding between frames


_Found = list[Damage] | None
_Step = Callable[[], _Found]


class Scrub:
    """One walk over a disk."""

    def __init__(
        self, superblock: TwinLog, metadata: TwinLog, extents: Extents, chunks: ChunkStore, index: Index
    ) -> None:
        self._logs = ((Part.SUPERBLOCK_RECORD, superblock), (Part.METADATA_RECORD, metadata))
        self._extents = extents
        self._chunks = chunks
        self._index = index
        self._blocks: dict[Locator, _Entries | None] = {}  # those around the key; None: damaged
        self._found: list[Damage] = []
        self._walk = self._objects()
        self._log_copies_count = self._run_blocks_count = self._value_chunks_count = self._keys_count = 0
        self._size_bytes = 0

    def step(self) -> list[Damage] | None:
        """Read a little: a record, an extent's pointer, or the value of a key. Gives its damage; None at the end."""
        if next(self._walk, None) is None:
            return None
        found, self._found = self._found, []
        return found

    def tally(self) -> Tally:
        return Tally(
            self._log_copies_count,
            self._run_blocks_count,
            self._value_chunks_count,
            self._keys_count,
            self._size_bytes,
        )

    def _objects(self) -> Iterator[bool]:
        for part, log in self._logs:
            yield from self._log(part, log)
        for extent in range(RESERVED_EXTENTS_COUNT, self._extents.extent_count) if self._extents.zoned else ():
            self._check(partial(self._extents.check_pointer, extent), Part.SOFT_POINTER, extent, 0)
            yield True
        yield from self._keys()

    # --- logs ---------------------------------------------------------------------------------------

    def _log(self, part: Part, log: TwinLog) -> Iterator[bool]:
        generation, last = 0, log.newest_generation()  # those to come are new, and might never end
        while (copies := log.live_copies(generation)) is not None and copies.generation <= last:
            for copy in (0, 1):
                self._check_copy(part, log, copies, copy)
            generation = copies.generation + 1
            yield True

    def _check_copy(self, part: Part, log: TwinLog, copies: Copies, copy: int) -> None:
        page_size_bytes = self._extents.page_size_bytes
        offset_bytes = (copies.page + copy * copies.page_count) * page_size_bytes

        def check() -> None:
            if not log.is_whole(copies, copy):
                raise CorruptionError(copies.extent, offset_bytes, f"copy {copy + 1} of record {copies.generation}")

        self._log_copies_count += 1
        self._size_bytes += copies.page_count * page_size_bytes
        self._check(check, part, copies.extent, offset_bytes)

    # --- keys ---------------------------------------------------------------------------------------

    def _keys(self) -> Iterator[bool]:
        """Walk by segments, in each of which every run has one block, and there by keys.

        A key that comes while its segment is walked is new. One that is moved meanwhile was in some block already.
        """
        start: bytes | None = b""
        while start is not None:
            keys, start = self._segment(start)
            yield True
            for key in keys:
                self._check_value(key)
                yield True

    def _segment(self, start: bytes) -> tuple[list[bytes], bytes | None]:
        """The keys from ``start`` on to where the first of the blocks there ends, and that end, if there is one."""
        keys: set[bytes] = set()
        runs = self._index.runs()
        numbers = [run.number_of(start) + 1 for run in runs]
        ends = [run.first_keys[number] for run, number in zip(runs, numbers, strict=True) if number < len(run.locators)]
        end = min(ends, default=None)
        for entries in (*self._index.unwritten(), *self._blocks_around(start)):
            keys.update([key for key in entries or () if key >= start and (end is None or key < end)])
        return sorted(keys), end

    def _blocks_around(self, key: bytes) -> Iterable[_Entries | None]:
        """The block of each run that may have this key, the newest run's first; None for a damaged one.

        Each is read from the device when the walk comes to it, and its damage told.
        """
        around: dict[Locator, _Entries | None] = {}
        for run in self._index.runs():
            number = run.number_of(key)
            if number >= 0:
                locator = run.locators[number]
                around[locator] = self._blocks[locator] if locator in self._blocks else self._read_block(run, number)
        self._blocks = around
        return around.values()

    def _read_block(self, run: Run, number: int) -> _Entries | None:
        locator = run.locators[number]
        entries: list[_Entries] = []

        def read() -> None:
            payload = self._payload(locator, Kind.RUN, block_key(run.run_id, number))
            try:
                entries.append(dict(run_block.decode(payload)))
            except BlockError as error:
                raise CorruptionError(locator.extent, locator.offset_bytes, str(error)) from None

        self._run_blocks_count += 1
        self._size_bytes += locator.length_bytes
        self._check(read, Part.RUN_BLOCK, locator.extent, locator.offset_bytes, run.keys_of(number))
        return entries[0] if entries else None

    def _check_value(self, key: bytes) -> None:
        entry = self._entry(key)
        if entry is None:
            return
        self._keys_count += 1
        for locator in entry:
            self._value_chunks_count += 1
            self._size_bytes += locator.length_bytes
            read = partial(self._payload, locator, Kind.VALUE, key)
            self._check(read, Part.VALUE_CHUNK, locator.extent, locator.offset_bytes, KeyRange(key, key + b"\0"))

    def _entry(self, key: bytes) -> Entry:
        """The newest entry of a key as it is now; None also if it may be in a damaged block, whose range was told."""
        for memtable in self._index.unwritten():
            if key in memtable:
                return memtable[key]
        for entries in self._blocks_around(key):
            if entries is None:
                return None
            if key in entries:
                return entries[key]
        return None

    def _payload(self, locator: Locator, kind: Kind, key: bytes) -> bytes:
        """The payload of a live chunk, past all caches. Raises `CorruptionError`, `DiskError`."""
        try:
            frame = self._chunks.get_frame(locator, past_cache=True)
        except StaleLocatorError:
            raise CorruptionError(locator.extent, locator.offset_bytes, "a live chunk is gone") from None
        if (frame.kind, frame.key) != (kind, key):
            detail = f"a chunk of kind {frame.kind} that belongs to {frame.key!r}"
            raise CorruptionError(locator.extent, locator.offset_bytes, detail)
        return frame.payload

    # --- findings -----------------------------------------------------------------------------------

    def _check(
        self, check: Callable[[], object], part: Part, extent: int, offset_bytes: int, keys: KeyRange = _ALL_KEYS
    ) -> None:
        """Note what a check raises: an unreadable object is a finding, too."""
        try:
            check()
        except CorruptionError as error:
            self._found.append(Damage(part, error.extent, error.offset_bytes, keys, False, error.detail))
        except StoreError as error:
            self._found.append(Damage(part, extent, offset_bytes, keys, isinstance(error, DiskError), str(error)))


class Verification:
    """A scrub of one store's disk. Each step reads a little, and gives what of it is damaged: mostly nothing.

        damaged = [damage for found in store.verify() for damage in found]

    Between steps others are let in, and the caller may pause. It holds nothing of the store, and need not be closed.
    A step raises `OutOfServiceError`, and `InterruptedStoreError` if an interrupt has cut an earlier one short.
    """

    def __init__(self, read: Callable[[_Step], _Found], scrub: Scrub) -> None:
        self._read = read  # calls what it is given, with the store open and its monitor held
        self._scrub = scrub
        self._is_cut = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Damage]:
        if self._is_cut:
            raise InterruptedStoreError("an interrupt has cut this scrub short: something was not read, or not told")
        try:
            found = self._read(self._scrub.step)
        except StoreError:
            raise
        except BaseException:
            self._is_cut = True
            raise
        if found is None:
            raise StopIteration
        return found

    @property
    def tally(self) -> Tally:
        """What was read by now."""
        return self._scrub.tally()
