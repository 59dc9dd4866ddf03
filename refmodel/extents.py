"""The reference model of extents: named sequences of pages that grow at the end or are emptied."""

from __future__ import annotations


class ExtentsModel:
    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}

    def append(self, slot: int, data: bytes) -> None:
        self._contents[slot] = self.read(slot) + data

    def read(self, slot: int) -> bytes:
        return self._contents.get(slot, b"")

    def reset(self, slot: int) -> None:
        self._contents.pop(slot, None)

    def contents(self) -> dict[int, bytes]:
        return dict(self._contents)

    def settle(self, slot: int, data: bytes) -> None:
        """Make the slot hold the pages that a crash has left."""
        self._contents.pop(slot, None)
        if data:
            self._contents[slot] = data
