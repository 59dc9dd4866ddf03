"""A kernel on simulated media: the system calls of `FileDisk` for its spec, with what a real one may do to them.

    medium 0   extent 0: the bytes of the one file          extent 1: its size
    medium 1   extent 0: whether the folder has its name
    medium 2   extent 0: whether the machine has been up since: memory, all of which a power cut takes

So what a crash may leave of bytes, size and name is what the harness leaves of the media. A page of them is a sector of
the file. One `Kernel` is one process: descriptors and lock die with it, and the cache outlives it.

Legal freedom is left to the seam: each ``pread`` and ``pwrite`` may be short. A `Fault` is asked for by the caller.

A failed ``fdatasync`` does the worst that is known of real ones. Any of the sectors that wait to be written are lost.
The cache still shows them as written, and they wait for nothing, so that the next ``fdatasync`` succeeds. `forget`
drops such sectors from the cache, as does a power cut; they go at no other time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness import FILE, DeviceMisuseError, Entry, Loss, MediumShape, World
from shardstore.system_calls import PathLike

SECTOR_SIZE_BYTES = 2
PATH = "disk"

_BYTES, _SIZE = 0, 1  # extents of the file's medium
_SET = b"\1" * SECTOR_SIZE_BYTES
_FIRST_DESCRIPTOR = 3  # those before are the standard streams
_FOLDER, _FILE, _OTHER_FILE = "folder", "file", "other file"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next call that moves bytes, once it has moved some, or to the next ``fdatasync``."""

    after_bytes: int
    kind: Literal["EIO", "EINTR", "ENOSPC", "takes nothing"]


class Memory:
    """A device of which a power cut leaves nothing. That counts as no loss, since nobody was promised anything."""

    name = "memory"
    has_write_pointer = False
    survives_in_order = False
    tears_in_order = False
    unit = "page"

    def unit_size_bytes(self, shape: MediumShape) -> int:
        return shape.page_size_bytes

    def fresh(self, extent_size_bytes: int) -> bytes:
        return bytes(extent_size_bytes)

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        return content[:start] + data + content[start + len(data) :]

    def emptied(self, content: bytes) -> bytes | None:
        return None

    def survivors(
        self,
        entries: Sequence[Entry],
        content: bytes,
        shape: MediumShape,
        choose: Callable[[str, int], int],
        losses: list[Loss],
    ) -> bytes:
        return entries[0].before

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        return 1


def media(file_size_bytes: int) -> tuple[MediumShape, MediumShape, MediumShape]:
    """The media of a kernel whose file has room for so many bytes."""
    return (
        MediumShape(2, -(-file_size_bytes // SECTOR_SIZE_BYTES), SECTOR_SIZE_BYTES, FILE),
        MediumShape(1, 1, SECTOR_SIZE_BYTES, FILE),
        MediumShape(1, 1, SECTOR_SIZE_BYTES, Memory()),
    )


class Kernel:
    """See the module. Raises `DeviceMisuseError` for what no program should ever ask."""

    def __init__(self, world: World) -> None:
        self._file, self._folder, memory = world.media
        self._choose = world.seam.choose
        self._cached: dict[int, bytes] = world.kept.setdefault("cached", {})  # sectors that the device does not have
        if memory.read(0, 0, 1) != _SET:
            self._cached.clear()  # the power was off
            memory.write(0, 0, _SET)
        self._descriptors: dict[int, str] = {}
        self._locked_by: int | None = None
        self._pid = 1
        self.fault: Fault | None = None

    # --- what the checks ask ------------------------------------------------------------------------

    def open_files(self) -> tuple[str, ...]:
        return tuple(self._descriptors.values())

    def is_locked(self) -> bool:
        return self._locked_by is not None

    def fork(self) -> None:
        """Go on as the child, which has the same descriptors."""
        self._pid += 1

    def end_child(self) -> None:
        self._pid -= 1

    def open_other_file(self) -> int:
        """Open a file that is none of the disk's business, under the number that was closed last."""
        return self._enter(_OTHER_FILE)

    def close_other_files(self) -> None:
        for number in [number for number, what in self._descriptors.items() if what == _OTHER_FILE]:
            del self._descriptors[number]

    # --- files and descriptors ----------------------------------------------------------------------

    def open(self, path: PathLike, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECTORY:
            return self._enter(_FOLDER)
        is_there = path == PATH and self._folder.read(0, 0, 1) == _SET
        if flags & os.O_CREAT and is_there and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "File exists")
        if not is_there and not flags & os.O_CREAT:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if not is_there:
            self._folder.write(0, 0, _SET)
        return self._enter(_FILE)

    def _enter(self, what: str) -> int:
        number = next(number for number in range(_FIRST_DESCRIPTOR, 1 << 10) if number not in self._descriptors)
        self._descriptors[number] = what
        return number

    def close(self, descriptor: int) -> None:
        self._check(descriptor, _FILE, _FOLDER)
        del self._descriptors[descriptor]
        if self._locked_by == descriptor:
            self._locked_by = None

    def unlink(self, path: PathLike) -> None:
        self._folder.write(0, 0, bytes(SECTOR_SIZE_BYTES))

    def lock(self, descriptor: int) -> None:
        self._check(descriptor, _FILE)
        if self._locked_by not in (None, descriptor):
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
        self._locked_by = descriptor

    def getpid(self) -> int:
        return self._pid

    def _check(self, descriptor: int, *allowed: str) -> None:
        what = self._descriptors.get(descriptor)
        if what is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if what not in allowed:
            raise DeviceMisuseError("another file was used", f"descriptor {descriptor} is a {what} by now")

    # --- size ---------------------------------------------------------------------------------------

    def size(self, descriptor: int) -> int:
        self._check(descriptor, _FILE)
        return int.from_bytes(self._file.read(_SIZE, 0, 1), "little")

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._check(descriptor, _FILE)
        self._file.write(_SIZE, 0, size.to_bytes(SECTOR_SIZE_BYTES, "little"))

    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        self.ftruncate(descriptor, max(self.size(descriptor), offset + size))

    # --- bytes --------------------------------------------------------------------------------------

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        left = max(0, min(size, self.size(descriptor) - offset))
        count = self._count(left)
        if not count:
            return b""
        first, end = _sectors_of(offset, count)
        start = offset - first * SECTOR_SIZE_BYTES
        return self._sectors(first, end)[start : start + count]

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        size = self.size(descriptor)
        count = self._count(len(data))
        if not count:
            return 0
        first, end = _sectors_of(offset, count)
        start = offset - first * SECTOR_SIZE_BYTES
        sectors = self._sectors(first, end)
        self._file.write(_BYTES, first, sectors[:start] + bytes(data[:count]) + sectors[start + count :])
        for sector in range(first, end):
            self._cached.pop(sector, None)
        if offset + count > size:
            self.ftruncate(descriptor, offset + count)
        return count

    def _count(self, size: int) -> int:
        """How many of so many bytes a call moves: what it is asked for, or some. Raises the fault that is due."""
        if self.fault is None:
            return (size, min(size, 1), -(-size // 2), max(min(size, 1), size - 1))[self._choose(4)]
        count = min(self.fault.after_bytes, size)
        if not count:
            self._fail(self.fault)
        self.fault = replace(self.fault, after_bytes=self.fault.after_bytes - count)
        return count

    def _fail(self, fault: Fault) -> None:
        if fault.kind != "takes nothing":
            self.fault = None
            code = getattr(errno, fault.kind)
            raise OSError(code, os.strerror(code))

    def _sectors(self, first: int, end: int) -> bytes:
        data = self._file.read(_BYTES, first, end - first)
        if not self._cached:
            return data
        size = SECTOR_SIZE_BYTES
        pieces = [data[at * size : (at + 1) * size] for at in range(end - first)]
        return b"".join([self._cached.get(first + at, piece) for at, piece in enumerate(pieces)])

    # --- syncing ------------------------------------------------------------------------------------

    def fsync(self, descriptor: int) -> None:
        self._check(descriptor, _FILE, _FOLDER)
        if self._descriptors[descriptor] == _FOLDER:
            self._folder.barrier()
        else:
            self._file.barrier()

    def fdatasync(self, descriptor: int) -> None:
        self._check(descriptor, _FILE)
        if self.fault is not None:
            self._lose_sectors()
            self._fail(self.fault)
        self._file.barrier()

    def _lose_sectors(self) -> None:
        """Let the device have some of the sectors that wait to be written, and the others never."""
        entries = self._file.open_entries().get(_BYTES, [])
        if not entries:
            return
        held = self._file.survivors(entries, lambda _, count: self._choose(count), [])
        for entry in entries:
            for sector in range(entry.page, entry.page + len(entry.data or b"") // SECTOR_SIZE_BYTES):
                self._cached[sector] = self._sectors(sector, sector + 1)
        self._file.hold([held, *self._file.contents()[1:]])

    def forget(self, descriptor: int) -> None:
        self._check(descriptor, _FILE)
        self._cached.clear()


def _sectors_of(offset: int, count: int) -> tuple[int, int]:
    """The first sector that these bytes touch, and the one behind the last."""
    return offset // SECTOR_SIZE_BYTES, -(-(offset + count) // SECTOR_SIZE_BYTES)
