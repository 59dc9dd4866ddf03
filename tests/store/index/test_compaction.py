"""Which level is merged next, from the sizes of the levels alone; and what a merge keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from worlds import SMALL

from shardstore.index.compaction import Choice, choose, merged
from shardstore.index.run_block import Entry, Item
from shardstore.units import Locator

LIMITS = replace(SMALL, level0_runs_max=2, level1_entries_max=10, level_growth=3)
OLD, NEW = ((Locator(9, 0, 50 + number, bytes(16)),) for number in range(2))


@pytest.mark.parametrize(
    ("levels", "choice"),
    [
        ([], None),
        ([[]], None),
        ([[99]], None),  # a single run with nothing below it stays
        ([[1, 1]], Choice(0, 1, 2, is_due=False)),
        ([[1, 1, 1]], Choice(0, 1, 3, is_due=True)),
        ([[1], [10]], Choice(0, 1, 1, is_due=False)),
        ([[1], [11]], Choice(1, 2, 1, is_due=True)),
        ([[1, 1, 1], [9]], Choice(0, 1, 3, is_due=True)),
        ([[1, 1, 1], [10]], Choice(0, 0, 3, is_due=True)),  # level 0 has too few to rewrite level 1 for
        ([[], [10], [30]], Choice(1, 2, 1, is_due=False)),
        ([[], [10], [31]], Choice(2, 3, 1, is_due=True)),
        ([[], [10], [], [90]], None),  # what lies two levels below is not merged with
        ([[1], [], [30], [91]], Choice(3, 4, 1, is_due=True)),
    ],
)
def test_the_first_level_over_its_limit_is_merged_else_the_first_that_can_be(
    levels: list[list[int]], choice: Choice | None
) -> None:
    assert choose(levels, LIMITS) == choice


@pytest.mark.parametrize(
    ("level0", "count"),
    [
        ([1, 1, 1], 3),
        ([1, 1, 4], 3),  # 4 is not more than twice 1 + 1
        ([1, 1, 5], 2),
        ([1, 9, 1], 3),  # never one run alone
        ([1, 1, 5, 1, 99], 2),
        ([2, 3, 4, 19], 3),
        ([2, 3, 4, 18], 4),
    ],
)
def test_the_newest_runs_are_merged_up_to_one_that_is_much_larger(level0: list[int], count: int) -> None:
    assert choose([level0, [10_000]], LIMITS) == Choice(0, 0, count, is_due=True)


def test_an_entry_is_written_few_times_however_small_flushes_are() -> None:
    """Flushes of one entry beside a level of many, merged as chosen: on average less than so often each."""
    limits = replace(LIMITS, level0_runs_max=4, level1_entries_max=10**9, level_growth=10)
    levels: list[list[int]] = [[], [50_000]]
    written = 0
    for _ in range(6_000):
        levels[0].insert(0, 1)
        written += 1
        chosen = choose(levels, limits)
        while chosen is not None and chosen.is_due:
            merged_count = sum(levels[0][: chosen.runs_count])
            del levels[0][: chosen.runs_count]
            if chosen.target:
                merged_count += levels[1].pop()
            levels[chosen.target].insert(0, merged_count)
            written += merged_count
            chosen = choose(levels, limits)
    assert written < 50 * 6_000  # if level 1 were rewritten at every fifth run, it were 10,000 times as many


@pytest.mark.parametrize("is_bottom", [True, False])
def test_a_merge_keeps_the_newest_entry_of_each_key_and_deletions_above_the_bottom(is_bottom: bool) -> None:
    superseded: list[Entry] = []
    sources: list[Iterator[Item]] = [iter([(b"a", None), (b"b", NEW)]), iter([(b"a", OLD), (b"b", OLD), (b"c", OLD)])]
    kept = dict(merged(sources, superseded.append, is_bottom=is_bottom))
    assert kept == {b"b": NEW, b"c": OLD} | ({} if is_bottom else {b"a": None})
    assert superseded == [OLD, OLD]
