"""The spec of the index: it is a dictionary from key to locators, and persistent entries stay.

It runs on the real chunk store, and on the chunk store's model as its fake, which never loses anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness import (
    ZONED,
    Background,
    Configuration,
    Crash,
    Durability,
    Event,
    Fault,
    Generator,
    Operation,
    Reboot,
    Spec,
    Tracer,
    World,
    WriteBack,
    integers,
    keys,
    sampled,
)
from refmodel.chunk_store import ChunkStoreModel
from refmodel.index import IndexModel
from shardstore.chunk_store import PutChunk
from shardstore.dependency import PENDING, PERSISTENT, Dependency
from shardstore.errors import DiskError, NoSpaceError
from shardstore.index.index import Index
from shardstore.index.metadata_log import MetadataLog
from shardstore.spec_events import DEPENDENCIES, INDEX, WHOLE_STORE, names_of, without
from shardstore.spec_events import STORE as IN_STORE
from shardstore.spec_trace import trace_scheduler, trace_store
from shardstore.spec_world import COLLISIONS, SECRET, STORE, SmallStack, configurations, shape
from shardstore.store import Store, format_store, open_store
from shardstore.units import Kind, Locator

Entry = tuple[Locator, ...]

# The index never looks behind a locator of a value, so any will do.
_LOCATORS = [Locator(1000 + i, 7 * i, 100 + i, bytes([i]) * 16) for i in range(8)]
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
    """The chunk store's model, behind the methods of a chunk store that the index calls."""

    def __init__(self, model: ChunkStoreModel) -> None:
        self._model = model

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk:
        return PutChunk(self._model.put(kind, key, payload), PERSISTENT)

    def get(self, locator: Locator) -> bytes:
        return self._model.get(locator)

    def unpin(self, locator: Locator) -> None:
        pass

    def note_dead(self, locator: Locator) -> None:
        pass


class IndexOnFake(SmallStack):
    """An index whose chunks are kept by a model, and whose metadata goes to the real disk."""

    def __init__(self, world: World) -> None:
        super().__init__(world.media[0], world.seam)
        metadata = MetadataLog(self.scheduler, self.pool, self)
        self.scheduler.add_source(metadata)
        chunks = FakeChunks(world.kept.setdefault("chunks", ChunkStoreModel()))
        self.index = Index(chunks, metadata, self, world.configuration.parameters, self)
        self.settle_device()
        with self.monitor:
            if "formatted" in world.kept:
                self.index.recover(SECRET)
            else:
                metadata.format(SECRET)
                self.drain()
        world.kept["formatted"] = True

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


def open_on_fake(world: World) -> CheckedIndex:
    return CheckedIndex(IndexOnFake(world))


def trace(index: CheckedStoreIndex, tracer: Tracer) -> None:
    trace_store(index._store, tracer)


def trace_on_fake(index: CheckedIndex, tracer: Tracer) -> None:
    trace_scheduler(index._host.scheduler, tracer)


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

TIERS = replace(STORE, memtable_entries_max=4, level0_runs_max=1, level1_entries_max=100)

ON_FAKE = Spec(
    "index on fake",
    system=open_on_fake,
    model=IndexModel,
    operations=[*OPERATIONS, Background("compact_again", weight=2)],
    steps_mean=60,
    configurations=(
        Configuration("zoned", (shape(ZONED),), STORE, COLLISIONS),
        # Runs of level 0 are merged with each other only if level 1 is much larger than they are.
        Configuration("tiers", (shape(ZONED),), TIERS, COLLISIONS),
    ),
    contents=contents,
    durability=DURABILITY,
    excuses=(NoSpaceError,),
    trace=trace_on_fake,
    events=INDEX,
)
