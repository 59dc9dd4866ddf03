"""The spec of a disk that rots: bits flip at rest in whatever is live, and stay flipped.

Then the newest value is read, or the typed error comes, never an older value and never none (DAMAGE-3). Only calls that
must read what is damaged may fail: no change does, nor what writes it down. A scrub tells all that is damaged, and
nothing else. Once damaged blocks are dropped, all else goes on, and their keys read as they once did, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from harness import (
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    DeviceModel,
    MediumShape,
    Operation,
    Reboot,
    SimulatedMedium,
    ViolationError,
    World,
    WriteBack,
    integers,
    lists_of,
    sampled,
)
from refmodel.damaged_node import DamagedNodeModel
from shardstore import node_spec
from shardstore.dependency import Dependency
from shardstore.errors import CorruptionError, NoSpaceError, NotFoundError, StaleLocatorError
from shardstore.index import run_block
from shardstore.index.run import Run
from shardstore.node_spec import CheckedNode, holds_nothing, open_system
from shardstore.scrub import Damage, Part
from shardstore.spec_events import DAMAGE
from shardstore.spec_scrub import records_on_device
from shardstore.spec_world import COLLISIONS, STORE, shape
from shardstore.store import Store
from shardstore.units import KeyRange, Locator

KEYS = (b"a", b"b", b"c", b"d", b"e", b"f", b"ab", b"abc")
VALUES = (b"v", b"", b"w" * 70, b"x" * 150, b"y" * 299, b"z" * 650)


class RottenLog(NamedTuple):
    """One copy of a log record that has rotted."""

    part: Part
    extent: int
    offset_bytes: int
    generation: int


class Rotten:
    """What has rotted on a disk, and every value that a key has had. Kept over reboots."""

    def __init__(self) -> None:
        self.values_of: dict[bytes, set[bytes]] = {}
        self.chunks: set[Locator] = set()  # a locator is never given twice
        self.logs: set[RottenLog] = set()
        self.logs_of_life: set[RottenLog] = set()  # since the store was opened: opening may take a lost copy for a tear
        self.generations: set[tuple[Part, int]] = set()  # of all lives; a record has one rotten copy at the most


class Partly(dict[bytes, bytes]):
    """Contents of which some keys cannot be known. They are equal to contents that agree on all others."""

    def __init__(self, known: dict[bytes, bytes], unknown: set[bytes]) -> None:
        super().__init__(known)
        self._unknown = unknown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and dict(self) == {
            key: value for key, value in other.items() if key not in self._unknown
        }

    __hash__ = None


class PartlyKeys(tuple[bytes, ...]):
    """A listing in which some keys may be or not. It is equal to keys that agree on all others."""

    _unknown: frozenset[bytes]

    @classmethod
    def of(cls, found: Sequence[bytes], unknown: frozenset[bytes]) -> PartlyKeys:
        keys = cls(found)
        keys._unknown = unknown
        return keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and self._known(self) == self._known(other)

    def _known(self, keys: tuple[bytes, ...]) -> list[bytes]:
        return [key for key in keys if key not in self._unknown]

    __hash__ = None  # type: ignore[assignment]  # what is unknown is no part of it


class RottingNode(CheckedNode):
    """A node of one disk that knows what has rotted, and holds every error to it."""

    rotten: Rotten

    @property
    def store(self) -> Store:
        (store,) = self.in_service()
        return store

    # --- rot ----------------------------------------------------------------------------------------

    def rot(self, at: int, byte: int, bit: int) -> None:
        """Flip a bit of a live value's chunk or of a block of a run, if it is on the disk.

        Not of two blocks that may hold the same key: once the newer is dropped, a merge may bring the older to light
        again, from the cache. Nobody can say then what the key reads as.
        """
        apart = self._blocks_over_rotten()
        live = [locator for locator in self._live() if locator not in apart and self._is_at_rest(locator)]
        if live:
            locator = live[at % len(live)]
            self._medium.rot(locator.extent, locator.offset_bytes + byte % locator.length_bytes, 1 << bit)
            self.rotten.chunks.add(locator)

    def rot_log(self, at: int, byte: int, bit: int) -> None:
        """Flip a bit of one of the two copies of a live log record."""
        records = [
            each
            for part, log in self._logs()
            for each in records_on_device(part, log, self._medium)
            if (part, each.name[0]) not in self.rotten.generations
        ]
        if records:
            part, extent, start, size, name = records[at % len(records)]
            generation, _ = name
            self._medium.rot(extent, start + byte % size, 1 << bit)
            rotten = RottenLog(part, extent, start, generation)
            self.rotten.logs.add(rotten)
            self.rotten.logs_of_life.add(rotten)
            self.rotten.generations.add((part, generation))

    @property
    def _medium(self) -> SimulatedMedium:
        medium = self.store.disk
        assert isinstance(medium, SimulatedMedium)
        return medium

    def _logs(self) -> Iterator[tuple[Part, Any]]:
        yield Part.SUPERBLOCK_RECORD, self.store.superblock.log
        yield Part.METADATA_RECORD, self.store.metadata.log

    def _live(self) -> list[Locator]:
        """All blocks of live runs, and the chunks of all values that these name."""
        found: dict[Locator, None] = {}
        for run in self.store.index.runs():
            found.update(dict.fromkeys(run.locators))
        for key in KEYS:
            found.update(dict.fromkeys(self._look_up(key)[1]))
        return list(found)

    def _is_at_rest(self, locator: Locator) -> bool:
        """Whether it is on the disk, and nothing on its way would write it again."""
        store = self.store
        size = store.disk.page_size_bytes
        first, last = locator.offset_bytes // size, (locator.offset_bytes + locator.length_bytes - 1) // size
        queued, _ = store.scheduler.on_its_way()
        on_way = any(
            data is not None and page <= last and first < page + len(data) // size
            for extent, writes in queued
            if extent == locator.extent
            for page, data in writes
        )
        return not on_way and last < store.extents.soft_pages(locator.extent) and locator not in self.rotten.chunks

    # --- what is damaged ----------------------------------------------------------------------------

    def _look_up(self, key: bytes) -> tuple[bool, Sequence[Locator]]:
        """Whether a rotten block is on the way to a key's newest entry, and the chunks that this names."""
        index = self.store.index
        for entries in index.unwritten():
            if key in entries:
                return False, entries[key] or ()
        for run in index.runs():
            number = run.number_of(key)
            if number >= 0:
                if run.locators[number] in self.rotten.chunks:
                    return True, ()
                item = run_block.find(self._block(run, number), key)
                if item is not None:
                    return False, item[1] or ()
        return False, ()

    def _block(self, run: Run, number: int) -> bytes:
        try:
            return self.store.chunks.get_frame(run.locators[number], past_cache=True).payload
        except (CorruptionError, StaleLocatorError) as error:
            raise ViolationError("DAMAGE-3", f"block {number} of run {run.run_id}: {error}", "it is whole") from None

    def is_lost(self, key: bytes) -> bool:
        """Whether reading the key may raise `CorruptionError`."""
        is_hidden, locators = self._look_up(key)
        return is_hidden or any(locator in self.rotten.chunks for locator in locators)

    def _rotten_blocks(self) -> list[tuple[Locator, KeyRange]]:
        return [(locator, keys) for locator, keys in self._blocks() if locator in self.rotten.chunks]

    def _blocks(self) -> list[tuple[Locator, KeyRange]]:
        """The blocks of live runs, and the keys that each may hold."""
        return [
            (locator, KeyRange(first, end))
            for run in self.store.index.runs()
            for locator, first, end in zip(run.locators, run.first_keys, [*run.first_keys[1:], None], strict=True)
        ]

    def _blocks_over_rotten(self) -> set[Locator]:
        """The blocks that may hold a key which a rotten one may hold, too."""
        lost = [key for key in KEYS if any(_is_within(key, keys) for _, keys in self._rotten_blocks())]
        return {locator for locator, keys in self._blocks() if any(_is_within(key, keys) for key in lost)}

    @contextmanager
    def _unharmed(self, what: str, *, is_harmed: bool = False) -> Iterator[None]:
        """This may raise `CorruptionError` only if it is harmed by what has rotted."""
        try:
            yield
        except CorruptionError as error:
            if not is_harmed:
                raise ViolationError("DAMAGE-3", f"{what} raises {error}", "nothing that it reads has rotted") from None
            raise

    # --- calls --------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes:
        with self._unharmed(f"get({key!r})", is_harmed=self.is_lost(key)):
            return super().get(key)

    def put(self, key: bytes, value: bytes) -> Dependency:
        self._remember([(key, value)])
        with self._unharmed("a put"):
            return super().put(key, value)

    def delete(self, key: bytes) -> Dependency:
        with self._unharmed("a deletion"):
            return super().delete(key)

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        self._remember(items)
        with self._unharmed("a bulk request"):
            return super().bulk_create(items)

    def _remember(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            self.rotten.values_of.setdefault(key, set()).add(value)

    def bulk_remove(self, keys: Sequence[bytes]) -> Dependency:
        with self._unharmed("a bulk request"):
            return super().bulk_remove(keys)

    def list_pages(self, page_size_keys: int) -> tuple[bytes, ...]:
        with self._unharmed("a listing", is_harmed=bool(self._rotten_blocks())):
            found = super().list_pages(page_size_keys)
        lost = frozenset(key for key in KEYS if self.is_lost(key))
        return PartlyKeys.of(found, lost)

    def flush(self) -> None:
        with self._unharmed("a flush"):
            super().flush()

    def sync(self) -> None:
        with self._unharmed("a sync"):
            super().sync()

    def compact(self) -> None:
        with self._unharmed("a compaction", is_harmed=bool(self._rotten_blocks())):
            super().compact()

    def reclaim(self, choice: int = 0) -> None:
        with self._unharmed("a reclamation", is_harmed=bool(self._rotten_blocks())):
            super().reclaim(choice)

    def drop_lost(self, is_cold: bool) -> dict[bytes, bytes | None]:
        """Drop the damaged blocks. Gives what the keys of their ranges read as, unless that is lost, too.

        A block that is cached as it was is not damaged yet. If the caches are cold, all are dropped that have rotted.
        """
        if is_cold:
            self.store.chunks._cache._pages.clear()
            self.store.index._reader._blocks.clear()
        ranges = [keys for _, keys in self._rotten_blocks()]
        with self._unharmed("dropping what is damaged"):
            (dropped,) = self._of_each(Store.drop_damaged)
        if not set(dropped) <= set(ranges):
            raise ViolationError("DAMAGE-1", dropped, f"only damaged blocks are dropped: {ranges}")
        if is_cold and set(dropped) != set(ranges):
            raise ViolationError("DAMAGE-1", dropped, f"all that is damaged is dropped: {ranges}")
        concerned = [key for key in KEYS if any(_is_within(key, keys) for keys in dropped)]
        for key in concerned:
            self._note_gone(key)
        return {key: self._as_once(key) for key in concerned if not self.is_lost(key)}

    def _note_gone(self, key: bytes) -> None:
        """An older entry has come to light. It may name a chunk that was given back since, and so is lost."""
        for locator in self._look_up(key)[1]:
            try:
                self.store.chunks.get_frame(locator, past_cache=True)
            except (StaleLocatorError, CorruptionError):
                self.rotten.chunks.add(locator)

    def _as_once(self, key: bytes) -> bytes | None:
        try:
            value = self.get(key)
        except NotFoundError:
            return None
        if value not in self.rotten.values_of.get(key, ()):
            raise ViolationError("DAMAGE-1", f"{key!r} reads {value!r}", "one of the values that it has had")
        return value

    def scrub_all(self) -> None:
        """A whole scrub tells all that has rotted and is live (SCRUB-1), and nothing else (SCRUB-2)."""
        with self._unharmed("a scrub"):
            found = [damage for verification in self.verify().values() for part in verification for damage in part]
        told = {(damage.part, damage.extent, damage.offset_bytes) for damage in found}
        known = set(self._known_damage())
        allowed = known | {(each.part, each.extent, each.offset_bytes) for each in self.rotten.logs}
        if len(told) != len(found):
            raise ViolationError("SCRUB-2", found, "each damaged object is told once")
        for damage in found:
            self._check_told(damage, allowed)
        if not known <= told:
            raise ViolationError("SCRUB-1", found, f"told: {sorted(known - told)}")

    def look_well(self) -> None:
        """Upkeep fails only where a block has rotted (DAMAGE-2)."""
        for troubles in self.health().values():
            for trouble in troubles:
                if not (self.rotten.chunks and isinstance(trouble.error, CorruptionError)):
                    raise ViolationError("DAMAGE-2", trouble, f"only what has rotted fails: {self.rotten.chunks}")

    def _check_told(self, damage: Damage, allowed: set[tuple[Part, int, int]]) -> None:
        if (damage.part, damage.extent, damage.offset_bytes) not in allowed:
            raise ViolationError("SCRUB-2", damage, f"only what has rotted is told: {sorted(allowed)}")
        blocks = {locator[:2]: keys for locator, keys in self._rotten_blocks()}
        if damage.part is Part.RUN_BLOCK and damage.keys != blocks[damage.extent, damage.offset_bytes]:
            raise ViolationError("SCRUB-2", damage, "the keys that the block may hold")

    def _known_damage(self) -> Iterator[tuple[Part, int, int]]:
        for locator, _ in self._rotten_blocks():
            yield Part.RUN_BLOCK, locator.extent, locator.offset_bytes
        for key in KEYS:
            is_hidden, locators = self._look_up(key)
            for locator in () if is_hidden else locators:
                if locator in self.rotten.chunks:
                    yield Part.VALUE_CHUNK, locator.extent, locator.offset_bytes
        for rotten in self.rotten.logs_of_life:
            log = dict(self._logs())[rotten.part]
            copies = log.live_copies(rotten.generation)
            if copies is not None and copies.generation == rotten.generation:
                yield rotten.part, rotten.extent, rotten.offset_bytes


def _is_within(key: bytes, keys: KeyRange) -> bool:
    return keys.first <= key and (keys.end is None or key < keys.end)


def _open(world: World) -> RottingNode:
    node = open_system(world, RottingNode)
    assert isinstance(node, RottingNode)
    node.rotten = world.kept.setdefault("rotten", Rotten())
    node.rotten.logs_of_life = set()
    return node


def contents(subject: Any) -> dict[bytes, bytes]:
    if not isinstance(subject, RottingNode):
        return dict(subject.contents())
    lost = {key for key in KEYS if subject.is_lost(key)}
    known: dict[bytes, bytes] = {}
    for key in KEYS:
        if key not in lost:
            with suppress(NotFoundError):
                known[key] = subject.get(key)
    return Partly(known, lost)


keys = sampled(KEYS)
values = sampled(VALUES)
some_keys = lists_of(keys, 4, size_min=1)


def some_pairs(choose: Choose, name: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((key, values(choose, name + ".value")) for key in some_keys(choose, name))


_bytes = integers(0, 1_000)
_bits = integers(0, 7)
_DEVICES = (("zoned", ZONED), ("file", FILE))


def _shape(device: DeviceModel) -> MediumShape:
    """So large that no call must find room, for which runs would have to be merged."""
    return shape(device, extent_count=60, extent_size_pages=64)


SPEC = replace(
    node_spec.one_disk(),
    name="damage",
    share=1,
    system=_open,
    model=DamagedNodeModel,
    events=DAMAGE,
    interrupts=None,
    overlaps=None,
    durability=None,
    trace=None,
    contents=contents,
    operations=[
        Operation("get", key=keys, weight=4),
        Operation("put", key=keys, value=values, weight=5),
        Operation("delete", key=keys, weight=2),
        Operation("list_keys"),
        Operation("bulk_create", items=some_pairs, weight=3),
        Operation("bulk_remove", keys=some_keys),
        Background("flush", weight=3),
        Background("compact", weight=2),
        Background("reclaim", choice=integers(0, 2), weight=2),
        Background("sync", weight=3),
        Background("rot", at=integers(0, 40), byte=_bytes, bit=_bits, weight=3),
        Background("rot_log", at=integers(0, 40), byte=_bytes, bit=_bits),
        Background("scrub_all", weight=2),
        Background("look_well"),
        Operation("drop_lost", is_cold=sampled((False, True)), adopts=True),
        WriteBack(weight=2),
        Reboot(),
    ],
    configurations=tuple(Configuration(name, (_shape(device),), STORE, COLLISIONS) for name, device in _DEVICES),
    excuses=(NoSpaceError, CorruptionError),
    invariants=[holds_nothing],
)
