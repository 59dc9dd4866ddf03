"""A small log-structured key-value store, for testing the harness on; its bugs are planted by name.

Records are appended, page-aligned, to one half of the extents. Compaction writes everything that is alive, and then a
*commit* record, to the other half under the next generation. Opening reads the newest committed generation and compacts
at once, so nothing is ever appended behind a tear. A dependency is persistent when a barrier has passed its record.

    magic  kind  generation  sequence  body length  body  CRC-32     padded with zeros to whole pages

The body of an *entries* record is a list of (key, payload or absence); all of them take effect or none does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.spec.device import DeviceModel, MediumShape
from harness.spec.generators import keys, lists_of, payloads
from harness.spec.spec import (
    Background,
    Configuration,
    Crash,
    Durability,
    Operation,
    Reboot,
    Spec,
    ViolationError,
    WriteBack,
)
from harness.world.devices import FILE, ZONED

PAGE_SIZE_BYTES = 64
EXTENT_SIZE_PAGES = 16
EXTENT_COUNT = 8
PAGES_MAX = 2

# Each planted bug with the property that must catch it. All but the first group need a crash.
CONFORMANCE_BUGS = {
    "deleted key still there": "invariant",
    "empty payload is absence": "conformance",
    "tombstones forgotten at opening": "conformance",
    "count off by one": "invariant",
    "shutdown forgets a write": "forward progress",
    "write off the pointer": "device",
    "wait that nothing ends": "deadlock",
    "lock taken twice": "lock misuse",
    "key error": "unexpected error",
}
CRASH_BUGS = {
    "persistent when issued": "persistence",
    "barrier left out": "persistence",
    "oldest record wins": "persistence",
    "group in pieces": "persistence",
    "checksum not checked": "persistence",
    "torn record is an error": "recovery",
}
BUGS = CONFORMANCE_BUGS | CRASH_BUGS

_HEADER = struct.Struct("<BBHHH")
_ENTRY = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_MAGIC = 0xA5
_ENTRIES, _COMMIT = 1, 2
_ABSENT = 0xFFFF


class KeyMissingError(Exception):
    """There is no such key."""


class FullError(Exception):
    """No room left in this half; compaction makes some."""


class TornRecordError(Exception):
    """Only a planted bug raises this."""


class ToyDependency:
    __slots__ = ("persistent",)

    def __init__(self) -> None:
        self.persistent = False

    def is_persistent(self) -> bool:
        return self.persistent

    def is_failed(self) -> bool:
        return False


Entries = Sequence[tuple[bytes, bytes | None]]


class ToyStore:
    def __init__(self, world: Any, bug: str = "") -> None:
        self.bug = bug
        self.medium = world.media[0]
        self.seam = world.seam
        self.monitor = world.seam.monitor("toy")
        self.half_size_extents = self.medium.extent_count // 2
        self.buffered: list[tuple[bytes, ToyDependency]] = []
        self.issued: list[ToyDependency] = []
        self.generation = 0
        self.sequence = 0
        self.entries: dict[bytes, bytes] = {}
        self.extent, self.page = 0, 0  # where the next record goes
        with self.monitor:
            self._recover()
            self._compact()

    # -- requests

    def get(self, key: bytes) -> bytes:
        with self.monitor:
            if key not in self.entries:
                raise KeyMissingError(key)
            if self.bug == "key error" and len(self.entries) > 2:
                return self.entries[b"no such key"]
            return self.entries[key]

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        return self._change([(key, payload)])

    def delete(self, key: bytes) -> ToyDependency:
        with self.monitor:
            if key not in self.entries:
                raise KeyMissingError(key)
        return self._change([(key, None)])

    def put_group(self, group: Sequence[bytes], payload: bytes) -> tuple[int, ToyDependency]:
        changes: dict[bytes, bytes | None] = dict.fromkeys(group, payload)
        return len(changes), self._change(list(changes.items()))

    def _change(self, changes: Entries) -> ToyDependency:
        with self.monitor:
            if self.bug == "lock taken twice" and len(self.entries) > 2:
                self.monitor.acquire()
            dependency = ToyDependency()
            in_pieces = self.bug == "group in pieces" and len(changes) > 1
            records = [self._encode(_ENTRIES, [change]) for change in changes] if in_pieces else []
            records = records or [self._encode(_ENTRIES, changes)]
            self._require_room(records)
            self.buffered += [(record, dependency) for record in records]
            self._apply(changes)
            return dependency

    def _apply(self, changes: Entries) -> None:
        for key, payload in changes:
            if payload is None:
                if self.bug != "deleted key still there":
                    self.entries.pop(key, None)
            elif payload or self.bug != "empty payload is absence":
                self.entries[key] = payload

    # -- background

    def write_back(self, steps: int) -> None:
        with self.monitor:
            for _ in range(steps):
                if self.buffered and self.seam.choose(3) < 2:
                    self._issue_one()
                elif self.issued:
                    self._barrier()

    def flush(self) -> None:
        with self.monitor:
            if self.bug == "wait that nothing ends" and len(self.buffered) > 2:
                self.monitor.wait_until(lambda: False, lambda: False)
            self.monitor.wait_until(lambda: not self.buffered and not self.issued, self._progress)

    def issue(self) -> None:
        """Everything to the device, and no barrier."""
        with self.monitor:
            while self.buffered:
                self._issue_one()

    def compact(self) -> None:
        with self.monitor:
            self._compact()

    def shutdown(self) -> None:
        with self.monitor:
            if self.bug == "shutdown forgets a write" and self.buffered:
                self.buffered.pop()
        self.flush()

    def _progress(self) -> bool:
        if self.buffered:
            self._issue_one()
        elif self.issued:
            self._barrier()
        else:
            return False
        return True

    def _issue_one(self) -> None:
        record, dependency = self.buffered.pop(0)
        self._append(record)
        if not any(other is dependency for _, other in self.buffered):
            self.issued.append(dependency)
            dependency.persistent = self.bug == "persistent when issued"

    def _barrier(self) -> None:
        if self.bug != "barrier left out":
            self.medium.barrier()
        for dependency in self.issued:
            dependency.persistent = True
        self.issued.clear()

    # -- the log

    def _append(self, record: bytes) -> None:
        page_count = len(record) // PAGE_SIZE_BYTES
        if self.page + page_count > self.medium.extent_size_pages:
            self.extent, self.page = self.extent + 1, 0
        off = 1 if self.bug == "write off the pointer" and self.page > 4 and self.medium.zoned else 0
        self.medium.write(self.extent, self.page - off, record)
        self.page += page_count

    def _require_room(self, records: Sequence[bytes]) -> None:
        """Count as if every record were followed by a skip to the next extent."""
        extent_size_pages = self.medium.extent_size_pages
        half_end = (self.generation % 2 + 1) * self.half_size_extents
        page_count = (half_end - self.extent) * extent_size_pages - self.page
        page_count -= (half_end - self.extent) * (PAGES_MAX + 2)
        needed = sum(len(record) for record, _ in self.buffered) + sum(len(record) for record in records)
        if needed > page_count * PAGE_SIZE_BYTES:
            raise FullError

    def _compact(self) -> None:
        self.generation += 1
        first = self.generation % 2 * self.half_size_extents
        for extent in range(first, first + self.half_size_extents):
            self.medium.reset(extent)
        self.extent, self.page = first, 0
        for key in sorted(self.entries):
            self._append(self._encode(_ENTRIES, [(key, self.entries[key])]))
        self.issued += [dependency for _, dependency in self.buffered]
        self.buffered.clear()
        self.medium.barrier()
        self._append(self._encode(_COMMIT, []))
        self._barrier()

    def _encode(self, kind: int, changes: Entries) -> bytes:
        body = bytearray()
        for key, payload in changes:
            body += _ENTRY.pack(len(key), _ABSENT if payload is None else len(payload)) + key + (payload or b"")
        self.sequence += 1
        record = _HEADER.pack(_MAGIC, kind, self.generation, self.sequence, len(body)) + body
        record += _CRC.pack(zlib.crc32(record))
        return record + bytes(-len(record) % PAGE_SIZE_BYTES)

    # -- opening

    def _recover(self) -> None:
        records = sorted(self._scan(), reverse=self.bug == "oldest record wins", key=lambda record: record[2])
        committed = [generation for kind, generation, _, _ in records if kind == _COMMIT]
        newest = max(committed, default=0)
        self.generation = newest  # one that was not committed is overwritten
        self.sequence = max((sequence for _, _, sequence, _ in records), default=0)
        for kind, generation, _, changes in records:
            if kind == _ENTRIES and generation == newest:
                forgetful = self.bug == "tombstones forgotten at opening"
                self._apply([change for change in changes if change[1] is not None or not forgetful])

    def _scan(self) -> Iterable[tuple[int, int, int, Entries]]:
        for extent in range(self.medium.extent_count):
            pages = self.medium.write_pointer(extent) if self.medium.zoned else self.medium.extent_size_pages
            content = self.medium.read(extent, 0, pages) if pages else b""
            for start in range(0, len(content), PAGE_SIZE_BYTES):
                record = self._decode(content, start)
                if record is not None:
                    yield record

    def _decode(self, content: bytes, start: int) -> tuple[int, int, int, Entries] | None:
        magic, kind, generation, sequence, body_size = _HEADER.unpack_from(content, start)
        end = start + _HEADER.size + body_size
        if magic != _MAGIC:
            return None
        whole = end + _CRC.size <= len(content) and content[end : end + _CRC.size] == _CRC.pack(
            zlib.crc32(content[start:end])
        )
        if not whole and self.bug == "torn record is an error":
            raise TornRecordError
        if not whole and self.bug != "checksum not checked":
            return None
        return kind, generation, sequence, list(_decode_entries(content[start + _HEADER.size : end]))


def _decode_entries(body: bytes) -> Iterable[tuple[bytes, bytes | None]]:
    at = 0
    while at + _ENTRY.size <= len(body):
        key_size, payload_size = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        key = body[at : at + key_size]
        at += key_size
        if payload_size == _ABSENT:
            yield key, None
        else:
            yield key, body[at : at + payload_size]
            at += payload_size


class ToyModel:
    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes:
        if key not in self.entries:
            raise KeyMissingError(key)
        return self.entries[key]

    def put(self, key: bytes, payload: bytes) -> None:
        self.entries[key] = payload

    def delete(self, key: bytes) -> None:
        if key not in self.entries:
            raise KeyMissingError(key)
        del self.entries[key]

    def put_group(self, group: Sequence[bytes], payload: bytes) -> int:
        for key in group:
            self.entries[key] = payload
        return len(set(group))


def read_entry(subject: ToyStore | ToyModel, key: bytes) -> bytes | None:
    return subject.entries.get(key)


def settle_entry(model: ToyModel, key: bytes, outcome: bytes | None) -> None:
    if outcome is None:
        model.entries.pop(key, None)
    else:
        model.entries[key] = outcome


def all_entries(subject: ToyStore | ToyModel) -> Mapping[bytes, bytes]:
    return dict(subject.entries)


def same_count(system: ToyStore, model: ToyModel) -> None:
    count = len(system.entries) + (system.bug == "count off by one" and len(system.entries) == 3)
    if count != len(model.entries):
        raise ViolationError("same count", count, len(model.entries))


def _shape(device: DeviceModel) -> MediumShape:
    return MediumShape(EXTENT_COUNT, EXTENT_SIZE_PAGES, PAGE_SIZE_BYTES, device, 32)


CONFIGURATIONS = (
    Configuration("zoned", (_shape(ZONED),)),
    Configuration("file", (_shape(FILE),)),
)


def toy_spec(bug: str = "", *, steps_mean: int = 30) -> Spec:
    """The spec of the toy store, clean or with one of `BUGS`."""
    if bug and bug not in BUGS:
        raise ValueError(f"no such bug: {bug}")
    system: Callable[[Any], ToyStore] = lambda world: ToyStore(world, bug)  # noqa: E731 - named by the spec
    small = payloads(PAGE_SIZE_BYTES, pages_max=PAGES_MAX, overhead_bytes=_HEADER.size + _ENTRY.size + 1 + _CRC.size)
    return Spec(
        "toy",
        system=system,
        model=ToyModel,
        operations=[
            Operation("get", key=keys),
            Operation("put", key=keys, payload=small, weight=6, writes="key"),
            Operation("delete", key=keys, weight=2, writes="key"),
            Operation(
                "put_group",
                group=lists_of(keys, 3, size_min=1),
                payload=small,
                weight=2,
                writes=lambda arguments, result: [arguments["group"]],
            ),
            Background("flush"),
            Background("issue"),
            Background("compact"),
            WriteBack(weight=4),
            Reboot(),
            Crash(flushes=["issue"]),
        ],
        configurations=CONFIGURATIONS,
        contents=all_entries,
        durability=Durability(read=read_entry, settle=settle_entry),
        invariants=[same_count],
        errors=(KeyMissingError,),
        excuses=(FullError,),
        steps_mean=steps_mean,
    )


SPEC = toy_spec()

__all__ = ["BUGS", "CONFORMANCE_BUGS", "CRASH_BUGS", "SPEC", "ToyModel", "ToyStore", "toy_spec"]
