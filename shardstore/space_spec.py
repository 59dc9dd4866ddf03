"""The spec of a full disk: what was accepted becomes persistent, what is deleted comes back, and only puts are refused.

The disks are so small that a dozen puts fill them: either the extents of chunks, or those of the metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from harness import (
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Knob,
    Operation,
    Overlaps,
    Reboot,
    ViolationError,
    WriteBack,
    integers,
    sampled,
)
from refmodel.node import NodeModel
from shardstore import node_spec
from shardstore.dependency import PERSISTENT, Dependency
from shardstore.disk import Disk
from shardstore.errors import NoSpaceError
from shardstore.node import Listing
from shardstore.node_spec import LISTINGS, OF_LISTINGS, CheckedNode, open_system
from shardstore.seam import Seam
from shardstore.spec_events import WHOLE_STORE, without
from shardstore.spec_room import sizes_of, surely_fits
from shardstore.spec_world import COLLISIONS, EXTENT_COUNT, KNOBS, STORE, shape, turn_knobs
from shardstore.store import Store
from shardstore.units import RESERVED_EXTENTS_COUNT, Kind

KEYS = tuple(bytes((first, second)) for first in b"abcdefgh" for second in b"abcdefgh")
BRIM = replace(STORE, key_size_max_bytes=2)
SMALL_BLOCKS = replace(BRIM, run_block_size_bytes=60)  # a block for each entry, and each is named in the metadata
_VALUE_SIZE_MAX_BYTES = 900
# Disks of no more extents than a store needs, or little more. A bulk request has up to six keys.
BRIM_KNOBS = (
    *(knob for knob in KNOBS if knob.name not in ("extent_count", "memtable_entries_max")),
    Knob("extent_count", (EXTENT_COUNT, 1, 14), "search for room"),
    Knob("memtable_entries_max", (6, 7, 13), "memtable full"),
)
turn = partial(turn_knobs, longest_value_bytes=_VALUE_SIZE_MAX_BYTES)


class BrimNode(CheckedNode):
    """A node of one disk that tells lawful refusals from others. While listings hold old runs, any is lawful."""

    def __init__(self, disks: Sequence[Disk], stores: Sequence[Store], seam: Seam) -> None:
        super().__init__(disks, stores, seam)
        self._overtaken: list[Listing] = []

    def put(self, key: bytes, value: bytes) -> Dependency:
        with self._lawfully([(key, value)]):
            return super().put(key, value)

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        with self._lawfully(items):
            return super().bulk_create(items)

    def delete(self, key: bytes) -> Dependency:
        with self._always_works("a deletion"):
            return super().delete(key)

    def bulk_remove(self, keys: Sequence[bytes]) -> Dependency:
        with self._always_works("a deletion"):
            return super().bulk_remove(keys)

    def sync(self) -> None:
        with self._always_works("a sync"):
            super().sync()

    def flush(self) -> None:
        with self._always_works("a flush"):
            super().flush()

    def shutdown(self) -> None:
        with self._always_works("a shutdown"):
            super().shutdown()

    @contextmanager
    def _always_works(self, what: str) -> Iterator[None]:
        """No lack of space may stop this (SPACE-1)."""
        try:
            yield
        except NoSpaceError as error:
            if self._holds_old_runs():
                raise
            raise ViolationError(
                "SPACE-1", f"{what} was refused: {error}", "only puts are refused on a full disk"
            ) from None

    def overtake(self, keys: Sequence[bytes], listings_count: int) -> Dependency:
        """Remove the keys, in turn. Before each, open a listing; after each, merge all runs, so that it holds old ones.

        So old runs eat up the reserve, until deletions are refused, or all listings are closed.
        """
        joined: Dependency = PERSISTENT
        for number in range(max(listings_count, len(keys))):
            if number < listings_count:
                self._overtaken.append(self.list(1))
            joined &= self.delete(keys[number % len(keys)])
            self.flush()
            with suppress(NoSpaceError):
                while any(self._of_each(Store.compact)):
                    pass
        return joined

    def open_listings_count(self) -> int:
        return super().open_listings_count() + len(self._overtaken)

    def close_listings(self) -> None:
        """Close all listings. From here on whatever was refused because of them must work."""
        for slot in [*self._listings]:
            self.close_listing(slot)
        while self._overtaken:
            self._overtaken.pop().close()

    def _holds_old_runs(self) -> bool:
        return any(store.index.superseded_runs_count() for store in self.in_service())

    def tidy(self) -> None:
        """Merge and reclaim whatever can be. Then what lives says how many extents may be in use (SPACE-4)."""
        (store,) = self.in_service()
        store.sync()
        for _ in range(2):  # once more, since what the first round has moved may have left an extent half empty
            while store.compact():
                pass
            if not self._holds_old_runs():
                self._check_known_live(store)
            for extent in store.extents.in_use():
                self._reclaim_one(store, extent)
            store.sync()
            while store.write_back(100):
                pass
        if not self._holds_old_runs():
            self._check_in_use(store)

    def _check_known_live(self, store: Store) -> None:
        """Once all is merged, no more is thought to be live in an extent than is (SPACE-6).

        It may be less: what a merge drops is taken off, though its extent may have been given back and filled since.
        """
        live: Counter[int] = Counter()
        for run in store.index.runs():
            for locator in run.locators:
                live[locator.extent] += locator.length_bytes
        for _, locators in store.index.items():
            for locator in locators:
                live[locator.extent] += locator.length_bytes
        thought = {extent: size for extent, size in store.chunks._live_bytes.items() if size > live[extent]}
        if thought and len(store.index.runs()) < 2 and not store.index.has_unwritten():
            raise ViolationError("SPACE-6", thought, {extent: live[extent] for extent in thought})

    def _reclaim_one(self, store: Store, extent: int) -> None:
        """If copies may be made, an extent that may be reclaimed is; and what is said of it is so (GC-6)."""
        extents = store.extents
        may_copy = store.space.may_copy()
        victims = store.reclamation.victims()
        if extent not in victims:
            return
        epoch = extents.epoch(extent)
        reclaimed = store.reclaim(victims.index(extent))
        if reclaimed is None:
            if may_copy:
                raise ViolationError("GC-6", f"nothing is reclaimed, with {extents.free_count()} free", extent)
        elif reclaimed.extent != extent or reclaimed.is_reset != (extents.epoch(extent) > epoch):
            raise ViolationError("GC-6", reclaimed, "reset if its epoch has changed")

    def _check_in_use(self, store: Store) -> None:
        extents = store.extents
        usable = range(RESERVED_EXTENTS_COUNT, extents.extent_count)
        used_count = len(usable) - extents.free_count() - extents.resetting_count()
        live = dict(self.contents())
        sizes = sizes_of(store)
        bound = sizes.frames_bound(live.items())
        allowed_count = sizes.extents_count(bound) + sizes.extents_count(store.index.outlook().merge)
        allowed_count += len(Kind)  # that are being filled
        if used_count > allowed_count:
            answered = f"{used_count} extents are in use for {len(live)} keys of {bound.frames_size_bytes} bytes"
            raise ViolationError("SPACE-4", answered, f"at most {allowed_count}")

    def _check_reserve(self, store: Store) -> None:
        """What has just been accepted has left two flushes and a merge of everything their room (SPACE-1)."""
        sizes = store.extents.extent_size_bytes, store.extents.page_size_bytes
        outlook = store.index.outlook()
        kept_count = 2 * outlook.flush.extents_count(*sizes) + outlook.merge.extents_count(*sizes)
        if store.extents.free_count() < kept_count:
            raise ViolationError("SPACE-1", f"{store.extents.free_count()} extents are free", f"{kept_count} at least")

    @contextmanager
    def _lawfully(self, items: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:
        """A put may be refused if much is on the disk (SPACE-2). Else it leaves the reserve whole (SPACE-1)."""
        (store,) = self.in_service()
        before = _upkeep_done(store)
        is_alone = not store.space.reserved_count()
        try:
            yield
            if before == _upkeep_done(store):
                self._check_reserve(store)
        except NoSpaceError as error:
            held, wanted = dict(self.contents()), dict(items)
            if is_alone and surely_fits(store, held, wanted) and not self._holds_old_runs():
                refused = f"{len(wanted)} values beside {len(held)} others were refused: {error}"
                raise ViolationError("SPACE-2", refused, "so little always fits") from None
            raise


def _upkeep_done(store: Store) -> tuple[int, int]:
    """What a flush, a merge or a move would change."""
    return store.index._next_run_id, store.reclamation.moved_count


keys = sampled(KEYS)
values = sampled((b"x", b"", b"y" * 100, b"z" * 300, b"w" * _VALUE_SIZE_MAX_BYTES))


def some_keys(choose: Choose, name: str) -> tuple[bytes, ...]:
    return _neighbours(choose, name, 1)


def several_keys(choose: Choose, name: str) -> tuple[bytes, ...]:
    """Two at least: only a refused call over several groups is settled by what is there."""
    return _neighbours(choose, name, 2)


def _neighbours(choose: Choose, name: str, least_count: int) -> tuple[bytes, ...]:
    first, count = choose(name + ".first", len(KEYS)), least_count + choose(name + ".count", 7 - least_count)
    return tuple(KEYS[(first + at) % len(KEYS)] for at in range(count))


def some_pairs(choose: Choose, name: str) -> tuple[tuple[bytes, bytes], ...]:
    some, value = some_keys(choose, name), values(choose, name + ".value")
    return tuple((key, value) for key in some)


SPEC = replace(
    node_spec.one_disk(sparing=(*OF_LISTINGS, "close_listings", "overtake")),
    name="full disk",
    overlaps=Overlaps(sparing=("tidy", "overtake")),  # the first counts extents, the other may be refused half way
    system=lambda world: open_system(world, BrimNode),
    model=NodeModel,
    events=without(WHOLE_STORE, ("merge within level 0",), "it merges all of its runs again and again"),
    operations=[
        Operation("get", key=keys),
        Operation("put", key=keys, value=values, weight=3, writes="key"),
        Operation("delete", key=keys, weight=3, writes="key"),
        Operation("list_keys"),
        Operation(
            "bulk_create",
            items=some_pairs,
            weight=8,
            writes=lambda arguments, _: [[key for key, _ in arguments["items"]]],
        ),
        Operation("bulk_remove", keys=some_keys, weight=3, writes=lambda arguments, _: [arguments["keys"]]),
        Background("flush_buffers"),
        Background("flush"),
        Background("compact"),
        Background("reclaim", choice=integers(0, 2)),
        Background("sync", weight=3, promises="everything"),
        Background("tidy"),
        WriteBack(weight=2),
        Reboot(),
        Crash(flushes=("flush", "flush_buffers")),
        *LISTINGS,
        Operation("close_listings"),
        Operation(
            "overtake",
            keys=several_keys,
            listings_count=sampled((1, 2, 3, 20)),
            writes=lambda arguments, _: [[key] for key in arguments["keys"]],
        ),
    ],
    configurations=(
        Configuration("by values", (shape(ZONED),), BRIM, COLLISIONS, BRIM_KNOBS, turn),
        Configuration(
            "by metadata",
            (shape(FILE),),
            SMALL_BLOCKS,
            COLLISIONS,
            tuple(knob for knob in BRIM_KNOBS if knob.name != "run_block_size_bytes"),
            turn,
        ),
    ),
)
