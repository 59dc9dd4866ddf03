"""The specs of the node: it is a dictionary, persistent shards stay, and what it refuses has changed nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from crc32c import crc32c

from harness import (
    FILE,
    KEY_ALPHABET,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Durability,
    Fault,
    Generator,
    Interrupts,
    OnFile,
    Operation,
    Overlaps,
    Reboot,
    Spec,
    Tracer,
    ViolationError,
    World,
    WriteBack,
    integers,
    lists_of,
    sampled,
)
from refmodel.node import NodeModel
from shardstore import spec_bounds
from shardstore.dependency import FAILED, PERSISTENT, PERSISTENT_STATE, AcrossStores, Dependency
from shardstore.disk import Disk
from shardstore.errors import (
    DiskError,
    InterruptedStoreError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    OutOfServiceError,
    StoreError,
    WrongDisksError,
)
from shardstore.file_disk import FileDisk
from shardstore.node import Listing, Node, format_stores, open_stores
from shardstore.seam import Seam, ThreadSeam
from shardstore.spec_events import AGED, WHOLE_STORE
from shardstore.spec_scrub import FlippedScrub
from shardstore.spec_trace import trace_store
from shardstore.spec_world import (
    AGES,
    COLLISIONS,
    KNOBS,
    STORE,
    age,
    configurations,
    keys,
    number_from,
    shape,
    turn_knobs,
    values,
)
from shardstore.store import Store, format_store, open_store
from shardstore.units import StoreConfiguration

FOLDER = Path(__file__).parent


_UPKEEP = {"reclamation": "_flush_and_reclaim", "compaction": "_compact_if_due"}  # that no request asks for


def _watch_upkeep(store: Store) -> set[str]:
    """The kinds of upkeep that have failed when they came last. The set follows what the store does."""
    failed: set[str] = set()

    def watched(work: str, upkeep: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            try:
                upkeep()
            except NoSpaceError:
                raise  # it waits until there is room, and says neither
            except StoreError:
                failed.add(work)
                raise
            failed.discard(work)

        return call

    for work, name in _UPKEEP.items():
        setattr(store.space, name, watched(work, getattr(store.space, name)))
    return failed


class CheckedNode(Node):
    """A node with listings in numbered slots. Its trace also follows disks that come back later."""

    def __init__(self, disks: Sequence[Disk], stores: Sequence[Store], seam: Seam) -> None:
        super().__init__(disks, stores, seam)
        self._listings: dict[int, Listing] = {}
        self._scrubs: dict[Store, FlippedScrub] = {}
        self._tracer: Tracer | None = None
        self._joined: Dependency = PERSISTENT  # the dependencies of all changes since the last wait for them
        self._failed: dict[Store, set[str]] = {store: _watch_upkeep(store) for store in stores}

    def put(self, key: bytes, value: bytes) -> Dependency:
        return self._join(super().put(key, value))

    def delete(self, key: bytes) -> Dependency:
        return self._join(super().delete(key))

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        return self._join(super().bulk_create(items))

    def bulk_remove(self, keys: Sequence[bytes]) -> Dependency:
        return self._join(super().bulk_remove(keys))

    def _join(self, dependency: Dependency) -> Dependency:
        before = self._joined
        self._joined = joined = before & dependency
        if joined is before:  # it waits for all of this by now
            return dependency
        if FAILED in (before.state, dependency.state) and not joined.is_failed():
            raise ViolationError("DEP-4", "a join of what has failed has not failed", "failed")
        done_count = sum([each.state is PERSISTENT_STATE for each in joined.joined()])
        if done_count > 5:
            raise ViolationError("DEP-3", f"{done_count} parts are persistent", "a join drops what is persistent")
        return dependency

    def wait_joined(self) -> None:
        """Wait for all changes at once, by the join of their dependencies."""
        joined = self._joined
        joined.wait()
        if self._joined is joined:  # else another call has come in meanwhile
            self._joined = PERSISTENT

    def drop_damaged(self) -> None:
        """Nothing is damaged, so there is nothing to drop (DAMAGE-1)."""
        for dropped in self._of_each(Store.drop_damaged):
            if dropped:
                raise ViolationError("DAMAGE-1", dropped, "only what is damaged is dropped")

    def trace(self, tracer: Tracer) -> None:
        self._tracer = tracer
        tracer.take_apart(AcrossStores, lambda joined: joined.joined())
        for store in self.in_service():
            trace_store(store, tracer)

    def return_disk(self, disk: int) -> None:
        before = self.in_service()
        super().return_disk(disk)
        self._failed |= {store: _watch_upkeep(store) for store in self.in_service() if store not in self._failed}
        if self._tracer is not None:
            for store in self.in_service():
                if store not in before:
                    trace_store(store, self._tracer)

    def open_arranged(self, order: tuple[int, ...]) -> None:
        """Open these disks of the node as if they were a node by themselves. None of them may be in use (NODE-2)."""
        disks = [self._disks[disk] for disk in order]
        users = [disk.holder for disk in disks if isinstance(disk.holder, Store)]
        try:
            for store in open_stores(disks, self._seam, self._configurations[0]):
                store.abandon()
        except InUseError:
            raise
        except WrongDisksError:
            if len(set(order)) == len(order) and any(store.is_using_disk() for store in users):
                raise ViolationError("NODE-2", order, "a disk that a store still writes to is in use") from None
            raise

    def check_health(self) -> None:
        """What upkeep has failed at, and not done since, is told: no more and no less (DAMAGE-2)."""
        for store, failed in self._failed.items():
            if store in self.in_service():
                told = {trouble.work for trouble in store.health()} & _UPKEEP.keys()
                if told != failed:
                    raise ViolationError("DAMAGE-2", f"told: {sorted(told)}", f"what has failed: {sorted(failed)}")

    def put_durably(self, key: bytes, value: bytes) -> Dependency:
        dependency = self.put(key, value)
        if self._tracer is not None:
            self._tracer.look_at(dependency)  # while it still shows what it waits for
        dependency.wait()
        return dependency

    def put_each(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        """Put one after the other, of each key the last, if all disks are in service. Gives the join of all."""
        for key in dict(items):
            with suppress(NotFoundError):
                self.get(key)
        joined: Dependency = PERSISTENT
        for key, value in dict(items).items():
            joined &= self.put(key, value)
        return joined

    def put_each_durably(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        joined = self.put_each(items)
        if self._tracer is not None:
            self._tracer.look_at(joined)
        joined.wait()
        return joined

    def scrub(self, objects: int, at: int) -> None:
        """Go on with a scrub of each disk, or begin one, which has something to find; see `FlippedScrub`."""
        self.health()  # answers whatever is under way
        in_service = [disk for disk, store in enumerate(self._stores) if store in self.in_service()]
        if list(self.verify()) != in_service:
            raise ViolationError("NODE-1", list(self.verify()), f"a scrub of each disk in service: {in_service}")
        for store in self.in_service():
            with suppress(OutOfServiceError):  # it may leave meanwhile
                scrub = self._scrubs.pop(store, None) or FlippedScrub(store, at)
                if scrub.go_on(objects):
                    self._scrubs[store] = scrub

    def open_listing(self, slot: int, page_size_keys: int) -> None:
        """Begin a listing, which is read page by page in later steps. What was in the slot before is closed."""
        self.close_listing(slot)
        self._listings[slot] = self.list(page_size_keys)

    def next_page(self, slot: int) -> tuple[bytes, ...] | None:
        listing = self._listings.get(slot)
        return None if listing is None else tuple(next(listing, ()))

    def open_listings_count(self) -> int:
        return len(self._listings)

    def close_listing(self, slot: int) -> None:
        listing = self._listings.pop(slot, None)
        if listing is not None:
            listing.close()

    def list_keys(self) -> tuple[bytes, ...]:
        return self.list_pages(2)

    def list_pages(self, page_size_keys: int) -> tuple[bytes, ...]:
        with self.list(page_size_keys) as listing:  # a page may fail
            return tuple(key for page in listing for key in page)


def open_system(world: World, kind: type[CheckedNode] = CheckedNode) -> CheckedNode:
    """Format the disks of a new world, or open what they hold."""
    opening = open_stores if world.kept else format_stores
    stores = opening(world.media, world.seam, world.configuration.parameters)
    first_number = world.configuration.parameters.first_number
    if first_number and not world.kept:
        age(stores, first_number)
        stores = open_stores(world.media, world.seam, world.configuration.parameters)
        number_from(stores, first_number)
    world.kept["formatted"] = True
    return kind(world.media, stores, world.seam)


class NodeOnFile(CheckedNode):
    """A node of one `FileDisk`."""

    def __init__(self, disk: FileDisk, opening: Callable[[Disk, Seam, StoreConfiguration], Store]) -> None:
        self.disk = disk
        seam = ThreadSeam()
        try:
            super().__init__([disk], [opening(disk, seam, STORE)], seam)
        except BaseException:
            disk.close()
            raise


# The logs turn every few records, and reclamation has to keep up within a hundred operations.
ON_FILE = OnFile(
    create=lambda path: NodeOnFile(
        FileDisk.create(path, extent_count=24, extent_size_pages=8, page_size_bytes=4096), format_store
    ),
    open=lambda path: NodeOnFile(FileDisk.open(path), open_store),
    close=lambda node: node.disk.close(),
    refusals=(StoreError,),
    wait=lambda dependency: dependency.wait(),
)


def contents(subject: Any) -> dict[bytes, bytes]:
    return dict(subject.contents())


def read(subject: Any, key: bytes) -> bytes | str | None:
    """A shard's value, None, or "out of service"."""
    try:
        value: bytes = subject.get(key)
    except NotFoundError:
        return None
    except OutOfServiceError:
        return "out of service"
    return value


def settle(model: NodeModel, key: bytes, outcome: bytes | None) -> None:
    model.settle(key, outcome)


def holds_nothing(node: CheckedNode, _: object) -> None:
    """Between calls a store holds nothing back, but the runs of open listings (REST-1). It says what it failed at."""
    node.check_health()
    for store in node.in_service():
        held = store.holdings()
        if node.open_listings_count():
            held = held._replace(superseded_runs_count=0)
        if any(held):
            raise ViolationError("REST-1", held, "nothing that no call and no listing needs")


def some_keys(choose: Choose, name: str) -> tuple[bytes, ...]:
    """One to four keys: any, or neighbours in the alphabet, which all differ and so take several blocks (BULK-1)."""
    if not choose(name + ".neighbours", 3):
        some: tuple[bytes, ...] = any_keys(choose, name)
        return some
    first, count = choose(name + ".first", len(KEY_ALPHABET)), 1 + choose(name + ".count", 4)
    return tuple(KEY_ALPHABET[(first + at) % len(KEY_ALPHABET)] for at in range(count))


def some_pairs(choose: Choose, name: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((key, values(choose, name + ".value")) for key in some_keys(choose, name))


def one_by_one(arguments: Mapping[str, Any], _: object) -> list[list[bytes]]:
    return [[key] for key in dict(arguments["items"])]


any_keys: Generator = lists_of(keys, 4, size_min=1)


def disk_among(disk_count: int) -> Callable[[bytes], int]:
    """Which of so many disks has a key."""
    return lambda key: crc32c(key) % disk_count


def shares_by(disk_of: Callable[[bytes], int]) -> Callable[[Sequence[bytes]], list[list[bytes]]]:
    """The keys of each disk: all of them or none."""

    def shares(touched: Sequence[bytes]) -> list[list[bytes]]:
        by_disk: dict[int, list[bytes]] = {}
        for key in touched:
            by_disk.setdefault(disk_of(key), []).append(key)
        return list(by_disk.values())

    return shares


def _spec(
    name: str,
    disk_count: int,
    configurations: Sequence[Configuration],
    extra: Sequence[Operation] = (),
    sparing: tuple[str, ...] = (),
    fatal: tuple[str, ...] = (),
) -> Spec:
    disk_of = disk_among(disk_count)
    shares = shares_by(disk_of)

    def disks_used(operation: str, arguments: Mapping[str, Any]) -> Iterable[int]:
        """The disks that a call uses: those of its keys, or all."""
        touched = [arguments["key"]] if "key" in arguments else [*arguments.get("keys", ())]
        touched += [key for key, _ in arguments.get("items", ())]
        return [disk_of(key) for key in touched] if touched else range(disk_count)

    return Spec(
        name,
        system=open_system,
        model=lambda: NodeModel(disk_of),
        operations=[
            Operation("get", key=keys, weight=4),
            Operation("put", key=keys, value=values, weight=8, writes="key"),
            Operation("put_durably", key=keys, value=values, writes="key", promises="itself"),
            Operation("delete", key=keys, weight=3, writes="key"),
            Operation("list_keys"),
            Operation(
                "bulk_create", items=some_pairs, writes=lambda args, _: shares([key for key, _ in args["items"]])
            ),
            Operation("bulk_remove", keys=some_keys, writes=lambda args, _: shares(args["keys"])),
            *extra,
            Background("flush_buffers"),
            Background("flush", weight=2),
            Background("compact"),
            Background("reclaim", choice=integers(0, 2), weight=2),
            Background("scrub", objects=sampled((1, 3, 10, 1000)), at=integers(0, 255)),
            Background("sync", weight=2, promises="everything"),
            WriteBack(weight=4),
            Reboot(),
            Crash(flushes=("flush", "flush_buffers")),
            # Last, since cases name some operations by their place.
            Operation("put_each", items=some_pairs, writes=one_by_one),
            Operation("put_each_durably", items=some_pairs, writes=one_by_one, promises="itself"),
            Background("drop_damaged"),
            Background("wait_joined", promises="everything"),
            Fault(errors=(DiskError,), reaches=disks_used, fatal=fatal),
        ],
        configurations=configurations,
        contents=contents,
        durability=Durability(read=read, settle=settle),
        errors=(NotFoundError, OutOfServiceError, InUseError, WrongDisksError),
        excuses=(NoSpaceError,),
        invariants=[holds_nothing],
        share=3,  # most of what is wrong anywhere shows here
        trace=CheckedNode.trace,
        events=(*WHOLE_STORE, *AGED),
        interrupts=Interrupts(FOLDER, (InterruptedStoreError,), sparing, leaving_out=("spec_*.py",)),
        overlaps=Overlaps(),
    )


LISTINGS = (
    Operation("open_listing", slot=integers(0, 1), page_size_keys=integers(1, 3)),
    Operation("next_page", slot=integers(0, 1), weight=3),
    Operation("close_listing", slot=integers(0, 1)),
)
OF_LISTINGS = ("open_listing", "close_listing")


def one_disk(extra: Sequence[Operation] = (), sparing: tuple[str, ...] = ()) -> Spec:
    """The spec of a node of one disk, with these operations more, to be given other ones, perhaps.

    No exception interrupts those of ``sparing``.
    """
    return _spec("node", 1, configurations((*KNOBS, *AGES)), extra, sparing)


SPEC = replace(one_disk(LISTINGS, OF_LISTINGS), on_file=ON_FILE, bounds=spec_bounds.NODE)

TWO_DISKS = _spec(
    "two disks",
    2,
    (Configuration("mixed", (shape(ZONED), shape(FILE)), STORE, COLLISIONS, (*KNOBS, *AGES), turn_knobs),),
    (
        Operation("remove_disk", disk=integers(0, 1), weight=2),
        Operation("return_disk", disk=integers(0, 1), weight=2),
        Operation("open_arranged", order=sampled(((0,), (1,), (1, 0), (0, 0)))),
        *LISTINGS,
    ),
    sparing=("remove_disk", "return_disk", "open_arranged", *OF_LISTINGS),  # what leaves broken is as after a crash
    fatal=("remove_disk",),  # the disk is out then, and what has failed on it may be there or not
)
