"""A toy store in one file, for torturing; its bugs are planted by name.

    label (one page) | record | record | ...        each of one sector: length, CRC-32, body, zeros

Records are appended; the CRC of each goes on from that of the one before, so a chain ends where one is torn. Opening
reads the chain and appends a record of a fresh identifier: what an earlier process left behind the end belongs to no
chain any more. A dependency is persistent once a sync has passed its record.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.spec.device import MediumShape
from harness.spec.generators import keys, lists_of, payloads
from harness.spec.spec import Background, Configuration, Durability, OnFile, Operation, Reboot, Spec, WriteBack
from harness.world.devices import FILE

LABEL = b"toy on file, 1".ljust(4096, b"\0")
SECTOR_SIZE_BYTES = 512
BUFFERED_MAX = 4

# Each planted bug with the property that must catch it.
IMAGE_BUGS = {
    "no sync": "persistence",
    "persistent when written": "persistence",
    "label not synced": "recovery",
    "name not synced": "recovery",
    "opening does not settle": "persistence",
    "checksum not checked": "persistence",
    "torn record is an error": "recovery",
    "short file is an error": "recovery",
    "group in pieces": "persistence",
    "records not chained": "persistence",
}
KILL_BUGS = {
    "buffered in the process": "persistence",
    "stale answer": "conformance",
    "shutdown forgets a write": "forward progress",
    "fails when it has grown": "unexpected error",
}
BUGS = IMAGE_BUGS | KILL_BUGS

_HEADER = struct.Struct("<HI")
_ENTRY = struct.Struct("<BH")
_ABSENT = 0xFFFF

Entries = Sequence[tuple[bytes, bytes | None]]


class NotAToyError(Exception):
    """The file is not one of these, or was never whole."""


class KeyMissingError(Exception):
    """There is no such key."""


class Pending:
    def __init__(self, store: ToyOnFile) -> None:
        self._store = store
        self.persistent = False

    def is_persistent(self) -> bool:
        return self.persistent

    def is_failed(self) -> bool:
        return False

    def wait(self) -> None:
        self._store.flush()


class ToyOnFile:
    def __init__(self, descriptor: int, bug: str) -> None:
        self.bug = bug
        self.descriptor = descriptor
        self.entries: dict[bytes, bytes] = {}
        self.end = len(LABEL)
        self.chain = 0
        self.buffered: list[tuple[int, bytes]] = []  # of a planted bug
        self.unsynced: list[Pending] = []

    # -- requests

    def get(self, key: bytes) -> bytes:
        if key not in self.entries:
            raise KeyMissingError(key)
        if self.bug == "stale answer" and len(self.entries) > 2:
            return b"stale"
        return self.entries[key]

    def put(self, key: bytes, payload: bytes) -> Pending:
        if self.bug == "fails when it has grown" and self.end > 40 * SECTOR_SIZE_BYTES:
            raise RuntimeError("grown")
        return self._change([(key, payload)])

    def delete(self, key: bytes) -> Pending:
        return self._change([(key, None)])

    def put_group(self, group: Sequence[bytes], payload: bytes) -> Pending:
        changes: dict[bytes, bytes | None] = dict.fromkeys(group, payload)
        return self._change(list(changes.items()))

    def write_back(self, steps: int) -> None:
        if steps > 4:
            self.flush()

    def flush(self) -> None:
        if self.bug != "no sync":
            os.fdatasync(self.descriptor)
        for pending in self.unsynced:
            pending.persistent = True
        self.unsynced.clear()

    def shutdown(self) -> None:
        self._write_buffered()
        if self.bug == "shutdown forgets a write" and self.unsynced:
            self.unsynced.pop()
        self.flush()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _change(self, changes: Entries) -> Pending:
        pending = Pending(self)
        pieces = [[change] for change in changes] if self.bug == "group in pieces" else [changes]
        for piece in pieces:
            self._append(b"".join(map(_encode, piece)))
        self._apply(changes)
        pending.persistent = self.bug == "persistent when written"
        self.unsynced.append(pending)
        return pending

    def _apply(self, changes: Entries) -> None:
        for key, payload in changes:
            if payload is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = payload

    # -- the file

    def _append(self, body: bytes) -> None:
        self.chain = self._checksum(body)
        record = _HEADER.pack(len(body), self.chain) + body
        self.buffered.append((self.end, record.ljust(SECTOR_SIZE_BYTES, b"\0")))
        self.end += SECTOR_SIZE_BYTES
        if self.bug != "buffered in the process" or len(self.buffered) == BUFFERED_MAX:
            self._write_buffered()

    def _write_buffered(self) -> None:
        for offset, record in self.buffered:
            os.pwrite(self.descriptor, record, offset)
        self.buffered.clear()

    def recover(self) -> None:
        if self.bug != "opening does not settle":
            os.fdatasync(self.descriptor)
        while True:
            record = os.pread(self.descriptor, SECTOR_SIZE_BYTES, self.end)
            if len(record) < SECTOR_SIZE_BYTES or not self._take(record):
                break
            self.end += SECTOR_SIZE_BYTES
        self.start()

    def start(self) -> None:
        self._append(_encode((b"", os.urandom(8))))

    def _checksum(self, body: bytes) -> int:
        return zlib.crc32(body, 0 if self.bug == "records not chained" else self.chain)

    def _take(self, record: bytes) -> bool:
        size, checksum = _HEADER.unpack_from(record)
        body = record[_HEADER.size : _HEADER.size + size]
        chain = self._checksum(body)
        if not size or (chain != checksum and self.bug != "checksum not checked"):
            if size and self.bug == "torn record is an error":
                raise RuntimeError("torn record")
            return False
        self.chain = checksum
        self._apply(_decode(body))
        self.entries.pop(b"", None)
        return True


def _encode(change: tuple[bytes, bytes | None]) -> bytes:
    key, payload = change
    return _ENTRY.pack(len(key), _ABSENT if payload is None else len(payload)) + key + (payload or b"")


def _decode(body: bytes) -> list[tuple[bytes, bytes | None]]:
    changes: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at < len(body):
        key_size, payload_size = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        key = body[at : at + key_size]
        at += key_size
        if payload_size == _ABSENT:
            changes.append((key, None))
        else:
            changes.append((key, body[at : at + payload_size]))
            at += payload_size
    return changes


def create(path: Path, bug: str = "") -> ToyOnFile:
    store = ToyOnFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), bug)
    os.pwrite(store.descriptor, LABEL, 0)
    if bug != "label not synced":
        os.fsync(store.descriptor)
    if bug != "name not synced":
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    store.start()
    return store


def open_file(path: Path, bug: str = "") -> ToyOnFile:
    try:
        store = ToyOnFile(os.open(path, os.O_RDWR), bug)
    except FileNotFoundError:
        raise NotAToyError from None
    label = os.pread(store.descriptor, len(LABEL), 0)
    if bug == "short file is an error" and len(label) < len(LABEL):
        raise RuntimeError("short file")
    if label != LABEL:
        store.close()
        raise NotAToyError
    store.recover()
    return store


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
        self.entries.pop(key, None)

    def put_group(self, group: Sequence[bytes], payload: bytes) -> None:
        for key in group:
            self.entries[key] = payload


def read_entry(subject: ToyOnFile | ToyModel, key: bytes) -> bytes | None:
    return subject.entries.get(key)


def settle_entry(model: ToyModel, key: bytes, outcome: bytes | None) -> None:
    if outcome is None:
        model.entries.pop(key, None)
    else:
        model.entries[key] = outcome


def all_entries(subject: ToyOnFile | ToyModel) -> Mapping[bytes, bytes]:
    return dict(subject.entries)


def toy_spec(bug: str = "") -> Spec:
    """The spec of the toy, clean or with one of `BUGS`; on simulated media it does not run."""
    if bug and bug not in BUGS:
        raise ValueError(f"no such bug: {bug}")
    small = payloads(64, pages_max=1)
    return Spec(
        "toy on file",
        system=lambda world: None,
        model=ToyModel,
        operations=[
            Operation("get", key=keys),
            Operation("put", key=keys, payload=small, weight=6, writes="key"),
            Operation("delete", key=keys, weight=2, writes="key"),
            Operation(
                "put_group",
                group=lists_of(keys, 3, size_min=1),
                payload=small,
                weight=3,
                writes=lambda arguments, result: [arguments["group"]],
            ),
            Background("flush"),
            WriteBack(),
            Reboot(),
        ],
        configurations=(Configuration("unused", (MediumShape(1, 1, 512, device=FILE),)),),
        contents=all_entries,
        durability=Durability(read=read_entry, settle=settle_entry),
        errors=(KeyMissingError,),
        on_file=OnFile(
            create=lambda path: create(path, bug),
            open=lambda path: open_file(path, bug),
            close=ToyOnFile.close,
            refusals=(NotAToyError,),
            wait=Pending.wait,
        ),
    )
