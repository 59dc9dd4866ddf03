"""The disk in a file, where the operating system does less than it was asked for, or refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import SMALL, PlainSeam, page_of

from shardstore.dependency import FAILED, PERSISTENT, Write
from shardstore.errors import DiskError
from shardstore.file_disk import LABEL_SIZE_BYTES, FileDisk
from shardstore.spec_world import SmallStack
from shardstore.store import format_store, open_store
from shardstore.system_calls import OperatingSystem, PathLike

EXTENTS, PAGES, PAGE_SIZE = 20, 16, 128

Answer = int | OSError | None
"""What becomes of one call: so many bytes at most, an error, or, if None, what the real one does."""


class Scripted(OperatingSystem):
    """The real system calls, but for the next ones of some names. Keeps who was asked, and what is open."""

    def __init__(self, **script: list[Answer]) -> None:
        self.script = script
        self.asked: list[str] = []
        self.opened: set[int] = set()
        self.in_barrier: Callable[[], object] = lambda: None
        self.pid = os.getpid()

    def _next(self, name: str, size: int = 0) -> int:
        self.asked.append(name)
        answers = self.script.get(name)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, OSError):
            raise answer
        return size if answer is None else min(size, answer)

    def open(self, path: PathLike, flags: int, mode: int = 0o777) -> int:
        self._next("open folder" if flags & os.O_DIRECTORY else "open")
        descriptor = super().open(path, flags, mode)
        self.opened.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self.opened.remove(descriptor)
        super().close(descriptor)  # a real one that fails has closed the descriptor, too
        self._next("close")

    def unlink(self, path: PathLike) -> None:
        self._next("unlink")
        super().unlink(path)

    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        self._next("posix_fallocate")
        super().posix_fallocate(descriptor, offset, size)

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._next("ftruncate")
        super().ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        self._next("fsync")
        super().fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self.in_barrier()
        self._next("fdatasync")
        super().fdatasync(descriptor)

    def getpid(self) -> int:
        return self.pid

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return super().pread(descriptor, self._next("pread", size), offset)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        count = self._next("pwrite", len(data))
        return super().pwrite(descriptor, data[:count], offset)

    def size(self, descriptor: int) -> int:
        self._next("size")
        return super().size(descriptor)

    def lock(self, descriptor: int) -> None:
        self._next("lock")
        super().lock(descriptor)

    def forget(self, descriptor: int) -> None:
        self._next("forget")
        super().forget(descriptor)


def error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def create(path: Path, calls: Scripted, *, preallocate: bool = False) -> FileDisk:
    return FileDisk.create(
        path,
        extent_count=EXTENTS,
        extent_size_pages=PAGES,
        page_size_bytes=PAGE_SIZE,
        preallocate=preallocate,
        calls=calls,
    )


def uses_of(disk: FileDisk) -> list[Callable[[], object]]:
    return [lambda: disk.read(0, 0, 1), lambda: disk.write(0, 0, page_of("x")), lambda: disk.barrier()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk"


# --- short calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 25, 100, 127])
def test_disk_1_short_calls_are_taken_up_where_they_stopped(path: Path, count: int) -> None:
    short: list[Answer] = [count] * 1000
    data = bytes(range(256))
    with create(path, Scripted(pwrite=list(short), pread=list(short))) as disk:
        disk.write(3, 5, data)
        assert disk.read(3, 5, 2) == data
    calls = Scripted(pread=list(short))
    with FileDisk.open(path, calls=calls) as disk:  # the label, too
        assert (disk.extent_count, disk.extent_size_pages, disk.page_size_bytes) == (EXTENTS, PAGES, PAGE_SIZE)
        assert disk.read(3, 4, 4) == bytes(128) + data + bytes(128)
    assert path.read_bytes()[LABEL_SIZE_BYTES + (3 * PAGES + 5) * PAGE_SIZE :][:256] == data


@pytest.mark.parametrize("before", [0, 1, 100])
def test_disk_1_a_device_that_takes_no_bytes_is_an_error_and_no_loop(path: Path, before: int) -> None:
    calls = Scripted()
    with create(path, calls) as disk:
        answers: list[Answer] = [before] if before else []
        calls.script["pwrite"] = answers + [0] * 1000
        with pytest.raises(OSError, match="takes no bytes") as caught:
            disk.write(0, 0, page_of("a"))
        assert caught.value.errno == errno.ENOSPC
        calls.script.clear()
        disk.write(0, 0, page_of("b"))
        disk.barrier()
        assert disk.read(0, 0, 1) == page_of("b")


def test_a_file_that_ends_early_is_an_error_and_no_loop(path: Path) -> None:
    calls = Scripted()
    with create(path, calls) as disk:
        os.truncate(path, LABEL_SIZE_BYTES + PAGE_SIZE + 1)
        assert disk.read(0, 0, 1) == bytes(PAGE_SIZE)
        with pytest.raises(OSError, match="ends within extent 0"):
            disk.read(0, 0, 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_in_its_middle_is_an_error_and_the_disk_goes_on(path: Path, code: int) -> None:
    calls = Scripted()
    with create(path, calls) as disk:
        disk.write(1, 0, page_of("a", 3))
        calls.script["pwrite"] = [100, error(code)]
        with pytest.raises(OSError, match=r".") as caught:
            disk.write(1, 1, page_of("b"))
        assert caught.value.errno == code
        assert disk.read(1, 0, 3) == page_of("a") + b"b" * 100 + b"a" * 28 + page_of("a")
        disk.write(1, 1, page_of("c"))
        disk.barrier()
        assert disk.read(1, 0, 3) == page_of("a") + page_of("c") + page_of("a")


def test_an_interrupt_that_comes_through_is_an_error_like_any_other(path: Path) -> None:
    """Python calls again by itself, so it should not; if it does, nobody hangs and nobody takes it for done."""
    calls = Scripted()
    with create(path, calls) as disk:
        disk.write(0, 0, page_of("a"))
        calls.script = {"pwrite": [5, error(errno.EINTR)], "pread": [5, error(errno.EINTR)]}
        with pytest.raises(InterruptedError):
            disk.write(0, 0, page_of("b"))
        with pytest.raises(InterruptedError):
            disk.read(0, 0, 1)
        assert disk.read(0, 0, 1) == b"b" * 5 + b"a" * 123
        calls.script = {"fdatasync": [error(errno.EINTR)]}
        for _ in range(2):  # whether anything was synced, nobody knows
            with pytest.raises(OSError, match=r"."):
                disk.barrier()
    assert calls.asked.count("fdatasync") == 1


# --- failed barriers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_disk_2_after_a_failed_barrier_nothing_is_written_until_the_disk_is_opened_again(path: Path, code: int) -> None:
    calls = Scripted()
    with create(path, calls) as disk:
        disk.write(0, 0, page_of("a"))
        calls.script["fdatasync"] = [error(code)]
        with pytest.raises(OSError, match=r".") as caught:
            disk.barrier()
        assert caught.value.errno == code
        calls.asked.clear()
        for _ in range(2):
            with pytest.raises(OSError, match="a barrier of the disk has failed"):
                disk.barrier()
            with pytest.raises(OSError, match="a barrier of the disk has failed"):
                disk.write(0, 1, page_of("b"))
        assert calls.asked == []  # the next fdatasync would succeed
        assert disk.read(0, 0, 2) == page_of("a") + bytes(PAGE_SIZE)
    with FileDisk.open(path) as disk:
        disk.write(0, 1, page_of("b"))
        disk.barrier()


def test_disk_2_what_is_issued_while_a_barrier_fails_is_never_called_persistent(path: Path) -> None:
    """The scheduler fails what the barrier was for. Only the disk can fail what the kernel has dropped besides."""
    calls = Scripted(fdatasync=[error(errno.EIO)])
    with create(path, calls) as disk:
        stack = SmallStack(disk, PlainSeam())
        stack.monitor.acquire()
        writes: list[Write] = []

        def submit(page: int) -> None:
            stack.pool.take(stack.scheduler.step)
            writes.append(stack.scheduler.submit_write(0, page, page_of("a"), PERSISTENT, "page"))

        def another_thread() -> None:
            if len(writes) == 1:
                with stack.monitor:
                    submit(1)
                    assert stack.scheduler.step()  # issues it

        calls.in_barrier = another_thread
        submit(0)
        for _ in range(4):  # issue, barrier, barrier; and nothing more
            stack.scheduler.step()
        assert [write.poll() for write in writes] == [FAILED, FAILED]
        assert calls.asked.count("pwrite") == 1 + 2  # the label, and both pages
        assert calls.asked.count("fdatasync") == 1
        stack.monitor.release()


def test_disk_2_a_store_loses_nothing_that_it_called_persistent(path: Path) -> None:
    calls = Scripted()
    with create(path, calls) as disk:
        store = format_store(disk, PlainSeam(), SMALL)
        store.put(b"a", b"1").wait()
        calls.script["fdatasync"] = [error(errno.EIO)]
        unlucky = store.put(b"b", b"2")
        with pytest.raises(DiskError):
            unlucky.wait()
        for _ in range(3):
            with pytest.raises(DiskError):
                store.put(b"c", b"3").wait()
        assert store.get(b"a") == b"1"
    with FileDisk.open(path) as disk:
        store = open_store(disk, PlainSeam(), SMALL)
        assert store.get(b"a") == b"1"
        store.put(b"c", b"3").wait()
        store.shutdown()


def test_disk_3_opening_asks_to_forget_what_is_cached_once_nobody_else_can_write(path: Path) -> None:
    create(path, Scripted()).close()
    calls = Scripted()
    FileDisk.open(path, calls=calls).close()
    assert calls.asked[-3:] == ["lock", "forget", "close"]


# --- owners -------------------------------------------------------------------------------------------


def test_disk_4_a_closed_disk_refuses_and_leaves_its_old_descriptor_alone(path: Path) -> None:
    calls = Scripted()
    with (path.parent / "other").open("w+b") as other:
        disk = create(path, calls)
        (descriptor,) = calls.opened
        disk.close()
        other.write(b"precious")
        other.flush()
        os.dup2(other.fileno(), descriptor)  # the number goes to somebody else
        try:
            calls.asked.clear()
            for use in uses_of(disk):
                with pytest.raises(OSError, match="the disk is closed"):
                    use()
            disk.close()
            assert calls.asked == []
            assert os.fstat(descriptor).st_size == len(b"precious")
        finally:
            os.close(descriptor)


def test_disk_4_another_process_is_refused_and_may_close(path: Path) -> None:
    calls = Scripted()
    disk = create(path, calls)
    calls.asked.clear()
    calls.pid += 1
    for use in uses_of(disk):
        with pytest.raises(OSError, match="belongs to the process that opened it"):
            use()
    assert calls.asked == []
    disk.close()
    assert calls.opened == set()


FORKED = """
import os, sys
from shardstore.errors import DiskError
from shardstore.file_disk import FileDisk

path = sys.argv[1]
disk = FileDisk.create(path, extent_count=2, extent_size_pages=2, page_size_bytes=128)
disk.write(0, 0, b"a" * 128)
if (child := os.fork()) == 0:
    refused = 0
    for use in (lambda: disk.read(0, 0, 1), lambda: disk.write(0, 0, b"b" * 128), lambda: disk.barrier()):
        try:
            use()
        except OSError as error:
            refused += "belongs to the process" in str(error)
    disk.close()
    disk.close()
    os._exit(refused)
_, status = os.waitpid(child, 0)
try:
    FileDisk.open(path)
except DiskError:  # the child's close has not let go of the lock
    disk.write(0, 1, b"c" * 128)
    disk.barrier()
    assert disk.read(0, 0, 2) == b"a" * 128 + b"c" * 128
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_disk_4_a_forked_child_is_refused_and_its_parent_goes_on(path: Path) -> None:
    here = Path(__file__).parent.parent.parent
    finished = subprocess.run([sys.executable, "-c", FORKED, str(path)], cwd=here, check=False)
    assert finished.returncode == 3


def test_closing_twice_is_fine_also_if_the_first_time_fails(path: Path) -> None:
    calls = Scripted(close=[None, error(errno.EIO)])  # of the folder, then of the file
    disk = create(path, calls)
    with pytest.raises(OSError, match="Input/output"):
        disk.close()
    disk.close()
    assert calls.opened == set()


# --- making and opening, cut short --------------------------------------------------------------------

MAKING: list[tuple[str, list[Answer]]] = [
    ("lock", []),
    ("posix_fallocate", []),
    ("pwrite", []),
    ("pwrite", [3]),
    ("fsync", []),
    ("open folder", []),
    ("fsync", [None]),
    ("close", []),
]


@pytest.mark.parametrize(("name", "before"), MAKING, ids=str)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINTR])
def test_disk_5_a_file_that_cannot_be_made_whole_is_gone(
    path: Path, name: str, before: list[Answer], code: int
) -> None:
    calls = Scripted(**{name: [*before, error(code)]})
    with pytest.raises(DiskError):
        create(path, calls, preallocate=True)
    assert calls.opened == set()
    assert not path.exists()
    assert calls.asked[-2:] == ["unlink", "close"]  # it is locked until it is gone
    create(path, calls, preallocate=True).close()


def test_disk_5_a_label_that_the_device_takes_nothing_of_is_an_error(path: Path) -> None:
    with pytest.raises(DiskError, match="takes no bytes"):
        create(path, Scripted(pwrite=[3, 0]))
    assert not path.exists()


def test_disk_5_a_file_that_cannot_be_removed_either_is_let_go_and_the_first_error_told(path: Path) -> None:
    calls = Scripted(pwrite=[error(errno.ENOSPC)], unlink=[error(errno.EROFS)], close=[error(errno.EIO)])
    with pytest.raises(DiskError, match="No space left"):
        create(path, calls)
    assert calls.opened == set()
    assert path.exists()


def test_disk_5_an_interrupt_by_the_user_leaves_nothing_either(path: Path) -> None:
    class Interrupted(Scripted):
        def fsync(self, descriptor: int) -> None:
            raise KeyboardInterrupt

    calls = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        create(path, calls)
    assert calls.opened == set()
    assert not path.exists()


@pytest.mark.parametrize("name", ["open", "pread", "size", "lock", "forget"])
def test_a_file_that_cannot_be_opened_is_let_go_and_left_as_it_is(path: Path, name: str) -> None:
    create(path, Scripted()).close()
    before = path.read_bytes()
    calls = Scripted()
    calls.script[name] = [error(errno.EIO)]
    with pytest.raises(DiskError):
        FileDisk.open(path, calls=calls)
    assert calls.opened == set()
    assert path.read_bytes() == before
    FileDisk.open(path, calls=calls).close()


def test_only_new_files_are_made_and_no_program_inherits_them(path: Path) -> None:
    flags: list[Any] = []

    class Watched(Scripted):
        def open(self, path: PathLike, flags_given: int, mode: int = 0o777) -> int:
            flags.append(flags_given)
            return super().open(path, flags_given, mode)

    create(path, Watched()).close()
    FileDisk.open(path, calls=Watched()).close()
    assert flags[0] & os.O_EXCL
    assert flags[0] & flags[-1] & os.O_CLOEXEC
