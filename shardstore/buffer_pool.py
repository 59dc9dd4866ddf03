"""The bounded pool of write buffers.

Whoever builds a write takes a buffer first and the IO scheduler gives it back when the write has left
pending, so the bytes waiting for the device are bounded. Writers wait for a buffer; the last one is kept for
superblock records, since what the other writes wait for may be such a record (POOL-1).
"""

from __future__ import annotations

from collections.abc import Callable

from shardstore.errors import InvariantError
from shardstore.seam import Monitor


class BufferPool:
    """Counts buffers; the caller holds the store's monitor."""

    def __init__(self, buffer_count: int, monitor: Monitor) -> None:
        self._monitor = monitor
        self.buffer_count = buffer_count
        self.free_count = buffer_count

    def take(self, progress: Callable[[], bool]) -> None:
        """Take a buffer for anything but the superblock; ``progress`` does one IO step."""
        if self.free_count <= 1:
            self._monitor.wait_until(lambda: self.free_count > 1, progress)
        self.free_count -= 1

    def take_reserved(self) -> None:
        """Take a buffer for a superblock record. Never waits: at most one is on its way (LOG-1)."""
        if self.free_count < 1:
            raise InvariantError("POOL-1", "no buffer was kept for the superblock")
        self.free_count -= 1

    def can_take(self) -> bool:
        return self.free_count > 1

    def give_back(self) -> None:
        if self.free_count >= self.buffer_count:
            raise InvariantError("POOL-2", "a buffer was given back twice")
        self.free_count += 1
