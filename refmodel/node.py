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
        self._pages: dict[int, list[tuple[bytes, ...]]] = {}  # by slot, what is left to read of an open listing
        self._cut_short: set[int] = set()  # slots of listings of which a disk has left before their end
        self._ended: set[int] = set()  # slots of listings read to their end
        self._out_at_opening: dict[int, set[int]] = {}  # by slot, the disks that a listing does not have

    def put(self, key: bytes, value: bytes) -> None:
        self._require_in_service([key])
        self._shards[key] = value

    put_durably = put

    def put_each(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Put one after the other, of each key the last, if all disks are in service."""
        self.bulk_create(items)

    put_each_durably = put_each

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

    def open_listing(self, slot: int, page_size_keys: int) -> None:
        keys = self.list_keys()
        self.close_listing(slot)
        self._out_at_opening[slot] = set(self._out)
        self._pages[slot] = [keys[at : at + page_size_keys] for at in range(0, len(keys), page_size_keys)]

    def next_page(self, slot: int) -> tuple[bytes, ...] | None:
        """The keys as they were when the listing was opened, page by page; then empty pages."""
        pages = self._pages.get(slot)
        if pages is None:
            return None
        if slot in self._cut_short:
            raise OutOfServiceError(f"listing {slot}")
        if pages:
            return pages.pop(0)
        self._ended.add(slot)
        return ()

    def close_listing(self, slot: int) -> None:
        self._pages.pop(slot, None)
        self._cut_short.discard(slot)
        self._ended.discard(slot)

    def close_listings(self) -> None:
        for slot in [*self._pages]:
            self.close_listing(slot)

    def overtake(self, keys: Sequence[bytes], listings_count: int) -> None:
        self.bulk_remove(keys)

    def remove_disk(self, disk: int) -> None:
        if disk in self._out:
            raise OutOfServiceError(str(disk))
        self._out.add(disk)
        self._cut_short |= {slot for slot in self._pages if disk not in self._out_at_opening[slot]} - self._ended

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
        """The node was opened again: every disk is in service, and no listing is open."""
        self._out.clear()
        self._pages.clear()
        self._cut_short.clear()
        self._ended.clear()

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
