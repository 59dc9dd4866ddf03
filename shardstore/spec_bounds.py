"""The bounds of the node's spec, for exhaustion: eleven calls, and starting states from which known bugs are near."""

from __future__ import annotations

from collections.abc import Hashable

from harness import FILE, Background, Bounds, Configuration, Operation, sampled
from shardstore.node import Node
from shardstore.spec_world import COLLISIONS, PAGE_SIZE_BYTES, STORE, shape

_ONE = b"x"
_SPILLING = b"y" * 82  # its frame is two bytes longer than a page: see bug 10
_BOTH = ((b"a", b"z"), (b"b", b"z"))

_HALF_DEAD = """
    1 put
    2 put key.0=1
    3 sync
    4 put
    5 sync
"""
_TAIL = """
    1 put
    2 sync
    3 put key.0=1 value.0=1 entropy.0=1
    4 flush_buffers
    5 write_back
"""


def in_memory(node: Node) -> Hashable:
    """The requests on their way. All else in memory follows from the calls, and from what the disks hold."""
    return tuple(store.scheduler.on_its_way() for store in node.in_service())


NODE = Bounds(
    operations=[
        Operation("put", key=sampled([b"a", b"b"]), value=sampled([_ONE, _SPILLING]), writes="key"),
        Operation("delete", key=sampled([b"a"]), writes="key"),
        Operation(
            "bulk_create", items=sampled([_BOTH]), writes=lambda arguments, _: [[key for key, _ in arguments["items"]]]
        ),
        Background("flush_buffers"),
        Background("flush"),
        Background("compact"),
        Background("reclaim", choice=sampled([0])),
        Background("sync", promises="everything"),
    ],
    starts={
        "empty": "",
        "one flushed": "1 put\n 2 sync",
        "extent half dead": _HALF_DEAD,
        "just reset": f"{_HALF_DEAD} 6 reclaim\n 7 sync\n 8 write_back steps.0=63",
        "dead tail": f"{_TAIL} 6 crash survivor.5.0=1",  # its last two bytes, equal to a frame's first two, are gone
    },
    in_memory=in_memory,
    flushes=("flush", "flush_buffers"),
    # A barrier passes value, run and record together, and each sector may survive or not: too many ways for two a page.
    configurations=[
        Configuration("file", (shape(FILE, sector_size_bytes=PAGE_SIZE_BYTES),), STORE, COLLISIONS),
    ],
)
