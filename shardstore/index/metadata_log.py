"""The metadata log: which runs are live, and where their blocks are.

    enqueue(edit) --> waiting, in order --> carried by a record being written --> persistent

Edits are recorded strictly in the order they were enqueued. A record carries the longest prefix of them whose
prerequisites are all persistent (IDX-2). Crash safety is that of `TwinLog`. If an edit's prerequisite fails, so do the
edit and all that follow, since they build on it. The log is then *failed* until the store is opened again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from shardstore.buffer_pool import BufferPool
from shardstore.dependency import FAILED, PERSISTENT, PERSISTENT_STATE, Dependency, Promise, Waiter
from shardstore.errors import CorruptionError
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, decode_locator, encode_locator
from shardstore.index.run_bounds import memtable_bound
from shardstore.io_scheduler import IoScheduler
from shardstore.twin_log import TwinLog
from shardstore.units import KEY_SIZE_MAX_BYTES, METADATA_EXTENTS, Locator, StoreConfiguration

MAGIC = b"SMD1"
_COUNTS = struct.Struct("<III")  # runs dropped, runs added, blocks moved
_RUN = struct.Struct("<QBQII")  # run id, level, entries, size in bytes of the longest that is no deletion, blocks
_MOVE = struct.Struct("<QI")  # run id, block
_DROP = struct.Struct("<Q")
_KEY_LENGTH = struct.Struct("<H")
FIRST_KEY_OFFSET_BYTES = (
    _COUNTS.size + _RUN.size + _KEY_LENGTH.size
)  # of the first added run, in a payload that drops none


class Block(NamedTuple):
    """A block of a run: where it is, and the first key in it."""

    first_key: bytes
    locator: Locator


class RunRecord(NamedTuple):
    """A run as the metadata names it. Of two runs of level 0, the one with the higher id is newer."""

    run_id: int
    level: int
    entry_count: int
    entry_size_max_bytes: int  # of those that are no deletions
    blocks: tuple[Block, ...]


class Move(NamedTuple):
    """A block of a run is at another place now."""

    run_id: int
    block: int
    locator: Locator


class Edit(NamedTuple):
    """One atomic change of the live runs."""

    dropped: tuple[int, ...] = ()
    added: tuple[RunRecord, ...] = ()
    moved: tuple[Move, ...] = ()


class _Waiting(NamedTuple):
    edit: Edit
    after: Dependency
    promise: Promise


class MetadataLog:
    """The caller holds the store's monitor. A `RecordSource` of the IO scheduler."""

    def __init__(self, scheduler: IoScheduler, pool: BufferPool, waiter: Waiter) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._waiter = waiter
        self._log = TwinLog(scheduler, METADATA_EXTENTS, MAGIC, "metadata")
        self._recorded: dict[int, RunRecord] = {}
        self._waiting: deque[_Waiting] = deque()
        self._last: Dependency = PERSISTENT
        self._format_due = False
        self.is_failed = False

    def format(self, secret: bytes) -> None:
        """Make the next record the first of a fresh disk that has this secret."""
        self._log.format(secret)
        self._format_due = True

    def recover(self, secret: bytes) -> list[RunRecord]:
        """Read the live runs as of the newest record of a disk that has this secret. Raises `CorruptionError`."""
        payloads = self._log.recover(secret)
        if not payloads:
            raise CorruptionError(METADATA_EXTENTS[0], 0, "the metadata log is gone")
        for payload in payloads:
            try:
                for edit in _decode(payload):
                    self._apply(edit)
            except (struct.error, IndexError, KeyError, ValueError) as error:
                raise CorruptionError(METADATA_EXTENTS[0], 0, f"metadata record does not decode: {error}") from None
        return list(self._recorded.values())

    def fits(self, runs_size_bytes: int) -> bool:
        """Whether a full record can name runs of this size, which is a sum of `run_size_bytes`."""
        return _COUNTS.size + runs_size_bytes <= self._log.payload_size_max_bytes()

    def enqueue(self, edit: Edit, after: Dependency, label: str) -> Promise:
        """Record the edit, behind those before it, once ``after`` is persistent. Gives the promise of that record."""
        promise = Promise(self._waiter)
        if self._scheduler.observer is not None:
            after = self._scheduler.observer.promised(promise, label, None, after)
        if self.is_failed:
            promise.fail()
        else:
            self._waiting.append(_Waiting(edit, after, promise))
        self._last = promise
        return promise

    def settled(self) -> Dependency:
        """The dependency that is persistent once every edit enqueued so far is."""
        return self._last  # edits are recorded in order

    def is_settled(self) -> bool:
        """Whether no edit waits and no record is on its way."""
        return not self._waiting and self._log.is_ready()

    # --- records ------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether a record can be built now and would carry something. Notes a failed edit or record."""
        if not (self._waiting or self._format_due or self._log.needs_repair or self._log.is_failed()):
            return False
        if not self._log.is_ready() or not self._pool.can_take():
            return False
        if self._log.is_failed() and not self.is_failed:
            self._fail()
        if self._waiting:
            state = self._waiting[0].after.poll()
            if state is FAILED:
                self._fail()
            elif state is PERSISTENT_STATE:
                return True
        return self._format_due or (self._log.needs_repair and not self.is_failed)

    def submit_record(self) -> None:
        """Build a record of the edits that are ready and hand it to the IO scheduler."""
        carried = []
        while self._waiting and self._waiting[0].after.poll() is PERSISTENT_STATE:
            waiting = self._waiting.popleft()
            self._apply(waiting.edit)
            carried.append(waiting)
        self._pool.take_reserved()
        write = self._log.submit(encode(waiting.edit for waiting in carried), self._encode_full)
        self._format_due = False
        for waiting in carried:
            waiting.promise.bind(write)

    def _fail(self) -> None:
        self.is_failed = True
        while self._waiting:
            self._waiting.popleft().promise.fail()

    def _apply(self, edit: Edit) -> None:
        for run_id in edit.dropped:
            del self._recorded[run_id]
        for run in edit.added:
            self._recorded[run.run_id] = run
        for run_id, block, locator in edit.moved:
            old = self._recorded[run_id]
            blocks = list(old.blocks)
            blocks[block] = Block(blocks[block].first_key, locator)
            self._recorded[run_id] = old._replace(blocks=tuple(blocks))

    def _encode_full(self) -> bytes:
        return encode([Edit(added=tuple(self._recorded.values()))])


def encode(edits: Iterable[Edit]) -> bytes:
    """The payload of a record. It has the edits in order, since a later one may build on an earlier one."""
    return b"".join(map(_encode_edit, edits))


def _encode_edit(edit: Edit) -> bytes:
    pieces = [_COUNTS.pack(len(edit.dropped), len(edit.added), len(edit.moved))]
    pieces += [_DROP.pack(run_id) for run_id in edit.dropped]
    for run in edit.added:
        pieces.append(_RUN.pack(run.run_id, run.level, run.entry_count, run.entry_size_max_bytes, len(run.blocks)))
        for first_key, locator in run.blocks:
            pieces += (_KEY_LENGTH.pack(len(first_key)), first_key, encode_locator(locator))
    for run_id, block, locator in edit.moved:
        pieces += (_MOVE.pack(run_id, block), encode_locator(locator))
    return b"".join(pieces)


def run_size_bytes(first_keys: Collection[bytes]) -> int:
    """How many bytes a run of blocks with these first keys takes in a record."""
    return _RUN.size + len(first_keys) * (_KEY_LENGTH.size + LOCATOR_SIZE_BYTES) + sum(map(len, first_keys))


def run_size_max_bytes(blocks_count: int, key_size_max_bytes: int) -> int:
    """How many bytes a run of so many blocks takes in a record at most, with keys up to this size."""
    return _RUN.size + blocks_count * (_KEY_LENGTH.size + LOCATOR_SIZE_BYTES + key_size_max_bytes)


def memtable_run_size_bytes(configuration: StoreConfiguration) -> int:
    """How many bytes the run of a full memtable takes in a record at most, with one chunk a value."""
    return run_size_max_bytes(memtable_bound(configuration).blocks_count, configuration.key_size_max_bytes)


def _decode(payload: bytes) -> list[Edit]:
    """The edits of a record. Raises `struct.error` or `ValueError` if the payload is not one."""
    edits = []
    offset = 0
    while offset < len(payload):
        edit, offset = _decode_edit(payload, offset)
        edits.append(edit)
    return edits


def _decode_edit(payload: bytes, offset: int) -> tuple[Edit, int]:
    dropped_count, added_count, moved_count = _COUNTS.unpack_from(payload, offset)
    offset += _COUNTS.size
    dropped = []
    for _ in range(dropped_count):
        dropped.append(_DROP.unpack_from(payload, offset)[0])
        offset += _DROP.size
    added = []
    for _ in range(added_count):
        run, offset = _decode_run(payload, offset)
        added.append(run)
    moved = []
    for _ in range(moved_count):
        run_id, block = _MOVE.unpack_from(payload, offset)
        moved.append(Move(run_id, block, decode_locator(payload, offset + _MOVE.size)))
        offset += _MOVE.size + LOCATOR_SIZE_BYTES
    return Edit(tuple(dropped), tuple(added), tuple(moved)), offset


def _decode_run(payload: bytes, offset: int) -> tuple[RunRecord, int]:
    run_id, level, entry_count, entry_size_max_bytes, block_count = _RUN.unpack_from(payload, offset)
    offset += _RUN.size
    blocks = []
    for _ in range(block_count):
        (length,) = _KEY_LENGTH.unpack_from(payload, offset)
        if length > KEY_SIZE_MAX_BYTES:
            raise ValueError(f"a key of {length} bytes")
        offset += _KEY_LENGTH.size
        first_key = payload[offset : offset + length]
        offset += length
        blocks.append(Block(first_key, decode_locator(payload, offset)))
        offset += LOCATOR_SIZE_BYTES
    return RunRecord(run_id, level, entry_count, entry_size_max_bytes, tuple(blocks)), offset
