"""Runs: entries sorted by key, in blocks, each of which is a chunk.

    run   | block: a .. f | block: g .. k | block: l .. z |       in memory: the first key and the locator of each block

A run never changes, except for the locators of its blocks when reclamation moves them. Where runs and memtables are
read together, `newest` gives the entry of each key that counts.

The caller holds the store's monitor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import Protocol

from shardstore.chunk_store import PutChunk
from shardstore.errors import CorruptionError, StaleLocatorError
from shardstore.index import run_block
from shardstore.index.metadata_log import RunRecord, run_size_bytes
from shardstore.index.run_block import BlockError, Entry, Item
from shardstore.index.run_bounds import BLOCK_OVERHEAD_BYTES
from shardstore.units import KeyRange, Kind, Locator


class Chunks(Protocol):
    """The methods of a chunk store that the index needs."""

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk: ...
    def get(self, locator: Locator) -> bytes: ...
    def unpin(self, locator: Locator) -> None: ...
    def note_dead(self, locator: Locator) -> None: ...


class Run:
    """A live run. Reclamation changes its locators when it moves a block; nothing else changes."""

    __slots__ = (
        "entries_size_bytes",
        "entry_count",
        "entry_size_max_bytes",
        "first_keys",
        "holders_count",
        "level",
        "locators",
        "metadata_size_bytes",
        "run_id",
    )

    def __init__(self, record: RunRecord) -> None:
        self.run_id = record.run_id
        self.level = record.level
        self.entry_count = record.entry_count
        self.entry_size_max_bytes = record.entry_size_max_bytes
        self.first_keys = [block.first_key for block in record.blocks]
        self.locators = [block.locator for block in record.blocks]
        # A move keeps a block's length.
        self.entries_size_bytes = sum([each.length_bytes - BLOCK_OVERHEAD_BYTES for each in self.locators])
        self.metadata_size_bytes = run_size_bytes(self.first_keys)
        self.holders_count = 1  # the index is one holder, and so is each snapshot

    def number_of(self, key: bytes) -> int:
        """The block that may hold a key; -1 if none may."""
        return bisect_right(self.first_keys, key) - 1

    def keys_of(self, number: int) -> KeyRange:
        """The keys that a block may hold."""
        end = self.first_keys[number + 1] if number + 1 < len(self.first_keys) else None
        return KeyRange(self.first_keys[number], end)


class RunReader:
    """Reads runs, and keeps the blocks that were read last."""

    def __init__(self, chunks: Chunks, block_cache_count: int) -> None:
        self._chunks = chunks
        self._block_cache_count = block_cache_count
        # Least recently used first. Never out of date, since no locator is used twice (CHUNK-1).
        self._blocks: dict[Locator, bytes] = {}

    def find(self, run: Run, key: bytes) -> Item | None:
        """The run's entry for a key, or None. Raises `CorruptionError`, `DiskError`."""
        number = bisect_right(run.first_keys, key) - 1
        if number < 0:
            return None
        try:
            return run_block.find(self._block(run, number), key)
        except BlockError as error:
            raise _damaged(run, number, str(error)) from None

    def items(self, run: Run, start: bytes = b"") -> Iterator[Item]:
        """Entries in order of their keys, from ``start`` on. Raises `CorruptionError`, `DiskError`."""
        for number in range(max(0, run.number_of(start)), len(run.locators)):
            try:
                for item in run_block.decode(self._block(run, number)):
                    if item[0] >= start:
                        yield item
            except BlockError as error:
                raise _damaged(run, number, str(error)) from None

    def is_damaged(self, run: Run, number: int) -> bool:
        """Whether a block cannot be decoded as a whole. Raises `DiskError` if it cannot be read at all."""
        try:
            for _ in run_block.decode(self._block(run, number)):
                pass
        except (CorruptionError, BlockError):
            return True
        return False

    def _block(self, run: Run, number: int) -> bytes:
        locator = run.locators[number]
        blocks = self._blocks
        block = blocks.pop(locator, None)
        if block is None:
            try:
                block = self._chunks.get(locator)
            except StaleLocatorError:
                raise _damaged(run, number, "a live block of a run is gone") from None
            if len(blocks) >= self._block_cache_count:
                del blocks[next(iter(blocks))]
        blocks[locator] = block
        return block


_key_of = itemgetter(0)


def block_key(run_id: int, number: int) -> bytes:
    """The key in the frame of a block."""
    return run_id.to_bytes(8, "little") + number.to_bytes(4, "little")


def _damaged(run: Run, number: int, detail: str) -> CorruptionError:
    locator = run.locators[number]
    return CorruptionError(locator.extent, locator.offset_bytes, detail)


def in_blocks(items: Iterable[Item], block_size_bytes: int) -> Iterator[list[Item]]:
    """Split entries into blocks of at most this size, or of one entry that is larger."""
    batch: list[Item] = []
    size = 0
    for item in items:
        item_size = run_block.entry_size_bytes(*item)
        if batch and size + item_size > block_size_bytes:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield batch


def newest(sources: list[Iterator[Item]], superseded: Callable[[Entry], None] | None = None) -> Iterator[Item]:
    """Merge sources, which come newest first: the newest entry of each key, be it a deletion."""
    last: bytes | None = None
    # Stable: of equal keys the newest source comes first.
    for key, entry in sources[0] if len(sources) == 1 else merge(*sources, key=_key_of):
        if key != last:
            last = key
            yield key, entry
        elif superseded is not None:
            superseded(entry)
