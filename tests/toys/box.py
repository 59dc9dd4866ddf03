"""A store on a device that fails now and then, and the ways to get that wrong, by name.

Each page of extent 0 has one key and its value, a byte each; the last one of a key counts. Puts wait in memory for
`sync`. Once the device has refused a write or a barrier, the box takes no more puts until it is opened again.
"""

from __future__ import annotations

from typing import Any, Protocol

from note import Note

from harness import (
    ZONED,
    Background,
    Configuration,
    Crash,
    Durability,
    Fault,
    MediumShape,
    Operation,
    Reboot,
    SimulatedMedium,
    Spec,
    sampled,
)

BUGS = {
    "write swallowed": "persistence",
    "barrier swallowed": "persistence",
    "barrier tried again": "persistence",
    "unreadable is absent": "conformance",
    "opening passes over what it cannot read": "persistence",
    "no read after a failed read": "fault tolerance",
    "refused put is seen": "conformance",
    "sync says nothing": "promise",
    "wrong error": "unexpected error",
    "broken when opened again": "unexpected error",
}
PAGES_COUNT = 64


class BoxError(Exception):
    """The device has refused something."""


class BoxWorld(Protocol):
    """What a box needs of a world."""

    @property
    def media(self) -> tuple[SimulatedMedium, ...]: ...
    @property
    def kept(self) -> dict[str, Any]: ...


class Box:
    def __init__(self, world: BoxWorld, bug: str = "") -> None:
        self.bug = bug
        self.medium = world.media[0]
        self.kept = world.kept
        self.is_broken = bool(bug == "broken when opened again" and self.kept.get("broken"))
        self.pages: dict[bytes, int] = {}
        self.waiting: dict[bytes, bytes] = {}
        self.notes: list[Note] = []
        self.next_page = 0
        try:
            self.medium.barrier()
            self._scan()
        except OSError as error:
            raise BoxError from error

    def _scan(self) -> None:
        for page in range(PAGES_COUNT):
            try:
                record = self._read(page)
            except OSError:
                if self.bug != "opening passes over what it cannot read":
                    raise
                self.next_page = page + 1
                continue
            if not record.strip(b"\0"):
                break
            self.pages[record[:1]] = page
            self.next_page = page + 1

    def _read(self, page: int) -> bytes:
        if page >= self.medium.write_pointer(0):
            return b""
        return self.medium.read(0, page, 1)

    def put(self, key: bytes, value: bytes) -> Note:
        if self.is_broken or self.next_page + len(self.waiting) >= PAGES_COUNT:
            if self.bug == "refused put is seen":
                self.waiting[key] = value
            raise (OSError if self.bug == "wrong error" else BoxError)
        self.waiting[key] = value
        self.notes.append(Note())
        return self.notes[-1]

    def get(self, key: bytes) -> bytes | None:
        if key in self.waiting:
            return self.waiting[key]
        if key not in self.pages:
            return None
        try:
            if self.bug == "no read after a failed read" and self.is_broken:
                raise OSError
            return self._read(self.pages[key])[1:2]
        except OSError as error:
            if self.bug == "unreadable is absent":
                return None
            self.is_broken = self.is_broken or self.bug == "no read after a failed read"
            raise BoxError from error

    def sync(self) -> None:
        if self.is_broken and self.bug != "sync says nothing":
            raise BoxError
        try:
            self._write()
        except OSError as error:
            self.is_broken = True
            self.kept["broken"] = True
            self._settle(is_failed=True)
            if self.bug != "sync says nothing":
                raise BoxError from error

    def _write(self) -> None:
        for key, value in self.waiting.items():
            try:
                self.medium.write(0, self.next_page, (key + value).ljust(self.medium.page_size_bytes, b"\0"))
            except OSError:
                if self.bug != "write swallowed":
                    raise
            self.pages[key] = self.next_page
            self.next_page += 1
        try:
            self.medium.barrier()
        except OSError:
            if self.bug == "barrier tried again":
                self.medium.barrier()
            elif self.bug != "barrier swallowed":
                raise
        self.waiting = {}
        self._settle(is_failed=False)

    def _settle(self, *, is_failed: bool) -> None:
        for note in self.notes:
            note.failed, note.persistent = is_failed, not is_failed
        self.notes = []

    def shutdown(self) -> None:
        self.sync()


class BoxModel:
    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def settle(self, key: bytes, value: bytes | None) -> None:
        self.entries.pop(key, None)
        if value is not None:
            self.entries[key] = value


def box_spec(bug: str = "") -> Spec:
    keys = sampled([b"a", b"b", b"c"])
    return Spec(
        "box",
        system=lambda world: Box(world, bug),
        model=BoxModel,
        operations=[
            Operation("get", key=keys, weight=2),
            Operation("put", key=keys, value=sampled([b"x", b"y", b"z"]), weight=2, writes="key"),
            Background("sync", promises="everything"),
            Reboot(),
            Crash(),
            Fault(errors=(BoxError,), calls=("read", "write", "barrier")),
        ],
        configurations=[Configuration("zoned", (MediumShape(1, PAGES_COUNT, 4, ZONED),))],
        contents=lambda subject: {key: subject.get(key) for key in (b"a", b"b", b"c")},
        durability=Durability(read=lambda subject, key: subject.get(key), settle=_settle),
    )


def _settle(model: BoxModel, key: bytes, outcome: Any) -> None:
    model.settle(key, outcome)
