"""The log of one file: what is seen, what is refused, and what a power cut may leave."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.choices.random_policy import random_tape
from harness.torture.file_log import SECTOR_SIZE_BYTES, Entry, FileLog, FileLogError, Kind, ProcessDied
from harness.torture.power_cut import Image, crash_image, describe_loss, draw_losses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def kinds(log: FileLog) -> list[Kind]:
    return [entry.kind for entry in log.entries]


def test_what_is_done_by_descriptor_is_written_down_in_order(path: Path) -> None:
    with FileLog(path) as log:
        descriptor = create(path)
        os.posix_fallocate(descriptor, 0, 2048)
        os.pwrite(descriptor, b"abc", 1000)
        os.fsync(descriptor)
        os.ftruncate(descriptor, 1500)
        os.fdatasync(descriptor)
        os.close(descriptor)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        log.check_complete()
    expected = [Kind.CREATE, Kind.SIZE, Kind.WRITE, Kind.SYNC, Kind.SIZE, Kind.SYNC, Kind.NAME]
    assert kinds(log) == expected
    assert log.entries[1:3] == [Entry(Kind.SIZE, 2048), Entry(Kind.WRITE, 1000, b"abc")]


def test_other_files_are_left_alone(path: Path, tmp_path: Path) -> None:
    with FileLog(path) as log:
        descriptor = create(tmp_path / "other")
        assert os.pwrite(descriptor, b"abc", 0) == 3
        os.write(descriptor, b"d")
        os.fsync(descriptor)
        os.close(descriptor)
        (tmp_path / "other").unlink()
    assert log.entries == []


def test_the_functions_of_os_are_given_back(path: Path) -> None:
    names = ("open", "close", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "urandom", "unlink")
    before = [getattr(os, name) for name in names]
    with FileLog(path):
        assert [getattr(os, name) for name in names] != before
    with pytest.raises(FileNotFoundError), FileLog(path):
        os.open(path, os.O_RDWR)
    assert [getattr(os, name) for name in names] == before


def test_what_is_not_written_down_is_refused(path: Path) -> None:
    with FileLog(path):
        descriptor = create(path)
        with pytest.raises(FileLogError, match=r"os\.write"):
            os.write(descriptor, b"abc")
        with pytest.raises(FileLogError, match=r"os\.unlink"):
            path.unlink()
        with pytest.raises(FileLogError, match="O_TRUNC"):
            os.open(path, os.O_RDWR | os.O_TRUNC)


def test_what_goes_past_os_is_noticed(path: Path) -> None:
    with FileLog(path) as log:
        os.pwrite(create(path), b"abc", 0)
        log.check_complete()
        with path.open("r+b") as file:
            file.write(b"xyz")
        with pytest.raises(FileLogError, match="past the functions"):
            log.check_complete()


def test_identifiers_are_a_function_of_the_seed(path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        with FileLog(path, seed):
            drawn.append([os.urandom(16) for _ in range(100)])
    assert drawn[0] == drawn[1]
    assert len({identifier for stream in drawn[1:] for identifier in stream}) == 200


@pytest.mark.parametrize(("part", "blocks_count"), [(0.0, 0), (0.4, 1), (0.99, 2)])
def test_a_dying_process_does_its_last_write_in_part_and_nothing_after(
    path: Path, part: float, blocks_count: int
) -> None:
    with FileLog(path) as log:
        descriptor = create(path)
        log.die_after(1, part)
        os.pwrite(descriptor, b"first", 0)
        with pytest.raises(ProcessDied):
            os.pwrite(descriptor, b"x" * 8192, 0)
        for late in (
            lambda: os.pwrite(descriptor, b"late", 0),
            lambda: os.fdatasync(descriptor),
            lambda: os.unlink(path),
        ):
            with pytest.raises(ProcessDied):
                late()
        log.check_complete()
        log.restart()
        descriptor = os.open(path, os.O_RDWR)
        os.pwrite(descriptor, b"again", 9000)
        log.check_complete()
    done = [len(entry.data) for entry in log.entries if entry.kind is Kind.WRITE]
    assert done == [5, *([blocks_count * 4096] if blocks_count else []), 5]


# --- images -----------------------------------------------------------------------------------------

FILE_SIZE_SECTORS = 6
# Writes of one letter each, so that every sector says which write it is from.
_writes = st.tuples(st.integers(0, FILE_SIZE_SECTORS - 1), st.integers(1, 3))
_logs = st.lists(st.one_of(_writes, st.just("sync")), max_size=12)


def log_of(steps: Sequence[object]) -> list[Entry]:
    entries = [Entry(Kind.CREATE), Entry(Kind.NAME), Entry(Kind.SIZE, FILE_SIZE_SECTORS * SECTOR_SIZE_BYTES)]
    entries.append(Entry(Kind.SYNC))
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            first, count = step
            count = min(count, FILE_SIZE_SECTORS - first)
            data = bytes([ord("a") + number]) * (count * SECTOR_SIZE_BYTES)
            entries.append(Entry(Kind.WRITE, first * SECTOR_SIZE_BYTES, data))
        else:
            entries.append(Entry(Kind.SYNC))
    return entries


def sectors(image: Image) -> list[bytes]:
    assert image.content is not None
    assert len(image.content) == FILE_SIZE_SECTORS * SECTOR_SIZE_BYTES
    found = [image.content[at : at + SECTOR_SIZE_BYTES] for at in range(0, len(image.content), SECTOR_SIZE_BYTES)]
    assert all(len(set(sector)) == 1 for sector in found)  # no sector is torn
    return [sector[:1] for sector in found]


def allowed(entries: Sequence[Entry], position: int) -> list[set[bytes]]:
    """Of each sector: what it held at the last sync, and every later write of it."""
    options: list[set[bytes]] = [{b"\0"} for _ in range(FILE_SIZE_SECTORS)]
    held = [b"\0"] * FILE_SIZE_SECTORS
    for entry in entries[:position]:
        if entry.kind is Kind.SYNC:
            options = [{letter} for letter in held]
        elif entry.kind is Kind.WRITE:
            first = entry.offset_bytes // SECTOR_SIZE_BYTES
            for sector in range(first, first + len(entry.data) // SECTOR_SIZE_BYTES):
                held[sector] = entry.data[:1]
                options[sector] |= {entry.data[:1]}
    return options


@settings(derandomize=True, deadline=None, database=None)
@given(_logs, st.integers(0, 12), st.integers(0, 1 << 32))
def test_an_image_holds_what_was_synced_and_any_of_the_later_sectors(steps: list[object], at: int, seed: int) -> None:
    entries = log_of(steps)
    position = 4 + min(at, len(steps))
    image = crash_image(None, entries, position, random_tape(seed).choose)
    options = allowed(entries, position)
    assert all(letter in option for letter, option in zip(sectors(image), options, strict=True))
    if all(len(option) == 1 for option in options) and entries[position - 1].kind is Kind.SYNC:
        assert not image.losses


def test_every_legal_state_of_a_small_log_is_built() -> None:
    """Two writes that overlap on one of three sectors: 2 * 3 * 2 states."""
    entries = log_of([(0, 2), (1, 2)])
    built = {tuple(sectors(crash_image(None, entries, 6, random_tape(seed).choose))[:3]) for seed in range(400)}
    assert built == {
        (first, second, third) for first in (b"\0", b"a") for second in (b"\0", b"a", b"b") for third in (b"\0", b"b")
    }


def test_a_file_whose_name_is_not_synced_may_be_missing_and_one_that_is_may_not() -> None:
    entries = [Entry(Kind.CREATE), Entry(Kind.WRITE, 0, b"a"), Entry(Kind.SYNC), Entry(Kind.NAME)]
    for position, expected in ((0, {True}), (3, {True, False}), (4, {False})):
        missing = {crash_image(None, entries, position, random_tape(seed).choose).content is None for seed in range(50)}
        assert missing == expected


def test_a_size_that_is_not_synced_may_be_lost_and_what_is_written_behind_the_end_is_there() -> None:
    entries = [
        Entry(Kind.CREATE),
        Entry(Kind.NAME),
        Entry(Kind.SYNC),
        Entry(Kind.SIZE, 2048),
        Entry(Kind.WRITE, 512, b"a"),
    ]
    images = [crash_image(None, entries, 5, random_tape(seed).choose) for seed in range(100)]
    assert {image.content for image in images} == {
        b"",
        bytes(512) + b"a",
        bytes(2048),
        bytes(512) + b"a" + bytes(1535),
    }


def test_a_write_across_a_sectors_end_tears_there() -> None:
    base = b"-" * 1024
    entries = [Entry(Kind.WRITE, 500, b"x" * 24)]
    images = {crash_image(base, entries, 1, random_tape(seed).choose).content for seed in range(200)}
    halves = {b"-" * 500 + left * 12 + right * 12 + b"-" * 500 for left in (b"-", b"x") for right in (b"-", b"x")}
    assert images == halves


def test_losses_are_told() -> None:
    entries = log_of([(0, 3)])
    images = [crash_image(None, entries, 5, random_tape(seed).choose) for seed in range(50)]
    told = {describe_loss(loss, entries[loss.entry]) for image in images for loss in image.losses}
    assert "entry 4, write of 1536 bytes at 0 (3 sectors): all lost" in told
    assert "entry 4, write of 1536 bytes at 0 (3 sectors): sectors 0 2 lost" in told


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(0, 20), max_size=8), st.integers(0, 1 << 32))
def test_losses_are_of_units_that_there_are(counts: list[int], seed: int) -> None:
    losses = draw_losses(counts, random_tape(seed).choose)
    assert len(losses) == len(counts)
    assert all(0 <= lost < 1 << count for lost, count in zip(losses, counts, strict=True))
