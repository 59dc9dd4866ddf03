"""Which level is merged next, from the sizes of the levels alone; and what a merge keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from worlds import SMALL

from shardstore.index.compaction import Choice, LevelSize, choose, merged
from shardstore.index.run_block import Entry, Item
from shardstore.units import Locator

LIMITS = replace(SMALL, level0_runs_max=2, level1_entries_max=10, level_growth=3)
OLD, NEW = ((Locator(9, 0, 50 + number, bytes(16)),) for number in range(2))


@pytest.mark.parametrize(
    ("levels", "choice"),
    [
        ([], None),
        ([(0, 0)], None),
        ([(1, 99)], None),  # a single run with nothing below it stays
        ([(2, 2)], Choice(0, is_due=False)),
        ([(3, 3)], Choice(0, is_due=True)),
        ([(1, 1), (1, 10)], Choice(0, is_due=False)),
        ([(1, 1), (1, 11)], Choice(1, is_due=True)),
        ([(3, 3), (1, 11)], Choice(0, is_due=True)),
        ([(0, 0), (1, 10), (1, 30)], Choice(1, is_due=False)),
        ([(0, 0), (1, 10), (1, 31)], Choice(2, is_due=True)),
        ([(0, 0), (1, 10), (0, 0), (1, 90)], None),  # what lies two levels below is not merged with
        ([(1, 1), (0, 0), (1, 30), (1, 91)], Choice(3, is_due=True)),
    ],
)
def test_the_first_level_over_its_limit_is_merged_else_the_first_that_can_be(
    levels: list[tuple[int, int]], choice: Choice | None
) -> None:
    assert choose([LevelSize(*level) for level in levels], LIMITS) == choice


@pytest.mark.parametrize("is_bottom", [True, False])
def test_a_merge_keeps_the_newest_entry_of_each_key_and_deletions_above_the_bottom(is_bottom: bool) -> None:
    superseded: list[Entry] = []
    sources: list[Iterator[Item]] = [iter([(b"a", None), (b"b", NEW)]), iter([(b"a", OLD), (b"b", OLD), (b"c", OLD)])]
    kept = dict(merged(sources, superseded.append, is_bottom=is_bottom))
    assert kept == {b"b": NEW, b"c": OLD} | ({} if is_bottom else {b"a": None})
    assert superseded == [OLD, OLD]
