"""The system calls of a disk in a file: all of them, and nothing else of the operating system.

`FileDisk` is given a `SystemCalls` and asks nothing but that, so that a fake can stand in. The methods are those of
`os`, except `size`, `lock` and `forget`. They report trouble by `OSError`.

``EINTR`` needs no loop. Python itself calls again when a signal has interrupted a call, unless the handler raises
(PEP 475). An `InterruptedError` that comes out all the same is an `OSError` like any other.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, Protocol

PathLike = str | os.PathLike[str]


class SystemCalls(Protocol):
    def open(self, path: PathLike, flags: int, mode: int = 0o777) -> int: ...
    def close(self, descriptor: int) -> None: ...
    def unlink(self, path: PathLike) -> None: ...
    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None: ...
    def ftruncate(self, descriptor: int, size: int) -> None: ...
    def fsync(self, descriptor: int) -> None: ...
    def fdatasync(self, descriptor: int) -> None: ...
    def getpid(self) -> int: ...

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """May give fewer bytes than asked for; none only at the end of the file."""

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """May take fewer bytes than given; answers how many."""

    def size(self, descriptor: int) -> int:
        """The size of the file in bytes."""

    def lock(self, descriptor: int) -> None:
        """Take the file for this descriptor and its copies, or raise `OSError` at once. Closing the last lets it go."""

    def forget(self, descriptor: int) -> None:
        """Drop from the cache what is not waiting to be written, so that reads ask the device. Only a hint."""


class OperatingSystem:
    """The real ones. Those that use a file are looked up in `os` when called: a recorder may stand there by then."""

    getpid = staticmethod(os.getpid)

    def open(self, path: PathLike, flags: int, mode: int = 0o777) -> int:
        return os.open(path, flags, mode)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def unlink(self, path: PathLike) -> None:
        os.unlink(path)

    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        os.posix_fallocate(descriptor, offset, size)

    def ftruncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def lock(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def forget(self, descriptor: int) -> None:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


OPERATING_SYSTEM: Final = OperatingSystem()
