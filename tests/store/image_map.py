"""What each byte of a disk's image is for, by ``docs/ON_DISK_FORMAT.md``. It shares no code with the store.

The image is whole: both copies of every live record are there, and all that the newest names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

RECORD = struct.Struct("<4sHBQII16s")  # magic, version, is full, generation, length of secret and payload, CRC, secret
FRAME = struct.Struct("<2s16sBHII")  # magic, UUID, kind, key length, payload length, CRC
LOCATOR = struct.Struct("<III16s")
PLACE = struct.Struct("<IIII16s")  # extent, epoch, first page, end page, digest
ENTRY = struct.Struct("<IIIB")  # extent, epoch, soft pointer in pages, owner
GEOMETRY_SIZE_BYTES = 13
TRAILER_SIZE_BYTES = 18


class Role(StrEnum):
    SUPERBLOCK_1 = "superblock record, first copy"
    SUPERBLOCK_2 = "superblock record, second copy"
    METADATA_1 = "metadata record, first copy"
    METADATA_2 = "metadata record, second copy"
    RUN_HEADER = "run block: frame header and key"
    RUN_PAYLOAD = "run block: payload"
    RUN_TRAILER = "run block: trailer"
    VALUE_HEADER = "value chunk: frame header and key"
    VALUE_PAYLOAD = "value chunk: payload"
    VALUE_TRAILER = "value chunk: trailer"
    PADDING = "padding"
    DEAD = "dead: what nothing refers to"


COPIES = {0: (Role.SUPERBLOCK_1, Role.SUPERBLOCK_2), 2: (Role.METADATA_1, Role.METADATA_2)}
FRAMES = {
    1: (Role.VALUE_HEADER, Role.VALUE_PAYLOAD, Role.VALUE_TRAILER),
    2: (Role.RUN_HEADER, Role.RUN_PAYLOAD, Role.RUN_TRAILER),
}


class Byte(NamedTuple):
    """A byte of an image: its role, where the object begins that it is a part of, and whether a tear may explain it."""

    role: Role
    start_bytes: int
    is_in_doubt: bool
    is_newest: bool  # of its log's records


class _Record(NamedTuple):
    extent: int
    start: int
    size: int
    is_full: bool
    generation: int
    payload: bytes


class _Place(NamedTuple):
    extent: int
    epoch: int
    first_page: int
    end_page: int
    digest: bytes


class ImageMap:
    """The bytes of an image in use: below the device's pointer, or, on a file, on pages that are not all zeros."""

    def __init__(self, extents: Sequence[bytes], page_size_bytes: int) -> None:
        self._extents = extents
        self._page_size_bytes = page_size_bytes
        self._roles: dict[tuple[int, int], tuple[Role, int]] = {}
        self._newest: set[tuple[int, int]] = set()  # bytes of the newest record of each log
        superblock, metadata = self._chain(0), self._chain(2)
        soft_pages = self._soft_pages(superblock)
        self.in_doubt = self._in_doubt(metadata, soft_pages)
        self.levels = self._map_runs(metadata)

    def bytes_in_use(self) -> Iterator[tuple[int, int, Byte]]:
        """Extent, offset and what the byte is."""
        size = self._page_size_bytes
        for extent, data in enumerate(self._extents):
            for page in range(len(data) // size):
                content = data[page * size : (page + 1) * size]
                if not any(content):
                    continue
                for offset in range(page * size, (page + 1) * size):
                    other = (Role.DEAD if data[offset] else Role.PADDING), offset
                    role, start = self._roles.get((extent, offset), other)
                    is_in_doubt, is_newest = (extent, page) in self.in_doubt, (extent, offset) in self._newest
                    yield extent, offset, Byte(role, start, is_in_doubt, is_newest)

    # --- logs ---------------------------------------------------------------------------------------

    def _chain(self, first_extent: int) -> list[_Record]:
        records = [each for extent in (first_extent, first_extent + 1) for each in self._records(extent)]
        newest = max((each for each in records if each.is_full), key=lambda each: each.generation)
        live = [each for each in records if each.extent == newest.extent and each.generation >= newest.generation]
        chain = []
        for first, second in zip(live[::2], live[1::2], strict=True):
            assert first.payload == second.payload
            for role, each in zip(COPIES[first_extent], (first, second), strict=True):
                self._roles.update({(each.extent, each.start + at): (role, each.start) for at in range(each.size)})
            chain.append(first)
        self._newest |= {(each.extent, each.start + at) for each in live[-2:] for at in range(each.size)}
        return chain

    def _records(self, extent: int) -> Iterator[_Record]:
        data, size = self._extents[extent], self._page_size_bytes
        page = 0
        while page < len(data) // size:
            start = page * size
            page += 1
            if data[start : start + 3] not in (b"SSB", b"SMD"):
                continue
            _, _, is_full, generation, length, _, _ = RECORD.unpack_from(data, start)
            end = start + RECORD.size - 16 + length
            payload = data[start + RECORD.size : end]
            yield _Record(extent, start, end - start, bool(is_full), generation, payload)
            page = -(-end // size)

    def _soft_pages(self, chain: list[_Record]) -> dict[int, tuple[int, int]]:
        """Epoch and soft pointer of each extent."""
        (disk_count,) = struct.unpack_from("<H", chain[0].payload, GEOMETRY_SIZE_BYTES + 2)
        entries = chain[0].payload[GEOMETRY_SIZE_BYTES + 4 + 16 * disk_count :]
        entries += b"".join(record.payload for record in chain[1:])
        return {extent: (epoch, pages) for extent, epoch, pages, _ in ENTRY.iter_unpack(entries)}

    def _in_doubt(self, chain: list[_Record], soft: dict[int, tuple[int, int]]) -> set[tuple[int, int]]:
        """The pages by which recovery tells whether the newest record, a delta, was torn: on a file, see section 13."""
        if len(chain) == 1:
            return set()
        places = [_Place(*fields) for fields in _places(chain[-1].payload)]
        return {
            (place.extent, page)
            for place in places
            if soft.get(place.extent, (0, 0)) < (place.epoch, place.end_page)
            for page in range(place.first_page, place.end_page)
        }

    # --- runs and values ----------------------------------------------------------------------------

    def _map_runs(self, chain: list[_Record]) -> set[int]:
        """Give the frames of live blocks and values their roles. Gives the levels."""
        runs: dict[int, tuple[int, list[tuple[int, int, int, bytes]]]] = {}
        for number, record in enumerate(chain):
            _apply(
                runs, record.payload if not number else record.payload[4 + PLACE.size * len(_places(record.payload)) :]
            )
        newest_first = sorted(runs, key=lambda run_id: (runs[run_id][0], -run_id))
        seen: set[bytes] = set()
        for run_id in newest_first:
            of_run: set[bytes] = set()
            for locator in runs[run_id][1]:
                for key, locators in _entries(self._map_frame(2, locator)):
                    of_run.add(key)
                    for value in locators if key not in seen else ():
                        self._map_frame(1, value)
            seen |= of_run
        return {level for level, _ in runs.values()}

    def _map_frame(self, kind: int, locator: tuple[int, int, int, bytes]) -> bytes:
        extent, start, length, uuid = locator
        data = self._extents[extent]
        magic, found, of_kind, key_length, payload_length, _ = FRAME.unpack_from(data, start)
        assert (magic, found, of_kind) == (b"\xc5\x5c", uuid, kind)
        assert length == FRAME.size + key_length + payload_length + TRAILER_SIZE_BYTES
        payload_start, trailer = start + FRAME.size + key_length, start + length - TRAILER_SIZE_BYTES
        header, payload, end = FRAMES[kind]
        for at in range(start, start + length):
            role = header if at < payload_start else payload if at < trailer else end
            self._roles[extent, at] = role, start
        return data[payload_start:trailer]


def _places(delta: bytes) -> list[tuple[int, int, int, int, bytes]]:
    (count,) = struct.unpack_from("<I", delta)
    return list(PLACE.iter_unpack(delta[4 : 4 + PLACE.size * count]))


def _apply(runs: dict[int, tuple[int, list[tuple[int, int, int, bytes]]]], edits: bytes) -> None:
    at = 0
    while at < len(edits):
        dropped, added, moved = struct.unpack_from("<III", edits, at)
        at += 12
        for _ in range(dropped):
            del runs[struct.unpack_from("<Q", edits, at)[0]]
            at += 8
        for _ in range(added):
            run_id, level, _, _, blocks_count = struct.unpack_from("<QBQII", edits, at)
            at += 25
            blocks = []
            for _ in range(blocks_count):
                at += 2 + struct.unpack_from("<H", edits, at)[0]
                blocks.append(LOCATOR.unpack_from(edits, at))
                at += LOCATOR.size
            runs[run_id] = level, blocks
        for _ in range(moved):
            run_id, block = struct.unpack_from("<QI", edits, at)
            runs[run_id][1][block] = LOCATOR.unpack_from(edits, at + 12)
            at += 12 + LOCATOR.size


def _entries(block: bytes) -> Iterator[tuple[bytes, list[tuple[int, int, int, bytes]]]]:
    (count,) = struct.unpack_from("<I", block, len(block) - 4)
    for (at,) in struct.iter_unpack("<I", block[len(block) - 4 - 4 * count : -4]):
        (length,) = struct.unpack_from("<H", block, at)
        end = at + 2 + length
        locators = 0 if block[end] == 255 else block[end]
        yield block[at + 2 : end], [LOCATOR.unpack_from(block, end + 1 + LOCATOR.size * n) for n in range(locators)]
