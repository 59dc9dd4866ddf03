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
    def release(self) -> None: ...

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


class _ThreadMonitor(threading.Condition):
    def __init__(self) -> None:
        super().__init__(threading.Lock())

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
