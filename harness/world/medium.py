"""Simulated media: a device in memory that knows what a crash may leave of it.

Guarantees. What was issued before the last completed barrier survives every crash; of what was issued since, a crash
leaves what the device model allows; what was not issued is not there. A medium that has crashed refuses all IO.

    model   write                           reset           a crash leaves, of what was issued since the barrier
    zoned   at the extent's write pointer   empties it      per extent a prefix of the pages written, in order; resets
                                                            are part of that order; pages are atomic
    file    anywhere                        does nothing    any subset of the sectors written

Choices at a crash are the arguments of ``choose_survivor(name, count)``; 0 is always: survives whole.

    ``survivor.<step>.<n>``          the n-th device entry of that step, counted over all media of the world.
                                     zoned: pages lost from its end; if any, all later entries of the extent are lost
                                     too and nothing is chosen for them. A reset: 1 if it is lost.
                                     file: 1 all lost; 2 torn (more than one sector only), and then
    ``survivor.<step>.<n>.<group>``  bit mask of the sectors lost in that group of eight
    ``survivor.extent.<medium>.<extent>``  coarse tier only: 1 if all that was issued to that extent is lost

Contents are immutable: an extent is one ``bytes`` object, replaced by each write and shared by every image that has it.
A zoned extent is as long as its write pointer, so that writing is appending.

Power can be made to fail in the middle of whatever the system does: `DevicePosition.arm` says after which event, a
write, reset or barrier on any medium of the world. The next event does not happen; it, and all that follow, raise
`PowerCut`.

Not simulated: faults, bit rot, and devices that break their own model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from enum import IntEnum
from math import prod
from typing import Final, NamedTuple, Protocol

from harness.spec.spec import MediumShape, Tier

ChooseSurvivor = Callable[[str, int], int]

SECTOR_GROUP_SIZE: Final = 8

_WHOLE, _LOST, _TORN = 0, 1, 2


class DeadMedium(BaseException):
    """Something that crashed was used again."""


class PowerCut(BaseException):
    """The power has failed: the event did not happen, and none will."""


class MediumMisuseError(Exception):
    """The store asked the device for what it must not. ``kind`` is a stable name."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Strike(IntEnum):
    """What is counted until the power fails."""

    EVENT = 0  # writes, resets and barriers alike
    BARRIER = 1
    RESET = 2


class DevicePosition:
    """The step a world is at, how many device entries that step has issued, and when its power will fail."""

    __slots__ = ("_at_cut", "_left_count", "_strike", "is_cut", "issued_count", "step")

    def __init__(self) -> None:
        self.step = 0
        self.issued_count = 0
        self.is_cut = False
        self._at_cut: Callable[[], None] | None = None
        self._strike = Strike.EVENT
        self._left_count = -1  # negative: not armed

    def arm(self, strike: Strike, count: int, at_cut: Callable[[], None] | None = None) -> None:
        """The power fails once ``count`` more of these have happened; then ``at_cut`` is called."""
        self._at_cut = at_cut
        self._strike = strike
        self._left_count = count

    def disarm(self) -> None:
        self._left_count = -1
        self.is_cut = False

    def pass_event(self, kind: Strike) -> None:
        """An event of this kind is about to happen. Raises `PowerCut` if the power has failed by now."""
        if not self._left_count and not self.is_cut:
            self.is_cut = True
            if self._at_cut is not None:
                self._at_cut()
        if self.is_cut:
            raise PowerCut
        if self._strike in (Strike.EVENT, kind):
            self._left_count -= 1


class Entry(NamedTuple):
    """One write or reset that the device was given since the last barrier."""

    step: int
    number: int  # n-th of its step
    medium: int
    extent: int
    page: int
    data: bytes | None  # None: a reset
    before: bytes  # the extent's content when it was issued


class Observer(Protocol):
    """Sees what a medium is asked to do, just before it does it. Must not use the medium."""

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None: ...


class Loss(NamedTuple):
    """What a crash took of one entry: the numbers of the pages (zoned) or sectors (file) within it."""

    entry: Entry
    units: Sequence[int]
    unit: str  # "page", "sector" or, for a reset, ""
    unit_count: int


class SimulatedMedium:
    """See the module. ``losses`` says what the crash that made this medium took."""

    __slots__ = (
        "_dead",
        "_extent_size_bytes",
        "_extents",
        "_log",
        "_observer",
        "_position",
        "_sector_size_bytes",
        "_watched",
        "extent_count",
        "extent_size_pages",
        "index",
        "losses",
        "page_size_bytes",
        "shape",
        "zoned",
    )

    def __init__(self, shape: MediumShape, index: int = 0, position: DevicePosition | None = None) -> None:
        self.shape = shape
        self.index = index
        self.extent_count = shape.extent_count
        self.extent_size_pages = shape.extent_size_pages
        self.page_size_bytes = shape.page_size_bytes
        self.zoned = shape.zoned
        self.losses: Sequence[Loss] = ()
        self._extent_size_bytes = shape.extent_size_pages * shape.page_size_bytes
        self._sector_size_bytes = shape.sector_size_bytes or shape.page_size_bytes
        if self._sector_size_bytes > shape.page_size_bytes or shape.page_size_bytes % self._sector_size_bytes:
            raise ValueError("a page must be a whole number of sectors")
        self._position = DevicePosition() if position is None else position
        self._dead = False
        self._watched = False  # dead, counting events or observed: the one thing that events look at
        self._observer: Observer | None = None
        self._log: list[Entry] = []
        fresh = b"" if shape.zoned else bytes(self._extent_size_bytes)
        self._extents = [fresh] * shape.extent_count

    # -- the device, as the store sees it

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        if self._dead:
            self._check_alive()
        if extent < 0 or page < 0 or page_count < 1 or extent >= self.extent_count:
            raise MediumMisuseError("read out of range", f"{page_count} pages at page {page} of extent {extent}")
        content = self._extents[extent]
        page_size_bytes = self.page_size_bytes
        end = (page + page_count) * page_size_bytes
        if end > len(content):
            raise MediumMisuseError("read past the end", f"{page_count} pages at page {page} of extent {extent}")
        return content[page * page_size_bytes : end]

    def write(self, extent: int, page: int, data: bytes) -> None:
        if self._watched:
            self._pass_event(Strike.EVENT, extent, page, data)
        start = page * self.page_size_bytes
        end = start + len(data)
        if not 0 <= extent < self.extent_count or page < 0 or end > self._extent_size_bytes:
            raise MediumMisuseError("write out of range", f"{len(data)} bytes at page {page} of extent {extent}")
        if not data or len(data) % self.page_size_bytes:
            raise MediumMisuseError("write of a partial page", f"{len(data)} bytes at page {page} of extent {extent}")
        before = self._extents[extent]
        data = bytes(data)  # a store may re-use its buffer
        if not self.zoned:
            self._extents[extent] = before[:start] + data + before[end:]
        elif start == len(before):
            self._extents[extent] = before + data
        else:
            pointer = len(before) // self.page_size_bytes
            raise MediumMisuseError("write off the pointer", f"page {page} of extent {extent}, write pointer {pointer}")
        self._enter(extent, page, data, before)

    def reset(self, extent: int) -> None:
        if self._watched:
            self._pass_event(Strike.RESET, extent)
        if not 0 <= extent < self.extent_count:
            raise MediumMisuseError("reset out of range", f"extent {extent}")
        if self.zoned:
            before = self._extents[extent]
            self._extents[extent] = b""
            self._enter(extent, 0, None, before)

    def barrier(self) -> None:
        if self._watched:
            self._pass_event(Strike.BARRIER)
        self._log.clear()

    def write_pointer(self, extent: int) -> int:
        if self._dead:
            self._check_alive()
        if not self.zoned or not 0 <= extent < self.extent_count:
            raise MediumMisuseError("no write pointer", f"extent {extent}")
        return len(self._extents[extent]) // self.page_size_bytes

    def _enter(self, extent: int, page: int, data: bytes | None, before: bytes) -> None:
        position = self._position
        number = position.issued_count
        position.issued_count = number + 1
        fields = (position.step, number, self.index, extent, page, data, before)
        self._log.append(tuple.__new__(Entry, fields))  # a third of the time of Entry(...), and this is a hot path

    def _check_alive(self) -> None:
        if self._dead:
            raise DeadMedium(f"medium {self.index} has crashed")

    def _pass_event(self, kind: Strike, extent: int = 0, page: int = 0, data: bytes = b"") -> None:
        self._check_alive()
        self._position.pass_event(kind)
        if self._observer is not None:
            self._observer.before_event(self, kind, extent, page, data)

    # -- the device, as the harness sees it

    @property
    def log(self) -> Sequence[Entry]:
        """Entries issued since the last completed barrier, in order."""
        return tuple(self._log)

    def kill(self) -> None:
        self._dead = self._watched = True

    def watch(self, watched: bool) -> None:
        """Whether events are counted, because the power is to fail after some of them."""
        self._watched = watched or self._dead or self._observer is not None

    def observe(self, observer: Observer | None) -> None:
        """Tell the observer, if any, of each event to come, until this medium is dead."""
        self._observer = observer
        self._watched = self._dead or observer is not None

    def hold(self, extents: Sequence[bytes]) -> None:
        """Have this on it, persistent, in place of what there was. A zoned extent is as long as its write pointer."""
        self._extents = list(extents)
        self._log.clear()

    def contents(self) -> tuple[bytes, ...]:
        """What each extent holds now, whether or not a barrier has passed it."""
        return tuple(self._extents)

    def reopen(self) -> SimulatedMedium:
        """The same device under a new owner, what is not yet past a barrier included; this one is dead."""
        return self._succeed(list(self._extents), list(self._log))

    def crash_image(self, choose_survivor: ChooseSurvivor, tier: Tier = "fine") -> SimulatedMedium:
        """A new medium with what survived; this one is dead."""
        extents = list(self._extents)
        losses: list[Loss] = []
        for extent, entries in self.open_entries().items():
            if tier == "fine":
                extents[extent] = self.survivors(entries, choose_survivor, losses)
            elif choose_survivor(f"survivor.extent.{self.index}.{extent}", 2):
                extents[extent] = entries[0].before
                losses += [self._whole_loss(entry) for entry in entries]
        image = self._succeed(extents, [])
        image.losses = losses
        return image

    def open_entries(self) -> dict[int, list[Entry]]:
        """What was issued to each extent since the last completed barrier, in order."""
        entries_of: dict[int, list[Entry]] = {}
        for entry in self._log:
            entries_of.setdefault(entry.extent, []).append(entry)
        return entries_of

    def state(self) -> Hashable:
        """What it holds, what of it no barrier has passed, and what is there if that is lost.

        Not the order between extents, which no crash tells.
        """
        open_entries = tuple(
            (extent, entries[0].before, tuple((entry.page, entry.data) for entry in entries))
            for extent, entries in sorted(self.open_entries().items())
        )
        return tuple(self._extents), open_entries

    def survivors(self, entries: Sequence[Entry], choose_survivor: ChooseSurvivor, losses: list[Loss]) -> bytes:
        """What a crash leaves of an extent, given its open entries; what they lose is added to ``losses``."""
        if self.zoned:
            return self._prefix(entries, self._extents[entries[0].extent], choose_survivor, losses)
        return self._sectors(entries, choose_survivor, losses)

    def legal_states_count(self) -> int:
        """In how many ways a crash may leave this medium: those that leave the same bytes are counted apart."""
        if not self.zoned:
            return 1 << sum(len(entry.data or b"") // self._sector_size_bytes for entry in self._log)
        units: dict[int, int] = {}
        for entry in self._log:
            count = 1 if entry.data is None else len(entry.data) // self.page_size_bytes
            units[entry.extent] = units.get(entry.extent, 0) + count
        return prod(1 + count for count in units.values())

    def _succeed(self, extents: list[bytes], log: list[Entry]) -> SimulatedMedium:
        self.kill()
        image = SimulatedMedium(self.shape, index=self.index, position=self._position)
        image._extents = extents
        image._log = log
        return image

    def _prefix(
        self, entries: Sequence[Entry], content: bytes, choose_survivor: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        page_size_bytes = self.page_size_bytes
        for index, entry in enumerate(entries):
            data = entry.data
            page_count = 1 if data is None else len(data) // page_size_bytes
            lost_count = choose_survivor(f"survivor.{entry.step}.{entry.number}", page_count + 1)
            if lost_count:
                kept = b"" if data is None else data[: (page_count - lost_count) * page_size_bytes]
                units = () if data is None else range(page_count - lost_count, page_count)
                losses.append(Loss(entry, units, "" if data is None else "page", page_count))
                losses += [self._whole_loss(later) for later in entries[index + 1 :]]
                return entry.before + kept
        return content

    def _sectors(self, entries: Sequence[Entry], choose_survivor: ChooseSurvivor, losses: list[Loss]) -> bytes:
        size = self._sector_size_bytes
        content = entries[0].before
        for entry in entries:
            data = entry.data or b""
            lost = self._lost_sectors(f"survivor.{entry.step}.{entry.number}", len(data) // size, choose_survivor)
            start = entry.page * self.page_size_bytes
            if lost:
                losses.append(Loss(entry, lost, "sector", len(data) // size))
                for sector in lost:
                    at = sector * size
                    data = data[:at] + content[start + at : start + at + size] + data[at + size :]
            content = content[:start] + data + content[start + len(data) :]
        return content

    @staticmethod
    def _lost_sectors(name: str, sector_count: int, choose_survivor: ChooseSurvivor) -> Sequence[int]:
        fate = choose_survivor(name, 2 if sector_count == 1 else 3)
        if fate != _TORN:
            return range(sector_count) if fate == _LOST else ()
        lost: list[int] = []
        for group, first in enumerate(range(0, sector_count, SECTOR_GROUP_SIZE)):
            size = min(SECTOR_GROUP_SIZE, sector_count - first)
            mask = choose_survivor(f"{name}.{group}", 1 << size)
            lost += [first + bit for bit in range(size) if mask >> bit & 1]
        return lost

    def _whole_loss(self, entry: Entry) -> Loss:
        if entry.data is None:
            return Loss(entry, (), "", 1)
        unit, size = ("page", self.page_size_bytes) if self.zoned else ("sector", self._sector_size_bytes)
        return Loss(entry, range(len(entry.data) // size), unit, len(entry.data) // size)
