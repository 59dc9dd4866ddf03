"""The file log: records every change of one file, at the border to the operating system.

A `FileLog` is a context. Within it, the functions of `os` that change files are replaced in this process. So it sees
the calls of all code, and records their changes of the one file:

    create, size, write, sync           by descriptor, in the order in which they were done
    name                                the folder was synced, so the file's name is on the disk

A call that changes the file in a way that is not recorded raises `FileLogError`; `check_complete` finds changes that go
past `os` altogether. A sync is only noted, not passed on, since what is judged are images built from the log. `urandom`
is replaced too, by a stream that follows from the seed, so that the same run writes the same bytes again.

The process can be made to die (`die_after`). The call that is due then is done in part or not at all, and raises
`ProcessDied`. So does every later call: otherwise clean-up code could still write to the file while the stack unwinds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

SECTOR_SIZE_BYTES: Final = 512
BLOCK_SIZE_BYTES: Final = 4096  # a dying write has done whole blocks, since the cache takes them one by one

# Functions that could change the file without a record of it.
_REFUSED_FOR_DESCRIPTOR = ("write", "writev", "pwritev", "sendfile", "truncate", "fdopen")
_REFUSED_FOR_PATH = ("truncate", "rename", "replace", "link", "unlink", "remove")


class Kind(Enum):
    """Kinds of entries; see the module."""

    CREATE = "create"
    SIZE = "size"
    WRITE = "write"
    SYNC = "sync"
    NAME = "name"


class Entry(NamedTuple):
    """One change of the file, or a sync that has completed."""

    kind: Kind
    offset_bytes: int = 0  # of a write; of a change of size, the new size
    data: bytes = b""


class FileLogError(BaseException):
    """The file is used in a way that cannot be recorded. No `Exception`, so that no code under test swallows it."""


class ProcessDied(BaseException):
    """The process is dead and does nothing to its file any more."""


class FileLog:
    """Records the changes of the file at ``path``; see the module."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.entries: list[Entry] = []
        self._path = os.path.abspath(path)
        self._folder = os.path.dirname(self._path)
        self._stream = seed.to_bytes(16, "big", signed=True)
        self._identifiers_count = 0
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._replaced: dict[str, Any] = {}
        self._base: bytes | None = None
        self._left_count: int | None = None
        self._part = 0.0
        self._is_dead = False

    def __enter__(self) -> Self:
        self._base = Path(self._path).read_bytes() if os.path.exists(self._path) else None
        replacements: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "close": self._close,
            "pwrite": self._pwrite,
            "ftruncate": self._ftruncate,
            "posix_fallocate": self._posix_fallocate,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "urandom": self._urandom,
        }
        for name in dict.fromkeys((*_REFUSED_FOR_DESCRIPTOR, *_REFUSED_FOR_PATH)):
            replacements[name] = self._refusing(name)
        for name, replacement in replacements.items():
            self._replaced[name] = getattr(os, name)
            setattr(os, name, replacement)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, function in self._replaced.items():
            setattr(os, name, function)
        for descriptor in sorted(self._files | self._folders):
            os.close(descriptor)

    def die_after(self, entries_count: int, part: float) -> None:
        """Let the process die after ``entries_count`` more entries; of a write due then, ``part`` (0 to 1) is done."""
        self._left_count = entries_count
        self._part = part

    def restart(self) -> None:
        """Begin a new process: it has none of the old one's descriptors, and does not die unless told to."""
        self._is_dead = False
        self._left_count = None
        for descriptor in sorted(self._files | self._folders):
            os.close(descriptor)

    def check_complete(self) -> None:
        """Raise `FileLogError` if the content of the file does not follow from the log."""
        held = Path(self._path).read_bytes() if os.path.exists(self._path) else None
        content = None if self._base is None else bytearray(self._base)
        for entry in self.entries:
            content = apply_entry(bytearray() if content is None else content, entry)
        if held != content:
            raise FileLogError(f"{self._path} was changed past the functions of os that are recorded")

    # --- what stands in for the functions of os -----------------------------------------------------

    def _open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        absolute = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        if absolute == self._path and flags & os.O_TRUNC:
            raise FileLogError("opening with O_TRUNC is not recorded")

        def opening() -> int:
            descriptor: int = self._replaced["open"](path, flags, *arguments, **options)
            return descriptor

        creates = absolute == self._path and flags & os.O_CREAT and not os.path.exists(self._path)
        descriptor: int = self._do(Entry(Kind.CREATE), opening) if creates else opening()
        if absolute == self._path:
            self._files.add(descriptor)
        elif absolute == self._folder:
            self._folders.add(descriptor)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._files.discard(descriptor)
        self._folders.discard(descriptor)
        self._replaced["close"](descriptor)

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        if descriptor not in self._files:
            written: int = self._replaced["pwrite"](descriptor, data, offset)
            return written
        self._do(Entry(Kind.WRITE, offset, bytes(data)), lambda: self._write_whole(descriptor, bytes(data), offset))
        return len(data)

    def _write_whole(self, descriptor: int, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += self._replaced["pwrite"](descriptor, data[done:], offset + done)

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._resize(descriptor, size, lambda: self._replaced["ftruncate"](descriptor, size))

    def _posix_fallocate(self, descriptor: int, offset: int, length: int) -> None:
        size = max(os.fstat(descriptor).st_size, offset + length)
        self._resize(descriptor, size, lambda: self._replaced["posix_fallocate"](descriptor, offset, length))

    def _resize(self, descriptor: int, size: int, resize: Callable[[], None]) -> None:
        if descriptor in self._files:
            self._do(Entry(Kind.SIZE, size), resize)
        else:
            resize()

    def _fsync(self, descriptor: int) -> None:
        """Note a sync without doing it: images are judged, so that the sync itself would only cost time."""
        if descriptor in self._files:
            self._do(Entry(Kind.SYNC), lambda: None)
        elif descriptor in self._folders:
            self._do(Entry(Kind.NAME), lambda: None)
        else:
            self._replaced["fsync"](descriptor)

    def _urandom(self, size: int) -> bytes:
        self._identifiers_count += 1
        return blake2b(self._stream + self._identifiers_count.to_bytes(8, "big"), digest_size=size).digest()

    def _refusing(self, name: str) -> Callable[..., Any]:
        def refuse(target: Any, *arguments: Any, **options: Any) -> Any:
            if self._is_the_file(target):
                if self._is_dead:
                    raise ProcessDied
                raise FileLogError(f"os.{name} of the file is not recorded")
            return self._replaced[name](target, *arguments, **options)

        return refuse

    def _is_the_file(self, target: Any) -> bool:
        if isinstance(target, int):
            return target in self._files
        return os.path.abspath(os.fsdecode(target)) == self._path

    def _do(self, entry: Entry, change: Callable[[], Any]) -> Any:
        if self._is_dead:
            raise ProcessDied
        if self._left_count == 0:
            self._die(entry)
        elif self._left_count is not None:
            self._left_count -= 1
        result = change()
        self.entries.append(entry)
        return result

    def _die(self, entry: Entry) -> None:
        self._is_dead = True
        if entry.kind is Kind.WRITE:
            blocks_count = -(-len(entry.data) // BLOCK_SIZE_BYTES)
            done = entry.data[: int(self._part * (blocks_count + 1)) * BLOCK_SIZE_BYTES]
            if done:
                # Any descriptor of the file will do.
                self._write_whole(min(self._files), done, entry.offset_bytes)
                self.entries.append(entry._replace(data=done))
        raise ProcessDied


# --- what an entry does to a file's content -----------------------------------------------------------


def unit_count(entry: Entry) -> int:
    """The number of units that a power cut may take one by one: the sectors of a write, or 1 for a change of size."""
    if entry.kind is Kind.WRITE:
        first = entry.offset_bytes // SECTOR_SIZE_BYTES
        return -(-(entry.offset_bytes + len(entry.data)) // SECTOR_SIZE_BYTES) - first
    return 1 if entry.kind is Kind.SIZE else 0


def apply_entry(content: bytearray, entry: Entry, lost_units: Sequence[int] = ()) -> bytearray:
    """Do one entry to a file's content, without the units that are lost."""
    if entry.kind is Kind.SIZE and not lost_units:
        del content[entry.offset_bytes :]
        content.extend(bytes(entry.offset_bytes - len(content)))
    elif entry.kind is Kind.WRITE and not lost_units:
        _write(content, entry.offset_bytes, entry.data)
    elif entry.kind is Kind.WRITE:
        first = entry.offset_bytes // SECTOR_SIZE_BYTES
        for unit in range(unit_count(entry)):
            if unit not in lost_units:
                start = max((first + unit) * SECTOR_SIZE_BYTES - entry.offset_bytes, 0)
                end = (first + unit + 1) * SECTOR_SIZE_BYTES - entry.offset_bytes
                _write(content, entry.offset_bytes + start, entry.data[start:end])
    return content


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
