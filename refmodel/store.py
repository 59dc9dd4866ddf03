"""The reference model of a store by itself: a dictionary, and its views as they were when they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardstore.errors import NotFoundError, TooLargeError
from shardstore.units import Delete, Put, StoreConfiguration


class StoreModel:
    """A store that is given any arguments. What it refuses it refuses before anything is done (ARG-1)."""

    def __init__(self, configuration: StoreConfiguration, value_size_max_bytes: int) -> None:
        self._key_size_max_bytes = configuration.key_size_max_bytes
        self._keys_count_max = configuration.memtable_entries_max
        self._value_size_max_bytes = value_size_max_bytes
        self._shards: dict[bytes, bytes] = {}
        self._views: dict[int, list[bytes]] = {}  # by slot

    # --- changes ------------------------------------------------------------------------------------

    def put(self, key: Any, value: Any) -> None:
        self.apply([Put(key, value)])

    def delete(self, key: Any) -> None:
        self.apply([Delete(key)])

    def bulk_put(self, items: Sequence[Any]) -> None:
        for item in items:
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise TypeError("item")
        self.apply([Put(*item) for item in items])

    def bulk_delete(self, keys: Sequence[Any]) -> None:
        self.apply([Delete(key) for key in keys])

    def apply(self, batch: Sequence[Any]) -> None:
        for key, value in self._checked(batch):
            self.settle(key, value)

    def check(self, batch: Sequence[Any]) -> None:
        self._checked(batch)

    def _checked(self, batch: Sequence[Any]) -> list[tuple[bytes, bytes | None]]:
        changes: list[tuple[bytes, bytes | None]] = []
        for change in batch:
            if not isinstance(change, Put | Delete):
                raise TypeError("change")
            changes.append((as_bytes(change.key), as_bytes(change.value) if isinstance(change, Put) else None))
        if len(changes) > self._keys_count_max:
            raise TooLargeError("batch")
        for key, value in changes:
            if not 0 < len(key) <= self._key_size_max_bytes or len(value or b"") > self._value_size_max_bytes:
                raise TooLargeError("key or value")
        return changes

    # --- reading ------------------------------------------------------------------------------------

    def get(self, key: Any) -> bytes:
        key = as_bytes(key)
        if key not in self._shards:
            raise NotFoundError(repr(key))
        return self._shards[key]

    def contents(self) -> dict[bytes, bytes]:
        return dict(self._shards)

    def take_view(self, slot: int) -> None:
        self._views[slot] = sorted(self._shards)

    def keys_after(self, slot: int, start: Any, limit_count: Any) -> list[bytes] | None:
        """The keys from ``start`` on, as they were when the view was taken; None without a view."""
        if slot not in self._views:
            return None
        start = as_bytes(start)
        if not isinstance(limit_count, int):
            raise TypeError("limit")
        if limit_count < 1:
            raise ValueError("limit")
        return [key for key in self._views[slot] if key >= start][:limit_count]

    def close_view(self, slot: int) -> None:
        self._views.pop(slot, None)

    # --- the rest -----------------------------------------------------------------------------------

    def do_steps(self, step_count: Any) -> None:
        """Any number of steps changes nothing."""
        if not isinstance(step_count, int):
            raise TypeError("number")
        if step_count < 0:
            raise ValueError("number")

    def reclaim_any(self, choice: Any) -> None:
        self.do_steps(choice)

    def reopened(self) -> None:
        """The store was opened again: nobody has a view."""
        self._views.clear()

    def settle(self, key: Any, value: bytes | None) -> None:
        key = as_bytes(key)
        self._shards.pop(key, None)
        if value is not None:
            self._shards[key] = value


def as_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(type(value).__name__)
    return bytes(value)
