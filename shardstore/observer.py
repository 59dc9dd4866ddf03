"""Who hears of all that the store asks of its disk, before the disk can have it.

Whoever submits a write or a reset, asks for a change of an extent, or enqueues an edit of the index says with a *label*
what it is: a short text, the same from run to run. The IO scheduler, the superblock and the metadata log pass it on.
Where there is no observer, a label costs nothing but the argument.
"""

from __future__ import annotations

from typing import Protocol

from shardstore.dependency import Dependency, Promise, Write


class Observer(Protocol):
    """Told of each thing with what it waits for; what it gives back is waited for instead."""

    def submitted(
        self, write: Write, label: str, extent: int, page: int, page_count: int, after: Dependency
    ) -> Dependency:
        """A write, or, with no pages, a reset."""

    def promised(self, promise: Promise, label: str, extent: int | None, after: Dependency) -> Dependency:
        """A change of an extent, or, with no extent, an edit of the index. Some record will carry it."""

    def followed(self, record: Write, before: Dependency) -> None:
        """This record of a log was built on the one before (LOG-1)."""
