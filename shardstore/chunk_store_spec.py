"""The spec of the chunk store and of reclamation: chunks that are referred to stay, and no locator is used twice.

A table of references stands in place of the index. It is perfect by construction: a reference becomes persistent
exactly when its chunk does, and a crash leaves the newest such reference of each key. The model is told which chunks
reclamation moved and dropped, and refuses moves and drops that it may not have made.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from harness import (
    Background,
    Crash,
    Durability,
    Operation,
    Reboot,
    Spec,
    Tracer,
    ViolationError,
    World,
    WriteBack,
    integers,
    keys,
)
from refmodel.chunk_store import ChunkStoreModel
from shardstore.chunk_frame import Frame
from shardstore.chunk_store import ChunkStore
from shardstore.dependency import FAILED, PERSISTENT, PERSISTENT_STATE, Dependency, State, join
from shardstore.errors import DiskError, NoSpaceError, NotFoundError, StaleLocatorError
from shardstore.reclamation import Reclamation
from shardstore.spec_events import CACHE, CHUNKS, EXTENTS, SUPERBLOCK
from shardstore.spec_trace import trace_stack
from shardstore.spec_world import (
    SECRET,
    ExtentsStack,
    chunk_payloads,
    configurations,
    violations,
)
from shardstore.units import Kind, Locator, StoreConfiguration


class Reference(NamedTuple):
    key: bytes
    locator: Locator | None  # None: forgotten
    dependency: Dependency


class Done(NamedTuple):
    """The result of a reclamation, for the model: whose chunk went from where to where."""

    extent: int | None  # None: no extent was given back
    moved: tuple[tuple[bytes, Locator, Locator], ...]
    referred: tuple[Locator, ...]  # before


class ReferenceTable:
    """The references of keys to chunks. It outlives crashes; `recover` must be called after each."""

    def __init__(self) -> None:
        self._history: dict[bytes, list[Reference]] = {}
        self.moved: list[tuple[bytes, Locator, Locator]] = []
        self.asked_count = 0  # how often reclamation has had all references gone through

    def recover(self) -> None:
        """Keep of each key only the newest reference that was persistent."""
        for key, history in list(self._history.items()):
            persistent = [each for each in history if each.dependency.state is PERSISTENT_STATE]
            self._history[key] = [each._replace(dependency=PERSISTENT) for each in persistent[-1:]]

    def copy(self) -> ReferenceTable:
        """A copy with a history of its own; both share the dependencies, which cannot be copied."""
        copied = ReferenceTable()
        copied._history = {key: list(history) for key, history in self._history.items()}
        return copied

    def state(self) -> Hashable:
        """All references, with whether a crash would leave each."""
        return frozenset(
            (key, tuple((each.locator, each.dependency.state) for each in history))
            for key, history in self._history.items()
        )

    def dependencies(self) -> Iterator[Dependency]:
        return (each.dependency for history in self._history.values() for each in history)

    def as_of(self, is_persistent: Callable[[Dependency], bool]) -> ReferenceTable:
        """The table after a crash, if just those dependencies are persistent that the function says."""
        left = ReferenceTable()
        for key, history in self._history.items():
            persistent = [each for each in history if is_persistent(each.dependency)]
            left._history[key] = [each._replace(dependency=PERSISTENT) for each in persistent]
        return left

    def poll(self) -> None:
        """Poll every dependency once more, since `recover` can only see states that were polled."""
        for history in self._history.values():
            for each in history:
                each.dependency.poll()

    def refer(self, key: bytes, locator: Locator | None, dependency: Dependency) -> Dependency:
        history = self._history.setdefault(key, [])
        # As in a memtable: an entry does not become persistent before what it builds on.
        after = join((dependency, history[-1].dependency if history else PERSISTENT), None)
        history.append(Reference(key, locator, after))
        return after

    def locator(self, key: bytes) -> Locator | None:
        history = self._history.get(key)
        return history[-1].locator if history else None

    def locators(self) -> dict[bytes, Locator]:
        found = {key: self.locator(key) for key in self._history}
        return {key: locator for key, locator in found.items() if locator is not None}

    # --- what reclamation asks ----------------------------------------------------------------------

    def is_live(self, frame: Frame, locator: Locator) -> bool:
        return self.locator(frame.key) == locator

    def move(self, frame: Frame, old: Locator, new: Locator, written: Dependency) -> bool:
        if written.poll() is FAILED:
            raise DiskError("the device refused the copy of a live chunk")
        if not self.is_live(frame, old):
            return False
        self.refer(frame.key, new, written)
        self.moved.append((frame.key, old, new))
        return True

    def settled(self) -> Dependency:
        return join([each.dependency for history in self._history.values() for each in history], None)

    def names_any_in(self, extent: int) -> bool:
        self.asked_count += 1
        return any(locator.extent == extent for locator in self.locators().values())

    def extents_of_runs(self) -> set[int]:
        return set()  # there are no runs

    def recorded(self) -> Dependency:
        return self.settled()


class CheckedChunkStore(ExtentsStack):
    def __init__(self, world: World) -> None:
        store: StoreConfiguration = world.configuration.parameters
        super().__init__(world, store)
        self._chunks = ChunkStore(self.cache, self.extents, self.pool, self.scheduler.step, world.seam, self, store)
        self._table: ReferenceTable = world.kept.setdefault("table", ReferenceTable())
        self._referred: tuple[Locator, ...] = ()
        self._kept = world.kept
        if not world.kept.pop("clean", False):  # a crash leaves pages that no frame covers
            world.kept["lives"] = world.kept.get("lives", 0) + 1
        self._reclamation = Reclamation(self._chunks, self.extents, self._table, self)
        with self.monitor:
            self._chunks.recover(SECRET)
            self._table.recover()

    def put(self, key: bytes, value: bytes) -> tuple[Locator, Dependency]:
        with self.monitor:
            put = self._chunks.put(Kind.VALUE, key, value)
            dependency = self._table.refer(key, put.locator, put.dependency)
            self._chunks.unpin(put.locator)
            return put.locator, CheckedDependency(self, dependency)

    def get(self, key: bytes) -> bytes:
        with self.monitor:
            locator = self._table.locator(key)
            if locator is None:
                raise NotFoundError(repr(key))
            return self._chunks.get(locator)

    def forget(self, key: bytes) -> Dependency:
        """Drop the reference to a key's chunk."""
        with self.monitor:
            return CheckedDependency(self, self._table.refer(key, None, PERSISTENT))

    def contents(self) -> dict[bytes, bytes]:
        with self.monitor:
            return {key: self._chunks.get(locator) for key, locator in self._table.locators().items()}

    def flush(self) -> bool:
        with self.monitor:
            return self._chunks.flush()

    def locator(self, key: bytes) -> Locator | None:
        with self.monitor:
            return self._table.locator(key)

    def reclaim(self, choice: int) -> tuple[Done, Dependency]:
        with self.monitor:
            self._referred = tuple(self._table.locators().values())
            self._table.moved.clear()
            self._table.asked_count = 0
            victims = self._reclamation.victims()
            reclaimed = None
            if victims:
                with suppress(NoSpaceError):  # chunks that were moved by then stay moved
                    reclaimed = self._reclamation.reclaim(victims[choice % len(victims)])
            if self._table.asked_count and self._kept["lives"] == 1:
                raise ViolationError("COST-5", "a scan has missed something", "before a crash, frames cover an extent")
            extent = reclaimed.extent if reclaimed is not None and reclaimed.is_reset else None
            done = self.reclaimed_so_far()._replace(extent=extent)
            return done, CheckedDependency(self, self._table.settled())

    def reclaimed_so_far(self) -> Done:
        """The moves of a reclamation that was interrupted before its extent could be given back."""
        return Done(None, tuple(self._table.moved), self._referred)

    def sync(self) -> None:
        """Make everything persistent."""
        with self.monitor:
            while self.scheduler.step() or self._chunks.flush():
                pass
            self._table.poll()

    def shutdown(self) -> None:
        self.sync()
        self._kept["clean"] = True


class CheckedDependency(Dependency):
    """Passes polls on to a dependency of the table, so that the table knows its state when a crash comes."""

    def __init__(self, stack: CheckedChunkStore, dependency: Dependency) -> None:
        super().__init__(stack)
        self._dependency = dependency

    def poll(self) -> State:
        return self._dependency.poll()


def trace(stack: CheckedChunkStore, tracer: Tracer) -> None:
    trace_stack(stack, tracer)
    tracer.take_apart(CheckedDependency, lambda each: (each._dependency,))


class CheckedModel:
    """The chunk store's model, and a dictionary for the references."""

    def __init__(self) -> None:
        self._model = ChunkStoreModel()
        self._table: dict[bytes, Locator] = {}

    def put(self, locator: Locator, key: bytes, value: bytes) -> None:
        with violations():
            self._model.adopt(locator, value)
        self._table[key] = locator

    def get(self, key: bytes) -> bytes:
        if key not in self._table:
            raise NotFoundError(repr(key))
        return self._model.get(self._table[key])

    def forget(self, key: bytes) -> None:
        self._table.pop(key, None)

    def locator(self, key: bytes) -> Locator | None:
        return self._table.get(key)

    def reclaim(self, done: Done, choice: int) -> None:
        moved = {old: new for _, old, new in done.moved}
        with violations():
            if done.extent is None:  # copies were made, but the old ones are still there
                for old, new in moved.items():
                    self._model.adopt(new, self._model.get(old))
            else:
                self._model.reclaim(done.extent, moved, done.referred)
        self._table = {key: moved.get(locator, locator) for key, locator in self._table.items()}

    def contents(self) -> dict[bytes, bytes | None]:
        """None where the model does not have the chunk that a key refers to (MODEL-1)."""
        return {key: self._held(locator) for key, locator in self._table.items()}

    def _held(self, locator: Locator) -> bytes | None:
        try:
            return self._model.get(locator)
        except StaleLocatorError:
            return None

    def settle(self, key: bytes, outcome: Outcome) -> None:
        self._table.pop(key, None)
        if outcome is not None:
            locator, value = outcome
            self._model.settle(locator, value)
            self._table[key] = locator


Outcome = tuple[Locator, bytes] | None


def read(subject: Any, key: bytes) -> Outcome:
    """Where a key's chunk is, and what it holds."""
    locator = subject.locator(key)
    return None if locator is None else (locator, subject.get(key))


def contents(subject: Any) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = subject.contents()
    return found


SPEC = Spec(
    "chunk store",
    system=CheckedChunkStore,
    model=CheckedModel,
    operations=[
        Operation("get", key=keys, weight=4),
        Operation("put", key=keys, value=chunk_payloads, weight=8, writes="key", adopts=True),
        Operation("forget", key=keys, writes="key"),
        Background("flush", weight=3),
        Operation(
            "reclaim",
            choice=integers(0, 2),
            weight=3,
            writes=lambda _, done: [[key] for key, _, _ in done.moved],
            adopts=True,
            partial=lambda system: system.reclaimed_so_far(),
        ),
        Background("sync", weight=2, promises="everything"),
        WriteBack(weight=6),
        Reboot(),
        Crash(flushes=("flush",)),
    ],
    share=2,
    configurations=configurations(()),  # no knobs: bug 10 needs all that there is of the default
    contents=contents,
    durability=Durability(read=read, settle=lambda model, key, outcome: model.settle(key, outcome)),
    errors=(NotFoundError,),
    excuses=(NoSpaceError,),
    trace=trace,
    events=(*SUPERBLOCK, *EXTENTS, *CACHE, *CHUNKS),
)
