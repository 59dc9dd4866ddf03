"""The disk in a file: what it refuses to open, and what a killed process leaves."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from worlds import SMALL, PlainSeam, examples, golden, page_of

from shardstore.errors import (
    ConfigurationError,
    CorruptionError,
    DiskError,
    FormatVersionError,
    NotFoundError,
    StoreError,
)
from shardstore.file_disk import FORMAT_VERSION, LABEL_SIZE_BYTES, FileDisk
from shardstore.store import format_store, open_store

EXTENTS, PAGES, PAGE_SIZE = 20, 16, 128
SIZE = LABEL_SIZE_BYTES + EXTENTS * PAGES * PAGE_SIZE


def create(path: Path) -> FileDisk:
    return FileDisk.create(
        path, extent_count=EXTENTS, extent_size_pages=PAGES, page_size_bytes=PAGE_SIZE, preallocate=False
    )


def label(version: int = FORMAT_VERSION, geometry: tuple[int, int, int] = (EXTENTS, PAGES, PAGE_SIZE)) -> bytes:
    data = struct.pack("<8sHIII", b"ShardDsk", version, *geometry)
    return data + struct.pack("<I", crc32c(data))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk"


@pytest.mark.parametrize("preallocate", [True, False])
def test_pages_stay_where_they_were_written(path: Path, preallocate: bool) -> None:
    with FileDisk.create(
        path, extent_count=3, extent_size_pages=4, page_size_bytes=128, preallocate=preallocate
    ) as disk:
        disk.write(2, 3, page_of("z"))
        disk.write(1, 0, page_of("a", 4))
        disk.reset(0)
        disk.barrier()
        assert (disk.extent_count, disk.extent_size_pages, disk.page_size_bytes, disk.zoned) == (3, 4, 128, False)
    with FileDisk.open(path) as disk:
        assert (disk.extent_count, disk.extent_size_pages, disk.page_size_bytes) == (3, 4, 128)
        assert disk.read(1, 0, 4) == page_of("a", 4)
        assert disk.read(2, 2, 2) == bytes(128) + page_of("z")
        assert disk.read(0, 0, 4) == bytes(512)
        with pytest.raises(io.UnsupportedOperation):
            disk.write_pointer(0)
    assert path.stat().st_size == LABEL_SIZE_BYTES + 3 * 4 * 128


def test_a_file_can_be_filled_with_zeros_when_it_is_made(path: Path) -> None:
    told: list[tuple[int, int]] = []
    big = 3 * 1024 * 1024 // PAGE_SIZE
    FileDisk.create(
        path,
        extent_count=1,
        extent_size_pages=big,
        page_size_bytes=PAGE_SIZE,
        preallocate=False,
        write_zeros=True,
        progress=lambda done, size: told.append((done, size)),
    ).close()
    size_bytes = path.stat().st_size
    assert path.stat().st_blocks * 512 >= size_bytes  # no holes
    assert path.read_bytes()[26:] == bytes(size_bytes - 26)
    assert [done for done, _ in told] == [*range(1 << 20, size_bytes, 1 << 20), size_bytes]
    with FileDisk.open(path) as disk:
        assert disk.read(0, big - 1, 1) == bytes(PAGE_SIZE)


def test_golden_bytes(path: Path) -> None:
    create(path).close()
    assert path.read_bytes()[:26] == golden("file_disk_label") == label()
    assert path.read_bytes()[26:] == bytes(SIZE - 26)


def test_pages_lie_where_the_format_says(path: Path) -> None:
    with create(path) as disk:
        disk.write(3, 5, page_of("a"))
    at = 4096 + (3 * PAGES + 5) * PAGE_SIZE
    assert path.read_bytes()[at - 1 : at + PAGE_SIZE + 1] == b"\0" + page_of("a") + b"\0"


def test_the_smallest_disk_is_one_byte(path: Path) -> None:
    with FileDisk.create(path, extent_count=1, extent_size_pages=1, page_size_bytes=1) as disk:
        disk.write(0, 0, b"a")
    with FileDisk.open(path) as disk:
        assert disk.read(0, 0, 1) == b"a"


def test_a_file_is_not_made_over_another(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        create(path)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("geometry", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_disk_of_nothing_is_refused(path: Path, geometry: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigurationError):
        FileDisk.create(path, extent_count=geometry[0], extent_size_pages=geometry[1], page_size_bytes=geometry[2])
    assert not path.exists()


TOO_LARGE = 1 << 32


@pytest.mark.parametrize(
    "geometry",
    [(TOO_LARGE, 1, 1), (1, TOO_LARGE, 1), (1, 1, TOO_LARGE), (1 << 80, 1, 1), (TOO_LARGE - 1, TOO_LARGE - 1, 4096)],
)
@pytest.mark.parametrize("preallocate", [True, False])
def test_a_disk_that_no_file_can_hold_is_refused(path: Path, geometry: tuple[int, int, int], preallocate: bool) -> None:
    extent_count, extent_size_pages, page_size_bytes = geometry
    with pytest.raises(ConfigurationError) as caught:
        FileDisk.create(
            path,
            extent_count=extent_count,
            extent_size_pages=extent_size_pages,
            page_size_bytes=page_size_bytes,
            preallocate=preallocate,
        )
    assert len(str(caught.value).splitlines()) == 1
    assert not path.exists()


def test_a_disk_that_this_machine_cannot_hold_is_a_disk_error_and_leaves_no_file(path: Path) -> None:
    with pytest.raises(DiskError, match="disk: "):
        FileDisk.create(path, extent_count=1 << 31, extent_size_pages=1 << 19)
    assert not path.exists()


@pytest.mark.parametrize("place", ["missing/disk", "file/disk"])
def test_a_place_where_no_file_can_be_made_is_a_disk_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(DiskError) as caught:
        create(tmp_path / place)
    assert len(str(caught.value).splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_label_that_cannot_be_read_is_a_disk_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    create(path).close()
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "pread", refuse)
        with pytest.raises(DiskError, match="Input/output error"):
            FileDisk.open(path)
    FileDisk.open(path).close()  # the lock was let go


def test_a_second_opener_is_kept_out_until_the_first_is_gone(path: Path) -> None:
    with create(path), pytest.raises(DiskError, match="in use"):
        FileDisk.open(path)
    with FileDisk.open(path), pytest.raises(DiskError, match="in use"):
        FileDisk.open(path)
    FileDisk.open(path).close()


def test_a_missing_file_is_a_disk_error(path: Path) -> None:
    with pytest.raises(DiskError):
        FileDisk.open(path)
    with pytest.raises(DiskError):
        FileDisk.open(path.parent)


@pytest.mark.parametrize("content", [b"", b"Shard", b"%PDF-1.7 and so on" * 400, bytes(SIZE)])
def test_a_foreign_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptionError, match="not a disk"):
        FileDisk.open(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("missing", [1, PAGE_SIZE, SIZE - LABEL_SIZE_BYTES, SIZE - 30])
def test_a_truncated_file_is_refused(path: Path, missing: int) -> None:
    create(path).close()
    with path.open("r+b") as file:
        file.truncate(SIZE - missing)
    with pytest.raises(CorruptionError, match="shorter than its label says"):
        FileDisk.open(path)


@pytest.mark.parametrize("version", [0, 1, 2, 65535])
def test_another_format_version_is_refused_by_its_number(path: Path, version: int) -> None:
    path.write_bytes(label(version) + bytes(SIZE))
    with pytest.raises(FormatVersionError) as caught:
        FileDisk.open(path)
    assert caught.value.version == version


def test_every_flipped_bit_of_the_label_is_noticed(path: Path) -> None:
    for bit in range(8 * 26):
        data = bytearray(label())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(CorruptionError):
            FileDisk.open(path)


@examples(100)
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=30).map(lambda data: b"ShardDsk" + data)))
def test_any_bytes_at_all_open_or_raise_a_typed_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "disk"
    path.write_bytes(data)
    with pytest.raises(StoreError):
        FileDisk.open(path)


def test_a_disk_smaller_than_a_store_needs_is_refused(path: Path) -> None:
    path.write_bytes(label(geometry=(0, 0, 0)) + bytes(LABEL_SIZE_BYTES))
    with FileDisk.open(path) as disk, pytest.raises(ConfigurationError):
        open_store(disk, PlainSeam(), SMALL)


def test_a_disk_that_was_never_formatted_is_told_from_one_that_was(path: Path) -> None:
    with create(path) as disk, pytest.raises(CorruptionError, match="no superblock"):
        open_store(disk, PlainSeam(), SMALL)


def test_a_barrier_asks_the_operating_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut would show, and no test can."""
    asked: list[int] = []
    with create(path) as disk:
        monkeypatch.setattr(os, "fdatasync", asked.append)
        disk.write(0, 0, page_of("a"))
        assert asked == []
        disk.barrier()
    assert len(asked) == 1


def test_a_closed_disk_is_a_disk_error(path: Path) -> None:
    with create(path) as disk:
        store = format_store(disk, PlainSeam(), SMALL)
        store.put(b"a", b"1")
        store.sync()
    with pytest.raises(DiskError):
        store.get(b"a")


WRITER = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from shardstore.file_disk import FileDisk
from shardstore.seam import ThreadSeam
from shardstore.store import open_store
from worlds import SMALL

store = open_store(FileDisk.open(sys.argv[1]), ThreadSeam(), SMALL)
for number in range(12):
    store.put(b"key %d" % (number % 7), b"%d" % number).wait()
store.put(b"unfinished", b"?")
store.flush_buffers()
store.write_back(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_persistent_outlives_a_killed_process(path: Path) -> None:
    with create(path) as disk:
        format_store(disk, PlainSeam(), SMALL).shutdown()
    here = str(Path(__file__).parent)
    finished = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), here], cwd=Path(here).parent.parent, check=False
    )
    assert finished.returncode == -signal.SIGKILL
    with FileDisk.open(path) as disk:  # the lock went with the process
        store = open_store(disk, PlainSeam(), SMALL)
        expected = {b"key %d" % (number % 7): b"%d" % number for number in range(12)}
        assert {key: store.get(key) for key in expected} == expected
        with pytest.raises(NotFoundError):
            store.get(b"unfinished")
        store.put(b"next", b"life").wait()
        store.shutdown()
