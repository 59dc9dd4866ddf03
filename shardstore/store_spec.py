"""The spec of a store by itself: every public method, given what it takes and what it does not.

A node calls few of them, and always with plain bytes. Here batches mix puts and deletions, views are read from any key
on while the store changes, and what is no key, no value or no number is refused before anything is done (ARG-1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness import (
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Durability,
    Generator,
    Operation,
    Overlaps,
    Reboot,
    SimulatedMedium,
    Spec,
    ViolationError,
    World,
    WriteBack,
    integers,
    keys_from,
    lists_of,
)
from refmodel.store import StoreModel, as_bytes
from shardstore.dependency import Dependency, State
from shardstore.errors import NoSpaceError, NotFoundError, OutOfServiceError, TooLargeError
from shardstore.limits import value_size_max_bytes
from shardstore.scrub import Damage
from shardstore.spec_world import COLLISIONS, STORE, shape
from shardstore.store import Store, StoreSnapshot, format_store, open_store
from shardstore.units import Change, Delete, Put

VALUE_SIZE_MAX_BYTES = min(value_size_max_bytes(SimulatedMedium(shape(device)), STORE) for device in (ZONED, FILE))


_WITHOUT_ARGUMENTS = (
    "snapshot",
    "flush_buffers",
    "flush",
    "compact",
    "reclaim",
    "verify",
    "health",
    "drop_damaged",
    "holdings",
    "sync",
    "shutdown",
)


class CheckedStore:
    """A store with views in numbered slots. What it says of itself is checked."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._views: dict[int, StoreSnapshot] = {}
        self._last: Dependency | None = None
        for name in ("put", "delete", "bulk_put", "bulk_delete", "apply"):
            setattr(self, name, self._remembering(getattr(store, name)))
        self.get, self.check, self.contents = store.get, store.check, store.contents
        self.flush, self.flush_buffers, self.compact, self.sync = (
            store.flush,
            store.flush_buffers,
            store.compact,
            store.sync,
        )
        self.write_back = store.write_back

    def _remembering(self, change: Any) -> Any:
        def call(**arguments: Any) -> Dependency:
            dependency: Dependency = change(**arguments)
            self._last = dependency
            return dependency

        return call

    def wait_for_last(self) -> None:
        """Wait for the last change by its dependency, which then says that it is persistent, however it is asked."""
        last = self._last
        if last is None:
            return
        last.wait()
        if not (last.is_persistent() and self.store.poll(last) is State.PERSISTENT):
            raise ViolationError("WAIT-2", self.store.poll(last), "persistent, since it was waited for")

    def shutdown(self) -> None:
        """From then on the store answers nothing, nor does what was got from it (STOP-2)."""
        store = self.store
        scrub = store.verify()
        store.shutdown()
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: store.get(b"a"),
            "contents": lambda: list(store.contents()),
            "a scrub": lambda: next(scrub),
            "write_back": lambda: store.write_back(1),
            **{name: partial(getattr(store, name), []) for name in ("apply", "bulk_put", "bulk_delete")},
            **{name: getattr(store, name) for name in _WITHOUT_ARGUMENTS},
            **{f"view {slot}": partial(view.keys_after, b"a", 1) for slot, view in self._views.items()},
        }
        for name, call in calls.items():
            try:
                answered = call()
            except OutOfServiceError:
                continue
            raise ViolationError("STOP-2", f"{name} after a shutdown: {answered!r}", "OutOfServiceError")

    def take_view(self, slot: int) -> None:
        self.close_view(slot)
        self._views[slot] = self.store.snapshot()

    def keys_after(self, slot: int, start: Any, limit_count: Any) -> list[bytes] | None:
        view = self._views.get(slot)
        return None if view is None else view.keys_after(start, limit_count)

    def close_view(self, slot: int) -> None:
        view = self._views.pop(slot, None)
        if view is not None:
            view.close()
            view.close()  # which does nothing more

    def views_count(self) -> int:
        return len(self._views)

    def do_steps(self, step_count: Any) -> None:
        done = self.store.write_back(step_count)
        if not 0 <= done <= step_count:
            raise ViolationError("steps", done, f"up to {step_count}")

    def reclaim_any(self, choice: Any) -> None:
        """What a reclamation says of itself is so (GC-6)."""
        extents = self.store.extents
        epochs = {extent: extents.epoch(extent) for extent in extents.in_use()}
        reclaimed = self.store.reclaim(choice)
        if reclaimed is None:
            return
        if reclaimed.is_reset != (extents.epoch(reclaimed.extent) > epochs[reclaimed.extent]):
            raise ViolationError("GC-6", reclaimed, "reset if its epoch has changed")

    def look_well(self) -> None:
        """Nothing has failed, and nothing is damaged."""
        found: list[Damage] = [damage for part in self.store.verify() for damage in part]
        said = (self.store.health(), self.store.drop_damaged(), found, self.store.is_open())
        if said != ((), [], [], True):
            raise ViolationError("DAMAGE-2", said, "all is well")


def _open(world: World) -> CheckedStore:
    opening = open_store if world.kept else format_store
    store = opening(world.media[0], world.seam, world.configuration.parameters)
    world.kept["formatted"] = True
    return CheckedStore(store)


def holds_nothing(system: CheckedStore, _: object) -> None:
    held = system.store.holdings()
    if system.views_count():
        held = held._replace(superseded_runs_count=0)
    if any(held):
        raise ViolationError("REST-1", held, "nothing that no call and no view needs")


def read(subject: Any, key: Any) -> bytes | None:
    try:
        value: bytes = subject.get(key=key)
    except NotFoundError:
        return None
    return value


def settle(model: StoreModel, key: Any, value: bytes | None) -> None:
    model.settle(key, value)


_KEYS = (b"a", b"b", b"ab", b"abc", b"b\0")
_ODD_KEYS: tuple[Any, ...] = (
    *_KEYS,
    *(b"k" * (STORE.key_size_max_bytes + more) for more in (-1, 0, 1)),
    b"",
    memoryview(b"b"),
    bytearray(b"ab"),
    "a",
    None,
    7,
)
_ODD_VALUES: tuple[Any, ...] = (
    b"x",
    b"",
    *(bytes(STORE.chunk_payload_max_bytes + more) for more in (-1, 0, 1)),
    *(bytes(VALUE_SIZE_MAX_BYTES + more) for more in (0, 1)),
    memoryview(b"y"),
    bytearray(b"z"),
    "x",
    None,
)
_ODD_COUNTS: tuple[Any, ...] = (1, 2, 100, 0, -1, "1", None, 1.5)
keys: Generator = keys_from(_ODD_KEYS, (9,))
values: Generator = keys_from(_ODD_VALUES, (9,))
counts: Generator = keys_from(_ODD_COUNTS, (9,))
some_keys: Generator = lists_of(keys, STORE.memtable_entries_max + 1)


def changes(choose: Choose, name: str) -> tuple[Any, ...]:
    return tuple(_change(choose, name, key) for key in some_keys(choose, name))


def _change(choose: Choose, name: str, key: Any) -> Any:
    kind = choose(name + ".kind", 12)
    if kind == 11:  # what is no change
        return key, values(choose, name + ".value")
    return Put(key, values(choose, name + ".value")) if kind % 2 == 0 else Delete(key)


def pairs(choose: Choose, name: str) -> tuple[Any, ...]:
    return tuple(_pair(choose, name, key) for key in some_keys(choose, name))


def _pair(choose: Choose, name: str, key: Any) -> Any:
    value = values(choose, name + ".value")
    kinds = ((key, value), [key, value], (key, value, b""), b"kv", None)
    kind = choose(name + ".kind", 16)
    return kinds[kind if kind < len(kinds) else 0]


def _written(batch: Sequence[Any]) -> list[list[bytes]]:
    """One group of all keys, if the batch is one."""
    found = [change.key for change in batch if isinstance(change, Put | Delete)]
    return [_plain(found)] if found else []


def _plain(found: Sequence[Any]) -> list[bytes]:
    plain = [as_bytes(key) for key in found if isinstance(key, bytes | bytearray | memoryview)]
    return list(dict.fromkeys(plain))


def _of_pairs(arguments: Mapping[str, Any], _: object) -> list[list[bytes]]:
    return [_plain([item[0] for item in arguments["items"] if isinstance(item, tuple | list)])]


def _of_batch(arguments: Mapping[str, Any], _: object) -> list[list[bytes]]:
    batch: Sequence[Change] = arguments["batch"]
    return _written(batch)


def _of_key(arguments: Mapping[str, Any], _: object) -> list[list[bytes]]:
    return [_plain([arguments["key"]])]


SPEC = Spec(
    "store",
    system=_open,
    model=lambda: StoreModel(STORE, VALUE_SIZE_MAX_BYTES),
    operations=[
        Operation("get", key=keys, weight=3),
        Operation("put", key=keys, value=values, weight=5, writes=_of_key),
        Operation("delete", key=keys, weight=2, writes=_of_key),
        Operation("apply", batch=changes, weight=5, writes=_of_batch),
        Operation("check", batch=changes),
        Operation("bulk_put", items=pairs, weight=2, writes=_of_pairs),
        Operation("bulk_delete", keys=some_keys, writes=lambda arguments, _: [_plain(arguments["keys"])]),
        Operation("take_view", slot=integers(0, 1), weight=2),
        Operation("keys_after", slot=integers(0, 1), start=keys, limit_count=counts, weight=4),
        Operation("close_view", slot=integers(0, 1)),
        Operation("do_steps", step_count=counts),
        Operation("reclaim_any", choice=counts),
        Background("flush_buffers"),
        Background("flush", weight=2),
        Background("compact", weight=2),
        Background("look_well"),
        Background("wait_for_last", promises="nothing"),
        Background("sync", promises="everything"),
        WriteBack(weight=2),
        Reboot(),
        Crash(flushes=("flush", "flush_buffers")),
    ],
    configurations=[
        Configuration("zoned", (shape(ZONED),), STORE, COLLISIONS),
        Configuration("file", (shape(FILE),), STORE, COLLISIONS),
    ],
    contents=lambda subject: dict(subject.contents()),
    durability=Durability(read=read, settle=settle),
    errors=(NotFoundError, TooLargeError, TypeError, ValueError),
    excuses=(NoSpaceError,),
    invariants=[holds_nothing],
    overlaps=Overlaps(sparing=("reclaim_any", "look_well", "take_view", "close_view", "keys_after")),
)
