"""Upkeep: the services that background work needs of its store.

The layers that flush, compact and reclaim lie below the store, but need some work that only the whole store can do. The
store hands them its `Upkeep`, so that none of them imports a layer above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shardstore.units import RunBound


class Upkeep(Protocol):
    """The caller holds the store's monitor, before and after each call."""

    def make_room(self) -> None:
        """Flush the memtable unless it takes one entry more. Raises `NoSpaceError`, `DiskError`."""

    def may_copy(self) -> bool:
        """Whether there is room for the copies of one extent's live chunks."""

    def may_merge(self, bound: RunBound) -> bool:
        """Whether compaction may write a run of this bound."""

    def drain(self) -> None:
        """Do all IO there is to do, but do not flush the memtable."""

    def breathe(self) -> None:
        """Let other threads have the monitor in the middle of long work."""

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Do IO, or let other threads do it, until ``done()``."""

    def notify_all(self) -> None:
        """Wake threads that may wait for a change that was just made."""
