"""The reference model of the node's arguments: what is refused, by which error, before anything is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from refmodel.node import NodeModel
from refmodel.store import as_bytes
from shardstore.errors import TooLargeError
from shardstore.units import StoreConfiguration


class LimitedNodeModel(NodeModel):
    """A node that is given any arguments. ``disk_of`` steers shard ids to disks."""

    def __init__(
        self,
        configuration: StoreConfiguration,
        value_size_max_bytes: int,
        disk_of: Callable[[bytes], int] = lambda key: 0,
    ) -> None:
        super().__init__(disk_of)
        self._key_size_max_bytes = configuration.key_size_max_bytes
        self._keys_count_max = configuration.memtable_entries_max
        self._value_size_max_bytes = value_size_max_bytes

    def put(self, key: Any, value: Any) -> None:
        self.bulk_create([(key, value)])

    def put_durably(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def get(self, key: Any) -> bytes:
        return super().get(as_bytes(key))

    def delete(self, key: Any) -> None:
        self.bulk_remove([key])

    def bulk_create(self, items: Sequence[tuple[Any, Any]]) -> None:
        plain = [(as_bytes(key), as_bytes(value)) for key, value in items]
        self._check_keys([key for key, _ in plain])
        if any(len(value) > self._value_size_max_bytes for _, value in plain):
            raise TooLargeError("value")
        super().bulk_create(plain)

    def bulk_remove(self, keys: Sequence[Any]) -> None:
        plain = [as_bytes(key) for key in keys]
        self._check_keys(plain)
        super().bulk_remove(plain)

    def list_pages(self, page_size_keys: Any) -> tuple[bytes, ...]:
        if not isinstance(page_size_keys, int):
            raise TypeError("page size")
        if page_size_keys < 1:
            raise ValueError("page size")
        return self.list_keys()

    def settle(self, key: Any, value: bytes | None) -> None:
        super().settle(as_bytes(key), value)

    def _check_keys(self, keys: Sequence[bytes]) -> None:
        if any(not 0 < len(key) <= self._key_size_max_bytes for key in keys):
            raise TooLargeError("key")
        if any(count > self._keys_count_max for count in Counter(map(self._disk_of, keys)).values()):
            raise TooLargeError("request")
