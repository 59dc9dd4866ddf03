"""The store's small values: locators, owners of extents, kinds of chunks, changes, and the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from shardstore.errors import ConfigurationError

SUPERBLOCK_EXTENTS = (0, 1)
METADATA_EXTENTS = (2, 3)
RESERVED_EXTENTS_COUNT = 4

UUID_SIZE_BYTES = 16
SECRET_SIZE_BYTES = 16
DISK_ID_SIZE_BYTES = 16
KEY_SIZE_MAX_BYTES = 1024

Owner = int
UNOWNED: Owner = 0


class Kind(IntEnum):
    """The content of a chunk. Only chunks of one kind share an extent, so the kind is also the extent's owner."""

    VALUE = 1
    RUN = 2


# Makes a named tuple of a tuple in less than half the time that calling its class takes. For the hottest paths only.
new_tuple = tuple.__new__


class Locator(NamedTuple):
    """The place of a chunk's frame. Unique for good, since no UUID is drawn twice."""

    extent: int
    offset_bytes: int
    length_bytes: int  # of the whole frame
    uuid: bytes

    def __repr__(self) -> str:
        return f"<{self.extent}:{self.offset_bytes}+{self.length_bytes} {self.uuid[:4].hex()}>"


class KeyRange(NamedTuple):
    """The keys from ``first`` on, below ``end`` if there is one."""

    first: bytes
    end: bytes | None


class Membership(NamedTuple):
    """The node that a disk belongs to: the ids of all its disks, in order, and the place of this one among them."""

    place: int
    disks: tuple[bytes, ...]


class RunBound(NamedTuple):
    """The most that a run may take: in bytes of frames, which may each be padded to whole pages."""

    frames_size_bytes: int
    blocks_count: int
    frame_size_max_bytes: int

    def extents_count(self, extent_size_bytes: int, page_size_bytes: int) -> int:
        """How many extents the run takes at most if it begins with an empty one."""
        size_bytes = self.frames_size_bytes + self.blocks_count * page_size_bytes
        frame_size_bytes = self.frame_size_max_bytes + page_size_bytes
        if 2 * frame_size_bytes > extent_size_bytes:  # what two neighbours hold together is more than one
            count = 1 + 2 * size_bytes // extent_size_bytes
        else:  # an extent is left only when the next frame does not fit
            count = -(-size_bytes // (extent_size_bytes - frame_size_bytes))
        return min(count, self.blocks_count)


class Put(NamedTuple):
    """Store this value."""

    key: bytes
    value: bytes


class Delete(NamedTuple):
    """Forget this key's value, if there is one."""

    key: bytes


Change = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfiguration:
    """Sizes and limits of one disk's store. The defaults suit a file of some gigabytes.

    Raises `ConfigurationError` if a value is too small, or too large for the format.
    """

    key_size_max_bytes: int = KEY_SIZE_MAX_BYTES
    chunk_payload_max_bytes: int = 256 * 1024
    write_buffer_size_bytes: int = 256 * 1024  # a buffer is flushed once it is at least this full
    buffer_count: int = 16  # buffers in the pool, the superblock's included
    cache_size_pages: int = 2048
    scan_slab_size_pages: int = 64  # read at once where an extent is walked frame by frame, or a log record by record
    breathe_at_count: int = 64  # chunks that such a walk looks at before other threads may have the store
    block_cache_count: int = 64  # run blocks kept ready to be searched
    memtable_entries_max: int = 4096
    prune_at_count: int = 64  # of the dependencies that memtable and metadata keep; then those settled are forgotten
    in_doubt_size_max_bytes: int = 64 * 1024  # of more, a digest costs about what waiting for the bytes does
    waiting_changes_max: int = 128  # that the superblock keeps in memory before it records them
    run_block_size_bytes: int = 16 * 1024
    level0_runs_max: int = 4
    level1_entries_max: int = 4096 * 40  # each level below may hold `level_growth` times as many
    level_growth: int = 10
    reserve_extents_count: int = 4  # left free for copies, besides what flushes and merges may need
    reclaim_free_extents_min: int = 8  # upkeep keeps this many free for requests, besides the reserve
    automatic: bool = True  # flush, compact and reclaim as part of the requests that make them due

    def __post_init__(self) -> None:
        for name, least in (
            ("key_size_max_bytes", 1),
            ("chunk_payload_max_bytes", 1),
            ("write_buffer_size_bytes", 1),
            # one open buffer for each kind of chunk, one metadata record, one superblock record
            ("buffer_count", len(Kind) + 2),
            ("cache_size_pages", 1),
            ("scan_slab_size_pages", 1),
            ("breathe_at_count", 1),
            ("block_cache_count", 1),
            ("memtable_entries_max", 1),
            ("prune_at_count", 1),
            ("in_doubt_size_max_bytes", 0),
            ("waiting_changes_max", 1),
            ("run_block_size_bytes", 1),
            ("level0_runs_max", 1),
            ("level1_entries_max", 1),
            ("level_growth", 2),
            ("reserve_extents_count", len(Kind)),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.key_size_max_bytes > KEY_SIZE_MAX_BYTES:
            raise ConfigurationError(f"key_size_max_bytes is at most {KEY_SIZE_MAX_BYTES}")


DEFAULTS = StoreConfiguration()
