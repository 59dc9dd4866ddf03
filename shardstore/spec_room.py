"""What a disk has room for, whatever garbage is on it: worked out from what lives, and from nothing that a store keeps.

Guarantee. If `surely_fits`, a refusal breaks the store's promise that what is deleted can be used again (SPACE-2). The
other way round nothing is said: a store may have room for more. The argument is in ``docs/PROTOCOLS.md``, section 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shardstore import chunk_frame
from shardstore.index.metadata_log import run_size_max_bytes
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, ONE_LOCATOR_ENTRY_SIZE_BYTES
from shardstore.index.run_bounds import memtable_bound, run_bound
from shardstore.store import Store
from shardstore.units import RESERVED_EXTENTS_COUNT, Kind, RunBound, StoreConfiguration

_MEMTABLES_MAX = 3  # with entries that no run has yet: of a flush, behind it, and ahead


class Sizes(NamedTuple):
    """The sizes in which room is counted."""

    extent_count: int  # without those of the logs
    extent_size_bytes: int
    page_size_bytes: int
    configuration: StoreConfiguration

    def extents_count(self, bound: RunBound) -> int:
        return bound.extents_count(self.extent_size_bytes, self.page_size_bytes)

    def frame_sizes(self, key: bytes, value: bytes) -> list[int]:
        """The sizes in bytes of a value's frames, if each is padded to whole pages."""
        step, page = self.configuration.chunk_payload_max_bytes, self.page_size_bytes
        pieces = [value[at : at + step] for at in range(0, len(value), step)] or [b""]
        return [-(-chunk_frame.frame_size_bytes(key, len(piece)) // page) * page for piece in pieces]

    def frames_bound(self, values: Iterable[tuple[bytes, bytes]]) -> RunBound:
        sizes = [size for key, value in values for size in self.frame_sizes(key, value)]
        return RunBound(sum(sizes), len(sizes), max(sizes, default=0))


def sizes_of(store: Store) -> Sizes:
    extents = store.extents
    count = extents.extent_count - RESERVED_EXTENTS_COUNT
    return Sizes(count, extents.extent_size_bytes, extents.page_size_bytes, store.configuration)


def surely_fits(store: Store, held: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> bool:
    """Whether a disk that holds these values, and garbage, has room for those too: for their frames and their names."""
    sizes = sizes_of(store)
    limits = sizes.configuration
    entry_sizes = [
        ONE_LOCATOR_ENTRY_SIZE_BYTES + len(key) + (len(sizes.frame_sizes(key, value)) - 1) * LOCATOR_SIZE_BYTES
        for values in (held, wanted)
        for key, value in values.items()
    ]
    longest = max(entry_sizes)
    surplus = sum([max(0, size - ONE_LOCATOR_ENTRY_SIZE_BYTES - limits.key_size_max_bytes) for size in entry_sizes])
    recent_count = _MEMTABLES_MAX * limits.memtable_entries_max
    flush = memtable_bound(limits, surplus)
    merge = run_bound(
        len(entry_sizes) + recent_count,
        sum(entry_sizes) + recent_count * longest,
        longest,
        limits.run_block_size_bytes,
    )
    named_bytes = sum(run_size_max_bytes(each.blocks_count, limits.key_size_max_bytes) for each in (merge, flush))
    # A closed extent is evacuated unless seven eighths of it are live.
    held_count = sizes.frames_bound(held.items()).frames_size_bytes * 8 // (7 * sizes.extent_size_bytes)
    used_count = held_count + sizes.extents_count(merge) + len(Kind)  # the last are those that are being filled
    kept_count = 3 * sizes.extents_count(flush) + sizes.extents_count(merge) + limits.reserve_extents_count
    wanted_count = sizes.extents_count(sizes.frames_bound(wanted.items()))
    return used_count + kept_count + wanted_count <= sizes.extent_count and store.metadata.fits(named_bytes)
