"""The store of one disk: puts all layers together, under one monitor.

    put: value --> chunks --> memtable entry              ... flush --> run --> edit --> metadata record
                   |                                                     |
                   `-> write buffer --> IO scheduler --> disk            `-> superblock record over every append

Every change is a batch, also a single put.

Guarantees. Once the dependency of a batch is persistent, each of its keys reads, after any crash, as the batch or a
later change left it. A clean `shutdown` makes every dependency persistent that has not failed. Damaged bytes are
never returned as data. A request that is refused for want of space has changed nothing. Many threads may call a store.

Not promised: that changes of different keys survive in the order in which they were made. Each key stands by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from types import TracebackType
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from shardstore import chunk_frame
from shardstore.arguments import as_bytes, as_changes, as_count, as_pair
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.chunk_store import ChunkStore, PutChunk
from shardstore.dependency import FAILED, PENDING, PERSISTENT, Dependency, State, join
from shardstore.disk import Disk
from shardstore.errors import (
    CorruptionError,
    DiskError,
    InterruptedStoreError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    OutOfServiceError,
    StaleLocatorError,
    StoreError,
    TooLargeError,
)
from shardstore.extents import Extents
from shardstore.index.index import Index
from shardstore.index.metadata_log import MetadataLog
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, ONE_LOCATOR_ENTRY_SIZE_BYTES
from shardstore.index.snapshot import Snapshot
from shardstore.io_scheduler import IoScheduler
from shardstore.limits import value_size_max_bytes
from shardstore.reclamation import Reclaimed, Reclamation
from shardstore.scrub import Scrub, Verification
from shardstore.seam import Monitor, Seam
from shardstore.space import Need, Space, Trouble
from shardstore.superblock import Superblock
from shardstore.units import (
    RESERVED_EXTENTS_COUNT,
    Change,
    Delete,
    KeyRange,
    Kind,
    Locator,
    Membership,
    Put,
    RunBound,
    StoreConfiguration,
    new_tuple,
)

T = TypeVar("T")
P = ParamSpec("P")
_BROKEN = "an interrupt has cut a change short: the store must be shut down and opened again"
# A key, the chunks of its value, and the dependency of them all. A deletion has no chunks.
_Entry = tuple[bytes, tuple[Locator, ...], Dependency]

_ERASE_SIZE_BYTES = 1 << 20


def _if_cut_short(
    react: Callable[[Store], None],
) -> Callable[[Callable[Concatenate[Store, P], T]], Callable[Concatenate[Store, P], T]]:
    """Let the store react if anything but a `StoreError` ends this method (INT-1)."""

    def decorated(method: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[Store, P], T]:
        @wraps(method)
        def call(store: Store, /, *arguments: P.args, **named: P.kwargs) -> T:
            try:
                return method(store, *arguments, **named)
            except StoreError:
                raise
            except BaseException:
                react(store)
                raise

        return call

    return decorated


# A change takes the store out of use for more. What changes nothing needs only let go of the monitor.
_breaks_if_cut_short = _if_cut_short(lambda store: store._break())
_lets_go_if_cut_short = _if_cut_short(lambda store: store.monitor.abandon())


class Store:
    """Open one with `format_store` or `open_store`.

    The layers are attributes for code that measures or checks them. It must hold ``monitor`` while it uses them.
    """

    def __init__(self, disk: Disk, seam: Seam, configuration: StoreConfiguration) -> None:
        self._value_size_max_bytes = value_size_max_bytes(disk, configuration)
        self.configuration = configuration
        self.disk = disk
        self.monitor: Monitor = seam.monitor("store")
        self._pool = BufferPool(configuration.buffer_count, self.monitor)
        self.scheduler = IoScheduler(disk, seam, self.monitor, self._pool, self)
        self.superblock = Superblock(self.scheduler, self, configuration)
        self.metadata = MetadataLog(self.scheduler, self._pool, self, configuration)
        self.extents = Extents(self.scheduler, self.superblock)
        cache = BufferCache(self.extents, configuration.cache_size_pages)
        self.chunks = ChunkStore(cache, self.extents, self._pool, self.scheduler.step, seam, self, configuration)
        upkeep = self._upkeep = _StoreUpkeep(self)
        self.index = Index(self.chunks, self.metadata, self, configuration, upkeep)
        self.reclamation = Reclamation(self.chunks, self.extents, self.index, upkeep)
        self.space = Space(configuration, self.extents, self.chunks, self.index, self.reclamation, upkeep)
        self._is_open = True
        self._is_broken = False  # an interrupt has cut a change short
        self._is_clean = False  # whether a shutdown has found everything on the disk
        self._work_under_way = _WorkUnderWay(self)

    # --- opening and closing ------------------------------------------------------------------------

    def _format(self, secret: bytes, membership: Membership) -> None:
        with self.monitor:
            self.scheduler.add_source(self.metadata)
            self.metadata.format(secret)
            self._drain()
            # Only now, so that a disk with a superblock also has metadata: else a missing log could be a cut format.
            self.scheduler.add_source(self.superblock)
            self.superblock.format(secret, membership)
            self._drain()
            if self.superblock.has_pending() or not self.metadata.is_settled() or self.metadata.is_failed:
                raise DiskError("the disk could not be formatted")
            self.extents.format()
            self.chunks.format(secret)

    def _recover(self) -> None:
        with self.monitor:
            # Everything that is read below must still be there after the next crash (REC-1).
            try:
                self.disk.barrier()
            except OSError as error:
                raise DiskError(f"the disk does not settle: {error}") from error
            if not self.superblock.recover():
                raise CorruptionError(0, 0, "no superblock: not a disk of this store, or damaged beyond recovery")
            self.scheduler.add_source(self.superblock)
            self.scheduler.add_source(self.metadata)
            secret = self.superblock.secret()
            self.index.recover(secret, self.extents.holds)
            self.metadata.wait_for(self.extents.recover(self.metadata.places))
            self.chunks.recover(secret)
            if self.metadata.was_cut():  # REC-3: nothing is appended before that
                self._drain()
                if self.metadata.is_failed or not self._is_settled():
                    raise DiskError("the record that takes the place of a torn one could not be written")

    @_breaks_if_cut_short
    def shutdown(self) -> None:
        """Take no more requests, and make everything persistent that can be, once the work under way is done.

        Raises `DiskError` if a write has failed. Raises `NoSpaceError`, and stays open, if an open listing holds the
        room that the last flush needs. Raises `InterruptedStoreError` if an interrupt has cut a change short; the disk
        may be opened again then.
        """
        with self.monitor:
            self._check_open()
            self._is_open = False  # at once, since writing lets other threads in
            if self._is_broken:
                self._check_takes_changes()
            try:
                self._wait_for_work()
                self.space.flush(is_last=True)  # IDX-3
                self._drain()
            except NoSpaceError:
                self._is_open = True
                raise
            finally:
                if not self._is_open:
                    self.scheduler.stop()
            if self.metadata.is_failed or not self._is_settled():
                raise DiskError("some writes failed and are not persistent")
            self._is_clean = True

    def _wait_for_work(self) -> None:
        """Let work that has let the monitor go come to its end; no more begins (STOP-1)."""
        work = self._work_under_way
        self.monitor.wait_until(lambda: not work.count or self._is_broken, self.scheduler.step)
        if self._is_broken:
            self._check_takes_changes()

    def _is_settled(self) -> bool:
        """Whether nothing is left in memory that is not on the disk, looked at rather than concluded."""
        return not self.scheduler.has_requests() and self.metadata.is_settled() and not self.index.has_unwritten()

    def _is_at_rest(self) -> bool:
        """Whether, beside that, nothing is left to do for the superblock, so that what waits now waits for ever."""
        return self._is_settled() and not self.superblock.is_due()

    def _drain(self) -> None:
        """Do all IO there is to do, but do not flush the memtable. Waits for the barriers of other threads."""
        while self.scheduler.step() or self.chunks.flush() or self.scheduler.is_barrier_running():
            self.scheduler.wait_for_barrier()

    # --- requests -----------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Change]) -> Dependency:
        """Make these changes, all or none of them: for other callers, and after a crash (BULK-1).

        Raises `TooLargeError`, `NoSpaceError`, `DiskError`, `OutOfServiceError`, and `TypeError` for what are no bytes;
        then nothing has changed. `CorruptionError` means that room must be found, which a damaged block prevents.
        """
        return self._apply(as_changes(batch))

    @_breaks_if_cut_short
    def _apply(self, batch: Sequence[Change]) -> Dependency:
        with self.monitor, self._work_under_way:
            self._check_takes_changes()
            if not batch:
                return PERSISTENT  # not the memtable's promise, which nothing might ever bind
            need = self._need(batch)
            self.space.make_room(need.entries_count)  # first, since what is reserved depends on it
            if need.frame_sizes:  # a batch of deletions must work on a full disk
                self.space.reserve(need)
            chunks: list[PutChunk] = []
            dependency: Dependency = PERSISTENT
            try:
                entries = [self._store_value(change, chunks) for change in batch]
                self.space.make_room(len(batch))
                self._check_takes_changes()  # again, since the lines above may have waited
                dependency = self.index.enter(entries)
            except StoreError:
                self._abandon(chunks)
                raise
            finally:
                if need.frame_sizes:
                    self.space.give_back(need)
            self._unpin(chunks)
            self.space.changed()
            return dependency

    def check(self, batch: Sequence[Change]) -> None:
        """Raise what `apply` would raise of these changes whatever the store holds: `TooLargeError`, `TypeError`."""
        self._need(as_changes(batch))

    def put(self, key: bytes, value: bytes) -> Dependency:
        """Store a value. Raises the errors of `apply`."""
        return self.apply((new_tuple(Put, (key, value)),))

    def delete(self, key: bytes) -> Dependency:
        """Forget a value, if there is one. Works on a full disk, too (SPACE-1). Raises the errors of `apply`."""
        return self.apply((new_tuple(Delete, (key,)),))

    def bulk_put(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        """Store several values, all or none. Raises the errors of `apply`."""
        return self.apply([Put(*as_pair(item)) for item in items])

    def bulk_delete(self, keys: Sequence[bytes]) -> Dependency:
        """Forget several values, all or none. Raises the errors of `apply`."""
        return self.apply([Delete(key) for key in keys])

    def get(self, key: bytes) -> bytes:
        """The value of a key. Raises `NotFoundError`, `CorruptionError`, `DiskError`, `OutOfServiceError`."""
        return self._get(as_bytes(key, "a key"))

    @_lets_go_if_cut_short
    def _get(self, key: bytes) -> bytes:
        with self.monitor:
            self._check_open()
            locators = self.index.get(key)
            if locators is None:
                raise NotFoundError(repr(key))
            if len(locators) == 1:  # nearly always: without copying the value once more
                return self._get_chunk(key, locators[0])
            return b"".join([self._get_chunk(key, locator) for locator in locators])

    @_lets_go_if_cut_short
    def snapshot(self) -> StoreSnapshot:
        """The keys as they are now, to be read page by page while the store changes."""
        with self.monitor:
            self._check_open()
            return StoreSnapshot(self, self.index.snapshot())

    def contents(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value, in order. For checks: the store must not change while it is read."""
        with self.monitor:
            self._check_open()
            for key, locators in self.index.items():
                yield key, b"".join([self._get_chunk(key, locator) for locator in locators])

    # --- background work ----------------------------------------------------------------------------

    def write_back(self, steps: int) -> int:
        """Do up to ``steps`` steps: each issues a write, passes a barrier or builds a record. Gives how many it did."""
        as_count(steps, "a number of steps")
        return self._write_back(steps)

    @_breaks_if_cut_short
    def _write_back(self, steps: int) -> int:
        with self.monitor, self._work_under_way:
            self._check_takes_changes()
            for done in range(steps):
                if not self.scheduler.step():
                    return done
            return steps

    def flush_buffers(self) -> bool:
        """Hand buffered chunks to the IO scheduler. False if there were none."""
        return self._work(self.chunks.flush)

    def flush(self) -> bool:
        """Write the memtable as a run. False if it was empty. Raises `NoSpaceError`, `DiskError`."""
        return self._work(self.space.flush)

    def compact(self) -> bool:
        """Merge one level of the index into the next. False if there is nothing to merge. Raises `NoSpaceError`."""
        return self._work(self.index.compact, self.space.restore_if_due)

    def reclaim(self, choice: int = 0) -> Reclaimed | None:
        """Reclaim one extent: number ``choice`` of those that may be reclaimed, the most promising of which is 0.

        None if there is none, or no room for the copies. Raises `NoSpaceError` if the room runs out on the way.
        """
        as_count(choice, "a choice")

        def reclaim() -> Reclaimed | None:
            victims = self.reclamation.victims()
            return self.reclamation.reclaim(victims[choice % len(victims)]) if victims else None

        return self._work(reclaim, self.space.restore_if_due)

    @_breaks_if_cut_short
    def _work(self, work: Callable[[], T], afterwards: Callable[[], None] = lambda: None) -> T:
        with self.monitor, self._work_under_way:
            self._check_takes_changes()
            try:
                result = work()
            except NoSpaceError:
                afterwards()
                raise
            afterwards()
            return result

    @_lets_go_if_cut_short
    def _let_go(self, snapshot: Snapshot) -> None:
        with self.monitor:
            snapshot.close()

    @_lets_go_if_cut_short
    def _read(self, read: Callable[[], T]) -> T:
        with self.monitor:
            self._check_open()
            return read()

    # --- damage -------------------------------------------------------------------------------------

    @_lets_go_if_cut_short
    def verify(self) -> Verification:
        """Read everything live from the disk, step by step while the store is used, and tell what is damaged.

        Raises `OutOfServiceError`.
        """
        with self.monitor:
            self._check_open()
            parts = (self.superblock.log, self.metadata.log, self.extents, self.chunks, self.index)
            return Verification(self._read, Scrub(*parts))

    def health(self) -> tuple[Trouble, ...]:
        """What upkeep has failed at and not done since; empty if all is well.

        Upkeep is a part of the requests that make it due, and never makes them fail. So its errors are told here.
        """
        return self._read(self.space.troubles)

    def drop_damaged(self) -> list[KeyRange]:
        """Give up the blocks of the index that are damaged, so that listings and upkeep go on. Reads the whole index.

        Gives the ranges of keys that they may have held. Each of these reads as an older change left it, or is gone; or
        it still answers `CorruptionError`, since what the older change put was given back, until it is written again.
        Raises `DiskError`, `NoSpaceError`.
        """
        return self._work(self.index.drop_damaged)

    # --- dependencies -------------------------------------------------------------------------------

    def sync(self) -> None:
        """Return once every change accepted so far is persistent. Raises `DiskError` if one failed, else as `wait`."""
        self.wait(self._work(self.index.settled))

    @_lets_go_if_cut_short
    def poll(self, dependency: Dependency) -> State:
        with self.monitor:
            return dependency.poll()

    @_breaks_if_cut_short
    def wait(self, dependency: Dependency) -> None:
        """Return once a dependency is persistent.

        Raises `DiskError` if it failed, `OutOfServiceError` if the store was shut down before it was persistent,
        `InterruptedStoreError` after an interrupt, and `NoSpaceError` if an open listing holds the room that a flush
        needs; a later call may succeed then.
        """
        with self.monitor:
            self.monitor.wait_until(
                lambda: dependency.poll() is not PENDING or self.scheduler.is_stopped(),
                lambda: self._progress(dependency),
            )
            state = dependency.poll()
        if state is FAILED:
            raise DiskError("a write that this depends on was refused")
        if state is PENDING and self._is_broken:
            raise InterruptedStoreError(_BROKEN)
        if state is PENDING:
            raise OutOfServiceError("the disk went out of service before this was persistent")

    def _progress(self, dependency: Dependency) -> bool:
        """Do one step towards making a dependency persistent. False if there is none for this caller (WAIT-1).

        If the memtable must be flushed for what is waited for, that comes first, so that one barrier passes the values
        and the run that names them. It waits for a barrier that is running, so that all who come meanwhile share it.
        """
        with self._work_under_way:
            is_barrier_running = self.scheduler.is_barrier_running()
            if not is_barrier_running and self.index.is_unwritten(dependency) and self.space.flush():
                return True
            if (not is_barrier_running and self.chunks.flush()) or self.scheduler.step():
                return True
            if self.scheduler.is_barrier_running():
                return False
            # A flush may wait for that of another thread, and find nothing left to flush. That one has left work
            # behind, which nobody else may do: look again, for what is looked at before a wait is out of date.
            return self.space.flush() or self.scheduler.step() or self.chunks.flush()

    # --- the steps of a batch -----------------------------------------------------------------------

    def _need(self, batch: Sequence[Change]) -> Need:
        """How much room the batch's values and their entries take. Raises `TooLargeError`."""
        limit = self.configuration.memtable_entries_max
        if len(batch) > limit:
            raise TooLargeError(f"one disk's share of a bulk request has at most {limit} keys, not {len(batch)}")
        key_max = self.configuration.key_size_max_bytes
        payload_max = self.configuration.chunk_payload_max_bytes
        sizes: list[int] = []
        entry_size_max = surplus = 0
        for change in batch:
            key = change.key
            if not 0 < len(key) <= key_max:
                raise TooLargeError(f"a key has 1 to {key_max} bytes, not {len(key)}")
            if isinstance(change, Put):
                left = len(change.value)
                if left > self._value_size_max_bytes:
                    raise TooLargeError(f"a value has at most {self._value_size_max_bytes} bytes, not {left}")
                further = 0
                while left > payload_max:
                    sizes.append(chunk_frame.frame_size_bytes(key, payload_max))
                    left -= payload_max
                    further += LOCATOR_SIZE_BYTES
                sizes.append(chunk_frame.frame_size_bytes(key, left))  # an empty value has a frame too
                surplus += further
                entry_size = ONE_LOCATOR_ENTRY_SIZE_BYTES + len(key) + further
                if entry_size > entry_size_max:
                    entry_size_max = entry_size
        return new_tuple(Need, (sizes, len(batch), entry_size_max, surplus))

    def _store_value(self, change: Change, chunks: list[PutChunk]) -> _Entry:
        """Store a value's chunks, pinned. A deletion has none.

        Adds each to ``chunks`` at once, so that an error leaves none behind.
        """
        if isinstance(change, Delete):
            return change.key, (), PERSISTENT
        key, value = change
        size = self.configuration.chunk_payload_max_bytes
        if len(value) <= size:
            chunk = self.chunks.put(Kind.VALUE, key, value)
            chunks.append(chunk)
            return key, (chunk.locator,), chunk.dependency
        pieces: list[PutChunk] = []
        for start in range(0, len(value), size):
            pieces.append(self.chunks.put(Kind.VALUE, key, value[start : start + size]))
            chunks.append(pieces[-1])
        return key, tuple(piece.locator for piece in pieces), join([piece.dependency for piece in pieces], self)

    def _abandon(self, chunks: Sequence[PutChunk]) -> None:
        """Give up chunks that nothing will ever refer to."""
        self._unpin(chunks)
        for chunk in chunks:
            self.chunks.note_dead(chunk.locator)

    def _unpin(self, chunks: Sequence[PutChunk]) -> None:
        for chunk in chunks:
            self.chunks.unpin(chunk.locator)

    # --- chunks of a value --------------------------------------------------------------------------

    def _get_chunk(self, key: bytes, locator: Locator) -> bytes:
        """Read a chunk that the index names. If it is gone, that is damage: nothing has moved since the look-up."""
        try:
            frame = self.chunks.get_frame(locator)
        except StaleLocatorError:
            raise CorruptionError(locator.extent, locator.offset_bytes, "a live chunk is gone") from None
        if frame.key != key:
            raise CorruptionError(locator.extent, locator.offset_bytes, f"chunk belongs to {frame.key!r}")
        return frame.payload

    # --- limits and space ---------------------------------------------------------------------------

    def membership(self) -> Membership:
        """The node that the disk belongs to; a store by itself is a node of one disk."""
        return self.superblock.membership

    def holdings(self) -> Holdings:
        """What the store holds beside its keys, for checks: between calls all of it belongs to something."""
        return self._read(
            lambda: Holdings(
                self.chunks.pinned_count(),
                self.reclamation.running_count(),
                self.space.reserved_count(),
                self.index.superseded_runs_count(),
                self._pool.taken_count() - self.chunks.buffered_count() - self.scheduler.writes_count(),
                self.extents.resetting_count() if self._is_at_rest() else 0,
                self.chunks.excess_pages_count(),
                (*self.superblock.wrong_counts(), *self.index.wrong_counts(), *self.space.wrong_counts()),
            )
        )

    @_lets_go_if_cut_short
    def abandon(self) -> None:
        """Close without writing anything: as if it had crashed, but for what the disk may still take."""
        with self.monitor:
            self._is_open = False
            self.scheduler.stop()

    def is_open(self) -> bool:
        """Whether the store takes requests, that is, has not been shut down."""
        return self._is_open

    def is_using_disk(self) -> bool:
        """Whether the store may still write: until a shutdown has come to its end, not until it begins."""
        return self._is_open or not self.scheduler.is_stopped()

    def is_clean(self) -> bool:
        """Whether the store has been shut down with everything that it had accepted on the disk."""
        return self._is_clean

    def _check_open(self) -> None:
        if not self._is_open:
            raise OutOfServiceError("the disk is out of service")

    def _check_takes_changes(self) -> None:
        if self._is_broken:
            raise InterruptedStoreError(_BROKEN)
        if not self._is_open:
            raise OutOfServiceError("the disk is out of service")

    def _break(self) -> None:
        """Take no more changes and issue no more writes: from the disk's side, as if the store had crashed (INT-1)."""
        self._is_broken = True
        self.scheduler.halt()
        self.monitor.abandon()
        # For those who wait. A second interrupt may come here, or the world may be dead; the first counts.
        with suppress(BaseException), self.monitor:
            self.monitor.notify_all()


class Holdings(NamedTuple):
    """What a store holds: while no call is under way and no listing is open, each of these is 0 or empty (REST-1)."""

    pinned_extents_count: int
    extents_at_work_count: int  # that reclamation or a survey is at
    reservations_count: int
    superseded_runs_count: int  # that only listings read
    lost_buffers_count: int  # taken by neither chunks nor writes on their way
    endless_resets_count: int  # that are waited for although nothing is left to do
    excess_pages_count: int  # in the cache, beyond its capacity
    wrong_counts: tuple[str, ...]  # kept figures that are not what working them out anew gives (COUNT-1)


class _WorkUnderWay:
    """Counts the calls that may change something and have not returned. A shutdown waits for them (STOP-1)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count -= 1
        if not self._store.is_open() and (error is None or isinstance(error, StoreError)):
            self._store.monitor.notify_all()


class _StoreUpkeep:
    """Serves a store's lower layers as their `Upkeep`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def make_room(self) -> None:
        self._store.space.make_room_for_copy()

    def may_copy(self) -> bool:
        return self._store.space.may_copy()

    def may_merge(self, bound: RunBound) -> bool:
        return self._store.space.may_merge(bound)

    def drain(self) -> None:
        self._store._drain()

    def breathe(self) -> None:
        monitor = self._store.monitor
        try:
            monitor.release()
            monitor.acquire()
        except BaseException:  # an interrupt, before or after either: the caller goes on as one who holds the monitor
            monitor.abandon()
            monitor.acquire()
            raise

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Raises `OutOfServiceError` if the store is stopped before that."""
        scheduler = self._store.scheduler
        self._store.monitor.wait_until(lambda: done() or scheduler.is_stopped(), scheduler.step)
        if not done():
            raise OutOfServiceError("the disk went out of service meanwhile")

    def notify_all(self) -> None:
        self._store.monitor.notify_all()


class StoreSnapshot:
    """An unchanging view of one store's keys; the caller must `close` it."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot

    def keys_after(self, start: bytes, limit_count: int) -> list[bytes]:
        """Up to ``limit_count`` keys from ``start`` on, in order. Raises `CorruptionError`, `DiskError`."""
        start = as_bytes(start, "a key")
        as_count(limit_count, "a number of keys", least=1)
        return self._store._read(lambda: self._snapshot.keys_after(start, limit_count))

    def close(self) -> None:
        self._store._let_go(self._snapshot)


def format_store(
    disk: Disk, seam: Seam, configuration: StoreConfiguration, membership: Membership | None = None
) -> Store:
    """Make an empty store on the disk, whatever the disk holds. By default it is the only disk of its node.

    Raises `ConfigurationError`, `InUseError`, `DiskError`.
    """
    store = Store(disk, seam, configuration)  # before anything is erased: it may refuse the configuration
    with _claimed(disk, store):
        _erase(disk)
        store._format(seam.unique_id(), membership or Membership(0, (seam.unique_id(),)))
    return store


def open_store(disk: Disk, seam: Seam, configuration: StoreConfiguration) -> Store:
    """Open the store on the disk, and recover from whatever a crash has left.

    Raises `CorruptionError`, `ConfigurationError`, `FormatVersionError`, `InUseError`, `DiskError`.
    """
    store = Store(disk, seam, configuration)
    with _claimed(disk, store):
        store._recover()
    return store


@contextmanager
def _claimed(disk: Disk, store: Store) -> Iterator[None]:
    """Open this store, and no other, on the disk (NODE-2). If that fails, the disk is free again."""
    if isinstance(disk.holder, Store) and disk.holder.is_using_disk():
        raise InUseError("a store is open on this disk; it must be shut down first")
    disk.holder = store
    try:
        yield
    except BaseException:
        store.abandon()
        raise


def _erase(disk: Disk) -> None:
    """Erase the reserved extents, or a whole zoned disk.

    Log records of an earlier store may have higher generations, so that recovery would take them for the newest.
    """
    try:
        if disk.zoned:
            for extent in range(disk.extent_count):
                disk.reset(extent)
        else:
            slab_pages = min(disk.extent_size_pages, max(1, _ERASE_SIZE_BYTES // disk.page_size_bytes))
            for extent in range(RESERVED_EXTENTS_COUNT):
                for page in range(0, disk.extent_size_pages, slab_pages):
                    page_count = min(slab_pages, disk.extent_size_pages - page)
                    disk.write(extent, page, bytes(page_count * disk.page_size_bytes))
        disk.barrier()
    except OSError as error:
        raise DiskError(f"the disk could not be erased: {error}") from error
