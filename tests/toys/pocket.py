"""A store that an exception from outside leaves whole or out of use, and the ways to get that wrong.

One page a batch: how many keys, then each key and its value, a byte each. What is put waits in memory for `sync`. The
queue comes first: a batch is in memory once it is seen, so what is seen is written by the next sync.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from note import Note

from harness import (
    ZONED,
    Background,
    Configuration,
    Crash,
    Durability,
    Interrupts,
    MediumShape,
    Operation,
    Reboot,
    Spec,
    World,
    lists_of,
    sampled,
)

PAGE_SIZE_BYTES = 16
some_keys = sampled([b"a", b"b", b"c"])
some_values = sampled([b"x", b"y", b"z"])


class BrokenError(Exception):
    """An interrupt has cut a change short; the store must be opened again."""


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Nothing but a `BrokenError` may end this method, or the store takes no more changes."""

    @wraps(method)
    def call(pocket: Pocket, *arguments: Any, **named: Any) -> Any:
        try:
            return method(pocket, *arguments, **named)
        except BrokenError:
            raise
        except BaseException:
            pocket.cut_short()
            raise

    return call


class Pocket:
    def __init__(self, world: World) -> None:
        self.monitor = world.seam.monitor("pocket")
        self.medium = world.media[0]
        self.broken = False
        self.entries: dict[bytes, bytes] = {}
        self.queue: list[tuple[bytes, Note]] = []
        self.medium.barrier()
        for page in range(self.medium.write_pointer(0)):
            record = self.medium.read(0, page, 1)
            pairs = record[1 : 1 + 2 * record[0]]
            self.entries.update({pairs[at : at + 1]: pairs[at + 1 : at + 2] for at in range(0, len(pairs), 2)})

    def cut_short(self) -> None:
        self.broken = True
        self.monitor.abandon()

    def check(self) -> None:
        if self.broken:
            raise BrokenError

    @guarded
    def put(self, key: bytes, value: bytes) -> Note:
        return self.enter({key: value})

    @guarded
    def put_all(self, keys: Sequence[bytes], value: bytes) -> Note:
        return self.enter(dict.fromkeys(keys, value))

    def enter(self, batch: Mapping[bytes, bytes]) -> Note:
        with self.monitor:
            self.check()
            note = Note()
            record = bytes([len(batch)]) + b"".join(key + value for key, value in batch.items())
            self.queue.append((record.ljust(PAGE_SIZE_BYTES, b"\0"), note))
            self.see(batch)
            return note

    def see(self, batch: Mapping[bytes, bytes]) -> None:
        self.entries = {**self.entries, **batch}

    @guarded
    def get(self, key: bytes) -> bytes | None:
        with self.monitor:
            return self.entries.get(key)

    @guarded
    def sync(self) -> None:
        with self.monitor:
            self.check()
            self.write()

    def write(self) -> None:
        notes = [note for _, note in self.queue]
        for record, _ in self.queue:
            self.medium.write(0, self.medium.write_pointer(0), record)
        self.medium.barrier()
        self.queue = []
        for note in notes:
            note.persistent = True

    def shutdown(self) -> None:
        self.sync()

    def contents(self) -> dict[bytes, bytes]:
        with self.monitor:
            return dict(self.entries)


class KeyByKey(Pocket):
    def see(self, batch: Mapping[bytes, bytes]) -> None:
        for key, value in batch.items():
            self.entries[key] = value


class KeepsMonitor(Pocket):
    def cut_short(self) -> None:
        self.broken = True


class RefusesReads(Pocket):
    @guarded
    def get(self, key: bytes) -> bytes | None:
        self.check()
        return self.entries.get(key)


class Lies(Pocket):
    """Its shutdown claims success whatever has happened."""

    def shutdown(self) -> None:
        with suppress(BrokenError):
            self.sync()


class GoesOn(Pocket):
    """Shows a batch before it is queued, and goes on as if nothing had happened."""

    def cut_short(self) -> None:
        self.monitor.abandon()

    def enter(self, batch: Mapping[bytes, bytes]) -> Note:
        with self.monitor:
            self.see(batch)
            note = Note()
            record = bytes([len(batch)]) + b"".join(key + value for key, value in batch.items())
            self.queue.append((record.ljust(PAGE_SIZE_BYTES, b"\0"), note))
            return note


class Relents(Pocket):
    """Refuses one change after an interrupt, and no more."""

    def check(self) -> None:
        was_broken, self.broken = self.broken, False
        if was_broken:
            raise BrokenError


class Untyped(Pocket):
    def check(self) -> None:
        if self.broken:
            raise RuntimeError("broken")


class Hides(Pocket):
    """Makes another error of whatever ends a change."""

    def put(self, key: bytes, value: bytes) -> Note:
        try:
            note: Note = super().put(key, value)
        except BaseException:
            raise ValueError("something") from None
        return note


class Swallows(Pocket):
    """Keeps to itself what ends a sync, and takes no more changes."""

    def sync(self) -> None:
        try:
            super().sync()
        except KeyboardInterrupt:
            self.broken = True

    def shutdown(self) -> None:
        super().sync()


class Model:
    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def put_all(self, keys: Sequence[bytes], value: bytes) -> None:
        self.entries.update(dict.fromkeys(keys, value))

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def contents(self) -> dict[bytes, bytes]:
        return dict(self.entries)

    def settle(self, key: bytes, outcome: bytes | None) -> None:
        self.entries.pop(key, None)
        if outcome is not None:
            self.entries[key] = outcome


def pocket_spec(kind: type[Pocket] = Pocket, **interrupts: Any) -> Spec:
    return Spec(
        "pocket",
        system=kind,
        model=Model,
        operations=[
            Operation("get", key=some_keys),
            Operation("put", key=some_keys, value=some_values, weight=2, writes="key"),
            Operation(
                "put_all",
                keys=lists_of(some_keys, 3, size_min=1),
                value=some_values,
                weight=2,
                writes=lambda arguments, _: [arguments["keys"]],
            ),
            Background("sync"),
            Reboot(),
            Crash(),
        ],
        configurations=[Configuration("zoned", (MediumShape(1, 512, PAGE_SIZE_BYTES, ZONED),))],
        contents=lambda subject: subject.contents(),
        durability=Durability(read=lambda subject, key: subject.get(key), settle=Model.settle),
        interrupts=Interrupts(**{"within": Path(__file__), "broken": (BrokenError,), **interrupts}),
    )
