"""The frame around every chunk, and nothing else: encoding, decoding, verifying.

    | magic 2 | UUID 16 | kind 1 | key length 2 | payload length 4 | CRC 4 | key | payload | magic 2 | UUID 16 |

The CRC-32C covers the header (without itself), key and payload. It starts from a seed that is a secret of the disk, so
bytes that a user made up or copied from another disk are no frame (CHUNK-3). The trailer repeats magic and UUID, so
that a frame whose end was torn off is told from a whole one.

Any bytes at all decode to a `Frame` or to None; decoding never raises.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from crc32c import crc32c

from shardstore.units import KEY_SIZE_MAX_BYTES, new_tuple

MAGIC = b"\xc5\x5c"
_HEADER = struct.Struct("<2s16sBHI")
_CHECKSUM = struct.Struct("<I")
_CHECKED_HEADER = struct.Struct("<2s16sBHII")
HEADER_SIZE_BYTES = _HEADER.size + _CHECKSUM.size
TRAILER_SIZE_BYTES = 18
OVERHEAD_SIZE_BYTES = HEADER_SIZE_BYTES + TRAILER_SIZE_BYTES

_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_pack_checksum = _CHECKSUM.pack
_unpack_checked_header = _CHECKED_HEADER.unpack_from
_KEY_START = HEADER_SIZE_BYTES


class Frame(NamedTuple):
    """A decoded frame."""

    uuid: bytes
    kind: int
    key: bytes
    payload: bytes
    length_bytes: int  # of the whole frame


def seed_of(secret: bytes) -> int:
    """What the checksums of a disk with this secret start from."""
    seed: int = crc32c(secret)
    return seed


def encode(uuid: bytes, kind: int, key: bytes, payload: bytes, seed: int) -> bytes:
    header = _pack_header(MAGIC, uuid, kind, len(key), len(payload))
    checksum = _pack_checksum(crc32c(payload, crc32c(header + key, seed)))
    return b"".join((header, checksum, key, payload, MAGIC, uuid))


def frame_size_bytes(key: bytes, payload_size_bytes: int) -> int:
    return OVERHEAD_SIZE_BYTES + len(key) + payload_size_bytes


def peek_length(data: bytes, offset: int) -> int | None:
    """The length in bytes that a frame which starts here claims, or None if no frame starts here."""
    if not data.startswith(MAGIC, offset) or len(data) - offset < HEADER_SIZE_BYTES:
        return None
    _, _, _, key_length, payload_length = _unpack_header(data, offset)
    if key_length > KEY_SIZE_MAX_BYTES:
        return None
    length: int = OVERHEAD_SIZE_BYTES + key_length + payload_length
    return length


def decode(data: bytes, offset: int, seed: int) -> Frame | None:
    """The frame that starts at ``offset``, or None if there is none, or it is torn, damaged or made up."""
    length = peek_length(data, offset)
    if length is None or offset + length > len(data):
        return None
    _, uuid, kind, key_length, _, checksum = _unpack_checked_header(data, offset)
    trailer = offset + length - TRAILER_SIZE_BYTES
    if not data.startswith(MAGIC, trailer) or not data.startswith(uuid, trailer + 2):
        return None
    body = offset + _KEY_START
    if checksum != crc32c(data[body:trailer], crc32c(data[offset : body - 4], seed)):
        return None
    key_end = body + key_length
    return new_tuple(Frame, (uuid, kind, data[body:key_end], data[key_end:trailer], length))


def names(data: bytes, offset: int, uuid: bytes) -> bool:
    """Whether a frame with this UUID starts here, whole or damaged."""
    return data.startswith(MAGIC, offset) and data.startswith(uuid, offset + 2)
