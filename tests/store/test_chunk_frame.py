"""The frame of a chunk: what goes in comes out, and nothing else does."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from worlds import SEED, examples, golden

from shardstore import chunk_frame
from shardstore.units import KEY_SIZE_MAX_BYTES

UUID = bytes(range(16))

frames = st.tuples(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
    st.one_of(st.binary(max_size=20), st.binary(min_size=KEY_SIZE_MAX_BYTES, max_size=KEY_SIZE_MAX_BYTES)),
    st.one_of(st.binary(max_size=300), st.just(chunk_frame.MAGIC * 3)),
)


@examples()
@given(frames, st.binary(max_size=40), st.binary(max_size=40))
def test_what_was_encoded_is_decoded_wherever_it_stands(
    fields: tuple[bytes, int, bytes, bytes], before: bytes, behind: bytes
) -> None:
    uuid, kind, key, payload = fields
    data = before + chunk_frame.encode(uuid, kind, key, payload, SEED) + behind
    length = chunk_frame.frame_size_bytes(key, len(payload))
    assert len(data) == len(before) + length + len(behind)
    assert chunk_frame.peek_length(data, len(before)) == length
    assert chunk_frame.names(data, len(before), uuid)
    assert chunk_frame.decode(data, len(before), SEED) == (uuid, kind, key, payload, length)


def test_every_flipped_bit_and_every_missing_byte_is_noticed() -> None:
    whole = chunk_frame.encode(UUID, 1, b"key", b"payload of some bytes", SEED)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        assert chunk_frame.decode(bytes(damaged), 0, SEED) is None
    for length in range(len(whole)):
        assert chunk_frame.decode(whole[:length], 0, SEED) is None
        assert chunk_frame.decode(whole[:length] + bytes(len(whole) - length), 0, SEED) is None


@examples(300)
@given(
    st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda data: chunk_frame.MAGIC + data)),
    st.integers(0, 100),
)
def test_any_bytes_at_all_decode_or_are_no_frame(data: bytes, offset: int) -> None:
    frame = chunk_frame.decode(data, offset, SEED)
    assert frame is None or chunk_frame.encode(frame.uuid, frame.kind, frame.key, frame.payload, SEED) in data
    length = chunk_frame.peek_length(data, offset)
    assert length is None or length >= chunk_frame.OVERHEAD_SIZE_BYTES


def test_chunk_3_a_frame_sealed_with_another_secret_is_none() -> None:
    made_up = chunk_frame.encode(UUID, 1, b"key", b"payload", chunk_frame.seed_of(bytes(16)))
    assert chunk_frame.decode(made_up, 0, SEED) is None


def test_a_claimed_length_past_the_end_is_no_frame() -> None:
    data = bytearray(chunk_frame.encode(UUID, 1, b"", b"", SEED))
    struct.pack_into("<I", data, 21, 2**32 - 1)
    assert chunk_frame.peek_length(bytes(data), 0) == 2**32 - 1 + chunk_frame.OVERHEAD_SIZE_BYTES
    assert chunk_frame.decode(bytes(data), 0, SEED) is None


def test_golden_bytes() -> None:
    assert chunk_frame.encode(UUID, 2, b"a key", b"a payload", SEED) == golden("chunk_frame")
