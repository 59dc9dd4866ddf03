"""The bounded pool of write buffers.

Code that builds a write takes a buffer first, and the IO scheduler gives it back when the write is no longer pending.
So the bytes that wait for the device are bounded. Writers wait for a buffer. The last buffer is kept for superblock
records, since the other writes may be waiting for such a record (POOL-1).
"""

from __future__ import annotations

from collections.abc import Callable

from shardstore.errors import InvariantError, OutOfServiceError
from shardstore.seam import Monitor


class BufferPool:
    """Counts buffers; the caller holds the store's monitor."""

    def __init__(self, buffer_count: int, monitor: Monitor) -> None:
        self._monitor = monitor
        self.buffer_count = buffer_count
        self.free_count = buffer_count
        self._is_closed = False

    def close(self) -> None:
        """Let nobody wait any more, since no write will give a buffer back."""
        self._is_closed = True

    def take(self, progress: Callable[[], bool]) -> None:
        """Take a buffer for a write of chunks, and wait if only the kept one is left; ``progress`` does one IO step.

        Raises `OutOfServiceError` if the pool is closed before there is one.
        """
        if self.free_count <= 1:
            self._monitor.wait_until(lambda: self.free_count > 1 or self._is_closed, progress)
            if self.free_count <= 1:
                raise OutOfServiceError("the disk went out of service meanwhile")
        self.free_count -= 1

    def take_reserved(self) -> None:
        """Take a buffer for a record, without waiting.

        The superblock may take the last buffer, since at most one of its records is on its way (LOG-1). The metadata
        log may not, and asks `can_take` first.
        """
        if self.free_count < 1:
            raise InvariantError("POOL-1", "no buffer was kept for the superblock")
        self.free_count -= 1

    def taken_count(self) -> int:
        return self.buffer_count - self.free_count

    def can_take(self) -> bool:
        """Whether there is a buffer besides the one kept for the superblock."""
        return self.free_count > 1

    def give_back(self) -> None:
        """Give back a buffer. Raises `InvariantError` if none was taken."""
        if self.free_count >= self.buffer_count:
            raise InvariantError("POOL-2", "a buffer was given back twice")
        self.free_count += 1
