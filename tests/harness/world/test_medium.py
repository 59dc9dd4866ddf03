"""The device models, against definitions that are slow, independent and obvious."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from enumerating import EnumeratingPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.choices.mix import Mix
from harness.choices.tape import Tape
from harness.spec.device import DeviceMisuseError, MediumShape
from harness.world import devices
from harness.world.faults import DeviceError
from harness.world.medium import SimulatedMedium
from harness.world.power import DeadMedium, DevicePosition

PAGE = 4
EXTENT_PAGES = 3
EXTENT_COUNT = 2
ZONED = MediumShape(EXTENT_COUNT, EXTENT_PAGES, PAGE, device=devices.ZONED)
FILE = MediumShape(EXTENT_COUNT, EXTENT_PAGES, PAGE, device=devices.FILE, sector_size_bytes=2)
BLOCK = MediumShape(EXTENT_COUNT, EXTENT_PAGES, PAGE, device=devices.BLOCK, sector_size_bytes=2)

# (kind, extent, page, page count); what does not fit the device is left out when it is run
Call = tuple[str, int, int, int]
calls = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "reset", "barrier"]),
        st.integers(0, EXTENT_COUNT - 1),
        st.integers(0, EXTENT_PAGES - 1),
        st.integers(1, 2),
    ),
    max_size=7,
)


def issue(medium: SimulatedMedium, sequence: Sequence[Call]) -> list[tuple[str, int, int, bytes]]:
    """Run what fits; answers what was issued since the last barrier."""
    issued: list[tuple[str, int, int, bytes]] = []
    for serial, (kind, extent, asked_page, page_count) in enumerate(sequence, start=1):
        page = medium.write_pointer(extent) if medium.zoned else asked_page
        if kind == "barrier":
            medium.barrier()
            issued.clear()
        elif kind == "reset":
            medium.reset(extent)
            issued.append((kind, extent, 0, b""))
        elif page + page_count <= EXTENT_PAGES:
            data = bytes(16 * serial + at // 2 + 1 & 0xFF for at in range(page_count * PAGE))
            medium.write(extent, page, data)
            issued.append((kind, extent, page, data))
    return issued


def content(medium: SimulatedMedium, extent: int) -> bytes:
    page_count = medium.write_pointer(extent) if medium.zoned else EXTENT_PAGES
    return medium.read(extent, 0, page_count) if page_count else b""


def zoned_states(base: bytes, issued: Sequence[tuple[str, int, int, bytes]], extent: int) -> set[bytes]:
    """Every prefix of the extent's own sequence of single pages and resets."""
    states = {base}
    now = base
    for kind, where, _, data in issued:
        if where == extent and kind == "reset":
            now = b""
            states.add(now)
        elif where == extent:
            for at in range(0, len(data), PAGE):
                now += data[at : at + PAGE]
                states.add(now)
    return states


def file_states(base: bytes, issued: Sequence[tuple[str, int, int, bytes]], extent: int) -> set[bytes]:
    """Each sector for itself is as it was or as any of the writes left it."""
    options = [{base[at : at + 2]} for at in range(0, len(base), 2)]
    for kind, where, page, data in issued:
        if where == extent and kind == "write":
            for at in range(0, len(data), 2):
                options[(page * PAGE + at) // 2].add(data[at : at + 2])
    return {b"".join(state) for state in itertools.product(*options)}


def block_states(base: bytes, issued: Sequence[tuple[str, int, int, bytes]], extent: int) -> set[bytes]:
    """Of each write its first so many sectors, of each reset all or nothing, in the order in which they were issued."""
    states = {base}
    for kind, where, page, data in issued:
        if where == extent and kind == "reset":
            states |= {bytes(len(base))}
        elif where == extent:
            start = page * PAGE
            states = {
                state[:start] + data[:kept] + state[start + kept :]
                for state in states
                for kept in range(0, len(data) + 1, 2)
            }
    return states


STATES: dict[str, Callable[[bytes, Any, int], set[bytes]]] = {
    "zoned": zoned_states,
    "file": file_states,
    "block": block_states,
}
SHAPES = pytest.mark.parametrize(
    "shape",
    [MediumShape(EXTENT_COUNT, EXTENT_PAGES, PAGE, device, sector_size_bytes=2) for device in devices.ALL],
    ids=lambda shape: shape.device.name,
)


def replayed(shape: MediumShape, sequence: Sequence[Call]) -> tuple[SimulatedMedium, list[bytes], list[Any]]:
    """The medium after these calls, its contents at the last barrier, and what was issued since."""
    medium = SimulatedMedium(shape)
    last = max((at for at, call in enumerate(sequence) if call[0] == "barrier"), default=-1)
    before = SimulatedMedium(shape)
    issue(before, sequence[: last + 1])
    return medium, [content(before, extent) for extent in range(EXTENT_COUNT)], issue(medium, sequence)


@SHAPES
@given(sequence=calls, data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_crash_image_is_legal(shape: MediumShape, sequence: list[Call], data: st.DataObject) -> None:
    medium, base, issued = replayed(shape, sequence)
    image = medium.crash_image(lambda name, count: data.draw(st.integers(0, count - 1), label=name))
    for extent in range(EXTENT_COUNT):
        assert content(image, extent) in STATES[shape.device.name](base[extent], issued, extent)


def test_every_state_of_a_block_device_is_reached() -> None:
    """A write of two pages of two sectors, a reset, and a write of one page over it."""

    def make() -> SimulatedMedium:
        medium = SimulatedMedium(BLOCK)
        issue(
            medium,
            [("write", 0, 0, 1), ("barrier", 0, 0, 1), ("write", 0, 0, 2), ("reset", 0, 0, 1), ("write", 0, 1, 1)],
        )
        return medium

    medium = make()
    issued = [("reset" if entry.data is None else "write", 0, entry.page, entry.data or b"") for entry in medium.log]
    images = enumerate_images(make)
    assert len(images) == medium.legal_states_count() == 5 * 2 * 3
    assert set(images) == block_states(medium.log[0].before, issued, 0)


@SHAPES
@given(sequence=calls)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_everything_survives_if_all_choices_are_zero(shape: MediumShape, sequence: list[Call]) -> None:
    medium, _, _ = replayed(shape, sequence)
    whole = [content(medium, extent) for extent in range(EXTENT_COUNT)]
    image = medium.crash_image(lambda name, count: 0)
    assert [content(image, extent) for extent in range(EXTENT_COUNT)] == whole
    assert not image.losses


@SHAPES
@given(sequence=calls)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_coarse_tier_takes_all_or_nothing_of_an_extent(shape: MediumShape, sequence: list[Call]) -> None:
    medium, base, _ = replayed(shape, sequence)
    touched = {entry.extent for entry in medium.log}
    whole = [content(medium, extent) for extent in range(EXTENT_COUNT)]
    asked: list[str] = []

    def lose_all(name: str, count: int) -> int:
        asked.append(name)
        return count - 1

    image = medium.crash_image(lose_all, "coarse")
    assert sorted(asked) == [f"survivor.extent.0.{extent}" for extent in sorted(touched)]
    for extent in range(EXTENT_COUNT):
        assert content(image, extent) == (base[extent] if extent in touched else whole[extent])


def enumerate_images(make: Callable[[], SimulatedMedium], extent: int = 0) -> list[bytes]:
    policy = EnumeratingPolicy(0)
    tape = Tape(policy)
    images = []
    while True:
        tape.begin(Mix([], []))
        images.append(content(make().crash_image(tape.choose_at), extent))
        if not policy.advance():
            return images


def test_every_zoned_survivor_is_reached_once() -> None:
    def make() -> SimulatedMedium:
        medium = SimulatedMedium(ZONED)
        kinds = [("write", 1), ("barrier", 1), ("write", 2), ("reset", 1), ("write", 2)]
        issue(medium, [(kind, 0, 0, page_count) for kind, page_count in kinds])
        return medium

    images = enumerate_images(make)
    # two pages, a reset and two pages: six prefixes
    assert len(images) == 6
    medium = make()
    base, lost = medium.log[0].before, medium.log
    sequence = [("reset" if entry.data is None else "write", 0, entry.page, entry.data or b"") for entry in lost]
    assert sorted(images) == sorted(zoned_states(base, sequence, 0))


def test_every_file_survivor_is_reached() -> None:
    def make() -> SimulatedMedium:
        medium = SimulatedMedium(FILE)
        medium.write(0, 0, bytes(range(1, 9)))
        return medium

    images = enumerate_images(make)
    # whole, all lost, and each of the 16 masks over four sectors
    assert len(images) == 18
    assert set(images) == file_states(bytes(12), [("write", 0, 0, bytes(range(1, 9)))], 0)
    assert len(set(images)) == 16


def test_tears_of_more_than_eight_sectors_are_chosen_by_groups() -> None:
    medium = SimulatedMedium(MediumShape(1, 1, 20, device=devices.FILE, sector_size_bytes=2))
    medium.write(0, 0, b"\x01" * 20)
    asked: dict[str, int] = {}

    def choose(name: str, count: int) -> int:
        asked[name] = count
        return {"survivor.0.0": 2, "survivor.0.0.1": 2}.get(name, 0)

    image = medium.crash_image(choose)
    assert asked == {"survivor.0.0": 3, "survivor.0.0.0": 256, "survivor.0.0.1": 4}
    assert image.read(0, 0, 1) == b"\x01" * 18 + b"\x00" * 2
    assert list(image.losses[0].units) == [9]


def test_a_lost_page_takes_all_later_entries_of_its_extent_and_no_other() -> None:
    medium = SimulatedMedium(ZONED)
    for extent, page in ((0, 0), (1, 0), (0, 1), (1, 1)):
        medium.write(extent, page, b"x" * PAGE)
    image = medium.crash_image(lambda name, count: 1 if name == "survivor.0.0" else 0)
    assert [image.write_pointer(extent) for extent in (0, 1)] == [0, 2]
    assert [loss.entry.number for loss in image.losses] == [0, 2]


@pytest.mark.parametrize(
    ("shape", "kind", "misuse"),
    [
        (ZONED, "write off the pointer", lambda medium: medium.write(0, 1, b"x" * PAGE)),
        (ZONED, "write of a partial page", lambda medium: medium.write(0, 0, b"x")),
        (ZONED, "write of a partial page", lambda medium: medium.write(0, 0, b"")),
        (ZONED, "write out of range", lambda medium: medium.write(0, 0, b"x" * PAGE * 4)),
        (ZONED, "write out of range", lambda medium: medium.write(-1, 0, b"x" * PAGE)),
        (FILE, "write out of range", lambda medium: medium.write(0, -1, b"x" * PAGE)),
        (ZONED, "read past the end", lambda medium: medium.read(0, 0, 1)),
        (FILE, "read past the end", lambda medium: medium.read(0, 2, 2)),
        (FILE, "read out of range", lambda medium: medium.read(2, 0, 1)),
        (FILE, "read out of range", lambda medium: medium.read(0, 0, 0)),
        (FILE, "reset out of range", lambda medium: medium.reset(2)),
        (FILE, "no write pointer", lambda medium: medium.write_pointer(0)),
        (ZONED, "no write pointer", lambda medium: medium.write_pointer(-1)),
    ],
)
def test_misuse_has_a_name(shape: MediumShape, kind: str, misuse: Callable[[SimulatedMedium], object]) -> None:
    with pytest.raises(DeviceMisuseError) as caught:
        misuse(SimulatedMedium(shape))
    assert caught.value.kind == kind


@pytest.mark.parametrize("end", [SimulatedMedium.kill, SimulatedMedium.reopen, lambda m: m.crash_image(lambda *_: 0)])
@pytest.mark.parametrize(
    "use",
    [
        lambda medium: medium.read(0, 0, 1),
        lambda medium: medium.write(0, 0, b"x" * PAGE),
        lambda medium: medium.reset(0),
        lambda medium: medium.barrier(),
        lambda medium: medium.write_pointer(0),
    ],
)
def test_a_dead_medium_refuses_all_io(
    end: Callable[[SimulatedMedium], object], use: Callable[[SimulatedMedium], object]
) -> None:
    medium = SimulatedMedium(ZONED)
    end(medium)
    with pytest.raises(DeadMedium):
        use(medium)


def test_an_image_keeps_nothing_of_what_the_old_medium_could_lose() -> None:
    medium = SimulatedMedium(FILE)
    medium.write(0, 0, b"x" * PAGE)
    image = medium.crash_image(lambda name, count: 0)
    assert not image.log
    again = image.crash_image(lambda name, count: pytest.fail(f"nothing to choose, but asked {name}"))
    assert again.read(0, 0, 1) == b"x" * PAGE


def test_reopening_is_no_barrier() -> None:
    medium = SimulatedMedium(ZONED)
    medium.write(0, 0, b"x" * PAGE)
    reopened = medium.reopen()
    assert reopened.read(0, 0, 1) == b"x" * PAGE
    assert reopened.crash_image(lambda name, count: count - 1).write_pointer(0) == 0


def test_a_buffer_the_store_uses_again_does_not_change_the_medium() -> None:
    medium = SimulatedMedium(FILE)
    buffer = bytearray(b"x" * PAGE)
    medium.write(0, 0, cast(bytes, buffer))
    buffer[:] = b"y" * PAGE
    assert medium.read(0, 0, 1) == b"x" * PAGE


def test_pages_must_be_whole_sectors() -> None:
    with pytest.raises(ValueError, match="sectors"):
        SimulatedMedium(MediumShape(1, 1, 4, device=devices.FILE, sector_size_bytes=3))


@pytest.mark.parametrize("zoned", [True, False], ids=["zoned", "file"])
def test_a_state_tells_what_is_there_if_all_that_is_open_is_lost(zoned: bool) -> None:
    """A reset extent looks the same whatever was on it, and so does a page written over; a crash may bring it back."""
    states = set()
    for before in (b"a", b"b"):
        medium = SimulatedMedium(MediumShape(1, 2, 8, devices.ZONED if zoned else devices.FILE))
        medium.write(0, 0, before * 8)
        medium.barrier()
        if zoned:
            medium.reset(0)
        else:
            medium.write(0, 0, b"c" * 8)
        states.add(medium.state())
        medium.barrier()
        states.add(("past a barrier", medium.state()))
    assert len(states) == 3


@pytest.mark.parametrize("device", [devices.ZONED, devices.FILE], ids=["zoned", "file"])
def test_what_has_rotted_stays_so_whatever_a_crash_takes_of_later_writes(device: Any) -> None:
    medium = SimulatedMedium(MediumShape(1, 4, 128, device))
    medium.write(0, 0, bytes(128))
    medium.barrier()
    medium.write(0, 1, bytes(128))
    medium.rot(0, 5, 0b100)
    assert medium.read(0, 0, 1)[5] == 0b100
    image = medium.crash_image(lambda name, count: 1, "coarse")
    assert image.losses
    assert image.read(0, 0, 1) == bytes(5) + b"\x04" + bytes(122)


def test_what_a_refused_barrier_has_lost_is_refused_until_its_caller_is_told() -> None:
    position = DevicePosition()
    medium = SimulatedMedium(ZONED, position=position)
    medium.write(0, 0, b"x" * 2 * PAGE)
    medium.lose(lambda _, count: count - 1)
    with pytest.raises(DeviceError):
        medium.read(0, 1, 1)
    with pytest.raises(DeviceError):
        medium.write(0, 2, b"y" * PAGE)
    with pytest.raises(DeviceMisuseError):
        medium.read(0, 2, 1)  # which was never there
    position.step += 1
    with pytest.raises(DeviceMisuseError):
        medium.read(0, 1, 1)
