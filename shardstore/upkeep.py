"""What work in the background asks of the store it is done for.

The layers that flush, compact and reclaim lie below the store, and need what only the whole of it can do. The store
hands them its `Upkeep`; so none of them imports what lies above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Upkeep(Protocol):
    """The caller holds the store's monitor, before and after each of these."""

    def make_room(self) -> None:
        """Flush the memtable unless it takes one entry more. Raises `NoSpaceError`, `DiskError`."""

    def may_copy(self) -> bool:
        """Whether there is room for the copies of one extent's live chunks."""

    def compaction_room_bytes(self) -> int:
        """How much compaction may write."""

    def drain(self) -> None:
        """Do all IO there is to do, short of flushing the memtable."""

    def breathe(self) -> None:
        """Let other threads have the monitor in the middle of long work."""

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Return once ``done()``. Until then does IO, or lets other threads do it."""

    def notify_all(self) -> None:
        """Something has changed that others may wait for."""
