r"""The IO scheduler: the only writer to the disk.

Guarantees. A write is issued only once its dependency is persistent (IO-1). An extent's writes are issued in the order
in which they were submitted (IO-2). A write is called persistent only when a barrier has completed that began after it
was issued (IO-3).

Writes gather between barriers, so many callers share one (group commit). The seam chooses which ready write goes first,
and when a barrier comes.

    submitted --> issued --> persistent       by `step`, one arrow of one write (or a barrier for all issued) at a time
         \-----------\--> failed              the device refused it, or what it waited for

A refused write fails everything that is queued behind it on its extent, since nothing may be written behind the gap
(IO-4). A write whose dependency failed does so, too. A refused barrier fails everything that it should have covered. A
failed extent takes no more writes until it is reset.

The caller holds the store's monitor; it is let go around the device's barrier.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from shardstore.buffer_pool import BufferPool
from shardstore.dependency import FAILED, PENDING, PERSISTENT_STATE, Dependency, State, Waiter, Write
from shardstore.disk import Disk
from shardstore.errors import DiskError, InvariantError
from shardstore.observer import Observer
from shardstore.seam import Monitor, Seam

OnItsWay = tuple[tuple[tuple[int, tuple[tuple[int, bytes | None], ...]], ...], tuple[tuple[int, int], ...]]
"""What `IoScheduler.on_its_way` gives: what is queued, by extent, and the places of what was issued."""


class RecordSource(Protocol):
    """Builds records only at the moment when they are submitted, so that each has all that is ready (LOG-3)."""

    def is_due(self) -> bool: ...
    def may_wait(self) -> bool:
        """Of a record that is due: whether nobody needs it now."""

    def submit_record(self) -> None: ...
    def tell(self, observer: Observer) -> None:
        """Tell the observer of the changes that opening has left to be recorded."""


class _Request(Write):
    """A request on its way: a write of pages, or, if ``data`` is None, a reset."""

    __slots__ = ("data", "extent", "page")

    def __init__(self, waiter: Waiter, after: Dependency, extent: int, page: int, data: bytes | None) -> None:
        self._waiter = waiter
        self.state = PENDING
        self.after = after
        self.extent = extent
        self.page = page
        self.data = data


class IoScheduler:
    """See the module."""

    def __init__(self, disk: Disk, seam: Seam, monitor: Monitor, pool: BufferPool, waiter: Waiter) -> None:
        self.disk = disk
        self.pool = pool
        self._choose = seam.choose
        self._monitor = monitor
        self._waiter = waiter
        self._queues: dict[int, deque[_Request]] = {}  # extents with requests not yet issued
        self._issued: list[_Request] = []  # issued since the last barrier began
        self._barrier_running = False
        self._failed: dict[int, int] = {}  # extent -> the first page that may not be on the disk as written
        self._sources: list[RecordSource] = []
        self._is_stopped = False
        self.observer: Observer | None = None
        self._page_size_bytes = disk.page_size_bytes
        self.barriers_count = 0
        self.bytes_written = 0

    def stop(self) -> None:
        """Issue nothing more, since the disk may have a new owner from now on. Requests submitted later fail.

        Wakes all who wait, since nothing that they wait for will come.
        """
        self.halt()
        self._monitor.notify_all()

    def halt(self) -> None:
        """Issue nothing more, after an interrupt. Unlike `stop` it needs no monitor, and wakes nobody."""
        self._is_stopped = True
        self.pool.close()

    def is_stopped(self) -> bool:
        return self._is_stopped

    def add_source(self, source: RecordSource) -> None:
        self._sources.append(source)

    # --- submitting ---------------------------------------------------------------------------------

    def submit_write(self, extent: int, page: int, data: bytes, after: Dependency, label: str) -> Write:
        """Queue a write of whole pages. The caller has taken a buffer for it."""
        return self._submit(_Request(self._waiter, after, extent, page, data), label)

    def submit_reset(self, extent: int, after: Dependency, label: str) -> Write:
        """Queue a reset. It makes a failed extent usable again."""
        self._failed.pop(extent, None)
        return self._submit(_Request(self._waiter, after, extent, 0, None), label)

    def observe(self, observer: Observer) -> None:
        """Tell the observer of every request from now on, and at once of what opening has left to be done."""
        self.observer = observer
        for queue in self._queues.values():
            for request in queue:
                self._tell(observer, request, "opening")
        for source in self._sources:
            source.tell(observer)

    def _tell(self, observer: Observer, request: _Request, label: str) -> None:
        page_count = 0 if request.data is None else len(request.data) // self._page_size_bytes
        request.after = observer.submitted(request, label, request.extent, request.page, page_count, request.after)

    def _submit(self, request: _Request, label: str) -> Write:
        if self.observer is not None:
            self._tell(self.observer, request, label)
        if self._is_stopped or request.extent in self._failed:
            self._settle(request, FAILED)
        else:
            queue = self._queues.get(request.extent)
            if queue is None:
                self._queues[request.extent] = deque((request,))
            else:
                queue.append(request)
        return request

    def bytes_of(self, write: Write) -> bytes | None:
        """The pages of a write that is on its way, else None."""
        return write.data if isinstance(write, _Request) else None

    # --- reading ------------------------------------------------------------------------------------

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        """The bytes of pages as submitted, whether or not they have reached the disk. Raises `DiskError`."""
        queue = self._queues.get(extent)
        if queue:
            for request in queue:
                if request.data is not None and page + page_count > request.page:
                    return self._read_over_queue(queue, extent, page, page_count)
        return self._read_disk(extent, page, page_count)

    def given_pages(self, extent: int, page_count: int) -> int:
        """How many of these first pages of an extent the device was given, and has not refused."""
        queued = [request.page for request in self._queues.get(extent, ()) if request.data is not None]
        return min(page_count, self._failed.get(extent, page_count), *queued[:1])

    def write_pointer(self, extent: int) -> int:
        """The number of pages that a zoned device holds in this extent. Raises `DiskError`."""
        try:
            return self.disk.write_pointer(extent)
        except OSError as error:
            raise DiskError(f"extent {extent}: its write pointer cannot be read: {error}") from error

    def _read_over_queue(self, queue: deque[_Request], extent: int, page: int, page_count: int) -> bytes:
        size = self._page_size_bytes
        for request in queue:  # nearly always all of it is in one write
            if request.data is not None and request.page <= page:
                start, end = (page - request.page) * size, (page + page_count - request.page) * size
                if end <= len(request.data):
                    return request.data[start:end]
        first_queued = next(request.page for request in queue if request.data is not None)
        on_disk_count = max(0, first_queued - page)
        pieces = [self._read_disk(extent, page, on_disk_count)] if on_disk_count else []
        for request in queue:
            if request.data is None:
                continue
            start = max(page, request.page) - request.page
            end = page + page_count - request.page
            pieces.append(request.data[start * size : max(start, end) * size])
        return b"".join(pieces)

    def _read_disk(self, extent: int, page: int, page_count: int) -> bytes:
        if self._failed and page + page_count > self._failed.get(extent, page + page_count):
            raise DiskError(f"extent {extent}, page {page}: was never written, the device refused it")
        try:
            return self.disk.read(extent, page, page_count)
        except OSError as error:
            raise DiskError(f"extent {extent}, page {page}: read failed: {error}") from error

    # --- making progress ----------------------------------------------------------------------------

    def has_requests(self) -> bool:
        """Whether some request is not settled yet."""
        return bool(self._queues or self._issued or self._barrier_running)

    def writes_count(self) -> int:
        """The number of writes that are not settled yet; each has a buffer."""
        queued = sum([request.data is not None for queue in self._queues.values() for request in queue])
        return queued + sum([request.data is not None for request in self._issued])

    def on_its_way(self) -> OnItsWay:
        """All requests that are not persistent yet, for checks.

        First by extent those not issued, each with its page and its bytes, which are None for a reset. Then extent and
        page of those that were issued and are not called persistent.
        """
        queued = tuple(
            (extent, tuple((request.page, request.data) for request in queue))
            for extent, queue in sorted(self._queues.items())
        )
        return queued, tuple(sorted((request.extent, request.page) for request in self._issued))

    def step(self) -> bool:
        """Do one thing: issue a ready request, pass a barrier, or submit a due record.

        False if there is nothing that this caller can do. While it waits for a barrier, other threads may come in.
        """
        if self._is_stopped:
            return False
        ready = self._ready_extents() if self._queues else []
        due: list[RecordSource] = []
        waiting: list[RecordSource] = []
        for source in self._sources:
            if source.is_due():
                (waiting if source.may_wait() else due).append(source)
        can_barrier = bool(self._issued) and not self._barrier_running
        # Requests come first, then records, then the barrier: with choice 0 all that is ready shares one barrier.
        # Records that nobody needs yet come last.
        records_at = len(ready)
        barrier_at = records_at + len(due)
        waiting_at = barrier_at + can_barrier
        option_count = waiting_at + len(waiting)
        if not option_count:
            return False
        choice = self._choose(option_count) if option_count > 1 else 0
        if choice < records_at:
            self._issue(ready[choice])
        elif choice < barrier_at:
            due[choice - records_at].submit_record()
        elif choice < waiting_at:
            self._barrier()
        else:
            waiting[choice - waiting_at].submit_record()
        return True

    def wait_for_barrier(self) -> None:
        """Return once no thread is waiting for the device's barrier."""
        if self._barrier_running:
            self._monitor.wait_until(lambda: not self.is_barrier_running(), self.step)

    def is_barrier_running(self) -> bool:
        """Whether some thread is waiting for the device's barrier."""
        return self._barrier_running and not self._is_stopped

    def _ready_extents(self) -> list[int]:
        ready = []
        failed = []
        for extent, queue in self._queues.items():
            state = queue[0].after.poll()
            if state is PERSISTENT_STATE:
                ready.append(extent)
            elif state is FAILED:
                failed.append(extent)
        for extent in failed:
            self._fail_queue(extent)
        return ready

    def _issue(self, extent: int) -> None:
        queue = self._queues[extent]
        request = queue[0]
        if request.after.poll() is not PERSISTENT_STATE:
            raise InvariantError("IO-1", "a write was about to be issued before its dependency was persistent")
        try:
            if request.data is None:
                self.disk.reset(extent)
            else:
                self.disk.write(extent, request.page, request.data)
                self.bytes_written += len(request.data)
        except OSError:
            self._fail_queue(extent)
            return
        queue.popleft()
        if not queue:
            del self._queues[extent]
        self._issued.append(request)

    def _barrier(self) -> None:
        covered, self._issued = self._issued, []  # IO-3: writes that are issued from here on wait for the next barrier
        self._barrier_running = True
        try:
            state = self._await_device()
        except BaseException:  # an interrupt: nobody knows, nor whether the monitor is held
            self._monitor.abandon()
            self._monitor.acquire()
            self._end_barrier(covered, PENDING)
            raise
        self._end_barrier(covered, state)

    def _await_device(self) -> State:
        """Have the device pass a barrier, with the monitor let go meanwhile."""
        self._monitor.release()
        try:
            self.disk.barrier()
            state = PERSISTENT_STATE
        except OSError:
            state = FAILED
        finally:
            self._monitor.acquire()
        return state

    def _end_barrier(self, covered: list[_Request], state: State) -> None:
        self._barrier_running = False
        if state is PENDING:
            self._issued = covered + self._issued
            self._monitor.notify_all()
            return
        self.barriers_count += 1
        for request in covered:
            self._settle(request, state)
        if state is FAILED:
            self._fail_extents({request.extent for request in covered})
        self._monitor.notify_all()

    def _fail_extents(self, extents: set[int]) -> None:
        """Fail what is queued on these extents, and what was issued there while the refused barrier ran (IO-4)."""
        for request in self._issued:
            if request.extent in extents:
                self._settle(request, FAILED)
        self._issued = [request for request in self._issued if request.extent not in extents]
        for extent in extents:
            self._fail_queue(extent)

    def _fail_queue(self, extent: int) -> None:
        # Nothing is unreadable because of this alone; `_settle` lowers the page for each write that fails.
        self._failed.setdefault(extent, self.disk.extent_size_pages)
        for request in self._queues.pop(extent, ()):
            self._settle(request, FAILED)
        self._monitor.notify_all()

    def _settle(self, request: _Request, state: State) -> None:
        request.settle(state)
        if request.data is not None:
            self.pool.give_back()
            if state is FAILED:
                self._failed[request.extent] = min(request.page, self._failed.get(request.extent, request.page))
            request.data = None  # let go of the bytes: dependencies outlive their writes
