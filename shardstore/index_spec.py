"""The spec of the index: it is a dictionary from key to locators, and persistent entries stay.

It runs on the real chunk store, and on the chunk store's model as its fake, which never loses anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from harness import (
    KEY_ALPHABET,
    ZONED,
    Background,
    Configuration,
    Crash,
    Durability,
    Event,
    Fault,
    Generator,
    Knob,
    Operation,
    Reboot,
    Spec,
    Tracer,
    ViolationError,
    World,
    WriteBack,
    integers,
    keys,
    sampled,
)
from refmodel.chunk_store import ChunkStoreModel
from refmodel.index import IndexModel
from shardstore import chunk_frame
from shardstore.chunk_frame import Frame
from shardstore.chunk_store import PutChunk
from shardstore.dependency import PENDING, PERSISTENT, Dependency, join
from shardstore.errors import DiskError, NoSpaceError
from shardstore.index import run_block
from shardstore.index.index import Index
from shardstore.index.metadata_log import MetadataLog
from shardstore.index.outlook import Outlook
from shardstore.index.run import Run
from shardstore.index.run_block import LOCATOR_SIZE_BYTES
from shardstore.index.run_bounds import BLOCK_KEY_SIZE_BYTES, memtable_bound
from shardstore.spec_events import DEPENDENCIES, INDEX, WHOLE_STORE, names_of, without
from shardstore.spec_events import STORE as IN_STORE
from shardstore.spec_trace import trace_scheduler, trace_store
from shardstore.spec_world import (
    COLLISIONS,
    KNOBS,
    SECRET,
    STORE,
    SmallStack,
    configurations,
    shape,
    turn_knobs,
)
from shardstore.store import Store, format_store, open_store
from shardstore.units import Kind, Locator, RunBound, StoreConfiguration

Entry = tuple[Locator, ...]
BLOCK_COUNT_SIZE_BYTES = 4  # at the end of each block
INDEX_KNOBS = tuple(knob for knob in KNOBS if knob.crossed in {event.name for event in INDEX})

# The index never looks behind a locator of a value, so any will do.
_LOCATORS = [Locator(1000 + i, 7 * i, 100 + i, bytes([i]) * 16) for i in range(8)]
_VALUE_UUIDS = {locator.uuid for locator in _LOCATORS}
locators: Generator = sampled([(locator,) for locator in _LOCATORS] + [tuple(_LOCATORS[:3])])


class CheckedIndex:
    """An index by itself, used under the monitor of its host."""

    def __init__(self, host: Store | IndexOnFake) -> None:
        self._host = host
        self._index = host.index

    def put(self, key: bytes, locators: Entry) -> Dependency:
        with self._host.monitor:
            self._make_room()
            return self._index.put(key, locators, PERSISTENT)

    def delete(self, key: bytes) -> Dependency:
        with self._host.monitor:
            self._make_room()
            return self._index.delete(key)

    def _make_room(self) -> None:
        if self._index.room_count() < 1:
            self._index.flush()

    def get(self, key: bytes) -> Entry | None:
        with self._host.monitor:
            return self._index.get(key)

    def items(self) -> dict[bytes, Entry]:
        with self._host.monitor:
            return dict(self._index.items())

    def flush(self) -> bool:
        with self._host.monitor:
            return self._index.flush()

    def compact(self) -> bool:
        with self._host.monitor:
            return self._index.compact()

    compact_again = compact  # as another operation, where merges are to come more often

    def sync(self) -> None:
        with self._host.monitor:
            dependency = self._index.settled()
        dependency.wait()

    def write_back(self, steps: int) -> int:
        return self._host.write_back(steps)

    def shutdown(self) -> None:
        self._host.shutdown()


class CheckedFakeIndex(CheckedIndex):
    """An index on the fake."""

    def __init__(self, host: IndexOnFake) -> None:
        super().__init__(host)
        self.host = host

    def merge_all(self) -> bool:
        with self.host.monitor:
            return self.host.index.merge_all()

    def fill(self, keys: Sequence[bytes], locators: Entry) -> Dependency:
        """Put all of many keys, and merge all into one run: a large level below what comes then."""
        return self._merged([self.put(key, locators) for key in keys])

    def clear(self, keys: Sequence[bytes]) -> Dependency:
        """Delete all there may be, and merge until the levels are empty: what comes then begins anew."""
        return self._merged([self.delete(key) for key in keys])

    def _merged(self, dependencies: list[Dependency]) -> Dependency:
        self.merge_all()
        return join(dependencies, self.host)


class CheckedStoreIndex(CheckedIndex):
    """The index of a whole store."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    def flush_buffers(self) -> bool:
        return self._store.flush_buffers()

    def reclaim(self, choice: int) -> bool:
        return self._store.reclaim(choice) is not None


class FakeChunks:
    """The chunk store's model, behind the methods of a chunk store that the index calls.

    It sees each block of a run come, be read and go, and holds the index to what that may cost.
    """

    def __init__(self, model: ChunkStoreModel) -> None:
        self._model = model
        self._pinned: set[Locator] = set()
        self._keys: dict[Locator, bytes] = {}  # of the blocks that were put, and are not dead
        self._last_read: Locator | None = None
        self.written: list[int] = []  # the sizes of the blocks put since this was last emptied

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk:
        locator = self._model.put(kind, key, payload, overhead_bytes=chunk_frame.frame_size_bytes(key, 0))
        self._pinned.add(locator)
        self._keys[locator] = key
        self.written.append(len(payload))
        return PutChunk(locator, PERSISTENT)

    def get(self, locator: Locator) -> bytes:
        if locator == self._last_read:
            raise ViolationError("COST-3", f"{locator} was read twice in a row", "the last block is kept")
        self._last_read = locator
        return self._model.get(locator)

    def peek(self, locator: Locator) -> bytes:
        """A block, read by the checks themselves."""
        return self._model.get(locator)

    def unpin(self, locator: Locator) -> None:
        if locator not in self._pinned:
            raise ViolationError("GC-1", f"{locator} was unpinned twice", "a chunk is unpinned once")
        self._pinned.discard(locator)

    def note_dead(self, locator: Locator) -> None:
        if locator.uuid not in _VALUE_UUIDS:
            self._keys.pop(locator, None)

    def check_at_rest(self, index: BoundedIndex) -> None:
        """What is not dead is live, and nothing is pinned."""
        if self._pinned:
            raise ViolationError("REST-1", f"pinned: {self._pinned}", "between calls nothing is")
        for locator, key in self._keys.items():
            if not index.is_live(Frame(locator.uuid, Kind.RUN, key, b"", locator.length_bytes), locator):
                raise ViolationError("SPACE-5", f"block {locator} is not live", "garbage is noted as it arises")
        index.check_bottom()


class BoundedIndex(Index):
    """An index that is held to the bounds on which a store's reserve rests (SPACE-1), and to full blocks (COST-4)."""

    def __init__(self, chunks: FakeChunks, metadata: MetadataLog, host: IndexOnFake, store: StoreConfiguration) -> None:
        super().__init__(chunks, metadata, host, store, host)
        self._fake = chunks
        self._host = host
        self._block_size_bytes = store.run_block_size_bytes
        self._checked_run_id = -1

    def flush(self) -> bool:
        foreseen, before_bytes = self.outlook(), self._totals.metadata_bytes
        self._check_surplus(foreseen)
        with self._bounded("a flush", foreseen.flush):
            done = super().flush()
        self._check_named("a flush", self._totals.metadata_bytes - before_bytes, foreseen.flush_named_bytes)
        return done

    def compact(self) -> bool:
        with self._bounded("a merge", self.outlook().merge):
            return super().compact()

    def merge_all(self) -> bool:
        """Flush, then merge everything: what was foreseen counts what the memtable holds, and may yet take."""
        foreseen = self.outlook()
        self.flush()
        self._check_named("live runs and a flush", self._totals.metadata_bytes, foreseen.grown_named_bytes)
        with self._bounded("a merge of everything", foreseen.merge):
            done = self.compact_all()
        self._check_named("the merged run", self._totals.metadata_bytes, foreseen.grown_named_bytes)
        return done

    def _merge(self, dropped: tuple[Run, ...], target: int) -> None:
        """A merge within level 0 takes no run that is much larger than the newer ones together (COST-6)."""
        sizes = [run.entry_count for run in dropped]
        for count, size in enumerate(sizes):
            if target == 0 and count > 1 and size > 2 * sum(sizes[:count]):
                raise ViolationError("COST-6", f"runs of {sizes} entries are merged", f"the first {count} of them")
        super()._merge(dropped, target)

    def check_bottom(self) -> None:
        """The deepest run holds no deletions, since nothing lies below it (IDX-4)."""
        deepest = self.runs()[-1:]
        if deepest and deepest[0].level > 0 and deepest[0].run_id != self._checked_run_id:
            self._checked_run_id = deepest[0].run_id
            items = [item for locator in deepest[0].locators for item in run_block.decode(self._fake.peek(locator))]
            if deleted := [key for key, entry in items if entry is None]:
                raise ViolationError("IDX-4", f"deletions of {deleted} on the bottom", "none")

    def _check_surplus(self, foreseen: Outlook) -> None:
        """The flush is foreseen for what the memtable holds by now, with the further locators counted once."""
        locators_count = sum(len(entry) - 1 for entry in self._memtable.entries.values() if entry)
        recounted = memtable_bound(self._limits, locators_count * LOCATOR_SIZE_BYTES)
        if foreseen.flush != recounted:
            raise ViolationError("SPACE-1", f"a flush is foreseen to take {foreseen.flush}", recounted)

    def _check_named(self, what: str, size_bytes: int, most_bytes: int) -> None:
        if size_bytes > most_bytes:
            raise ViolationError("SPACE-1", f"{what} takes {size_bytes} bytes of a record", f"at most {most_bytes}")

    @contextmanager
    def _bounded(self, what: str, foreseen: RunBound) -> Iterator[None]:
        self._fake.written.clear()
        self._host.bounds = [foreseen]
        yield
        for bound in self._host.bounds:
            self._check(what, bound)
        self._check_filled(what)

    def _check(self, what: str, bound: RunBound) -> None:
        sizes = [chunk_frame.frame_size_bytes(bytes(BLOCK_KEY_SIZE_BYTES), size) for size in self._fake.written]
        actual = RunBound(sum(sizes), len(sizes), max(sizes, default=0))
        if any(each > most for each, most in zip(actual, bound, strict=True)):
            raise ViolationError("SPACE-1", f"{what} took {actual}", f"at most {bound}")

    def _check_filled(self, what: str) -> None:
        """A block ends only where the next entry does not fit, so two neighbours hold more than one may."""
        for first, second in pairwise(self._fake.written):
            if first + second - 2 * BLOCK_COUNT_SIZE_BYTES <= self._block_size_bytes:
                raise ViolationError("COST-4", f"{what} wrote blocks of {first} and {second} bytes", "one of both")


class IndexOnFake(SmallStack):
    """An index whose chunks are kept by a model, and whose metadata goes to the real disk."""

    def __init__(self, world: World) -> None:
        store: StoreConfiguration = world.configuration.parameters
        super().__init__(world.media[0], world.seam, store)
        metadata = MetadataLog(self.scheduler, self.pool, self)
        self.scheduler.add_source(metadata)
        self.chunks = FakeChunks(world.kept.setdefault("chunks", ChunkStoreModel()))
        self.bounds: list[RunBound] = []  # of the run that is being written
        self.index = BoundedIndex(self.chunks, metadata, self, store)
        self.settle_device()
        with self.monitor:
            if "formatted" in world.kept:
                self.index.recover(SECRET)
            else:
                metadata.format(SECRET)
                self.drain()
        world.kept["formatted"] = True

    def may_merge(self, bound: RunBound) -> bool:
        self.bounds.append(bound)
        return True

    def wait(self, dependency: Dependency) -> None:
        with self.monitor:
            self.monitor.wait_until(lambda: dependency.poll() is not PENDING, self._progress)

    def _progress(self) -> bool:
        return self.scheduler.step() or self.index.flush()

    def shutdown(self) -> None:
        with self.monitor:
            self.index.flush()
            self.drain()


def open_system(world: World) -> CheckedIndex:
    opening = open_store if "formatted" in world.kept else format_store
    store = opening(world.media[0], world.seam, world.configuration.parameters)
    world.kept["formatted"] = True
    return CheckedStoreIndex(store)


def open_on_fake(world: World) -> CheckedFakeIndex:
    return CheckedFakeIndex(IndexOnFake(world))


def trace(index: CheckedStoreIndex, tracer: Tracer) -> None:
    trace_store(index._store, tracer)


def trace_on_fake(index: CheckedFakeIndex, tracer: Tracer) -> None:
    trace_scheduler(index.host.scheduler, tracer)


def _each(arguments: Mapping[str, Any]) -> list[list[bytes]]:
    """Each key by itself."""
    return [[key] for key in arguments["keys"]]


def garbage_is_known(index: CheckedFakeIndex, _: IndexModel) -> None:
    index.host.chunks.check_at_rest(index.host.index)


def contents(subject: Any) -> dict[bytes, Entry]:
    items: dict[bytes, Entry] = subject.items()
    return items


OPERATIONS = (
    Operation("get", key=keys, weight=3),
    Operation("put", key=keys, locators=locators, weight=8, writes="key"),
    Operation("delete", key=keys, weight=3, writes="key"),
    Background("flush", weight=3),
    Background("compact"),
    Background("sync", weight=2, promises="everything"),
    WriteBack(weight=4),
    Reboot(),
    Crash(flushes=("flush",)),
)

DURABILITY = Durability(
    read=lambda subject, key: subject.get(key),
    settle=lambda model, key, outcome: model.settle(key, outcome),
)

_ELSEWHERE = names_of((*IN_STORE, *DEPENDENCIES)) - {"memtable full", "flush waits for room", "reserve restored"}

SPEC = Spec(
    "index",
    system=open_system,
    model=IndexModel,
    operations=[
        *OPERATIONS,
        Background("flush_buffers"),
        Background("reclaim", choice=integers(0, 2), weight=2),
        Fault(errors=(DiskError,)),
    ],
    share=2,
    configurations=configurations(),
    contents=contents,
    durability=DURABILITY,
    excuses=(NoSpaceError,),
    trace=trace,
    events=(
        *without(
            without(
                WHOLE_STORE, _ELSEWHERE, "its entries do not come by way of the store, and name chunks that are there"
            ),
            ("epoch beyond 5", "merge within level 0"),
            "its keys are few, and fill few extents",
        ),
        Event("memtable full", CheckedIndex._make_room, "self._index.flush()"),
    ),
)

TIERS = replace(STORE, memtable_entries_max=4, level0_runs_max=2, level1_entries_max=100)
TIER_KNOBS = (Knob("level0_runs_max", (2, 1, 3), "merge within level 0"),)
all_keys = sampled(((*KEY_ALPHABET, *(b"k%02d" % number for number in range(24))),))
OF_ALL = (
    Operation("fill", keys=all_keys, locators=locators, writes=lambda arguments, _: _each(arguments)),
    Operation("clear", keys=all_keys, writes=lambda arguments, _: _each(arguments)),
)

ON_FAKE = Spec(
    "index on fake",
    system=open_on_fake,
    model=IndexModel,
    operations=[*OPERATIONS, Background("compact_again", weight=2), Background("merge_all"), *OF_ALL],
    steps_mean=60,
    configurations=(
        Configuration("zoned", (shape(ZONED),), STORE, COLLISIONS, INDEX_KNOBS, turn_knobs),
        # Runs of level 0 are merged with each other only if level 1 is much larger than they are.
        Configuration("tiers", (shape(ZONED),), TIERS, COLLISIONS, TIER_KNOBS, turn_knobs),
    ),
    contents=contents,
    durability=DURABILITY,
    invariants=[garbage_is_known],
    excuses=(NoSpaceError,),
    trace=trace_on_fake,
    events=INDEX,
)
