"""The metadata log: edits in order, each once it may be, and any bytes at all."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_superblock import resealed
from test_twin_log import record
from worlds import PAGE, SECRET, Medium, Stack, examples, golden, new_medium, reopened, shape, with_contents

from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise
from shardstore.errors import CorruptionError
from shardstore.extents import Place
from shardstore.index.metadata_log import (
    MAGIC,
    Block,
    Edit,
    MetadataLog,
    Move,
    RunRecord,
    decode,
    decode_delta,
    encode,
    encode_delta,
    run_size_bytes,
)
from shardstore.units import Locator

BLOCKS = (Block(b"a", Locator(4, 128, 60, bytes(range(16)))), Block(b"longer", Locator(5, 0, 99, bytes(range(16, 32)))))


def all_hold(place: Place) -> bool:
    return True


class Log:
    """A metadata log by itself."""

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self.stack = Stack(medium)
        self.metadata = MetadataLog(self.stack.scheduler, self.stack.pool, self.stack)
        self.stack.scheduler.add_source(self.metadata)

    def format(self) -> Log:
        self.metadata.format(SECRET)
        self.stack.drain()
        return self

    def add(self, run_id: int, after: Dependency = PERSISTENT) -> Promise:
        return self.metadata.enqueue(Edit(added=(run(run_id),)), after, "test")

    def recovered_ids(self) -> list[int]:
        return sorted(each.run_id for each in Log(reopened(self.medium)).metadata.recover(SECRET, all_hold))


def run(run_id: int) -> RunRecord:
    return RunRecord(run_id, 0, 2, 40, BLOCKS)


blocks = st.builds(
    Block,
    st.binary(max_size=8),
    st.builds(Locator, *[st.integers(0, 2**32 - 1)] * 3, st.binary(min_size=16, max_size=16)),
)
runs = st.builds(
    RunRecord,
    st.integers(0, 2**64 - 1),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(blocks, max_size=3).map(tuple),
)
edits = st.builds(
    Edit,
    st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple),
    st.lists(runs, max_size=3).map(tuple),
    st.lists(
        st.builds(Move, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), blocks.map(lambda block: block.locator)),
        max_size=3,
    ).map(tuple),
)


@examples()
@given(st.lists(edits, max_size=3))
def test_edits_come_back_as_they_were(sequence: list[Edit]) -> None:
    assert decode(encode(sequence)) == sequence


def test_golden_bytes() -> None:
    edit = Edit((7,), (RunRecord(8, 1, 300, 71, BLOCKS),), (Move(6, 2, BLOCKS[0].locator),))
    assert encode([edit]) == golden("metadata_record")
    assert decode(golden("metadata_record")) == [edit]
    delta = encode_delta([Place(4, 7, 2, 5, bytes(range(16))), Place(5, 0, 3, 3, bytes(16))], [edit])
    assert delta == golden("metadata_delta")
    assert decode_delta(delta)[1] == [edit]


small_counts = st.builds(struct.Struct("<III").pack, *[st.integers(0, 2)] * 3)
payloads = st.one_of(
    st.binary(max_size=120),
    st.lists(st.one_of(small_counts, st.binary(max_size=40)), max_size=5).map(b"".join),
    st.tuples(st.lists(edits, min_size=1, max_size=2).map(encode), st.integers(0, 10_000), st.integers(0, 255)).map(
        lambda flip: bytes(byte ^ (flip[2] if i == flip[1] % len(flip[0]) else 0) for i, byte in enumerate(flip[0]))
    ),
    st.lists(edits, min_size=1, max_size=2).map(encode).map(lambda data: data[:-3]),
)


@examples(300)
@given(st.lists(payloads, min_size=1, max_size=2))
def test_any_payload_at_all_is_recovered_or_corruption(sequence: list[bytes]) -> None:
    copies = [record(1 + number, payload, is_full=not number) for number, payload in enumerate(sequence)]
    data = b"".join([resealed(copy, MAGIC) * 2 for copy in copies])
    if len(data) > 16 * PAGE:
        return
    medium = with_contents(shape(), [b"", b"", data] + [b""] * 17)
    with suppress(CorruptionError):
        Log(medium).metadata.recover(SECRET, all_hold)


def test_a_log_without_any_record_is_corruption() -> None:
    with pytest.raises(CorruptionError, match="gone"):
        Log(new_medium()).metadata.recover(SECRET, all_hold)


def test_idx_2_edits_are_recorded_in_order_each_when_its_prerequisites_are_persistent() -> None:
    log = Log(new_medium()).format()
    late = Promise(log.stack)
    promises = [log.add(1), log.add(2, late), log.add(3)]
    log.stack.drain()
    assert [promise.poll() for promise in promises] == [PERSISTENT_STATE, PENDING, PENDING]
    assert log.recovered_ids() == [1]
    assert not log.metadata.is_settled()
    late.bind(PERSISTENT)
    log.stack.drain()
    assert [promise.poll() for promise in promises] == [PERSISTENT_STATE] * 3
    assert log.recovered_ids() == [1, 2, 3]
    assert log.metadata.is_settled()


def test_edits_that_are_ready_share_a_record() -> None:
    log = Log(new_medium()).format()
    before = len(log.medium.trace)
    for run_id in range(1, 4):
        log.add(run_id)
    log.metadata.enqueue(Edit(dropped=(2,), moved=(Move(3, 1, BLOCKS[0].locator),)), PERSISTENT, "test")
    log.stack.drain()
    assert sum(event.kind == "write" for event in log.medium.trace[before:]) == 1
    recovered = {each.run_id: each for each in Log(reopened(log.medium)).metadata.recover(SECRET, all_hold)}
    assert sorted(recovered) == [1, 3]
    assert recovered[3].blocks == (BLOCKS[0], Block(BLOCKS[1].first_key, BLOCKS[0].locator))


def test_an_edit_whose_prerequisite_failed_takes_all_later_ones_with_it() -> None:
    log = Log(new_medium()).format()
    broken = Promise(log.stack)
    broken.fail()
    promises = [log.add(1), log.add(2, broken), log.add(3)]
    log.stack.drain()
    log.stack.drain()
    assert [promise.poll() for promise in promises] == [PERSISTENT_STATE, FAILED, FAILED]
    assert log.metadata.is_failed
    assert log.add(4).poll() == FAILED
    assert log.recovered_ids() == [1]


def test_pool_1_a_record_leaves_the_last_buffer() -> None:
    log = Log(new_medium()).format()
    while log.stack.pool.can_take():
        log.stack.pool.take(log.stack.scheduler.step)
    log.add(1)
    assert not log.metadata.is_due()
    log.stack.pool.give_back()
    assert log.metadata.is_due()


def test_after_a_refused_record_the_log_is_failed() -> None:
    log = Log(new_medium()).format()
    log.medium.fails = lambda event: event.kind == "write"
    promise = log.add(1)
    log.stack.drain()
    assert promise.poll() == FAILED
    assert log.metadata.is_failed


@pytest.mark.parametrize("key_size", [1, 16, 20, 1024])
@pytest.mark.parametrize("blocks_count", [1, 3])
def test_as_many_runs_as_fit_do_fit(key_size: int, blocks_count: int) -> None:
    log = Log(new_medium(extent_size_pages=64)).format()
    size_bytes = run_size_bytes([b"k" * key_size] * blocks_count)
    run_blocks = (Block(b"k" * key_size, BLOCKS[0].locator),) * blocks_count
    count = 0
    while log.metadata.fits((count + 1) * size_bytes):
        count += 1
        log.metadata.enqueue(Edit(added=(RunRecord(count, 0, 1, 40, run_blocks),)), PERSISTENT, "test")
        log.stack.drain()
    for round_ in range(70):  # long enough for the log to turn, which takes a full record
        log.metadata.enqueue(Edit(moved=(Move(1, 0, BLOCKS[round_ % 2].locator),)), PERSISTENT, "test")
        log.stack.drain()
    assert log.recovered_ids() == list(range(1, count + 1))


@examples()
@given(runs)
def test_the_size_of_a_run_is_foretold(added: RunRecord) -> None:
    empty = len(encode([Edit()]))
    assert len(encode([Edit(added=(added,))])) - empty == run_size_bytes([block.first_key for block in added.blocks])
