"""The twin log: what comes back after crashes, damage and refused writes, and in which order the device is asked."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    EXTENT,
    EXTENT_PAGES,
    PAGE,
    SECRET,
    Medium,
    Stack,
    examples,
    new_medium,
    page_of,
    reopened,
    shape,
    with_contents,
)

from harness.world.medium import SimulatedMedium
from shardstore.dependency import FAILED, PENDING, PERSISTENT_STATE, Dependency
from shardstore.errors import CorruptionError, FormatVersionError, InvariantError, NoSpaceError
from shardstore.twin_log import FORMAT_VERSION, RECORD_HEADER_SIZE_BYTES, TwinLog

MAGIC = b"Test"
EXTENTS = (0, 1)


class Life:
    """A log of numbers from opening to crash: a full record holds all of them, a delta one."""

    def __init__(self, medium: Medium, *, fresh: bool = False) -> None:
        self.stack = Stack(medium)
        self.medium = medium
        self.log = TwinLog(self.stack.scheduler, EXTENTS, MAGIC, "test")
        self.numbers: list[int] = []
        self.writes: list[tuple[int, Dependency]] = []  # how many numbers, and the record that says so
        if fresh:
            self.log.format(SECRET)
        else:
            medium.barrier()
            payloads = self.log.recover(SECRET)
            for payload in payloads:
                self.numbers += _numbers(payload)

    def submit(self, number: int, filler_size: int = 0) -> Dependency:
        self.numbers.append(number)
        self.stack.pool.take_reserved()
        write = self.log.submit(_payload([number], filler_size), lambda: _payload(self.numbers, 0))
        self.writes.append((len(self.numbers), write))
        return write

    def append(self, number: int, filler_size: int = 0) -> None:
        """Submit, and make it persistent."""
        self.submit(number, filler_size)
        self.stack.drain()

    def persistent_count(self) -> int:
        return max((count for count, write in self.writes if write.poll() == PERSISTENT_STATE), default=0)

    def closed(self) -> list[bytes]:
        return list(reopened(self.medium)._extents)


def _payload(numbers: list[int], filler_size: int) -> bytes:
    return struct.pack(f"<H{len(numbers)}H", len(numbers), *numbers) + bytes(filler_size)


def _numbers(payload: bytes) -> list[int]:
    (count,) = struct.unpack_from("<H", payload)
    return list(struct.unpack_from(f"<{count}H", payload, 2))


def record(
    generation: int, payload: bytes, *, is_full: bool, version: int = FORMAT_VERSION, secret: bytes = SECRET
) -> bytes:
    """One copy, from the documented layout."""
    sealed = secret + payload
    header = struct.pack("<4sHBQI", MAGIC, version, is_full, generation, len(sealed))
    data = header + struct.pack("<I", crc32c(sealed, crc32c(header))) + sealed
    return data + bytes(-len(data) % PAGE)


def log_medium(first: bytes, second: bytes = b"", *, zoned: bool = True) -> Medium:
    extents = [first, second] + [b""] * 18
    if not zoned:
        extents = [data + bytes(EXTENT - len(data)) for data in extents]
    return with_contents(shape(zoned=zoned), extents)


calls = st.lists(
    st.tuples(st.sampled_from(["submit", "submit", "step", "step", "drain", "crash"]), st.integers(0, 400)), max_size=40
)


@examples(150)
@given(calls, st.lists(st.integers(0, 300), max_size=40), st.booleans())
def test_after_any_crash_the_newest_persistent_record_is_there_or_a_newer_one(
    sequence: list[tuple[str, int]], survivors: list[int], is_zoned: bool
) -> None:
    """LOG-1, LOG-2, LOG-4 and REC-1 together: crashes at any point, tears, and crashes within recovery."""
    choices = iter(survivors)
    life = Life(new_medium(zoned=is_zoned), fresh=True)
    life.append(0)
    for number, (name, argument) in enumerate([*sequence, ("crash", 0)], start=1):
        if name == "submit" and life.log.is_ready() and len(life.numbers) < 400:
            life.submit(number, argument)
        elif name == "step":
            for _ in range(argument % 4):
                life.stack.scheduler.step()
        elif name == "drain":
            life.stack.drain()
        elif name == "crash":
            before = life.numbers
            recovered_count = len(before) - len(life.writes)
            least = max(life.persistent_count(), recovered_count)
            image = life.medium.crash_image(lambda _, count: next(choices, 0) % count)
            life = Life(with_contents(life.medium.shape, list(image._extents)))
            assert life.numbers == before[: len(life.numbers)]
            assert len(life.numbers) >= least


def test_log_1_a_record_waits_for_the_one_before() -> None:
    life = Life(new_medium(), fresh=True)
    life.submit(1)
    assert not life.log.is_ready()
    with pytest.raises(InvariantError, match="LOG-1"):
        life.submit(2)
    life.stack.drain()
    life.submit(3)


def test_log_2_the_old_extent_is_reset_only_behind_the_barrier_over_the_new_full_record() -> None:
    life = Life(new_medium(), fresh=True)
    for number in range(40):
        life.append(number)
    trace = life.medium.changes()
    resets = [position for position, event in enumerate(trace) if event.kind == "reset"]
    assert len(resets) > 3
    for position in resets[1:]:
        old = trace[position].extent
        opened = max(i for i in range(position) if trace[i].kind == "write" and trace[i].extent == 1 - old)
        assert trace[opened].page == 0
        assert "barrier" in [event.kind for event in trace[opened:position]]


@pytest.mark.parametrize("filler_size", [0, 100, 105, 106, 300, 800])
def test_a_log_turns_when_a_record_does_not_fit_and_keeps_all(zoned: bool, filler_size: int) -> None:
    """105 fills a page with two numbers' worth to spare; 106 takes a second page."""
    medium = new_medium(zoned=zoned)
    life = Life(medium, fresh=True)
    for number in range(30):
        life.append(number, filler_size)
        assert Life(with_contents(medium.shape, list(medium._extents))).numbers == list(range(number + 1))


def test_a_full_record_that_does_not_fit_twice_is_refused() -> None:
    life = Life(new_medium(), fresh=True)
    assert life.log.payload_size_max_bytes() == EXTENT_PAGES // 2 * PAGE - RECORD_HEADER_SIZE_BYTES
    fits = bytes(life.log.payload_size_max_bytes())
    life.stack.pool.take_reserved()
    assert life.log.submit(b"", lambda: fits).poll() == PENDING
    other = Life(new_medium(), fresh=True)
    with pytest.raises(NoSpaceError):
        other.log.submit(b"", lambda: fits + b"x")


@pytest.mark.parametrize("copy", [0, 1])
def test_either_copy_of_every_record_is_enough_and_a_repair_is_due(zoned: bool, copy: int) -> None:
    life = Life(new_medium(zoned=zoned), fresh=True)
    for number in range(5):
        life.append(number)
    extents = life.closed()
    damaged = bytearray(extents[1])
    for page in range(copy, 10, 2):
        damaged[page * PAGE + RECORD_HEADER_SIZE_BYTES] ^= 1
    extents[1] = bytes(damaged)
    again = Life(with_contents(life.medium.shape, extents))
    assert again.numbers == list(range(5))
    assert again.log.needs_repair
    again.append(5)
    assert not again.log.needs_repair
    assert Life(reopened(again.medium)).numbers == list(range(6))


def test_log_4_a_missing_record_below_a_whole_one_is_corruption(zoned: bool) -> None:
    life = Life(new_medium(zoned=zoned), fresh=True)
    for number in range(5):
        life.append(number)
    extents = life.closed()
    extents[1] = extents[1][: 4 * PAGE] + page_of("?", 2) + extents[1][6 * PAGE :]
    with pytest.raises(CorruptionError, match="record 3 is missing before 4") as caught:
        Life(with_contents(life.medium.shape, extents))
    assert (caught.value.extent, caught.value.offset_bytes) == (1, 6 * PAGE)


def test_log_4_a_newer_record_in_the_other_extent_is_corruption(zoned: bool) -> None:
    """It can only be there if its full record has been, and is damaged in both copies."""
    full, delta = record(5, _payload([1], 0), is_full=True), record(7, _payload([2], 0), is_full=False)
    with pytest.raises(CorruptionError, match="record 6 is missing before 7"):
        Life(log_medium(full * 2, delta * 2, zoned=zoned))


def test_records_without_a_full_one_are_corruption() -> None:
    with pytest.raises(CorruptionError, match="no full one"):
        Life(log_medium(record(2, _payload([1], 0), is_full=False) * 2))


def test_stale_records_of_earlier_turns_are_not_chosen() -> None:
    stale = record(3, _payload([1, 2, 3], 0), is_full=True) * 2 + record(4, _payload([4], 0), is_full=False) * 2
    newest = record(9, _payload([9], 0), is_full=True) * 2
    assert Life(log_medium(newest + stale, stale, zoned=False)).numbers == [9]


def test_what_looks_like_a_full_record_behind_the_newest_is_not_taken_for_one() -> None:
    """A shorter record leaves the tail of an older one standing, and in that may be a user's bytes."""
    newest = record(9, _payload([9], 0), is_full=True) * 2
    made_up = record(10**9, _payload([], 0), is_full=True)
    assert Life(log_medium(newest + bytes(PAGE) + made_up * 2, zoned=False)).numbers == [9]


@pytest.mark.parametrize("generation", [2, 10**9])
@pytest.mark.parametrize("version", [FORMAT_VERSION, FORMAT_VERSION + 1])
def test_log_6_a_record_without_the_disk_s_secret_is_none(generation: int, version: int) -> None:
    """Whoever chooses keys may get a whole record of the right form behind the newest, in either extent."""
    newest = record(1, _payload([1], 0), is_full=True) * 2
    for is_full in (False, True):
        made_up = record(generation, _payload([7], 0), is_full=is_full, version=version, secret=bytes(16))
        assert Life(log_medium(newest + made_up * 2, zoned=False)).numbers == [1]
        assert Life(log_medium(newest, made_up * 2, zoned=False)).numbers == [1]


def test_log_6_a_delta_that_was_once_lost_does_not_stand_in_for_the_full_record_of_its_generation() -> None:
    newest = record(5, _payload([5], 0), is_full=True)
    lost = record(5, _payload([7], 0), is_full=False)
    assert Life(log_medium(newest * 2 + lost, zoned=False)).numbers == [5]
    assert Life(log_medium(lost + newest, zoned=False)).numbers == [5]


def test_log_6_nothing_is_written_before_the_secret_is_known() -> None:
    log = TwinLog(Stack(new_medium()).scheduler, EXTENTS, MAGIC, "test")
    with pytest.raises(InvariantError, match="LOG-6"):
        log.submit(b"", bytes)
    with pytest.raises(InvariantError, match="LOG-6"):
        log.secret()


def test_both_copies_of_the_newest_record_lost_is_as_if_it_was_never_written() -> None:
    first, second = record(1, _payload([1], 0), is_full=True), record(2, _payload([2], 0), is_full=False)
    torn = bytearray(second * 2)
    for copy in range(2):
        torn[copy * PAGE + RECORD_HEADER_SIZE_BYTES] ^= 1
    assert Life(log_medium(first * 2 + bytes(torn))).numbers == [1]


def test_nothing_is_appended_behind_a_torn_tail(zoned: bool) -> None:
    medium = log_medium(record(1, _payload([1], 0), is_full=True) * 2 + page_of("?"), zoned=zoned)
    life = Life(medium)
    life.append(2)
    written = [event for event in medium.changes() if event.kind == "write"]
    assert [(event.extent, event.page) for event in written] == [(1, 0)]
    assert Life(reopened(medium)).numbers == [1, 2]


def test_a_record_of_a_later_version_is_refused_by_its_number(zoned: bool) -> None:
    whole = record(1, _payload([1], 0), is_full=True)
    later = record(2, b"who knows", is_full=False, version=FORMAT_VERSION + 1)
    with pytest.raises(FormatVersionError) as caught:
        Life(log_medium(whole * 2 + later * 2, zoned=zoned))
    assert caught.value.version == FORMAT_VERSION + 1


@pytest.mark.parametrize("refused_page", [0, 2, 4])
def test_after_a_refused_record_the_log_turns_and_nothing_is_lost(zoned: bool, refused_page: int) -> None:
    life = Life(new_medium(zoned=zoned), fresh=True)
    life.medium.fails = lambda event: event.kind == "write" and event.page == refused_page
    refused = [life.submit(number) for number in range(1)]
    life.stack.drain()
    life.medium.fails = lambda event: event.kind == "write" and event.page == refused_page and event.extent == 1
    for number in range(1, 4):
        write = life.submit(number)
        life.stack.drain()
        refused += [write] if write.poll() == FAILED else []
    life.medium.fails = lambda event: False
    life.append(9)
    assert any(write.poll() == FAILED for write in refused)
    assert Life(reopened(life.medium)).numbers == [0, 1, 2, 3, 9]


@pytest.mark.parametrize("kind", ["write", "reset", "barrier"])
def test_what_was_persistent_outlives_any_one_refusal(zoned: bool, kind: str) -> None:
    """Every single operation of a long log is refused once; then the log goes on, and is read again."""
    plain = Life(new_medium(zoned=zoned), fresh=True)
    for number in range(20):
        plain.append(number)
    count = sum(event.kind == kind for event in plain.medium.trace)
    for refused in range(1, count):  # without its very first record there is no log
        life = Life(new_medium(zoned=zoned), fresh=True)
        countdown = [refused]

        def fails_once(event: object, countdown: list[int] = countdown) -> bool:
            if getattr(event, "kind", None) != kind:
                return False
            countdown[0] -= 1
            return countdown[0] == -1

        life.medium.fails = fails_once
        for number in range(20):
            life.append(number)
        least = life.persistent_count()
        assert least >= 19
        assert Life(reopened(life.medium)).numbers[:least] == list(range(least))


recordish = st.builds(
    record,
    st.integers(0, 5),
    st.binary(max_size=200),
    is_full=st.booleans(),
    version=st.sampled_from([FORMAT_VERSION] * 9 + [0, 1, 65535]),
)
header = st.binary(min_size=20, max_size=20).map(lambda data: MAGIC + data)


@examples(300)
@given(
    st.lists(st.lists(st.one_of(st.binary(max_size=60), header, recordish), max_size=4), min_size=2, max_size=2),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2 * EXTENT), st.integers(1, 255)), max_size=3),
    st.sampled_from([SECRET, None]),
)
def test_any_bytes_at_all_recover_or_raise_a_typed_error(
    logs: list[list[bytes]], is_zoned: bool, flips: list[tuple[int, int]], secret: bytes | None
) -> None:
    extents = []
    for pieces in logs:
        data = b"".join([piece + bytes(-len(piece) % PAGE) for piece in pieces])[:EXTENT]
        extents.append(data[: len(data) // PAGE * PAGE])
    damaged = [bytearray(data) for data in extents]
    for place, mask in flips:
        which, offset = divmod(place, EXTENT)
        if which < 2 and offset < len(damaged[which]):
            damaged[which][offset] ^= mask
    medium = log_medium(bytes(damaged[0]), bytes(damaged[1]), zoned=is_zoned)
    log = TwinLog(Stack(medium).scheduler, EXTENTS, MAGIC, "test")
    try:
        payloads = log.recover(secret)
    except (CorruptionError, FormatVersionError):
        return
    assert all(isinstance(payload, bytes) for payload in payloads)


def test_generations_rise_by_one() -> None:
    life = Life(new_medium(), fresh=True)
    for number in range(20):
        life.append(number)
    written = [event for event in life.medium.trace if event.kind == "write"]
    generations = [struct.unpack_from("<4sHBQ", event.data)[3] for event in written]
    assert all(later == earlier + 1 for earlier, later in pairwise(generations))
    for event in written:  # each record twice, back to back, on different pages
        half = len(event.data) // 2
        assert event.data[:half] == event.data[half:]
        assert half % PAGE == 0


def test_the_simulated_medium_is_what_the_layout_above_says() -> None:
    life = Life(new_medium(), fresh=True)
    life.append(7)
    assert isinstance(life.medium, SimulatedMedium)
    assert life.closed()[1] == record(1, _payload([7], 0), is_full=True) * 2
