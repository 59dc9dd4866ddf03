"""The spec of a full disk: what was accepted becomes persistent, what is deleted comes back, and only puts are refused.

The disks are so small that a dozen puts fill them: either the extents of chunks, or those of the metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness import (
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Operation,
    Overlaps,
    Reboot,
    ViolationError,
    WriteBack,
    integers,
    sampled,
)
from refmodel.node import NodeModel
from shardstore import chunk_frame, node_spec
from shardstore.dependency import Dependency
from shardstore.errors import NoSpaceError
from shardstore.node_spec import LISTINGS, OF_LISTINGS, CheckedNode, open_system
from shardstore.spec_events import WHOLE_STORE, without
from shardstore.spec_world import COLLISIONS, PAGE_SIZE_BYTES, STORE, shape
from shardstore.store import Store
from shardstore.units import RESERVED_EXTENTS_COUNT, Kind, RunBound

KEYS = tuple(bytes((first, second)) for first in b"abcdefgh" for second in b"abcdefgh")
BRIM = replace(STORE, key_size_max_bytes=2)
SMALL_BLOCKS = replace(BRIM, run_block_size_bytes=60)  # a block for each entry, and each is named in the metadata
FEW_KEYS = 5  # so many keys, and so many bytes of padded frames, always fit, whatever garbage there is
FEW_BYTES = 4_000


class BrimNode(CheckedNode):
    """A node of one disk that tells lawful refusals from others. While listings hold old runs, any is lawful."""

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
            for _ in store.extents.in_use():
                self._reclaim_one(store)
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

    def _reclaim_one(self, store: Store) -> None:
        """If copies may be made, whatever may be reclaimed is; and what is said of it is so (GC-6)."""
        extents = store.extents
        may_copy = store.space.may_copy()
        victims = store.reclamation.victims()
        epochs = {extent: extents.epoch(extent) for extent in victims}
        reclaimed = store.reclaim()
        if reclaimed is None:
            if victims and may_copy:
                raise ViolationError("GC-6", f"nothing is reclaimed, with {extents.free_count()} free", victims)
        elif reclaimed.is_reset != (extents.epoch(reclaimed.extent) > epochs[reclaimed.extent]):
            raise ViolationError("GC-6", reclaimed, "reset if its epoch has changed")

    def _check_in_use(self, store: Store) -> None:
        extents = store.extents
        usable = range(RESERVED_EXTENTS_COUNT, extents.extent_count)
        used_count = len(usable) - extents.free_count() - extents.resetting_count()
        live = dict(self.contents())
        sizes = [size for key, value in live.items() for size in _frame_sizes(key, value)]
        bound = RunBound(sum(sizes), len(sizes), max(sizes, default=0))
        allowed_count = sum(
            each.extents_count(extents.extent_size_bytes, extents.page_size_bytes)
            for each in (bound, store.index.outlook().merge)
        )
        allowed_count += len(Kind)  # that are being filled
        if used_count > allowed_count:
            answered = f"{used_count} extents are in use for {len(live)} keys of {sum(sizes)} bytes"
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
        try:
            yield
            if before == _upkeep_done(store):
                self._check_reserve(store)
        except NoSpaceError as error:
            wanted = {**dict(self.contents()), **dict(items)}
            size_bytes = sum(map(_size_on_disk_bytes, wanted, wanted.values()))
            if len(wanted) <= FEW_KEYS and size_bytes <= FEW_BYTES and not self._holds_old_runs():
                refused = f"{len(wanted)} keys of {size_bytes} bytes were refused: {error}"
                raise ViolationError("SPACE-2", refused, "so little always fits") from None
            raise


def _upkeep_done(store: Store) -> tuple[int, int]:
    """What a flush, a merge or a move would change."""
    return store.index._next_run_id, store.reclamation.moved_count


def _size_on_disk_bytes(key: bytes, value: bytes) -> int:
    return sum(_frame_sizes(key, value))


def _frame_sizes(key: bytes, value: bytes) -> list[int]:
    """The sizes of a value's frames if each is padded to whole pages."""
    pieces = [
        value[at : at + BRIM.chunk_payload_max_bytes] for at in range(0, len(value), BRIM.chunk_payload_max_bytes)
    ]
    sizes = [chunk_frame.frame_size_bytes(key, len(piece)) for piece in pieces or [b""]]
    return [-(-size // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES for size in sizes]


keys = sampled(KEYS)
values = sampled((b"x", b"", b"y" * 100, b"z" * 300, b"w" * 900))


def some_keys(choose: Choose, name: str) -> tuple[bytes, ...]:
    first, count = choose(name + ".first", len(KEYS)), 1 + choose(name + ".count", 6)
    return tuple(KEYS[(first + at) % len(KEYS)] for at in range(count))


def some_pairs(choose: Choose, name: str) -> tuple[tuple[bytes, bytes], ...]:
    some, value = some_keys(choose, name), values(choose, name + ".value")
    return tuple((key, value) for key in some)


SPEC = replace(
    node_spec.one_disk(sparing=OF_LISTINGS),
    name="full disk",
    overlaps=Overlaps(sparing=("tidy",)),  # which counts extents, and lets nobody change them meanwhile
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
    ],
    configurations=(
        Configuration("by values", (shape(ZONED),), BRIM, COLLISIONS),
        Configuration("by metadata", (shape(FILE),), SMALL_BLOCKS, COLLISIONS),
    ),
)
