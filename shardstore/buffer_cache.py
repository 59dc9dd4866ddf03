"""The buffer cache: all chunk reads and writes go through it, except those of scans.

It keeps the most recently read pages of one disk, keyed by extent and page. It does not keep written pages, since most
are not read again soon. A page never changes within an epoch, so a cached page is never out of date as long as a reset
drops it (CACHE-1). For every append, the cache joins the dependency of the bytes with that of the pointer that covers
them (EXT-3).

The caller holds the store's monitor.
"""

from __future__ import annotations

from typing import NamedTuple

from shardstore.dependency import Dependency
from shardstore.extents import Appended, Extents
from shardstore.units import new_tuple


class CachedAppend(NamedTuple):
    """An append, and the dependency of both its bytes and its pointer."""

    appended: Appended
    dependency: Dependency


class BufferCache:
    """See the module."""

    def __init__(self, extents: Extents, capacity_pages: int) -> None:
        self._extents = extents
        self._capacity_pages = capacity_pages
        self._page_size_bytes = extents.page_size_bytes
        self._extent_size_pages = extents.extent_size_pages
        self._pages: dict[int, bytes] = {}  # least recently used first

    def append(self, extent: int, data: bytes, after: Dependency) -> CachedAppend:
        """Append whole pages. The dependency is persistent once the bytes *and* the pointer that covers them are."""
        appended = self._extents.append(extent, data, after)
        return new_tuple(CachedAppend, (appended, appended.data & appended.pointer))  # EXT-3

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        """The bytes of pages below the soft pointer. Raises `StaleLocatorError` past it, `DiskError`."""
        pages = self._pages
        first = extent * self._extent_size_pages + page
        found: list[bytes] = []
        for key in range(first, first + page_count):
            data = pages.pop(key, None)
            if data is None:  # one read of all pages costs less than reading the missing ones
                return self._read_through(extent, page, page_count)
            pages[key] = data  # the most recently used
            found.append(data)
        return found[0] if page_count == 1 else b"".join(found)

    def _read_through(self, extent: int, page: int, page_count: int) -> bytes:
        data = self._extents.read(extent, page, page_count)
        size = self._page_size_bytes
        first = extent * self._extent_size_pages + page
        if page_count <= self._capacity_pages:
            pages = self._pages
            for i in range(page_count):
                pages.pop(first + i, None)
                pages[first + i] = data[i * size : (i + 1) * size]
            while len(pages) > self._capacity_pages:
                del pages[next(iter(pages))]
        return data

    def excess_count(self) -> int:
        """How many pages it keeps beyond its capacity, for checks: none."""
        return max(0, len(self._pages) - self._capacity_pages)

    def reset(self, extent: int, after: Dependency) -> Dependency:
        """Empty the extent once ``after`` is persistent, and forget its pages now."""
        self._drain(extent)
        return self._extents.reset(extent, after)

    def _drain(self, extent: int) -> None:
        first = extent * self._extent_size_pages
        for key in range(first, first + self._extents.soft_pages(extent)):
            self._pages.pop(key, None)  # CACHE-1
