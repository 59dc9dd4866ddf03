"""The file disk: a disk in one preallocated file.

    offset 0           4096                4096 + extent size
           | label     | extent 0          | extent 1  ...

The label says that this is such a disk, with its format version and its geometry. It is written when the file is made
and never again. Reads and writes are positioned, and the barrier is ``fdatasync``. An advisory lock keeps a second
process out. A file has no write pointers of its own (``zoned`` is False), and ``reset`` leaves the bytes alone.

A power cut leaves any subset of the sectors of unsynced writes. A killed process loses no write that has returned,
since its bytes are in the operating system's cache.
"""

from __future__ import annotations

import fcntl
import io
import os
import struct
from pathlib import Path
from typing import Self

from crc32c import crc32c

from shardstore.errors import ConfigurationError, CorruptionError, DiskError, FormatVersionError

LABEL_SIZE_BYTES = 4096
FORMAT_VERSION = 2
_MAGIC = b"ShardDsk"
_LABEL = struct.Struct("<8sHIII")  # magic, version, extents, pages an extent, bytes a page; then a CRC-32C
_CHECKSUM = struct.Struct("<I")
_NUMBER_MAX = (1 << 32) - 1  # the largest that the label has room for
_FILE_SIZE_MAX_BYTES = (1 << 63) - 1  # the largest file offset


class FileDisk:
    """Open one with `create` or `open`; `close` it, or use it as a context manager."""

    zoned = False

    def __init__(self, descriptor: int, extent_count: int, extent_size_pages: int, page_size_bytes: int) -> None:
        self._descriptor = descriptor
        self.holder: object = None
        self.extent_count = extent_count
        self.extent_size_pages = extent_size_pages
        self.page_size_bytes = page_size_bytes
        self._extent_size_bytes = extent_size_pages * page_size_bytes

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        extent_count: int,
        extent_size_pages: int,
        page_size_bytes: int = 4096,
        preallocate: bool = True,
    ) -> Self:
        """Make a new file. Raises `FileExistsError`, `ConfigurationError`, and `DiskError` if it cannot be made."""
        size_bytes = _file_size_bytes(extent_count, extent_size_pages, page_size_bytes)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror or error}") from error
        try:
            disk = cls(descriptor, extent_count, extent_size_pages, page_size_bytes)
            disk._lock(path)
            if preallocate:
                os.posix_fallocate(descriptor, 0, size_bytes)
            else:
                os.ftruncate(descriptor, size_bytes)
            label = _LABEL.pack(_MAGIC, FORMAT_VERSION, extent_count, extent_size_pages, page_size_bytes)
            _write_all(descriptor, label + _CHECKSUM.pack(crc32c(label)), 0)
            os.fsync(descriptor)
            _sync_folder(Path(path).parent)
        except BaseException as error:
            os.close(descriptor)
            os.unlink(path)
            if isinstance(error, OSError):
                raise DiskError(f"{path}: {error.strerror or error}") from error
            raise
        return disk

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing file. Raises `DiskError`, `CorruptionError`, `FormatVersionError`."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror}") from error
        try:
            disk = cls(descriptor, *_read_label(descriptor, path))
            disk._lock(path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise DiskError(f"{path}: {error.strerror or error}") from error
            raise
        return disk

    def _lock(self, path: str | os.PathLike[str]) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DiskError(f"{path}: in use by another process") from None

    def close(self) -> None:
        """Let go of the file. Writes since the last barrier are left to the operating system."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the disk -----------------------------------------------------------------------------------

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        size = page_count * self.page_size_bytes
        data = os.pread(self._descriptor, size, self._offset(extent, page))
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), self._offset(extent, page) + len(data))
            if not more:
                raise OSError(f"the file ends within extent {extent}")
            data += more
        return data

    def write(self, extent: int, page: int, data: bytes) -> None:
        _write_all(self._descriptor, data, self._offset(extent, page))

    def reset(self, extent: int) -> None:
        """Do nothing: pages past the soft pointer are never read, and are overwritten before it passes them."""

    def barrier(self) -> None:
        os.fdatasync(self._descriptor)

    def write_pointer(self, extent: int) -> int:
        raise io.UnsupportedOperation("a file has no write pointers: `zoned` is False")

    def _offset(self, extent: int, page: int) -> int:
        return LABEL_SIZE_BYTES + extent * self._extent_size_bytes + page * self.page_size_bytes


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


def _read_label(descriptor: int, path: str | os.PathLike[str]) -> tuple[int, int, int]:
    label = os.pread(descriptor, _LABEL.size + _CHECKSUM.size, 0)
    if not label.startswith(_MAGIC) or len(label) < _LABEL.size + _CHECKSUM.size:
        raise CorruptionError(0, 0, f"{path} is not a disk of this store")
    _, version, extent_count, extent_size_pages, page_size_bytes = _LABEL.unpack_from(label)
    (checksum,) = _CHECKSUM.unpack_from(label, _LABEL.size)
    if checksum != crc32c(label[: _LABEL.size]):
        raise CorruptionError(0, 0, f"{path}: the label is damaged")
    if version != FORMAT_VERSION:
        raise FormatVersionError(version)
    if os.fstat(descriptor).st_size < LABEL_SIZE_BYTES + extent_count * extent_size_pages * page_size_bytes:
        raise CorruptionError(0, 0, f"{path} is shorter than its label says")
    return extent_count, extent_size_pages, page_size_bytes


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    done = os.pwrite(descriptor, data, offset)
    while done < len(data):
        done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
