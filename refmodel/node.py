"""The reference model of the node: a dictionary, and the disks that are out of service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardstore.errors import InUseError, NotFoundError, OutOfServiceError, WrongDisksError


class NodeModel:
    """``disk_of`` steers shard ids to disks, as the node does."""

    def __init__(self, disk_of: Callable[[bytes], int] = lambda key: 0) -> None:
        self._disk_of = disk_of
        self._shards: dict[bytes, bytes] = {}
        self._out: set[int] = set()

    def put(self, key: bytes, value: bytes) -> None:
        self._require_in_service([key])
        self._shards[key] = value

    put_durably = put

    def get(self, key: bytes) -> bytes:
        self._require_in_service([key])
        if key not in self._shards:
            raise NotFoundError(repr(key))
        return self._shards[key]

    def delete(self, key: bytes) -> None:
        self._require_in_service([key])
        self._shards.pop(key, None)

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        self._require_in_service([key for key, _ in items])
        self._shards.update(items)

    def bulk_remove(self, keys: Sequence[bytes]) -> None:
        self._require_in_service(keys)
        for key in keys:
            self._shards.pop(key, None)

    def list_keys(self) -> tuple[bytes, ...]:
        return tuple(sorted(key for key in self._shards if self._disk_of(key) not in self._out))

    def remove_disk(self, disk: int) -> None:
        if disk in self._out:
            raise OutOfServiceError(str(disk))
        self._out.add(disk)

    def return_disk(self, disk: int) -> None:
        self._out.discard(disk)

    def open_arranged(self, order: Sequence[int]) -> None:
        """Some disks of the node, or all in another order, are no node (NODE-2); nor are disks that are in use."""
        if len(set(order)) == len(order) and any(disk not in self._out for disk in order):
            raise InUseError(str(order))
        raise WrongDisksError(str(order))

    def contents(self) -> dict[bytes, bytes]:
        return {key: self._shards[key] for key in self.list_keys()}

    def reopened(self) -> None:
        """The node was opened again: every disk is in service."""
        self._out.clear()

    def settle(self, key: bytes, value: bytes | None) -> None:
        """Make the key read as a crash has left it."""
        self._shards.pop(key, None)
        if value is not None:
            self._shards[key] = value

    def _require_in_service(self, keys: Sequence[bytes]) -> None:
        if not self._out:  # so it is nearly always, and this is asked for every request
            return
        for key in keys:
            if self._disk_of(key) in self._out:
                raise OutOfServiceError(repr(key))
