"""The observer: hears of everything that the store asks of its disk, before the disk can have it.

Code that asks for a write or reset, a change of an extent or an edit of the index gives it a *label*. A label is a
short text that says what it is, and is the same from run to run. The IO scheduler, the superblock and the metadata log
pass it on. Where there is no observer, a label costs nothing but the argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shardstore.dependency import Dependency, Promise, Write


class Observer(Protocol):
    """Hears of each request and the dependency ``after`` that it waits for. It waits for the given one instead."""

    def submitted(
        self, write: Write, label: str, extent: int, page: int, page_count: int, after: Dependency
    ) -> Dependency:
        """The store submits a write, or a reset if ``page_count`` is 0."""

    def promised(self, promise: Promise, label: str, extent: int | None, after: Dependency) -> Dependency:
        """The store asks for a change of an extent, or, if that is None, for an edit of the index.

        Some record will carry it, and ``promise`` is bound to that record then.
        """

    def hastened(self, promise: Promise, lifted: Sequence[Dependency], after: Dependency, in_doubt: Dependency) -> None:
        """A record carries this edit before all it waits for is persistent. It no longer waits for ``lifted`` (LOG-7).

        It comes after ``after``. Recovery looks whether ``in_doubt`` came, and the promise stands for that, too.
        """

    def followed(self, record: Write, before: Dependency) -> None:
        """A record of a log was built on the record before it (LOG-1)."""
