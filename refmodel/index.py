"""The reference model of the index: a dictionary."""

from __future__ import annotations

from collections.abc import Sequence

from shardstore.units import Locator


class IndexModel:
    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[Locator, ...]] = {}

    def put(self, key: bytes, locators: tuple[Locator, ...]) -> None:
        self._entries[key] = locators

    def delete(self, key: bytes) -> None:
        self._entries.pop(key, None)

    def fill(self, keys: Sequence[bytes], locators: tuple[Locator, ...]) -> None:
        self._entries.update((key, locators) for key in keys)

    def clear(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.delete(key)

    def get(self, key: bytes) -> tuple[Locator, ...] | None:
        return self._entries.get(key)

    def items(self) -> dict[bytes, tuple[Locator, ...]]:
        return dict(self._entries)

    def settle(self, key: bytes, locators: tuple[Locator, ...] | None) -> None:
        """Make the key read as a crash has left it."""
        if locators is None:
            self.delete(key)
        else:
            self.put(key, locators)
