"""The disk: the methods that the store needs of a device.

    extent   0            1            2
           +--+--+--+--+--+--+--+--+--+--+--+--+ ...
           |p0|p1|p2|p3|p0|p1|p2|p3|p0|p1|
           +--+--+--+--+--+--+--+--+--+--+--+--+ ...
                  ^ write pointer: the only page that may be written next

The device reports trouble by `OSError`. ``docs/PROTOCOLS.md`` says what survives a crash.
"""

from __future__ import annotations

from typing import Protocol


class Disk(Protocol):
    """Extents of equal size, written a whole page at a time, in order."""

    holder: object
    """The store that is open on the disk, or was last; None at first. Only stores set it."""

    @property
    def extent_count(self) -> int: ...
    @property
    def extent_size_pages(self) -> int: ...
    @property
    def page_size_bytes(self) -> int: ...
    @property
    def zoned(self) -> bool:
        """Whether the device keeps a write pointer of its own (`write_pointer`)."""

    def read(self, extent: int, page: int, page_count: int) -> bytes: ...
    def write(self, extent: int, page: int, data: bytes) -> None: ...
    def reset(self, extent: int) -> None: ...
    def barrier(self) -> None:
        """Return once everything that was issued before the call survives any crash."""

    def write_pointer(self, extent: int) -> int:
        """The number of pages that the device holds in this extent. Zoned disks only."""
