"""What a device model must say: how a device takes writes, and what a crash may leave of them.

A spec names the model of each medium (`MediumShape.device`), the medium asks it. The models that come with the harness
are in `harness/world/devices/`, one file each; another one is another class with these methods, wherever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

ChooseSurvivor = Callable[[str, int], int]
"""``choose(name, count)``: an integer below ``count``; 0 is always: survives whole."""


class DeviceMisuseError(Exception):
    """The store asked the device for what it must not. ``kind`` is a stable name."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Entry(NamedTuple):
    """One write or reset that the device was given since the last barrier."""

    step: int
    number: int  # n-th of its step
    medium: int
    extent: int
    page: int
    data: bytes | None  # None: a reset
    before: bytes  # the extent's content when it was issued

    @property
    def survivor(self) -> str:
        """The name of the choice that says what a crash takes of it."""
        return f"survivor.{self.step}.{self.number}"


class Loss(NamedTuple):
    """What a crash took of one entry: the numbers of the units within it."""

    entry: Entry
    units: Sequence[int]
    unit: str  # "page", "sector" or, for a reset, ""
    unit_count: int


def whole_loss(entry: Entry, unit: str, unit_size_bytes: int) -> Loss:
    """The loss of all of one entry."""
    if entry.data is None:
        return Loss(entry, (), "", 1)
    count = len(entry.data) // unit_size_bytes
    return Loss(entry, range(count), unit, count)


@dataclass(frozen=True, slots=True)
class MediumShape:
    """Geometry and device model of one simulated medium."""

    extent_count: int
    extent_size_pages: int
    page_size_bytes: int
    device: DeviceModel
    sector_size_bytes: int | None = None  # what a device that is no zoned one writes whole; None: a page

    def __post_init__(self) -> None:
        if self.sector_size_bytes is not None and self.page_size_bytes % self.sector_size_bytes:
            raise ValueError("a page must be a whole number of sectors")

    @property
    def extent_size_bytes(self) -> int:
        return self.extent_size_pages * self.page_size_bytes

    @property
    def unit_size_bytes(self) -> int:
        """What a crash may tear a write into."""
        return self.device.unit_size_bytes(self)


class DeviceModel(Protocol):
    """Says all that sets one kind of device apart. Stateless: contents and entries are handed in.

    ``survives_in_order``: of what an extent was given a crash leaves a prefix; else each entry has its own fate.
    ``tears_in_order``: of a torn write the first units are there; else any of them.
    """

    name: str
    has_write_pointer: bool  # an extent takes writes only there, and is as long as that
    survives_in_order: bool
    tears_in_order: bool
    unit: str  # what a crash may tear a write into, for people

    def unit_size_bytes(self, shape: MediumShape) -> int:
        """The size of what it writes whole or not at all."""

    def fresh(self, extent_size_bytes: int) -> bytes:
        """What an extent of a new device holds."""

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        """The extent's content after a write. Raises `DeviceMisuseError` where the device takes none."""

    def emptied(self, content: bytes) -> bytes | None:
        """The content after a reset; None if a reset does nothing, so that no crash can tell whether it was."""

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        """What a crash leaves of an extent: its open entries, and its content with all of them."""

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        """In how many ways a crash may leave an extent, given the units of each open entry, a reset being one."""
