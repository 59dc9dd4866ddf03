"""Exceptions from outside, at any line of the store: a call is whole or absent, or the store says that it is broken.

After each the store is asked, shut down and opened again, and everything is checked against what may be there: of each
key the value of its last persistent change, or of a later one that was accepted or was under way (INT-1).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from worlds import SMALL, Medium, PlainSeam, new_medium, random_choices

import shardstore.store
from shardstore.dependency import Dependency
from shardstore.errors import InterruptedStoreError, NotFoundError, OutOfServiceError
from shardstore.seam import Seam, ThreadSeam
from shardstore.store import Store, format_store, open_store

STORE_FOLDER = str(Path(shardstore.store.__file__).parent)
KEYS = [b"%d" % number for number in range(6)]
CONFIGURATION = replace(SMALL, cache_size_pages=2)
STEPS_COUNT = 40
Value = bytes | None


class Countdown:
    """Raises at the n-th line that is run within the store's code, once."""

    def __init__(self, lines_count: int, error: type[BaseException]) -> None:
        self.left_count = lines_count
        self._error = error

    def __enter__(self) -> Countdown:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(STORE_FOLDER):
            return None
        if event == "line":
            self.left_count -= 1
            if not self.left_count:
                raise self._error
        return self._trace


class Life:
    """Random calls on a store, and what each key may read as."""

    def __init__(self, seed: int, medium: Medium, seam: Seam) -> None:
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
    life: Life, medium: Medium, lines_count: int, error: type[BaseException], steps_count: int = STEPS_COUNT
) -> bool:
    """Live until the n-th line, and check all that must hold then. False if the life ended before that."""
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
    life.check_reopened(open_store(medium, PlainSeam(), CONFIGURATION))
    return True


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
        cut_short.append(interrupted(Life(seed, medium, seam), medium, 1 + choose(lines_count), error))
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
        is_cut_short = interrupted(ThreeCalls(0, medium, PlainSeam()), medium, lines_count, MemoryError, steps_count=1)
        lines_count += 8
    assert lines_count > 500
