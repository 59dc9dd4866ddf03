"""The superblock: what a record carries, in which order, and that no bytes make it fail otherwise than typed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from test_twin_log import record
from worlds import EXTENT_PAGES, FIRST, PAGE, Medium, Stack, examples, golden, new_medium, new_stack, reopened, shape
from worlds import with_contents as medium_with

from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Promise
from shardstore.errors import ConfigurationError, CorruptionError, FormatVersionError, InvariantError
from shardstore.superblock import MAGIC, PRISTINE, ExtentRecord, superblock_full_size_bytes
from shardstore.units import SECRET_SIZE_BYTES

ENTRY = struct.Struct("<IIIB")
GEOMETRY = struct.Struct("<IIIB")
ONE_DISK = struct.pack("<HH16s", 0, 1, b"d" * 16)


def recovered(medium: Medium) -> Stack:
    stack = Stack(reopened(medium))
    assert stack.superblock.recover()
    return stack


def superblock_medium(full: bytes, deltas: Sequence[bytes] = (), *, zoned: bool = True) -> Medium:
    records = [record(1, full, is_full=True)]
    records += [record(2 + number, delta, is_full=False) for number, delta in enumerate(deltas)]
    data = b"".join([resealed(each, MAGIC) * 2 for each in records])
    extents = [data] + [b""] * 19
    if not zoned:
        extents = [each + bytes(EXTENT_PAGES * PAGE - len(each)) for each in extents]
    return medium_with(shape(zoned=zoned), extents)


def resealed(copy: bytes, magic: bytes) -> bytes:
    """The record under another magic."""
    header = magic + copy[4:19]
    (length,) = struct.unpack_from("<I", copy, 15)
    return header + struct.pack("<I", crc32c(copy[23 : 23 + length], crc32c(header))) + copy[23:]


def geometry(*, zoned: bool = True) -> bytes:
    """What a full record begins with: the geometry, and the membership of a node's only disk."""
    return GEOMETRY.pack(20, EXTENT_PAGES, PAGE, zoned) + ONE_DISK


def test_what_was_recorded_is_recovered(zoned: bool) -> None:
    stack = new_stack(zoned=zoned)
    expected = {}
    for number in range(30):
        extent, new = FIRST + number % 5, ExtentRecord(number, number % 16, 1 + number % 2)
        stack.superblock.change(extent, new, PERSISTENT, "test")
        expected[extent] = new
        stack.drain()
    again = recovered(stack.medium)
    assert {extent: again.superblock.recorded(extent) for extent in expected} == expected
    assert again.superblock.recorded(FIRST + 9) == PRISTINE


def test_a_fresh_disk_has_no_superblock(zoned: bool) -> None:
    assert not Stack(new_medium(zoned=zoned)).superblock.recover()


def test_log_3_a_record_carries_only_what_is_ready_and_the_rest_rides_later() -> None:
    """Soft updates' roll-back: the other change keeps its old value."""
    stack = new_stack()
    late = Promise(stack)
    first = stack.superblock.change(FIRST, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    second = stack.superblock.change(FIRST, ExtentRecord(0, 2, 1), late, "test")
    other = stack.superblock.change(FIRST + 1, ExtentRecord(0, 3, 1), PERSISTENT, "test")
    stack.drain()
    assert (first.poll(), second.poll(), other.poll()) == (PERSISTENT_STATE, PENDING, PERSISTENT_STATE)
    again = recovered(stack.medium)
    assert again.superblock.recorded(FIRST) == ExtentRecord(0, 1, 1)
    assert again.superblock.recorded(FIRST + 1) == ExtentRecord(0, 3, 1)


def test_log_3_a_record_is_built_when_it_is_issued() -> None:
    """A change that becomes ready while a record is on its way rides in the next one, not in that one."""
    stack = new_stack()
    late = Promise(stack)
    stack.superblock.change(FIRST, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    assert stack.scheduler.step()  # builds the record
    promise = stack.superblock.change(FIRST, ExtentRecord(0, 2, 1), late, "test")
    late.bind(PERSISTENT)
    assert stack.scheduler.step()
    assert stack.scheduler.step()
    assert promise.poll() == PENDING
    stack.drain()
    assert promise.poll() == PERSISTENT_STATE


def test_the_changes_of_an_extent_are_recorded_in_the_order_they_were_made() -> None:
    stack = new_stack()
    late = Promise(stack)
    first = stack.superblock.change(FIRST, ExtentRecord(0, 1, 1), late, "test")
    second = stack.superblock.change(FIRST, ExtentRecord(0, 2, 1), PERSISTENT, "test")
    stack.drain()
    assert (first.poll(), second.poll()) == (PENDING, PENDING)
    late.bind(PERSISTENT)
    stack.drain()
    assert (first.poll(), second.poll()) == (PERSISTENT_STATE, PERSISTENT_STATE)
    assert recovered(stack.medium).superblock.recorded(FIRST) == ExtentRecord(0, 2, 1)


def test_many_changes_share_one_record_and_only_what_changed_is_in_it() -> None:
    stack = new_stack()
    stack.superblock.change(FIRST + 9, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    stack.drain()
    before = len(stack.medium.trace)
    for number in range(5):
        stack.superblock.change(FIRST + number, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    stack.drain()
    (written,) = [event for event in stack.medium.trace[before:] if event.kind == "write"]
    (length,) = struct.unpack_from("<I", written.data, 15)
    assert length == SECRET_SIZE_BYTES + 5 * ENTRY.size


def test_what_waits_for_a_failed_dependency_fails_and_takes_the_later_changes_with_it() -> None:
    stack = new_stack()
    broken = Promise(stack)
    broken.fail()
    promises = [stack.superblock.change(FIRST, ExtentRecord(0, soft, 1), broken, "test") for soft in (1, 2)]
    elsewhere = stack.superblock.change(FIRST + 1, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    stack.drain()
    assert [promise.poll() for promise in promises] == [FAILED, FAILED]
    assert elsewhere.poll() == PERSISTENT_STATE
    assert not stack.superblock.has_pending()


@pytest.mark.parametrize("back", [ExtentRecord(0, 9, 1), ExtentRecord(1, 4, 1)])
def test_sb_1_an_extent_does_not_go_back(back: ExtentRecord) -> None:
    stack = new_stack()
    stack.superblock.change(FIRST, ExtentRecord(1, 5, 1), PERSISTENT, "test")
    stack.drain()
    stack.superblock.change(FIRST, back, PERSISTENT, "test")
    with pytest.raises(InvariantError, match="SB-1"):
        stack.drain()


def test_sb_2_pages_have_an_owner() -> None:
    stack = new_stack()
    stack.superblock.change(FIRST, ExtentRecord(0, 1, 0), PERSISTENT, "test")
    with pytest.raises(InvariantError, match="SB-2"):
        stack.drain()


def test_pool_1_a_record_goes_out_though_every_other_buffer_is_taken() -> None:
    stack = new_stack()
    while stack.pool.can_take():
        stack.pool.take(stack.scheduler.step)
    promise = stack.superblock.change(FIRST, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    stack.drain()
    assert promise.poll() == PERSISTENT_STATE


def test_a_disk_of_another_geometry_is_refused() -> None:
    medium = superblock_medium(GEOMETRY.pack(21, EXTENT_PAGES, PAGE, True))
    with pytest.raises(ConfigurationError, match="formatted as"):
        Stack(medium).superblock.recover()


@pytest.mark.parametrize(
    ("full", "delta"),
    [
        (b"", b""),
        (geometry() + b"x", b""),
        (geometry()[: GEOMETRY.size], b""),
        (geometry()[:-1], b""),
        (GEOMETRY.pack(20, EXTENT_PAGES, PAGE, True) + struct.pack("<HH16s", 1, 1, b"d" * 16), b""),
        (geometry(), ENTRY.pack(FIRST, 0, 1, 1) + b"x"),
        (geometry(), ENTRY.pack(3, 0, 1, 1)),
        (geometry(), ENTRY.pack(20, 0, 1, 1)),
        (geometry(), ENTRY.pack(FIRST, 0, EXTENT_PAGES + 1, 1)),
    ],
)
def test_a_whole_record_of_nonsense_is_corruption(full: bytes, delta: bytes) -> None:
    with pytest.raises(CorruptionError):
        Stack(superblock_medium(full, [delta])).superblock.recover()


entries = st.lists(
    st.tuples(
        st.sampled_from([4, 5, 19] * 5 + [0, 20, 2**32 - 1]),
        st.sampled_from([0, 1, 2**32 - 1]),
        st.sampled_from([0, 1, 16] * 5 + [17]),
        st.integers(0, 3),
    ),
    max_size=4,
).map(lambda each: b"".join([ENTRY.pack(*fields) for fields in each]))
payloads = st.one_of(entries, entries, entries, st.binary(max_size=60), entries.map(lambda data: data[:-1]))


def opens_or_is_refused(full: bytes, deltas: list[bytes], *, zoned: bool) -> None:
    if full.startswith(geometry()):
        full = geometry(zoned=zoned) + full[len(geometry()) :]
    with suppress(CorruptionError, ConfigurationError):
        Stack(superblock_medium(full, deltas, zoned=zoned)).recover()


@examples(200)
@given(st.one_of(entries.map(lambda data: geometry() + data), payloads), st.lists(payloads, max_size=2), st.booleans())
def test_any_payload_at_all_opens_or_raises_a_typed_error(full: bytes, deltas: list[bytes], is_zoned: bool) -> None:
    opens_or_is_refused(full, deltas, zoned=is_zoned)


@pytest.mark.parametrize("owner", [0, 3])
def test_pages_of_an_unknown_owner_are_corruption(owner: int) -> None:
    with pytest.raises(CorruptionError):
        Stack(superblock_medium(geometry(zoned=False) + ENTRY.pack(FIRST, 0, 1, owner), zoned=False)).recover()


def test_golden_bytes() -> None:
    """A full record and the delta behind it, as the log holds them: two copies each, on pages of 128 bytes."""
    stack = new_stack()
    stack.superblock.change(FIRST, ExtentRecord(0, 0, 1), PERSISTENT, "test")
    stack.drain()
    stack.superblock.change(FIRST, ExtentRecord(7, 3, 2), PERSISTENT, "test")
    stack.superblock.change(19, ExtentRecord(2**32 - 1, 16, 1), PERSISTENT, "test")
    stack.drain()
    written = b"".join([event.data for event in stack.medium.trace if event.kind == "write"])
    assert written == golden("superblock_records")


@pytest.mark.parametrize("version", [1, 2])
def test_a_disk_of_an_old_version_is_refused_by_its_number(version: int) -> None:
    written = golden(f"superblock_records_version_{version}")
    extents = [b"", written[: len(written) // PAGE * PAGE]] + [b""] * 18
    with pytest.raises(FormatVersionError) as caught:
        Stack(medium_with(shape(), extents)).superblock.recover()
    assert caught.value.version == version


def test_the_size_of_a_full_record_is_foretold() -> None:
    stack = new_stack()
    for extent in range(FIRST, 20):
        stack.superblock.change(extent, ExtentRecord(0, 1, 1), PERSISTENT, "test")
    stack.drain()
    stack = Stack(reopened(stack.medium))
    assert stack.superblock.recover()
    stack.scheduler.add_source(stack.superblock)
    stack.superblock.change(FIRST, ExtentRecord(0, 2, 1), PERSISTENT, "test")
    stack.drain()  # turns, so this record is a full one
    (written,) = [event for event in stack.medium.trace if event.kind == "write"]
    assert len(written.data) // 2 <= superblock_full_size_bytes(20, PAGE)
