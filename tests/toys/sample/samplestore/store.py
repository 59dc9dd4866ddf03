"""A very small log-structured store, to be checked: one record a page, in the order of the calls."""

from __future__ import annotations

from typing import Any


class NoSpaceError(Exception):
    """Every page is taken."""


class Pending:
    """The dependency of one record; persistent once a barrier has passed it."""

    def __init__(self) -> None:
        self.persistent = False

    def is_persistent(self) -> bool:
        return self.persistent

    def is_failed(self) -> bool:
        return False


class SampleStore:
    """Keys to values; nothing is ever reclaimed."""

    def __init__(self, world: Any) -> None:
        self.medium = world.media[0]
        self.seam = world.seam
        self.entries: dict[bytes, bytes] = {}
        self.queue: list[tuple[bytes, Pending]] = []
        self.unconfirmed: list[Pending] = []
        self.extent = 0  # the last that holds anything: a crash may have left earlier ones short
        self._recover()
        self.page_count = self.extent * self.medium.extent_size_pages + self.medium.write_pointer(self.extent)

    def _recover(self) -> None:
        self.medium.barrier()  # what is read must still be there after the next crash
        for extent in range(self.medium.extent_count):
            for page in range(self.medium.write_pointer(extent)):
                self._apply(self.medium.read(extent, page, 1))
                self.extent = extent

    def _apply(self, record: bytes) -> None:
        key = record[1 : 1 + record[0]]
        size = record[1 + record[0]]
        if size:
            start = 2 + record[0]
            self.entries[key] = record[start : start + size - 1]
        else:
            self.entries.pop(key, None)

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes) -> Pending:
        dependency = self._append(bytes([len(key)]) + key + bytes([len(value) + 1]) + value)
        self.entries[key] = value
        return dependency

    def delete(self, key: bytes) -> Pending:
        dependency = self._append(bytes([len(key)]) + key + b"\x00")
        self.entries.pop(key, None)
        return dependency

    def _append(self, record: bytes) -> Pending:
        if self.page_count == self.medium.extent_count * self.medium.extent_size_pages:
            raise NoSpaceError
        dependency = Pending()
        self.queue.append((record.ljust(self.medium.page_size_bytes, b"\x00"), dependency))
        self.page_count += 1
        return dependency

    def write_back(self, steps: int) -> None:
        for _ in range(steps):
            if self.queue and not (self.unconfirmed and self.seam.choose(2)):
                self._issue()
            else:
                self._confirm()

    def _issue(self) -> None:
        record, dependency = self.queue.pop(0)
        page = self.medium.write_pointer(self.extent)
        if page == self.medium.extent_size_pages:
            self.extent, page = self.extent + 1, 0
        self.medium.write(self.extent, page, record)
        self.unconfirmed.append(dependency)

    def _confirm(self) -> None:
        self.medium.barrier()
        for dependency in self.unconfirmed:
            dependency.persistent = True
        self.unconfirmed.clear()

    def shutdown(self) -> None:
        while self.queue:
            self._issue()
        self._confirm()
