"""The file disk: a disk in one preallocated file.

    offset 0           4096                4096 + extent size
           | label     | extent 0          | extent 1  ...

The label says that this is such a disk, with its format version and its geometry. It is written when the file is made
and never again. Reads and writes are positioned, and the barrier is ``fdatasync``. An advisory lock keeps a second
opener out. A file has no write pointers of its own (``zoned`` is False), and ``reset`` leaves the bytes alone.

A power cut leaves any subset of the sectors of unsynced writes. A killed process loses no write that has returned,
since its bytes are in the operating system's cache.

What a system call took or gave short is asked for again (DISK-1). A write that fails may have left a prefix of its
bytes; the disk goes on. A barrier that fails is different. The operating system may have dropped what it could not
write, and then the next ``fdatasync`` succeeds. So after one failure all writes and barriers are refused until the disk
is opened again, while reads go on (DISK-2). Barriers come one at a time, as the IO scheduler sees to. Opening asks the
operating system to forget what it has cached, since that may be what it could not write (DISK-3).

A disk belongs to the process that opened it (DISK-4). A child that was forked has the descriptor, and the lock with it;
its calls are refused, except `close`. The lock is gone once all of them have closed it.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

from crc32c import crc32c

from shardstore.errors import ConfigurationError, CorruptionError, DiskError, FormatVersionError
from shardstore.system_calls import OPERATING_SYSTEM, PathLike, SystemCalls

LABEL_SIZE_BYTES = 4096
_ZEROS_SIZE_BYTES = 1 << 20  # written at once while a file is filled
FORMAT_VERSION = 3
_MAGIC = b"ShardDsk"
_LABEL = struct.Struct("<8sHIII")  # magic, version, extents, pages an extent, bytes a page; then a CRC-32C
_CHECKSUM = struct.Struct("<I")
_NUMBER_MAX = (1 << 32) - 1  # the largest that the label has room for
_FILE_SIZE_MAX_BYTES = (1 << 63) - 1  # the largest file offset
_CLOSED = -1  # in place of a descriptor
_NOBODY = -1  # in place of a process id

Pread = Callable[[int, int, int], bytes]
Pwrite = Callable[[int, bytes | memoryview, int], int]


class FileDisk:
    """Open one with `create` or `open`; `close` it, or use it as a context manager."""

    zoned = False

    def __init__(
        self, calls: SystemCalls, descriptor: int, extent_count: int, extent_size_pages: int, page_size_bytes: int
    ) -> None:
        self._calls = calls
        # Bound once, for the hot path.
        self._getpid = calls.getpid
        self._pread = calls.pread
        self._pwrite = calls.pwrite
        self._fdatasync = calls.fdatasync
        self._descriptor = descriptor
        self.holder: object = None
        self._owner = calls.getpid()  # the process that opened it; `_NOBODY` once it is closed
        self._barrier_failed = False
        self.extent_count = extent_count
        self.extent_size_pages = extent_size_pages
        self.page_size_bytes = page_size_bytes
        self._extent_size_bytes = extent_size_pages * page_size_bytes

    @classmethod
    def create(
        cls,
        path: PathLike,
        *,
        extent_count: int,
        extent_size_pages: int,
        page_size_bytes: int = 4096,
        preallocate: bool = True,
        write_zeros: bool = False,
        progress: Callable[[int, int], None] = lambda done_bytes, size_bytes: None,
        calls: SystemCalls = OPERATING_SYSTEM,
    ) -> Self:
        """Make a new file. Raises `FileExistsError`, `ConfigurationError`, and `DiskError` if it cannot be made.

        A file that is only preallocated makes the operating system note each block that is written first, so that a
        barrier takes about twice as long until all have been. ``write_zeros`` writes them all once, here, and tells
        ``progress`` after each slab how many bytes of how many are done.

        What it has made of a file that cannot be made whole is removed (DISK-5).
        """
        size_bytes = _file_size_bytes(extent_count, extent_size_pages, page_size_bytes)
        try:
            descriptor = calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror or error}") from error
        try:
            disk = cls(calls, descriptor, extent_count, extent_size_pages, page_size_bytes)
            disk._lock(path)
            if preallocate:
                calls.posix_fallocate(descriptor, 0, size_bytes)
            else:
                calls.ftruncate(descriptor, size_bytes)
            if write_zeros:
                _write_zeros(calls, descriptor, size_bytes, progress)
            label = _LABEL.pack(_MAGIC, FORMAT_VERSION, extent_count, extent_size_pages, page_size_bytes)
            _write_all(calls.pwrite, descriptor, label + _CHECKSUM.pack(crc32c(label)), 0)
            calls.fsync(descriptor)
            _sync_folder(calls, Path(path).parent)
        except BaseException as error:
            try:
                with suppress(OSError):
                    calls.unlink(path)  # while it is locked, so that nobody opens half a file
            finally:
                _give_up(calls, descriptor, path, error)
        return disk

    @classmethod
    def open(cls, path: PathLike, *, calls: SystemCalls = OPERATING_SYSTEM) -> Self:
        """Open an existing file. Raises `DiskError`, `CorruptionError`, `FormatVersionError`."""
        try:
            descriptor = calls.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror or error}") from error
        try:
            disk = cls(calls, descriptor, *_read_label(calls, descriptor, path))
            disk._lock(path)
            calls.forget(descriptor)
        except BaseException as error:
            _give_up(calls, descriptor, path, error)
        return disk

    def _lock(self, path: PathLike) -> None:
        try:
            self._calls.lock(self._descriptor)
        except OSError:
            raise DiskError(f"{path}: in use by another process, or opened twice by this one") from None

    def close(self) -> None:
        """Let go of the file. Writes since the last barrier are left to the operating system."""
        descriptor, self._descriptor, self._owner = self._descriptor, _CLOSED, _NOBODY
        if descriptor != _CLOSED:
            self._calls.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the disk -----------------------------------------------------------------------------------

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        if self._getpid() != self._owner:
            self._refuse()
        size = page_count * self.page_size_bytes
        data = _read_all(self._pread, self._descriptor, size, self._offset(extent, page))
        if len(data) < size:
            raise OSError(f"the file ends within extent {extent}")
        return data

    def write(self, extent: int, page: int, data: bytes) -> None:
        if self._barrier_failed or self._getpid() != self._owner:
            self._refuse()
        _write_all(self._pwrite, self._descriptor, data, self._offset(extent, page))

    def reset(self, extent: int) -> None:
        """Do nothing: pages past the soft pointer are never read, and are overwritten before it passes them."""

    def barrier(self) -> None:
        if self._barrier_failed or self._getpid() != self._owner:
            self._refuse()
        try:
            self._fdatasync(self._descriptor)
        except OSError:
            self._barrier_failed = True  # DISK-2
            raise

    def _refuse(self) -> NoReturn:
        """Say why this call is refused, without asking the operating system for anything."""
        if self._owner == _NOBODY:
            raise OSError(errno.EBADF, "the disk is closed")
        if self._owner != self._getpid():
            raise OSError(errno.EPERM, "the disk belongs to the process that opened it, and this is another")
        raise OSError(errno.EIO, "a barrier of the disk has failed; it takes no more until it is opened again")

    def write_pointer(self, extent: int) -> int:
        raise io.UnsupportedOperation("a file has no write pointers: `zoned` is False")

    def _offset(self, extent: int, page: int) -> int:
        return LABEL_SIZE_BYTES + extent * self._extent_size_bytes + page * self.page_size_bytes


def _write_zeros(calls: SystemCalls, descriptor: int, size_bytes: int, progress: Callable[[int, int], None]) -> None:
    zeros = bytes(_ZEROS_SIZE_BYTES)
    for start in range(0, size_bytes, _ZEROS_SIZE_BYTES):
        end = min(size_bytes, start + _ZEROS_SIZE_BYTES)
        _write_all(calls.pwrite, descriptor, zeros[: end - start], start)
        progress(end, size_bytes)


def _file_size_bytes(extent_count: int, extent_size_pages: int, page_size_bytes: int) -> int:
    """The size of the file of a disk. Raises `ConfigurationError` if no file can hold it, or no label describe it."""
    geometry = (extent_count, extent_size_pages, page_size_bytes)
    if min(geometry) < 1:
        raise ConfigurationError("a disk has at least one extent of one page of one byte")
    if max(geometry) > _NUMBER_MAX:
        raise ConfigurationError(f"extents, pages an extent and bytes a page are at most {_NUMBER_MAX}")
    size_bytes = LABEL_SIZE_BYTES + extent_count * extent_size_pages * page_size_bytes
    if size_bytes > _FILE_SIZE_MAX_BYTES:
        raise ConfigurationError(f"a disk of {size_bytes} bytes is larger than any file")
    return size_bytes


def _read_label(calls: SystemCalls, descriptor: int, path: PathLike) -> tuple[int, int, int]:
    label = _read_all(calls.pread, descriptor, _LABEL.size + _CHECKSUM.size, 0)
    if not label.startswith(_MAGIC) or len(label) < _LABEL.size + _CHECKSUM.size:
        raise CorruptionError(0, 0, f"{path} is not a disk of this store")
    _, version, extent_count, extent_size_pages, page_size_bytes = _LABEL.unpack_from(label)
    (checksum,) = _CHECKSUM.unpack_from(label, _LABEL.size)
    if checksum != crc32c(label[: _LABEL.size]):
        raise CorruptionError(0, 0, f"{path}: the label is damaged")
    if version != FORMAT_VERSION:
        raise FormatVersionError(version)
    if calls.size(descriptor) < LABEL_SIZE_BYTES + extent_count * extent_size_pages * page_size_bytes:
        raise CorruptionError(0, 0, f"{path} is shorter than its label says")
    return extent_count, extent_size_pages, page_size_bytes


def _read_all(pread: Pread, descriptor: int, size: int, offset: int) -> bytes:
    """The bytes asked for, or fewer where the file ends."""
    data = pread(descriptor, size, offset)
    while len(data) < size:
        more = pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write_all(pwrite: Pwrite, descriptor: int, data: bytes, offset: int) -> None:
    done = taken = pwrite(descriptor, data, offset)
    while done < len(data):
        if not taken:
            raise OSError(errno.ENOSPC, "the device takes no bytes")  # asking again might never end
        taken = pwrite(descriptor, memoryview(data)[done:], offset + done)
        done += taken


def _give_up(calls: SystemCalls, descriptor: int, path: PathLike, error: BaseException) -> NoReturn:
    """Close the file and raise the error, as a `DiskError` if the operating system has raised it."""
    with suppress(OSError):  # it is closed all the same, and the error says more
        calls.close(descriptor)
    if isinstance(error, OSError):
        raise DiskError(f"{path}: {error.strerror or error}") from error
    raise error


def _sync_folder(calls: SystemCalls, path: Path) -> None:
    descriptor = calls.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        calls.fsync(descriptor)
    finally:
        calls.close(descriptor)
