"""Compaction: which level is merged into the next, and what the merge keeps.

    level 0   run run run      more runs than its limit: merged with level 1 into one run
    level 1   run              more entries than its limit: merged with level 2
    level 2   run              may hold `level_growth` times as many as level 1

The choice depends on nothing but the sizes of the levels and the limits. Who merges, and what becomes of the runs that
were merged, is the index's business.
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
    is_due: bool  # it is over its limit; otherwise there merely is something to merge


def choose(levels: Sequence[LevelSize], limits: StoreConfiguration) -> Choice | None:
    """The first level that is over its limit, else the first that has anything to merge; None if there is none."""
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
    """Whether merging the first of these, a level and the next if there is one, makes fewer runs."""
    return levels[0].runs_count > 0 and sum(level.runs_count for level in levels) > 1


def merged(sources: list[Iterator[Item]], superseded: Callable[[Entry], None], *, is_bottom: bool) -> Iterator[Item]:
    """Of each key the newest entry; ``superseded`` is told of the others. Sources come newest first.

    At the bottom nothing is left for a deletion to hide, so none is kept (IDX-4).
    """
    return (item for item in newest(sources, superseded) if item[1] is not None or not is_bottom)
