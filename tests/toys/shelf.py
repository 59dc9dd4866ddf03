"""A store of three keys whose calls let its monitor go in their middle, and the ways to get that wrong.

One page holds all values. What is put waits in memory for `sync`, which writes the page and passes a barrier with the
monitor let go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from note import Note

from harness import (
    FILE,
    Background,
    Configuration,
    Crash,
    Durability,
    MediumShape,
    Operation,
    Overlaps,
    Reboot,
    Spec,
    World,
    integers,
)

KEYS_COUNT = 3
_keys = integers(0, KEYS_COUNT - 1)


class Shelf:
    def __init__(self, world: World) -> None:
        self._medium = world.media[0]
        self._monitor = world.seam.monitor("shelf")
        self._held = list(self._medium.read(0, 0, 1)[:KEYS_COUNT])
        self._notes: list[Note] = []
        self._is_tidying = False

    def get(self, key: int) -> int:
        with self._monitor:
            return self._held[key]

    def swap(self, key: int, value: int) -> tuple[int, Note]:
        with self._monitor:
            self._breathe()
            before, self._held[key] = self._held[key], value
            return before, self._note()

    def tidy(self) -> None:
        """Work that no two calls may be at."""
        with self._monitor:
            self._monitor.wait_until(lambda: not self._is_tidying, lambda: False)
            self._is_tidying = True
            self._tidy()
            self._is_tidying = False
            self._monitor.notify_all()

    def _tidy(self) -> None:
        self._breathe()
        self._held = [*self._held]

    def sync(self) -> None:
        with self._monitor:
            covered = [*self._notes]  # those of another call that is at its barrier, too
            self._write()
            self._settle(covered)
            self._notes = [note for note in self._notes if not note.persistent]

    def _settle(self, covered: Sequence[Note]) -> None:
        for note in covered:
            note.persistent = True

    def shutdown(self) -> None:
        self.sync()

    def contents(self) -> list[int]:
        with self._monitor:
            return [*self._held]

    def _write(self) -> None:
        self._medium.write(0, 0, bytes(self._held).ljust(self._medium.page_size_bytes, b"\0"))
        self._monitor.release()
        self._medium.barrier()
        self._monitor.acquire()

    def _note(self) -> Note:
        note = Note()
        self._notes.append(note)
        return note

    def _breathe(self) -> None:
        self._monitor.release()
        self._monitor.acquire()


class SwapsStale(Shelf):
    """Takes what it answers before it lets others in."""

    def swap(self, key: int, value: int) -> tuple[int, Note]:
        with self._monitor:
            before = self._held[key]
            self._breathe()
            self._held[key] = value
            return before, self._note()


class TidiesStale(Shelf):
    """Puts back what there was before it let others in."""

    def _tidy(self) -> None:
        held = [*self._held]
        self._breathe()
        self._held = held


class ReadsTwice(Shelf):
    """Answers with the mean of two looks, between which it lets others in."""

    def get(self, key: int) -> int:
        with self._monitor:
            before = self._held[key]
            self._breathe()
            return (before + self._held[key]) // 2


class SettlesLater(Shelf):
    """Takes what came during its barrier for persistent."""

    def _settle(self, covered: Sequence[Note]) -> None:
        super()._settle(self._notes)


class TidiesForGood(Shelf):
    """Forgets to say that it is done, if others came in."""

    def _tidy(self) -> None:
        notes_count = len(self._notes)
        self._breathe()
        if len(self._notes) > notes_count:
            self._monitor.wait_until(lambda: not self._is_tidying, lambda: False)


class KeepsMonitor(Shelf):
    """Lets the monitor go once more than it has taken it, if others came in."""

    def _tidy(self) -> None:
        notes_count = len(self._notes)
        self._breathe()
        if len(self._notes) > notes_count:
            self._monitor.acquire()


class ShelfModel:
    def __init__(self) -> None:
        self.held = [0] * KEYS_COUNT

    def get(self, key: int) -> int:
        return self.held[key]

    def swap(self, key: int, value: int) -> int:
        before, self.held[key] = self.held[key], value
        return before

    def contents(self) -> list[int]:
        return [*self.held]


def _settle(model: ShelfModel, key: int, outcome: int) -> None:
    model.held[key] = outcome


def shelf_spec(kind: type[Shelf] = Shelf, **changes: Any) -> Spec:
    arguments: dict[str, Any] = {"overlaps": Overlaps(), **changes}
    return Spec(
        "shelf",
        system=kind,
        model=ShelfModel,
        operations=[
            Operation("get", key=_keys),
            Operation("swap", key=_keys, value=integers(0, 9), writes="key", weight=3),
            Background("tidy"),
            Background("sync", promises="everything"),
            Reboot(),
            Crash(),
        ],
        configurations=[Configuration("only", (MediumShape(1, 1, 8, FILE),))],
        contents=lambda subject: subject.contents(),
        durability=Durability(read=lambda subject, key: subject.get(key), settle=_settle),
        steps_mean=8,
        **arguments,
    )
