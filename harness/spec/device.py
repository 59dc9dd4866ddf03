"""Device models: the protocol that says how a device takes writes, and what a crash may leave of them.

A spec names the model of each medium (`MediumShape.device`), and the medium asks it. The models that come with the
harness are in `harness/world/devices/`, one file each. A model of your own is any class with these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

UNIT_GROUP_SIZE: Final = 8  # lost units are chosen in groups of so many
_LOST, _TORN = 1, 2

ChooseSurvivor = Callable[[str, int], int]
"""``choose(name, count)`` gives an integer below ``count``; 0 always means: survives whole."""


class DeviceMisuseError(Exception):
    """The store used the device as it must not. ``kind`` is a name that stays the same from run to run."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Entry(NamedTuple):
    """One write or reset that the device was given since the last barrier."""

    step: int
    number: int  # of this entry within its step, from 0
    medium: int
    extent: int
    page: int
    data: bytes | None  # None: a reset
    before: bytes  # the extent's content when it was issued

    @property
    def survivor(self) -> str:
        """The name of the choice that says how much of this entry a crash takes."""
        return f"survivor.{self.step}.{self.number}"


class Loss(NamedTuple):
    """The loss that a crash caused to one entry. ``units`` are the numbers of the lost units within the entry."""

    entry: Entry
    units: Sequence[int]
    unit: str  # "page", "sector", "unit" or, for a reset, ""
    unit_count: int


def whole_loss(entry: Entry, unit: str, unit_size_bytes: int) -> Loss:
    """The loss of all of one entry."""
    if entry.data is None:
        return Loss(entry, (), "", 1)
    count = len(entry.data) // unit_size_bytes
    return Loss(entry, range(count), unit, count)


def lost_units(name: str, unit_count: int, choose: ChooseSurvivor) -> Sequence[int]:
    """Any units of a write, or none: for models that tear out of order.

    ``name`` is the choice of the write's fate: 1 all lost; 2 torn, and then ``<name>.<group>`` is a bit mask of the
    units lost in each group of eight.
    """
    fate = choose(name, 2 if unit_count == 1 else 3)
    if fate != _TORN:
        return range(unit_count) if fate == _LOST else ()
    lost: list[int] = []
    # In groups, so that a choice stays a small number however long the write is.
    for group, first in enumerate(range(0, unit_count, UNIT_GROUP_SIZE)):
        size = min(UNIT_GROUP_SIZE, unit_count - first)
        mask = choose(f"{name}.{group}", 1 << size)
        lost += [first + bit for bit in range(size) if mask >> bit & 1]
    return lost


@dataclass(frozen=True, slots=True)
class MediumShape:
    """Geometry and device model of one simulated medium.

        MediumShape(extent_count=8, extent_size_pages=16, page_size_bytes=128, device=ZONED)
        MediumShape(8, 4, 4096, FILE, sector_size_bytes=512)

    Raises `ValueError` unless a page is a whole number of sectors.
    """

    extent_count: int
    extent_size_pages: int
    page_size_bytes: int
    device: DeviceModel
    sector_size_bytes: int | None = None  # what `FILE` and `BLOCK` write whole; None: a page

    def __post_init__(self) -> None:
        if self.sector_size_bytes is not None and self.page_size_bytes % self.sector_size_bytes:
            raise ValueError("a page must be a whole number of sectors")

    @property
    def extent_size_bytes(self) -> int:
        return self.extent_size_pages * self.page_size_bytes

    @property
    def unit_size_bytes(self) -> int:
        """The size of the pieces that a crash may tear a write into."""
        return self.device.unit_size_bytes(self)


class DeviceModel(Protocol):
    """Everything that sets one kind of device apart. It holds no state: contents and entries are handed in.

    ``survives_in_order``: a crash leaves a prefix of the entries of an extent; else each entry has its own fate.
    ``tears_in_order``: a torn write keeps its first units; else it may keep any of them.
    """

    name: str
    has_write_pointer: bool  # an extent takes writes only at its write pointer, and its content ends there
    survives_in_order: bool
    tears_in_order: bool
    unit: str  # the word for a piece that a crash may tear a write into

    def unit_size_bytes(self, shape: MediumShape) -> int:
        """The size of the pieces that the device writes whole or not at all."""

    def fresh(self, extent_size_bytes: int) -> bytes:
        """The content of an extent of a new device."""

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        """The extent's content after a write at byte ``start``. Raises `DeviceMisuseError` if the device refuses it."""

    def emptied(self, content: bytes) -> bytes | None:
        """The extent's content after a reset; None if a reset changes nothing that a crash could lose."""

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        """The content that a crash leaves of an extent.

        ``entries`` are those that no barrier has passed, at least one, in order; ``content`` has all of them. What
        happens to an entry is ``choose(entry.survivor, count)``: 0 leaves it whole, and random runs answer 1 often.
        Further choices of an entry are named ``<entry.survivor>.<n>``. Their losses are added to ``losses``; that of a
        reset has no units, and its unit is "".
        """

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        """In how many ways a crash may leave an extent; ``unit_counts`` are of its open entries, 1 for a reset."""
