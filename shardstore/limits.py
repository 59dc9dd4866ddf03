"""The limits that follow from a disk's geometry and a configuration together."""

from __future__ import annotations

from functools import lru_cache

from shardstore import chunk_frame
from shardstore.disk import Disk
from shardstore.errors import ConfigurationError
from shardstore.index import run_block
from shardstore.index.metadata_log import memtable_run_size_bytes
from shardstore.index.run_bounds import BLOCK_KEY_SIZE_BYTES, memtable_bound
from shardstore.superblock import superblock_full_size_bytes
from shardstore.twin_log import RECORD_HEADER_SIZE_BYTES
from shardstore.units import RESERVED_EXTENTS_COUNT, StoreConfiguration


def value_size_max_bytes(disk: Disk, configuration: StoreConfiguration, disk_count: int = 1) -> int:
    """The size in bytes of the longest value on a node of so many disks.

    Raises `ConfigurationError` if disk and configuration do not go together.
    """
    return _checked(disk.extent_count, disk.extent_size_pages, disk.page_size_bytes, disk_count, configuration)


@lru_cache(maxsize=32)
def _checked(
    extent_count: int,
    extent_size_pages: int,
    page_size_bytes: int,
    disk_count: int,
    configuration: StoreConfiguration,
) -> int:
    extent_size_bytes = extent_size_pages * page_size_bytes
    longest_frames = {
        "chunk_payload_max_bytes": chunk_frame.OVERHEAD_SIZE_BYTES
        + configuration.key_size_max_bytes
        + configuration.chunk_payload_max_bytes,
        "run_block_size_bytes": memtable_bound(configuration).frame_size_max_bytes,
    }
    for name, size_bytes in longest_frames.items():
        if size_bytes > extent_size_bytes:
            raise ConfigurationError(f"{name} is too large for extents of {extent_size_bytes} bytes")
    flush_count = memtable_bound(configuration).extents_count(extent_size_bytes, page_size_bytes)
    # A put fits an empty store by SPACE-1: two flushes, a merge of one memtable, the spare, and its own extent.
    least_count = RESERVED_EXTENTS_COUNT + 3 * flush_count + configuration.reserve_extents_count + 1
    if extent_count < least_count:
        raise ConfigurationError(f"a disk needs at least {least_count} extents, not {extent_count}")
    # Each record twice, and in it what the index may come to by a merge, and by one more flush (SPACE-1).
    record_size_bytes = RECORD_HEADER_SIZE_BYTES + 2 * memtable_run_size_bytes(configuration) + page_size_bytes
    if 2 * record_size_bytes > extent_size_bytes:
        raise ConfigurationError(f"an extent of {extent_size_bytes} bytes is too small to name two memtables' runs")
    if 2 * superblock_full_size_bytes(extent_count, page_size_bytes, disk_count) > extent_size_bytes:
        raise ConfigurationError(f"an extent of {extent_size_bytes} bytes is too small for the superblock")
    return configuration.chunk_payload_max_bytes * _locators_max(extent_size_bytes, configuration)


def _locators_max(extent_size_bytes: int, configuration: StoreConfiguration) -> int:
    """How many chunks a value may have, such that its entry fits a block, and the block an extent."""
    empty = run_block.block_size_bytes([(bytes(configuration.key_size_max_bytes), ())])
    room = extent_size_bytes - chunk_frame.OVERHEAD_SIZE_BYTES - BLOCK_KEY_SIZE_BYTES - empty
    return min(run_block.LOCATORS_MAX, room // run_block.LOCATOR_SIZE_BYTES)
