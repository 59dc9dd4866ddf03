"""The metadata log: which runs are live, and where their blocks are.

    enqueue(edit) --> waiting, in order --> carried by a record being written --> persistent

Edits are recorded strictly in the order they were enqueued. A record carries the longest prefix of them that is ready
(IDX-2). For a full record an edit is ready when all its prerequisites are persistent, and those of all edits before it
(LOG-8). For a delta it is enough that the appends among them are under way. The delta names each of these by its
`Place`, is in doubt until they are persistent (LOG-7), and is cut off by recovery if one of them is not there (REC-2).
Crash safety is that of `TwinLog`; the argument is in ``docs/PROTOCOLS.md``, section 13.

If an edit's prerequisite fails, so do the edit and all that follow, since they build on it. The log is then *failed*
until the store is opened again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, ParamSpec, TypeVar

from shardstore.buffer_pool import BufferPool
from shardstore.dependency import (
    FAILED,
    PENDING,
    PERSISTENT,
    PERSISTENT_STATE,
    Dependency,
    Join,
    Promise,
    Waiter,
    join,
)
from shardstore.errors import CorruptionError, InvariantError
from shardstore.extents import DIGEST_SIZE_BYTES, Appended, AppendPromise, Place, digest_of
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, decode_locator, encode_locator
from shardstore.index.run_bounds import memtable_bound
from shardstore.io_scheduler import IoScheduler
from shardstore.observer import Observer
from shardstore.twin_log import TwinLog
from shardstore.units import DEFAULTS, KEY_SIZE_MAX_BYTES, METADATA_EXTENTS, Locator, StoreConfiguration

MAGIC = b"SMD1"
_COUNTS = struct.Struct("<III")  # runs dropped, runs added, blocks moved
_RUN = struct.Struct("<QBQII")  # run id, level, entries, size in bytes of the longest that is no deletion, blocks
_MOVE = struct.Struct("<QI")  # run id, block
_DROP = struct.Struct("<Q")
_PLACES_COUNT = struct.Struct("<I")  # at the start of a delta
_PLACE = struct.Struct("<IIII16s")  # extent, epoch, first page, end page, digest
_KEY_LENGTH = struct.Struct("<H")
FIRST_KEY_OFFSET_BYTES = (
    _COUNTS.size + _RUN.size + _KEY_LENGTH.size
)  # of the first added run, in a full record's payload
_NO_DIGEST = bytes(DIGEST_SIZE_BYTES)

T = TypeVar("T")
P = ParamSpec("P")


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


class _Ready(NamedTuple):
    """The edits that a delta may carry now, and the appends that it has to name."""

    carried: list[_Waiting]
    promises: list[AppendPromise]


class MetadataLog:
    """The caller holds the store's monitor. A `RecordSource` of the IO scheduler."""

    def __init__(
        self, scheduler: IoScheduler, pool: BufferPool, waiter: Waiter, configuration: StoreConfiguration = DEFAULTS
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._waiter = waiter
        self._log = TwinLog(scheduler, METADATA_EXTENTS, MAGIC, "metadata", configuration.scan_slab_size_pages)
        self._recorded: dict[int, RunRecord] = {}
        self._waiting: deque[_Waiting] = deque()
        self._last: Dependency = PERSISTENT
        self._uncovered: list[Dependency] = []  # appends that the log's deltas name; some are covered by now
        self._prune_at_count = self._prune_from_count = configuration.prune_at_count
        self._in_doubt_size_max_bytes = configuration.in_doubt_size_max_bytes
        self._turn_due = False  # the next delta does not fit together with its places
        self._format_due = False
        self.places: list[Place] = []  # of the deltas that recovery has taken
        self.is_failed = False

    def format(self, secret: bytes) -> None:
        """Make the next record the first of a fresh disk that has this secret."""
        self._log.format(secret)
        self._format_due = True

    def recover(self, secret: bytes, holds: Callable[[Place], bool]) -> list[RunRecord]:
        """Read the live runs as of the newest record of a disk that has this secret. Raises `CorruptionError`.

        The newest delta is cut off if a place in it does not hold (REC-2).
        """
        payloads = self._log.recover(
            secret, lambda delta: all(holds(place) for place in _decoded(decode_delta, delta)[0])
        )
        if not payloads:
            raise CorruptionError(METADATA_EXTENTS[0], 0, "the metadata log is gone")
        _decoded(self._apply_all, _decoded(decode, payloads[0]))
        for payload in payloads[1:]:
            places, edits = _decoded(decode_delta, payload)
            self.places += places
            _decoded(self._apply_all, edits)
        return list(self._recorded.values())

    @property
    def log(self) -> TwinLog:
        """Its records on the disk."""
        return self._log

    def was_cut(self) -> bool:
        """Whether recovery has cut a delta off. Then nothing may be appended before the next record (REC-3)."""
        return self._log.was_cut

    def wait_for(self, covered: Iterable[Dependency]) -> None:
        """Write no full record before these are persistent (LOG-8)."""
        self._uncovered += covered

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

    def tell(self, observer: Observer) -> None:
        """Opening leaves no edits to be recorded."""

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
        if not self.is_failed and self._log.is_failed():
            self._fail()
        state = self._waiting[0].after.poll() if self._waiting else PERSISTENT_STATE
        if state is FAILED:
            self._fail()
        elif not self._is_turning():
            return bool(self._waiting) and self._in_doubt_bytes(self._waiting[0].after) is not None
        elif state is PENDING:
            return False
        return self._is_full_due() and self._is_covered()

    def _is_turning(self) -> bool:
        return self._turn_due or self._log.turns_with(b"")

    def _is_full_due(self) -> bool:
        return bool(self._waiting) or self._format_due or (self._log.needs_repair and not self.is_failed)

    def _is_covered(self) -> bool:
        """Whether superblock records cover all that the log's deltas have named. Notes a failed one."""
        states = [each.poll() for each in self._uncovered]
        if FAILED in states:
            self._fail()
        return not any(state is not PERSISTENT_STATE for state in states)

    def may_wait(self) -> bool:
        return False

    def submit_record(self) -> None:
        """Build a record of the edits that are ready and hand it to the IO scheduler.

        Instead it may find that they do not fit a delta, and have them wait for what a full record waits for.
        """
        if self._is_turning():
            self._submit_settled()
        else:
            self._submit_in_doubt()

    def _submit_settled(self) -> None:
        """Submit what needs nothing else: mostly a full record, else a delta without places."""
        carried = []
        for waiting in self._waiting:
            if waiting.after.poll() is not PERSISTENT_STATE:
                break
            carried.append(waiting)
        delta = encode_delta([], [waiting.edit for waiting in carried])
        covered, self._uncovered = self._uncovered, []
        after = Join(self._waiter, covered) if covered else PERSISTENT  # all persistent: for observers to see
        self._turn_due = False
        self._submit(carried, delta, after, PERSISTENT)

    def _submit_in_doubt(self) -> None:
        carried, promises = self._ready()
        delta = encode_delta([self._place_of(promise) for promise in promises], [each.edit for each in carried])
        if self._log.turns_with(delta):
            self._turn_due = True
            return
        self._note_uncovered(promises)
        writes = [_appended(promise).data for promise in promises]
        in_doubt = join(writes, self._waiter)
        if self._scheduler.observer is not None:
            written = [write for write in writes if write.state is PERSISTENT_STATE]
            after = Join(self._waiter, [*written]) if written else PERSISTENT
            for waiting in carried:
                self._scheduler.observer.hastened(waiting.promise, promises, after, in_doubt)
        self._submit(carried, delta, PERSISTENT, in_doubt)

    def _ready(self) -> _Ready:
        """The longest prefix of edits whose prerequisites are persistent or appends under way, not too many bytes."""
        carried: list[_Waiting] = []
        promises: dict[AppendPromise, None] = {}
        size_bytes = 0
        for waiting in self._waiting:
            more_bytes = None if waiting.after.poll() is FAILED else self._in_doubt_bytes(waiting.after)
            if more_bytes is None or (carried and size_bytes + more_bytes > self._in_doubt_size_max_bytes):
                break
            size_bytes += more_bytes
            carried.append(waiting)
            promises |= dict.fromkeys(_pending_appends(waiting.after))
        return _Ready(carried, list(promises))

    def _in_doubt_bytes(self, after: Dependency) -> int | None:
        """How many bytes of an edit's prerequisites, polled just now, are under way; None if it has to wait for any."""
        size_bytes = 0
        for each in after.joined():
            if each.state is PERSISTENT_STATE:
                continue
            appended = each.appended if isinstance(each, AppendPromise) else None
            if appended is None:
                return None
            data = appended.data
            if data.state is PENDING:
                if data.after.poll() is not PERSISTENT_STATE:
                    return None
                size_bytes += appended.size_bytes
        return size_bytes if size_bytes <= self._in_doubt_size_max_bytes else None

    def _place_of(self, promise: AppendPromise) -> Place:
        appended = _appended(promise)
        extent, epoch, page, end_page, *_ = appended
        pages = self._scheduler.bytes_of(appended.data)
        if pages is None:
            return Place(extent, epoch, end_page, end_page, _NO_DIGEST)
        return Place(extent, epoch, page, end_page, digest_of(self._log.secret(), pages))

    def _note_uncovered(self, promises: Sequence[AppendPromise]) -> None:
        self._uncovered += promises
        if len(self._uncovered) >= self._prune_at_count:
            self._uncovered = [each for each in self._uncovered if each.poll() is not PERSISTENT_STATE]
            self._prune_at_count = max(self._prune_from_count, 2 * len(self._uncovered))

    def _submit(self, carried: Sequence[_Waiting], delta: bytes, after: Dependency, in_doubt: Dependency) -> None:
        for waiting in carried:
            self._waiting.popleft()
            self._apply(waiting.edit)
        self._pool.take_reserved()
        recorded = self._log.submit(delta, self._encode_full, after, in_doubt)
        self._format_due = False
        for waiting in carried:
            waiting.promise.bind(recorded)

    def _fail(self) -> None:
        self.is_failed = True
        while self._waiting:
            self._waiting.popleft().promise.fail()

    def _apply_all(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            self._apply(edit)

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


def _appended(promise: AppendPromise) -> Appended:
    if promise.appended is None:
        raise InvariantError("LOG-7", "a record was about to name an append that is yet to come")
    return promise.appended


def _pending_appends(after: Dependency) -> list[AppendPromise]:
    """The appends among the prerequisites of an edit, polled just now, that are not both persistent and covered."""
    return [each for each in after.joined() if isinstance(each, AppendPromise) and each.state is PENDING]


def _decoded(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of decoding or applying a record. Raises `CorruptionError`."""
    try:
        return work(*arguments, **named)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise CorruptionError(METADATA_EXTENTS[0], 0, f"metadata record does not decode: {error}") from None


def encode_delta(places: Sequence[Place], edits: Iterable[Edit]) -> bytes:
    """The payload of a delta."""
    return b"".join((_PLACES_COUNT.pack(len(places)), *[_PLACE.pack(*place) for place in places], encode(edits)))


def decode_delta(payload: bytes) -> tuple[list[Place], list[Edit]]:
    """The places and edits of a delta. Raises `struct.error` or `ValueError` if the payload is not one."""
    (count,) = _PLACES_COUNT.unpack_from(payload)
    end = _PLACES_COUNT.size + count * _PLACE.size
    places = [Place(*_PLACE.unpack_from(payload, at)) for at in range(_PLACES_COUNT.size, end, _PLACE.size)]
    return places, decode(payload[end:])


def encode(edits: Iterable[Edit]) -> bytes:
    """The payload of a full record. It has the edits in order, since a later one may build on an earlier one."""
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


def decode(payload: bytes) -> list[Edit]:
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
