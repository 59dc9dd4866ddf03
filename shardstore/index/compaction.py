"""Compaction: which runs are merged, and what the merge keeps.

    level 0   run run run      more runs than its limit: merged with level 1 into one run, or the newest with each other
    level 1   run              more entries than its limit: merged with level 2
    level 2   run              may hold `level_growth` times as many as level 1

A merge into a level rewrites it. So level 0 is merged into level 1 only once it has a fair share of its entries. Until
then its newest runs are merged with each other, up to where the next run is more than twice as large as they are
together. So an entry is written some times for each level, however few entries a flush has.

The choice depends only on the sizes of runs and levels and on the limits. The index does the merge and drops the old
runs. Level 0 is modelled on size-tiered compaction, as in Bigtable (Chang et al., 2006), the rest on LevelDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from shardstore.index.run import newest
from shardstore.index.run_block import Entry, Item
from shardstore.units import StoreConfiguration

Level = Sequence[int]  # the number of entries of each of its runs, newest first


class Choice(NamedTuple):
    """Merge the newest runs of a level into the target level: all of them into the next, or some with each other."""

    level: int
    target: int
    runs_count: int
    is_due: bool  # the level is over its limit; else it merely has something to merge


def choose(levels: Sequence[Level], limits: StoreConfiguration) -> Choice | None:
    """Choose the first level that is over its limit, else the first that has anything to merge, if any."""
    due = _over_limit(levels, limits)
    if due is not None:
        if not due and sum(levels[0]) * limits.level_growth < sum(levels[1] if len(levels) > 1 else ()):
            return Choice(0, 0, _alike_count(levels[0]), is_due=True)
        return Choice(due, due + 1, len(levels[due]), is_due=True)
    able = next((level for level in range(len(levels)) if _can_merge(levels[level : level + 2])), None)
    return None if able is None else Choice(able, able + 1, len(levels[able]), is_due=False)


def _over_limit(levels: Sequence[Level], limits: StoreConfiguration) -> int | None:
    if levels and len(levels[0]) > limits.level0_runs_max:
        return 0
    entries_max = limits.level1_entries_max
    for level, runs in enumerate(levels[1:], start=1):
        if sum(runs) > entries_max:
            return level
        entries_max *= limits.level_growth
    return None


def _alike_count(level0: Level) -> int:
    """How many of the newest runs to merge: at least two, and up to one that is much larger than they are together."""
    total = level0[0]
    for count in range(1, len(level0)):
        if count > 1 and level0[count] > 2 * total:
            return count
        total += level0[count]
    return len(level0)


def _can_merge(levels: Sequence[Level]) -> bool:
    """Whether merging a level into the next makes fewer runs; ``levels`` are these two, or the last level alone."""
    return len(levels[0]) > 0 and sum(map(len, levels)) > 1


def merged(sources: list[Iterator[Item]], superseded: Callable[[Entry], None], *, is_bottom: bool) -> Iterator[Item]:
    """Merge sources, which come newest first: the newest entry of each key. ``superseded`` is called with the others.

    On the bottom level there is no older entry for a deletion to hide, so deletions are dropped there (IDX-4).
    """
    return (item for item in newest(sources, superseded) if item[1] is not None or not is_bottom)
