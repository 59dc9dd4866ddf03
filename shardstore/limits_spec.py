"""The specs of limits: sizes at a limit, beside it, and empty; and values of as many chunks as an entry may name.

In the other specs a value has few chunks, and an append a few hundred bytes. Here a value may have 254, and a buffer
takes kilobytes, so that what only a long list or a long append shows comes within a few steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness import (
    FILE,
    ZONED,
    Background,
    Choose,
    Configuration,
    Crash,
    Generator,
    Operation,
    Reboot,
    SimulatedMedium,
    World,
    WriteBack,
    keys_from,
    lists_of,
    sampled,
)
from refmodel.node_limits import LimitedNodeModel
from shardstore.errors import NotFoundError, OutOfServiceError, TooLargeError
from shardstore.limits import value_size_max_bytes
from shardstore.node import format_stores, open_stores
from shardstore.node_spec import CheckedNode, disk_among, one_disk, open_system, shares_by
from shardstore.spec_world import COLLISIONS, STORE, shape
from shardstore.units import KEY_SIZE_MAX_BYTES


def open_on_used_disk(world: World) -> CheckedNode:
    """Like `open_system`, but a new world's disks have held another node, whose logs have turned once more."""
    if not world.kept:
        for opening in (format_stores, open_stores):  # the first record after opening is a full one
            for store in opening(world.media, world.seam, world.configuration.parameters):
                store.put(b"old", b"value of an older node").wait()
                store.abandon()
    return open_system(world)


# Sizes at a limit, one below and one above it, and empty; then what is as good as bytes, and what is not (ARG-1).
_DISK_COUNT = 2
VALUE_SIZE_MAX_BYTES = value_size_max_bytes(SimulatedMedium(shape(FILE)), STORE, _DISK_COUNT)
_ODD_KEYS: tuple[Any, ...] = (
    b"a",
    b"b",
    b"",
    *(b"k" * (STORE.key_size_max_bytes + more) for more in (-1, 0, 1)),
    b"k" * (KEY_SIZE_MAX_BYTES + 1),
    memoryview(b"b"),
    "a",
    None,
    (b"a",),
)
_ODD_VALUES: tuple[Any, ...] = (
    b"x",
    b"",
    *(bytes(STORE.chunk_payload_max_bytes + more) for more in (-1, 0, 1)),
    *(bytes(VALUE_SIZE_MAX_BYTES + more) for more in (-1, 0, 1)),
    memoryview(b"y"),
    "x",
    None,
)
odd_keys: Generator = keys_from(_ODD_KEYS, (5, 5))
odd_values: Generator = keys_from(_ODD_VALUES, (10,))


def odd_pairs(choose: Choose, name: str) -> tuple[tuple[Any, Any], ...]:
    return tuple((key, odd_values(choose, name + ".value")) for key in _some_odd_keys(choose, name))


_some_odd_keys = lists_of(odd_keys, 14)  # a memtable has room for less than half of these


def _disk_of(key: Any) -> int:
    """Where a key goes, if it is one."""
    return disk_among(_DISK_COUNT)(bytes(key)) if isinstance(key, bytes | memoryview) else 0


_shares = shares_by(_disk_of)

LIMITS = replace(
    one_disk(),
    name="limits",
    system=open_on_used_disk,
    model=lambda: LimitedNodeModel(STORE, VALUE_SIZE_MAX_BYTES, _disk_of),
    operations=[
        Operation("get", key=odd_keys, weight=4),
        Operation("put", key=odd_keys, value=odd_values, weight=8, writes="key"),
        Operation("delete", key=odd_keys, weight=3, writes="key"),
        Operation("list_pages", page_size_keys=sampled((1, 3, 0, -1, "1", None))),
        Operation("bulk_create", items=odd_pairs, writes=lambda args, _: _shares([key for key, _ in args["items"]])),
        Operation("bulk_remove", keys=_some_odd_keys, writes=lambda args, _: _shares(args["keys"])),
        Background("flush", weight=2),
        Background("sync", weight=4, promises="everything"),
        WriteBack(weight=4),
        Reboot(),
        Crash(flushes=("flush",)),
    ],
    share=2,  # few crashes find anything persistent
    events=(),
    configurations=(Configuration("odd", (shape(FILE), shape(ZONED)), STORE, COLLISIONS),),
    errors=(NotFoundError, OutOfServiceError, TooLargeError, TypeError, ValueError),
)

MANY_CHUNKS = replace(
    STORE,
    chunk_payload_max_bytes=16,
    write_buffer_size_bytes=8192,
    scan_slab_size_pages=64,
    breathe_at_count=64,
    cache_size_pages=200,
)
_MANY_CHUNKS_BYTES = 254 * 16  # the number is of the format: see docs/ON_DISK_FORMAT.md


def long_values(choose: Choose, name: str) -> bytes:
    """Of few chunks, of many, of as many as there may be, and one byte more. No byte is 0."""
    sizes = (1, 16, 17, 100, 1_000, _MANY_CHUNKS_BYTES - 16, _MANY_CHUNKS_BYTES, _MANY_CHUNKS_BYTES + 1)
    size = sizes[choose(name, len(sizes))]
    return bytes((choose(name + ".byte", 3) + 1,)) * size


_few_keys = sampled((b"a", b"b", b"c"))

WIDE = replace(
    one_disk(),
    name="wide",
    model=lambda: LimitedNodeModel(MANY_CHUNKS, _MANY_CHUNKS_BYTES),
    operations=[
        Operation("get", key=_few_keys, weight=2),
        Operation("put", key=_few_keys, value=long_values, weight=6, writes="key"),
        Operation("put_durably", key=_few_keys, value=long_values, weight=4, writes="key", promises="itself"),
        Operation("delete", key=_few_keys, writes="key"),
        Background("flush_buffers"),
        Background("flush", weight=2),
        Background("compact"),
        Background("sync", weight=2, promises="everything"),
        WriteBack(weight=4),
        Reboot(),
        Crash(flushes=("flush", "flush_buffers")),
    ],
    share=2,
    events=(),
    configurations=tuple(
        Configuration(device.name, (shape(device, extent_size_pages=160),), MANY_CHUNKS, COLLISIONS)
        for device in (ZONED, FILE)
    ),
    errors=(NotFoundError, OutOfServiceError, TooLargeError),
    steps_mean=16,
)
