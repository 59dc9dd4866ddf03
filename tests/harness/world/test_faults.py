"""Faults of a medium: which calls are refused, what a refused one leaves, and that all of it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from errno import EIO
from functools import partial

import pytest

from harness.spec.device import MediumShape
from harness.world.devices import ZONED
from harness.world.faults import DeviceError, Fault, Faults, Site
from harness.world.medium import SimulatedMedium
from harness.world.power import DevicePosition

PAGE = 4
SHAPE = MediumShape(3, 4, PAGE, ZONED)


def chosen(values: Sequence[int]) -> Callable[[str, int], int]:
    """Gives these values, and 0 after them."""
    left: Iterator[int] = iter(values)
    return lambda lane, count: min(next(left, 0), count - 1)


def new_medium(*faults: Fault, values: Sequence[int] = ()) -> tuple[SimulatedMedium, Faults]:
    known = Faults(chosen(values))
    for fault in faults:
        known.arm(fault)
    return SimulatedMedium(SHAPE, position=DevicePosition(known)), known


def refused(calls: Sequence[Callable[[], object]]) -> list[bool]:
    """Of each call whether it was refused."""
    found = []
    for call in calls:
        try:
            call()
        except DeviceError as error:
            found.append(error.errno == EIO)
        else:
            found.append(False)
    return found


def writes(medium: SimulatedMedium, *extents: int) -> list[Callable[[], object]]:
    def write(extent: int) -> None:
        medium.write(extent, medium.write_pointer(extent), b"x" * PAGE)

    return [partial(write, extent) for extent in extents]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(0, (Site.WRITE,), 0, 1, False), [True, False, False, False]),
        (Fault(0, (Site.WRITE,), 1, 2, False), [False, True, True, False]),
        (Fault(0, (Site.WRITE,), 1, None, False), [False, True, True, True]),
        (Fault(0, (Site.WRITE,), 0, None, True), [True, False, True, False]),  # as its first extent, and no other
        (Fault(1, (Site.WRITE,), 0, None, False), [False, False, False, False]),
        (Fault(0, (Site.RESET, Site.BARRIER), 0, None, False), [False, False, False, False]),
    ],
)
def test_which_calls_are_refused(fault: Fault, expected: list[bool]) -> None:
    medium, _ = new_medium(fault)
    assert refused(writes(medium, 0, 1, 0, 1)) == expected


@pytest.mark.parametrize("site", Site)
def test_each_kind_of_call_can_be_refused_and_a_refusal_is_told(site: Site) -> None:
    medium, faults = new_medium()
    medium.write(0, 0, b"a" * PAGE)
    told: list[tuple[int, Site]] = []
    faults.at_refusal = lambda index, which: told.append((index, which))
    faults.arm(Fault(0, (site,), 0, 1, False))
    medium.watch(False)
    calls: list[Callable[[], object]] = [
        lambda: medium.read(0, 0, 1),
        lambda: medium.write(0, 1, b"b" * PAGE),
        lambda: medium.reset(0),
        medium.barrier,
    ]
    assert refused(calls) == [each is site for each in Site]
    assert told == [(0, site)]


@pytest.mark.parametrize(("values", "pages_count"), [((), 0), ((1, 0), 0), ((1, 1), 1), ((1, 2), 2), ((2,), 3)])
def test_a_refused_write_may_have_landed_in_part_or_whole(values: Sequence[int], pages_count: int) -> None:
    medium, _ = new_medium(Fault(0, (Site.WRITE,), 0, 1, False), values=values)
    assert refused([lambda: medium.write(0, 0, b"x" * 3 * PAGE)]) == [True]
    assert medium.write_pointer(0) == pages_count


@pytest.mark.parametrize(("values", "pages_count"), [((), 1), ((2,), 0)])
def test_a_refused_reset_may_be_done(values: Sequence[int], pages_count: int) -> None:
    medium, _ = new_medium(Fault(0, (Site.RESET,), 0, 1, False), values=values)
    medium.write(0, 0, b"x" * PAGE)
    assert refused([lambda: medium.reset(0)]) == [True]
    assert medium.write_pointer(0) == pages_count


def test_what_a_refused_barrier_should_have_covered_stays_open_or_is_lost() -> None:
    for values, pages_count, is_open in (((), 1, True), ((2, 1), 0, False), ((2, 0), 1, False)):
        medium, _ = new_medium(Fault(0, (Site.BARRIER,), 0, 1, False), values=values)
        medium.write(0, 0, b"x" * PAGE)
        assert refused([medium.barrier]) == [True]
        assert (medium.write_pointer(0), medium.is_open()) == (pages_count, is_open)


def test_nothing_is_refused_or_counted_while_faults_are_suspended_nor_once_they_are_mended() -> None:
    medium, faults = new_medium(Fault(0, (Site.WRITE,), 1, None, False))
    with faults.suspended():
        assert not any(refused(writes(medium, 0, 1, 2)))
    assert refused(writes(medium, 0, 1)) == [False, True]
    faults.mend()
    assert refused(writes(medium, 2)) == [False]


def test_asking_for_a_write_pointer_is_a_read() -> None:
    medium, _ = new_medium(Fault(0, (Site.READ,), 1, 1, False))
    medium.land(0, 0, b"x" * PAGE)
    assert refused([partial(medium.read, 0, 0, 1), *[partial(medium.write_pointer, 0)] * 2]) == [False, True, False]
