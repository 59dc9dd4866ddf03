"""The node: several disks, one store each; shard ids steer to disks.

Request plane: put, get, delete. Control plane: list, bulk create and remove, take a disk out of service, return it.

Guarantees per disk what `Store` guarantees; across disks there is no order and no atomicity. A disk that is out of
service has been shut down cleanly. Requests for its shards are refused; the shards are not lost, and are back when it
returns.

Many threads may call a node: each store has its monitor, and the table of stores changes under the node's own.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial, wraps
from heapq import merge
from itertools import combinations
from typing import Concatenate, ParamSpec, Self, TypeVar

from crc32c import crc32c

from shardstore.arguments import as_bytes, as_count, as_pair
from shardstore.dependency import AcrossStores, Dependency
from shardstore.disk import Disk
from shardstore.errors import ConfigurationError, OutOfServiceError, StoreError, WrongDisksError
from shardstore.limits import value_size_max_bytes
from shardstore.scrub import Verification
from shardstore.seam import Seam
from shardstore.space import Trouble
from shardstore.store import Store, StoreSnapshot, format_store, open_store
from shardstore.units import Change, Delete, Membership, Put, StoreConfiguration

P = ParamSpec("P")
T = TypeVar("T")


def _lets_go_if_cut_short(method: Callable[Concatenate[Node, P], None]) -> Callable[Concatenate[Node, P], None]:
    """Leave the node's monitor to others, whatever ends this method (INT-1)."""

    @wraps(method)
    def call(node: Node, /, *arguments: P.args, **named: P.kwargs) -> None:
        try:
            method(node, *arguments, **named)
        except BaseException:
            node._monitor.abandon()
            raise

    return call


class Node:
    """Open one with `format_node` or `open_node`."""

    def __init__(self, disks: Sequence[Disk], stores: Sequence[Store], seam: Seam) -> None:
        self._disks = tuple(disks)
        self._stores: builtins.list[Store | None] = list(stores)
        self._configurations = [store.configuration for store in stores]
        self._memberships = [store.membership() for store in stores]
        self._seam = seam
        self._monitor = seam.monitor("node")
        self._leaving: set[int] = set()  # disks that are being shut down
        self._bulk_requests: dict[object, Collection[int]] = {}  # those under way, each with its disks

    # --- request plane ------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> Dependency:
        """Store a shard. Raises `TooLargeError`, `NoSpaceError`, `OutOfServiceError`, `DiskError`."""
        key = as_bytes(key, "a shard id")
        return self._store_of(key).put(key, value)

    def get(self, key: bytes) -> bytes:
        """The value of a shard. Raises `NotFoundError`, `OutOfServiceError`, `CorruptionError`, `DiskError`."""
        key = as_bytes(key, "a shard id")
        return self._store_of(key).get(key)

    def delete(self, key: bytes) -> Dependency:
        """Forget a shard, if there is one. Raises `TooLargeError`, `NoSpaceError`, `OutOfServiceError`, `DiskError`."""
        key = as_bytes(key, "a shard id")
        return self._store_of(key).delete(key)

    # --- control plane ------------------------------------------------------------------------------

    def list(self, page_size_keys: int = 1000) -> Listing:
        """Every shard id on the disks in service: one snapshot a disk, read page by page.

        If one of these disks leaves before the last page is read, that page raises `OutOfServiceError`.
        """
        as_count(page_size_keys, "a page's size", least=1)
        snapshots: builtins.list[StoreSnapshot] = []
        try:
            for store in self.in_service():
                with suppress(OutOfServiceError):  # it has left since; others may still come
                    snapshots.append(store.snapshot())
        except BaseException:
            for snapshot in snapshots:
                snapshot.close()
            raise
        return Listing(snapshots, page_size_keys)

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        """Store several shards. Of each disk's share, all or none are stored.

        Raises `TypeError`, `TooLargeError` and `OutOfServiceError` before anything is done: a disk leaves service only
        once the bulk requests that have begun are done. An error of one disk later on, `NoSpaceError` above all, leaves
        the shares of disks with lower numbers done.
        """
        return self._apply([Put(*as_pair(item)) for item in items])

    def bulk_remove(self, keys: Sequence[bytes]) -> Dependency:
        """Forget several shards. Of each disk's share, all or none are forgotten. Raises what `bulk_create` does."""
        return self._apply([Delete(as_bytes(key, "a shard id")) for key in keys])

    @_lets_go_if_cut_short
    def remove_disk(self, disk: int) -> None:
        """Take a disk out of service: shut it down cleanly and refuse its shards.

        Raises `OutOfServiceError` if it is out already, and `DiskError` if some writes have failed, though it is out
        then. Raises `NoSpaceError` if its index finds no room; the disk then stays in service.
        """
        as_count(disk, "a disk's number", below=len(self._disks))
        with self._monitor:
            store = self._store(disk)
            self._leaving.add(disk)  # from here on its shards are refused (NODE-3)
            try:
                self._monitor.wait_until(lambda: not self._has_bulk_request(disk), _others_only)
            except BaseException:
                self._leaving.discard(disk)
                raise
        try:
            store.shutdown()
        finally:
            with self._monitor:
                self._leaving.discard(disk)
                self._monitor.notify_all()
                if not store.is_open():  # a shutdown that found no room leaves the store open
                    self._stores[disk] = None

    @_lets_go_if_cut_short
    def return_disk(self, disk: int) -> None:
        """Put a disk back into service; one that is in service stays so.

        Raises `CorruptionError`, `DiskError`, and `WrongDisksError` if it is another disk by now.
        """
        as_count(disk, "a disk's number", below=len(self._disks))
        with self._monitor:
            if self._stores[disk] is not None:
                if disk in self._leaving:
                    raise OutOfServiceError(f"disk {disk} is being taken out of service")
                return
            store = open_store(self._disks[disk], self._seam, self._configurations[disk])
            if store.membership() != self._memberships[disk]:
                store.abandon()
                raise WrongDisksError(f"the disk belongs to {_names(store.membership())}, not to this node")
            self._stores[disk] = store

    def shutdown(self) -> None:
        """Shut down every disk in service. Once all have been tried, raises the first error."""
        errors: builtins.list[StoreError] = []
        for store in self.in_service():
            try:
                store.shutdown()
            except StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def sync(self) -> None:
        """Return once every change accepted so far on the disks in service is persistent. Raises `DiskError`.

        A disk that leaves meanwhile is waited for. Raises `OutOfServiceError` if it could not be shut down cleanly.
        """
        for disk, store in enumerate(self._stores):
            if store is not None:
                self._sync(disk, store)

    def _sync(self, disk: int, store: Store) -> None:
        while not store.is_clean():
            try:
                store.sync()
                break
            except OutOfServiceError:
                with self._monitor:
                    self._monitor.wait_until(lambda: disk not in self._leaving, _others_only)
                if not store.is_open() and not store.is_clean():
                    raise

    # --- background work ----------------------------------------------------------------------------

    def write_back(self, steps: int) -> int:
        """Do up to ``steps`` steps of IO on each disk. Gives how many were done in all."""
        as_count(steps, "a number of steps")
        return sum(self._of_each(lambda store: store.write_back(steps)))

    def flush_buffers(self) -> None:
        self._of_each(Store.flush_buffers)

    def flush(self) -> None:
        self._of_each(Store.flush)

    def compact(self) -> None:
        self._of_each(Store.compact)

    def reclaim(self, choice: int = 0) -> None:
        as_count(choice, "a choice")
        self._of_each(lambda store: store.reclaim(choice))

    def _of_each(self, work: Callable[[Store], T]) -> builtins.list[T]:
        """What this gives for each disk in service, but for those that leave before it is done."""
        done = []
        for store in self.in_service():
            with suppress(OutOfServiceError):
                done.append(work(store))
        return done

    def health(self) -> dict[int, tuple[Trouble, ...]]:
        """What upkeep has failed at, by disk; without disks where all is well, and those out of service."""
        troubles = {}
        for disk, store in enumerate(self._stores):
            if store is not None:
                with suppress(OutOfServiceError):  # it is being taken out of service
                    troubles[disk] = store.health()
        return {disk: found for disk, found in troubles.items() if found}

    def verify(self) -> dict[int, Verification]:
        """Read everything live, disk by disk, and tell what is damaged; without the disks that are out of service."""
        verifications = {}
        for disk, store in enumerate(self._stores):
            if store is not None and disk not in self._leaving:
                with suppress(OutOfServiceError):  # it has left since
                    verifications[disk] = store.verify()
        return verifications

    # --- steering -----------------------------------------------------------------------------------

    def disk_of(self, key: bytes) -> int:
        """The number of the disk that a shard id steers to."""
        return crc32c(as_bytes(key, "a shard id")) % len(self._disks)

    def contents(self) -> Iterator[tuple[bytes, bytes]]:
        """Every shard on the disks in service, in order of ids. The node must not change while it is read."""
        return merge(*(store.contents() for store in self.in_service()))

    def _store_of(self, key: bytes) -> Store:
        return self._store(crc32c(key) % len(self._disks))

    def _store(self, disk: int) -> Store:
        store = self._stores[disk]
        if store is None or disk in self._leaving:
            raise OutOfServiceError(f"disk {disk} is out of service")
        return store

    def in_service(self) -> Sequence[Store]:
        """The stores of the disks in service."""
        return [store for disk, store in enumerate(self._stores) if store is not None and disk not in self._leaving]

    def _apply(self, batch: Sequence[Change]) -> Dependency:
        """Give each disk its share, in order of disks, once every disk would take its own."""
        shares: dict[int, builtins.list[Change]] = {}
        for change in batch:
            shares.setdefault(self.disk_of(change.key), []).append(change)
        request = object()
        try:
            try:
                stores = self._begin_bulk(request, shares)
                for disk, share in shares.items():
                    stores[disk].check(share)
                return AcrossStores([stores[disk].apply(shares[disk]) for disk in sorted(shares)])
            finally:
                self._end_bulk(request)
        except BaseException:
            self._end_bulk(request)  # once more, for an interrupt may have cut the first time short
            raise

    def _begin_bulk(self, request: object, disks: Collection[int]) -> dict[int, Store]:
        """The stores of these disks, which stay in service until `_end_bulk` (NODE-3)."""
        with self._monitor:
            stores = {disk: self._store(disk) for disk in disks}
            self._bulk_requests[request] = tuple(disks)
            return stores

    def _end_bulk(self, request: object) -> None:
        self._monitor.abandon()  # an interrupt may have come once it was taken
        with self._monitor:
            self._bulk_requests.pop(request, None)
            self._monitor.notify_all()

    def _has_bulk_request(self, disk: int) -> bool:
        return any(disk in disks for disks in self._bulk_requests.values())


def _others_only() -> bool:
    """The progress that a wait for other threads makes: none."""
    return False


class Listing:
    """Pages of shard ids, in order. It closes itself at its end; a caller that stops early must `close` it."""

    def __init__(self, snapshots: Sequence[StoreSnapshot], page_size_keys: int) -> None:
        self._snapshots = snapshots
        self._page_size_keys = page_size_keys
        self._start = b""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[bytes]:
        """The next page, never empty."""
        limit = self._page_size_keys
        keys = list(merge(*(snapshot.keys_after(self._start, limit) for snapshot in self._snapshots)))[:limit]
        if not keys:
            self.close()
            raise StopIteration
        self._start = keys[-1] + b"\0"  # the least key that is greater
        return keys

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        snapshots, self._snapshots = self._snapshots, ()
        for snapshot in snapshots:
            snapshot.close()


def format_node(disks: Sequence[Disk], seam: Seam, configuration: StoreConfiguration) -> Node:
    """Make an empty node on these disks, whatever they hold. Raises `ConfigurationError`, `DiskError`."""
    return Node(disks, format_stores(disks, seam, configuration), seam)


def open_node(disks: Sequence[Disk], seam: Seam, configuration: StoreConfiguration) -> Node:
    """Open the node on these disks: all that it was formatted with, in the same order, since ids steer to their places.

    Raises `WrongDisksError` if they are not, and the errors of `open_store`.
    """
    return Node(disks, open_stores(disks, seam, configuration), seam)


def format_stores(disks: Sequence[Disk], seam: Seam, configuration: StoreConfiguration) -> list[Store]:
    """Make an empty store on each disk of a new node. Raises the errors of `format_node`."""
    _check_disks(disks)
    for disk in disks:
        value_size_max_bytes(disk, configuration, len(disks))  # refuses, if at all, before any disk is erased
    ids = tuple(seam.unique_id() for _ in disks)
    return _each_store(
        [partial(format_store, disk, seam, configuration, Membership(at, ids)) for at, disk in enumerate(disks)]
    )


def open_stores(disks: Sequence[Disk], seam: Seam, configuration: StoreConfiguration) -> list[Store]:
    """Open the store on each disk of a node. Raises the errors of `open_node`, and leaves no store open then."""
    _check_disks(disks)
    stores = _each_store([partial(open_store, disk, seam, configuration) for disk in disks])
    try:
        _check_memberships([store.membership() for store in stores])
    except WrongDisksError:
        for store in stores:
            store.abandon()
        raise
    return stores


def _each_store(openings: Sequence[Callable[[], Store]]) -> list[Store]:
    """Open all of them, or leave none open."""
    stores: list[Store] = []
    try:
        for opening in openings:
            stores.append(opening())
    except BaseException:
        for store in stores:
            store.abandon()
        raise
    return stores


def _check_disks(disks: Sequence[Disk]) -> None:
    if not disks:
        raise ConfigurationError("a node needs at least one disk")
    if any(one is other for one, other in combinations(disks, 2)):
        raise WrongDisksError("one disk was given twice")


def _check_memberships(found: Sequence[Membership]) -> None:
    """Raise `WrongDisksError` unless these are all disks of one node, in their order (NODE-2)."""
    expected = found[0].disks
    for place, membership in enumerate(found):
        if membership.disks != expected:
            raise WrongDisksError(f"disk {place} belongs to {_names(membership)}, disk 0 to {_names(found[0])}")
        if membership.place != place:
            raise WrongDisksError(f"disk {place} of those given is number {membership.place} of {_names(membership)}")
    if len(expected) != len(found):
        raise WrongDisksError(f"{len(found)} disks were given of {_names(found[0])}")


def _names(membership: Membership) -> str:
    ids = ", ".join(each.hex()[:8] for each in membership.disks)
    return f"a node of {len(membership.disks)} disks ({ids})"
