"""Exceptions from outside, at any line of the store: a call is whole or absent, or the store says that it is broken.

After each the store is asked, shut down and opened again, and everything is checked against what may be there: of each
key the value of its last persistent change, or of a later one that was accepted or was under way (INT-1).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from worlds import SMALL, PlainSeam, new_medium, random_choices

import shardstore.store
from harness.world.sequential_seam import Monitor
from shardstore.dependency import Dependency
from shardstore.disk import Disk
from shardstore.errors import InterruptedStoreError, NotFoundError, OutOfServiceError
from shardstore.file_disk import FileDisk
from shardstore.node import format_node
from shardstore.seam import Seam, ThreadSeam
from shardstore.store import Store, format_store, open_store

STORE_FOLDER = str(Path(shardstore.store.__file__).parent)
KEYS = [b"%d" % number for number in range(6)]
CONFIGURATION = replace(SMALL, cache_size_pages=2)
STEPS_COUNT = 40
Value = bytes | None


class Countdown:
    """Raises at the n-th line that is run within the store's code, or within these files, once."""

    def __init__(self, lines_count: int, error: type[BaseException], files: tuple[str, ...] = ()) -> None:
        self.left_count = lines_count
        self._error = error
        self._files = files

    def __enter__(self) -> Countdown:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not (name.endswith(self._files) if self._files else name.startswith(STORE_FOLDER)):
            return None
        if event == "line":
            self.left_count -= 1
            if not self.left_count:
                raise self._error
        return self._trace


class Life:
    """Random calls on a store, and what each key may read as."""

    def __init__(self, seed: int, medium: Disk, seam: Seam) -> None:
        self.choose = random_choices(seed)
        self.store = format_store(medium, seam, CONFIGURATION)
        self.current: dict[bytes, Value] = dict.fromkeys(KEYS)  # as of the calls that returned
        self.pending: dict[bytes, Value] = {}  # of the call under way
        self.cut: dict[bytes, Value] = {}  # of the call that was cut short
        self.after: dict[bytes, list[tuple[Value, Dependency]]] = {key: [] for key in KEYS}
        self.persistent: dict[bytes, Value] = dict.fromkeys(KEYS)

    def step(self) -> None:
        what = self.choose(12)
        store = self.store
        if what < 6:
            self._change({KEYS[self.choose(len(KEYS))]: bytes([self.choose(256)]) * self.choose(300)})
        elif what == 6:
            self._change(dict.fromkeys(KEYS[: 1 + self.choose(4)], b"%d" % self.choose(1000)))
        elif what == 7:
            self._change({KEYS[self.choose(len(KEYS))]: None})
        elif what == 8:
            store.sync()
        else:
            (store.flush, store.compact, store.reclaim)[what - 9]()

    def _change(self, changes: dict[bytes, Value]) -> None:
        self.pending = changes
        if None in changes.values():
            dependency = self.store.bulk_delete(list(changes))
        else:
            dependency = self.store.bulk_put([(key, value or b"") for key, value in changes.items()])
        self.current.update(changes)
        for key, value in changes.items():
            self.after[key].append((value, dependency))
        self.pending = {}

    def read(self, store: Store) -> dict[bytes, Value]:
        found: dict[bytes, Value] = {}
        for key in KEYS:
            try:
                found[key] = store.get(key)
            except NotFoundError:
                found[key] = None
        return found

    def note_persistent(self) -> None:
        """Take what is persistent for the least that must be there from now on."""
        for key, changes in self.after.items():
            while changes and any(dependency.is_persistent() for _, dependency in changes):
                self.persistent[key] = changes.pop(0)[0]

    def check_reads(self) -> None:
        """The store in memory reads as before the call that was cut short, or as after it."""
        found = self.read(self.store)
        assert found in (self.current, {**self.current, **self.cut})

    def check_reopened(self, store: Store) -> None:
        """Each key reads as its last persistent change left it, or a later one; a batch that was cut short is whole."""
        found = self.read(store)
        for key, value in found.items():
            allowed = [self.persistent[key], *(after for after, _ in self.after[key])]
            assert value in (allowed if key not in self.cut else [*allowed, self.cut[key]]), key
        if len(self.cut) > 1 and len(set(self.cut.values()) - set(self.current.values())) == 1:
            assert len({found[key] == value for key, value in self.cut.items()}) == 1  # BULK-1


def interrupted(
    life: Life,
    reopened: Callable[[], Disk],
    lines_count: int,
    error: type[BaseException],
    steps_count: int = STEPS_COUNT,
) -> bool:
    """Live until the n-th line, and check all that must hold then. False if the life ended before that.

    ``reopened()`` gives the disk for the next store.
    """
    was_cut_short = False
    with Countdown(lines_count, error) as countdown:
        try:
            for _ in range(steps_count):
                life.step()
        except BaseException as caught:
            if countdown.left_count > 0:
                raise
            was_cut_short = isinstance(caught, error)
    if not was_cut_short:
        return False
    life.cut, life.pending = life.pending, {}
    life.check_reads()
    try:
        for key in KEYS:
            life._change({key: b"after"})
        life.note_persistent()
        life.store.shutdown()
        life.note_persistent()
        assert life.persistent == life.current  # a shutdown that claims success has made everything persistent
    except InterruptedStoreError:
        life.note_persistent()
        with pytest.raises((InterruptedStoreError, OutOfServiceError)):
            life.store.put(KEYS[0], b"refused")
        if life.store.is_open():
            life.check_reads()
            with pytest.raises(InterruptedStoreError):
                life.store.shutdown()
    life.check_reopened(open_store(reopened(), PlainSeam(), CONFIGURATION))
    return True


def _same(disk: Disk) -> Callable[[], Disk]:
    return lambda: disk


@pytest.mark.parametrize("seed", range(8))
def test_int_1_after_an_error_at_any_line_the_store_is_whole_or_says_that_it_is_not(seed: int) -> None:
    choose = random_choices(seed)
    total = Countdown(1 << 60, MemoryError)
    life = Life(seed, new_medium(zoned=bool(seed % 2)), PlainSeam())
    with total:
        for _ in range(STEPS_COUNT):
            life.step()
    lines_count = (1 << 60) - total.left_count
    cut_short = []
    for number in range(40):
        medium, seam = new_medium(zoned=bool(seed % 2)), (PlainSeam, ThreadSeam)[number // 2 % 2]()
        error = (MemoryError, KeyboardInterrupt)[number % 2]
        life = Life(seed, medium, seam)
        cut_short.append(interrupted(life, _same(medium), 1 + choose(lines_count), error))
    assert sum(cut_short) > 30


class ThreeCalls(Life):
    """A put, then one batch over all keys that must be flushed to make room, then a wait: every line of these."""

    def step(self) -> None:
        self._change(dict.fromkeys(KEYS[:2], b"first"))
        self._change(dict.fromkeys(KEYS, b"second"))
        self.store.sync()


@pytest.mark.parametrize("first", [1, 4])
def test_int_1_an_error_at_line_after_line_of_a_few_calls(first: int) -> None:
    """Every eighth line from the first on."""
    lines_count, is_cut_short = first, True
    while is_cut_short:
        medium = new_medium(zoned=False)
        life = ThreeCalls(0, medium, PlainSeam())
        is_cut_short = interrupted(life, _same(medium), lines_count, MemoryError, steps_count=1)
        lines_count += 8
    assert lines_count > 500


# --- on a real file -----------------------------------------------------------------------------------


class FileLives:
    """Lives on new files, each interrupted at a line of its own; the file is closed and opened again after it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._choose = random_choices(seed)
        with FileDisk.create(self._path("whole"), **SHAPE) as disk, Countdown(1 << 60, MemoryError) as total:
            life = Life(seed, disk, ThreadSeam())
            for _ in range(STEPS_COUNT):
                life.step()
        self._lines_count = (1 << 60) - total.left_count

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._seed} {name}"

    def interrupt(self, number: int) -> bool:
        """Live one life. False if it ended before the exception arrived."""
        seam = (PlainSeam, ThreadSeam)[number // 2 % 2]()
        error = (MemoryError, KeyboardInterrupt)[number % 2]
        path = self._path(str(number))
        disks = [FileDisk.create(path, **SHAPE)]

        def reopened() -> Disk:
            disks[-1].close()
            disks.append(FileDisk.open(path))
            return disks[-1]

        try:
            life = Life(self._seed, disks[0], seam)
            return interrupted(life, reopened, 1 + self._choose(self._lines_count), error)
        finally:
            disks[-1].close()
            path.unlink()


SHAPE: dict[str, Any] = {"extent_count": 40, "extent_size_pages": 16, "page_size_bytes": 128}


def test_int_1_on_a_file(tmp_path: Path) -> None:
    lives = FileLives(tmp_path, seed=1)
    assert sum(lives.interrupt(number) for number in range(16)) > 12


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_int_1_on_files_a_hundred_lives_each(seed: int, tmp_path: Path) -> None:
    lives = FileLives(tmp_path, seed)
    assert sum(lives.interrupt(number) for number in range(100)) > 80


# --- nodes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seam", [PlainSeam, ThreadSeam])
def test_an_interrupt_in_a_bulk_request_keeps_no_disk_from_leaving(seam: type[Seam]) -> None:
    """At every line of the node's own code, and of the locks that it takes."""
    is_cut_short, lines_count = True, 0
    while is_cut_short:
        lines_count += 1
        node = format_node([new_medium(zoned=False)], seam(), CONFIGURATION)
        is_cut_short = False
        with Countdown(lines_count, KeyboardInterrupt, ("node.py", "seam.py")):
            try:
                node.bulk_create([(KEYS[0], b"a"), (KEYS[1], b"b")])
            except KeyboardInterrupt:
                is_cut_short = True
        (store,) = node.in_service()
        assert not node._has_bulk_request(0)  # else what follows would wait for ever
        refusal = pytest.raises(InterruptedStoreError) if store._is_broken else nullcontext()
        with refusal:
            node.remove_disk(0)  # waits for no request
        assert not node.in_service()
    assert lines_count > 20


def test_an_interrupt_leaves_no_monitor_held_where_a_snapshot_is_closed() -> None:
    is_cut_short, lines_count = True, 0
    while is_cut_short:
        lines_count += 1
        store = format_store(new_medium(zoned=False), PlainSeam(), CONFIGURATION)
        store.put(KEYS[0], b"a")
        snapshot = store.snapshot()
        is_cut_short = False
        with Countdown(lines_count, KeyboardInterrupt, ("store.py", "snapshot.py", "sequential_seam.py")):
            try:
                snapshot.close()
            except KeyboardInterrupt:
                is_cut_short = True
        assert store.get(KEYS[0]) == b"a"
    assert lines_count > 4


def test_an_interrupt_leaves_no_monitor_held_where_a_store_is_abandoned() -> None:
    is_cut_short, lines_count = True, 0
    while is_cut_short:
        lines_count += 1
        store = format_store(new_medium(zoned=False), PlainSeam(), CONFIGURATION)
        is_cut_short = False
        with Countdown(lines_count, KeyboardInterrupt, ("store.py", "sequential_seam.py")):
            try:
                store.abandon()
            except KeyboardInterrupt:
                is_cut_short = True
        with store.monitor:
            pass
    assert lines_count > 4


@pytest.mark.parametrize("is_away", [False, True])
def test_an_interrupt_where_the_monitor_is_let_go_comes_out_as_itself(is_away: bool) -> None:
    """Before and after the monitor is let go in the middle of a merge, and around a barrier."""

    class Interrupting(Monitor):
        """Raises where it is let go for a moment."""

        __slots__ = ("left_count",)

        def __init__(self, left_count: int) -> None:
            super().__init__("store")
            self.left_count = left_count

        def release(self) -> None:
            self.left_count -= 1
            if is_away:
                super().release()
            if not self.left_count:
                raise KeyboardInterrupt
            if not is_away:
                super().release()

    class InterruptingSeam(PlainSeam):
        def monitor(self, name: str) -> Monitor:
            return monitor

    counts = []
    for left_count in range(1, 40):
        monitor = Interrupting(1 << 60)
        life = Life(0, new_medium(zoned=False), InterruptingSeam())
        monitor.left_count = left_count
        try:
            for _ in range(STEPS_COUNT):
                life.step()
        except KeyboardInterrupt:  # and no error of a lock
            counts.append(left_count)
        life.cut, life.pending = life.pending, {}
        life.check_reads()
    assert len(counts) > 30
