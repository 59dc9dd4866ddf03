"""The outlook: how much room the index may need next, whatever entries come. The reserve of a full disk is made of it.

Guarantee (SPACE-1). No flush, and no merge of all runs, takes more than its bound here, in whatever order deletions,
moves and entries that were allowed for come before it.
"""

from __future__ import annotations

from typing import NamedTuple

from shardstore.index.metadata_log import run_size_max_bytes
from shardstore.index.run_block import ONE_LOCATOR_ENTRY_SIZE_BYTES
from shardstore.index.run_bounds import RunLimits, memtable_bound, run_bound
from shardstore.units import RunBound, new_tuple

_KNOWN_MAX = 64


class Figures(NamedTuple):
    """What the outlook depends on. A *surplus* is the size of all locators but the first of each entry."""

    limits: RunLimits
    runs_size_bytes: int
    runs_entry_count: int
    runs_named_bytes: int  # that a full record takes to name the live runs
    memtables_count: int  # with entries that no run has yet, the empty one included
    entry_size_max_bytes: int  # of those that are no deletions, in runs and memtables
    memtable_surplus_size_bytes: int  # of the memtable that is flushed next
    surplus_size_bytes: int  # of all memtables
    is_flush_ahead: bool  # the entries to come are the beginning of another memtable


class Outlook(NamedTuple):
    """The most that the next flush and a merge of everything may take, on the disk and in a full record."""

    flush: RunBound
    merge: RunBound
    flush_named_bytes: int  # for the flush alone
    grown_named_bytes: int  # for the live runs or the merged one, and the flush


def outlook(figures: Figures) -> Outlook:
    """Work out the bounds, from figures that count the entries to come as if they were there."""
    limits = figures.limits
    key_size_max_bytes = limits.key_size_max_bytes
    flush = memtable_bound(limits, figures.memtable_surplus_size_bytes)
    flush_named_bytes = run_size_max_bytes(flush.blocks_count, key_size_max_bytes)
    entry_size_max_bytes = figures.entry_size_max_bytes
    recent_count = (figures.memtables_count + figures.is_flush_ahead) * limits.memtable_entries_max
    merge = run_bound(
        figures.runs_entry_count + recent_count,
        figures.runs_size_bytes + figures.surplus_size_bytes + recent_count * entry_size_max_bytes,
        entry_size_max_bytes,
        limits.run_block_size_bytes,
    )
    seen_key_size_bytes = max(0, entry_size_max_bytes - ONE_LOCATOR_ENTRY_SIZE_BYTES)
    merged_named_bytes = run_size_max_bytes(merge.blocks_count, min(seen_key_size_bytes, key_size_max_bytes))
    live_named_bytes = figures.runs_named_bytes + flush_named_bytes * figures.is_flush_ahead
    grown_named_bytes = max(live_named_bytes, merged_named_bytes) + flush_named_bytes
    return new_tuple(Outlook, (flush, merge, flush_named_bytes, grown_named_bytes))


class Outlooks:
    """Works each outlook out once, as long as there are few: the same figures come again and again.

    It belongs to one index, not to the process: else what a call does would depend on what other stores have done.
    """

    def __init__(self) -> None:
        self._known: dict[Figures, Outlook] = {}

    def of(self, figures: Figures) -> Outlook:
        known = self._known.get(figures)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known = {}
            known = self._known[figures] = outlook(figures)
        return known
