"""The spec of forgery: bytes that users choose are never taken for the store's own, whatever they are.

Keys and values hold whole records and frames. Some are made up by one who knows the format but not the disk's secret;
some are copied page by page from the very disk. Each is laid so that it begins on a page. The device is a file: there
stays behind a short record what a longer one once held.
"""

from __future__ import annotations

from dataclasses import replace

from harness import (
    FILE,
    Background,
    Configuration,
    Crash,
    Operation,
    Reboot,
    WriteBack,
    integers,
    keys_from,
    results_of,
)
from refmodel.node import NodeModel
from shardstore import chunk_frame, node_spec
from shardstore.dependency import Dependency
from shardstore.index import metadata_log
from shardstore.index.metadata_log import Block, Edit, RunRecord
from shardstore.index.run_block import encode as encode_block
from shardstore.node_spec import CheckedNode, open_system
from shardstore.spec_events import MOVES
from shardstore.spec_world import COLLISIONS, EXTENT_COUNT, EXTENT_SIZE_PAGES, PAGE_SIZE_BYTES, STORE, shape
from shardstore.twin_log import RECORD_HEADER_SIZE_BYTES, encode_record
from shardstore.units import SECRET_SIZE_BYTES, Kind, Locator

# Where in a metadata record the first key of its first run begins, and what brings the rest of the key to a page.
_KEY_OFFSET_BYTES = RECORD_HEADER_SIZE_BYTES + metadata_log.FIRST_KEY_OFFSET_BYTES
_KEY_TO_PAGE = b"k" * (-_KEY_OFFSET_BYTES % PAGE_SIZE_BYTES)
_VALUE_KEY = b"v"
_VALUE_TO_PAGE = b"v" * (-(chunk_frame.HEADER_SIZE_BYTES + len(_VALUE_KEY)) % PAGE_SIZE_BYTES)
_GUESS = bytes(SECRET_SIZE_BYTES)

FORGERY = replace(STORE, key_size_max_bytes=len(_KEY_TO_PAGE) + PAGE_SIZE_BYTES, memtable_entries_max=3)

SHAPE = shape(FILE, extent_size_pages=2 * EXTENT_SIZE_PAGES)


def _made_up_block() -> bytes:
    """A frame with a run's block that says that nothing is in the store any more, as far as ``a`` and ``b`` go."""
    block = encode_block([(b"a", None), (b"b", None)])
    return chunk_frame.encode(_GUESS, Kind.RUN, bytes(12), block, chunk_frame.seed_of(_GUESS))


def _made_up_records() -> list[bytes]:
    """Metadata records that come next, or far in the future; they change nothing, or add a run that lies in a value."""
    block = Block(b"a", Locator(4, PAGE_SIZE_BYTES, len(_made_up_block()), _GUESS))
    edits = (Edit(), Edit(added=(RunRecord(99, 0, 2, 0, (block,)),)))
    payloads = [metadata_log.encode_delta([], [edit]) for edit in edits]
    return [
        encode_record(metadata_log.MAGIC, _GUESS, generation, payload, is_full=False)
        for payload in payloads
        for generation in (1 << 40, *range(4, 12))
    ]


made_up_keys = keys_from([_KEY_TO_PAGE + record for record in _made_up_records()])
pages = integers(0, SHAPE.extent_size_pages - 1)
values = keys_from((b"x", b"", _VALUE_TO_PAGE + _made_up_block()))


class ForgingNode(CheckedNode):
    """A node whose users know the bytes of its disk."""

    def page(self, extent: int, page: int) -> bytes:
        """A page of the disk, as it is now."""
        medium = self.in_service()[0].disk
        return medium.read(extent, page, 1)

    def put_copy(self, copy: bytes) -> Dependency:
        return self.put(_VALUE_KEY, _VALUE_TO_PAGE + copy)

    def put_under_copy(self, copy: bytes) -> Dependency:
        return self.put(key_of(copy), b"x")


def key_of(copy: bytes) -> bytes:
    return _KEY_TO_PAGE + copy.rstrip(b"\0")  # the padding of a record is not under its checksum


class ForgingModel(NodeModel):
    """A node of one disk, and the pages that its users have seen."""

    def page(self, copy: bytes, extent: int, page: int) -> None:
        """Any page of the disk may be copied, whatever it holds."""

    def put_copy(self, copy: bytes) -> None:
        self.put(_VALUE_KEY, _VALUE_TO_PAGE + copy)

    def put_under_copy(self, copy: bytes) -> None:
        self.put(key_of(copy), b"x")


SPEC = replace(
    node_spec.one_disk(),
    name="forgery",
    share=1,
    events=MOVES,
    system=lambda world: open_system(world, ForgingNode),
    model=ForgingModel,
    operations=[
        Operation("get", key=keys_from((b"a", b"b", _VALUE_KEY)), weight=2),
        Operation("put", key=keys_from((b"a", b"b", _VALUE_KEY)), value=values, weight=3, writes="key"),
        Operation("page", extent=integers(0, EXTENT_COUNT - 1), page=pages, adopts=True),
        Operation("put_copy", copy=results_of("page"), writes=lambda arguments, _: [[_VALUE_KEY]]),
        Operation("put_under_copy", copy=results_of("page"), writes=lambda arguments, _: [[key_of(arguments["copy"])]]),
        Operation("delete", key=made_up_keys, weight=4, writes="key"),
        Background("flush_buffers"),
        Background("flush", weight=2),
        Background("compact", weight=2),
        Background("reclaim", choice=integers(0, 2)),
        Background("sync", promises="everything"),
        WriteBack(weight=2),
        Reboot(weight=3),
        Crash(flushes=("flush", "flush_buffers")),
    ],
    configurations=(Configuration("file", (SHAPE,), FORGERY, COLLISIONS),),
)
