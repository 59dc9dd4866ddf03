"""Compaction: which level is merged into the next, and what the merge keeps.

    level 0   run run run      more runs than its limit: merged with level 1 into one run
    level 1   run              more entries than its limit: merged with level 2
    level 2   run              may hold `level_growth` times as many as level 1

The choice depends only on the sizes of the levels and on the limits. The index does the merge and drops the old runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from shardstore.index.run import newest
from shardstore.index.run_block import Entry, Item
from shardstore.units import StoreConfiguration


class LevelSize(NamedTuple):
    runs_count: int
    entries_count: int


class Choice(NamedTuple):
    """Merge this level into the next."""

    level: int
    is_due: bool  # the level is over its limit; else it merely has something to merge


def choose(levels: Sequence[LevelSize], limits: StoreConfiguration) -> Choice | None:
    """Choose the first level that is over its limit, else the first that has anything to merge, if any."""
    due = _over_limit(levels, limits)
    if due is not None:
        return Choice(due, is_due=True)
    able = next((level for level in range(len(levels)) if _can_merge(levels[level : level + 2])), None)
    return None if able is None else Choice(able, is_due=False)


def _over_limit(levels: Sequence[LevelSize], limits: StoreConfiguration) -> int | None:
    if levels and levels[0].runs_count > limits.level0_runs_max:
        return 0
    entries_max = limits.level1_entries_max
    for level, size in enumerate(levels[1:], start=1):
        if size.entries_count > entries_max:
            return level
        entries_max *= limits.level_growth
    return None


def _can_merge(levels: Sequence[LevelSize]) -> bool:
    """Whether merging a level into the next makes fewer runs; ``levels`` are these two, or the last level alone."""
    return levels[0].runs_count > 0 and sum(level.runs_count for level in levels) > 1


def merged(sources: list[Iterator[Item]], superseded: Callable[[Entry], None], *, is_bottom: bool) -> Iterator[Item]:
    """Merge sources, which come newest first: the newest entry of each key. ``superseded`` is called with the others.

    On the bottom level there is no older entry for a deletion to hide, so deletions are dropped there (IDX-4).
    """
    return (item for item in newest(sources, superseded) if item[1] is not None or not is_bottom)
