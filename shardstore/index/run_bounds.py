"""Bounds on runs that are yet to be written: how many blocks they have, and how much room they may take on the disk.

The reserve of a full disk rests on them (SPACE-1), so they hold in whatever order entries come and blocks are flushed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shardstore import chunk_frame
from shardstore.index.run_block import ONE_LOCATOR_ENTRY_SIZE_BYTES
from shardstore.units import RunBound

BLOCK_KEY_SIZE_BYTES = 12  # of the key in the frame of a block: run id and block number
BLOCK_OVERHEAD_BYTES = chunk_frame.OVERHEAD_SIZE_BYTES + BLOCK_KEY_SIZE_BYTES + 4  # and the count of its entries


class Limits(Protocol):
    """What of a configuration the bounds depend on."""

    @property
    def memtable_entries_max(self) -> int: ...
    @property
    def key_size_max_bytes(self) -> int: ...
    @property
    def run_block_size_bytes(self) -> int: ...


class RunLimits(NamedTuple):
    """`Limits` as a value."""

    memtable_entries_max: int
    key_size_max_bytes: int
    run_block_size_bytes: int


def run_bound(
    entries_count: int, entries_size_bytes: int, entry_size_max_bytes: int, block_size_bytes: int
) -> RunBound:
    """The bound of a run of at most so many entries that together have at most this size, and each at most that one."""
    count = min(entries_count, blocks_count_max(entries_size_bytes, entry_size_max_bytes, block_size_bytes))
    frame_size_max_bytes = max(block_size_bytes, entry_size_max_bytes) + BLOCK_OVERHEAD_BYTES
    return RunBound(entries_size_bytes + count * BLOCK_OVERHEAD_BYTES, count, frame_size_max_bytes)


def blocks_count_max(entries_size_bytes: int, entry_size_max_bytes: int, block_size_bytes: int) -> int:
    """How many blocks such entries fill at most: a block ends only where the next entry does not fit."""
    if not entries_size_bytes:
        return 0
    if 2 * entry_size_max_bytes <= block_size_bytes:
        return 1 + entries_size_bytes // (block_size_bytes - entry_size_max_bytes + 1)
    return 1 + 2 * entries_size_bytes // block_size_bytes  # two neighbours together hold more than one block's size


def memtable_bound(limits: Limits, surplus_size_bytes: int = 0) -> RunBound:
    """The bound of the run of a full memtable: the longest keys, one locator each, and so much for further ones."""
    count = limits.memtable_entries_max
    entry_size_bytes = ONE_LOCATOR_ENTRY_SIZE_BYTES + limits.key_size_max_bytes  # a deletion is smaller
    size_bytes = count * entry_size_bytes + surplus_size_bytes
    return run_bound(count, size_bytes, entry_size_bytes + surplus_size_bytes, limits.run_block_size_bytes)
