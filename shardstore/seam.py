"""The one seam to the outside: identifiers, open decisions, locks and waiting.

Everything that the store cannot decide by itself comes in through a `Seam`. A test bans clocks, random numbers, threads
and locks everywhere else. `ThreadSeam` is the seam for use. Checkers bring their own, and so decide every interleaving
and every open choice.

Each disk's store is a *monitor*: it has one lock, which its public methods take, and which is released around device
barriers and whenever a caller waits. The store starts no threads. A thread that waits does the work that it waits for.
If another thread is at that work already, it sleeps until that one has got somewhere.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Monitor(Protocol):
    """A mutual-exclusion lock together with the condition that something it guards has changed."""

    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def acquire(self) -> object: ...
    def release(self) -> None:
        """Let others in. Of those that wait one comes first, even if the caller asks again at once (READ-1)."""

    def abandon(self) -> None:
        """Let go of the monitor if the calling thread holds it, after an interrupt that came nobody knows where."""

    def notify_all(self) -> None:
        """Wake all threads that wait. The caller holds the monitor."""

    def wait_until(self, done: Callable[[], bool], progress: Callable[[], bool]) -> None:
        """Return once ``done()``. The caller holds the monitor, before and after.

        ``progress()`` does one step of background work, or answers False if there is none for this caller; then only
        another thread can help.
        """


class Seam(Protocol):
    def monitor(self, name: str) -> Monitor: ...

    def unique_id(self) -> bytes:
        """16 bytes that were never given before, will never be given again, and that no user of the store can guess."""

    def choose(self, count: int) -> int:
        """Choose one of ``count`` legal ways to go on, as a number in ``range(count)``."""


class _HandoverLock:
    """A lock that a thread which lets it go and wants it back gets only after one that has waited.

    A plain lock goes to whoever asks first, and that is nearly always the thread that has just let it go. Here whoever
    waits for the lock holds the gate, so that the next cannot even ask. Both locks know their owner, so that an
    interrupt at any point leaves nothing that `abandon` could not let go.
    """

    def __init__(self) -> None:
        self._gate = threading.RLock()
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._gate.acquire(blocking, timeout):
            return False
        try:
            return self._lock.acquire(blocking, timeout)
        finally:
            self._gate.release()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if error is None or self._is_owned():  # an interrupt may have come before the lock was taken back
            self._lock.release()

    def _is_owned(self) -> bool:
        """Whether the calling thread holds the lock; `threading.Condition` asks by this name."""
        return _is_owned(self._lock)

    def abandon(self) -> None:
        for lock in (self._lock, self._gate):
            while _is_owned(lock):
                lock.release()

    def is_waited_for(self) -> bool:
        """Whether another thread waits for the lock, or is about to."""
        if not self._gate.acquire(blocking=False):
            return True
        self._gate.release()
        return False


def _is_owned(lock: object) -> bool:
    owned: bool = lock._is_owned()  # type: ignore[attr-defined]  # of every RLock; `threading.Condition` relies on it too
    return owned


class _ThreadMonitor(threading.Condition):
    def __init__(self) -> None:
        self.lock = _HandoverLock()
        super().__init__(self.lock)  # type: ignore[arg-type]  # all that a condition asks of a lock

    def abandon(self) -> None:
        self.lock.abandon()

    def wait_until(self, done: Callable[[], bool], progress: Callable[[], bool]) -> None:
        while not done():
            # Asked once more before sleeping: a step that found nothing to do may have settled it, say as failed.
            if not progress() and not done():
                self.wait()


class ThreadSeam:
    """The seam for use: real threads, the operating system's entropy, and always the first choice."""

    def monitor(self, name: str) -> Monitor:
        return _ThreadMonitor()

    def unique_id(self) -> bytes:
        return os.urandom(16)

    def choose(self, count: int) -> int:
        return 0
