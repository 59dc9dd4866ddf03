"""Simulated media: a device in memory that knows what a crash may leave of it.

Guarantees. A write that was issued before the last completed barrier survives every crash. Of writes that were issued
since, a crash leaves what the device model allows (`harness/world/devices/`). A write that was not issued is never
there. A medium that has crashed refuses all IO.

Contents are immutable: an extent is one ``bytes`` object. Each write replaces it, and all images that have it share it.
The content of an extent with a write pointer ends at the pointer, so that writing is appending.

Calls are refused where `Faults` say so, and for the rest of a step where they need what its refused barrier has lost:
whoever makes them may not know of that yet. Bits rot where a spec says so (`rot`). Not simulated: devices that break
their own model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Final, Protocol

from harness.choices.lanes import SURVIVOR
from harness.spec.device import ChooseSurvivor, DeviceMisuseError, Entry, Loss, MediumShape, whole_loss
from harness.spec.spec import Tier
from harness.world.faults import DeviceError, Site
from harness.world.power import DeadMedium, DevicePosition, NoProgress, Strike

_SITE_OF: Final = {Strike.EVENT: Site.WRITE, Strike.RESET: Site.RESET, Strike.BARRIER: Site.BARRIER}

ENTRIES_MAX: Final = 100_000  # that one step may issue; a longer log would not fit in memory


class Observer(Protocol):
    """Sees each event of a medium just before it happens. Must not use the medium."""

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None: ...


class SimulatedMedium:
    """See the module. ``losses`` says what the crash took that left this medium; it is empty before any crash."""

    __slots__ = (
        "_dead",
        "_device",
        "_extent_size_bytes",
        "_extents",
        "_log",
        "_lost_ends",
        "_lost_step",
        "_observer",
        "_position",
        "_watched",
        "extent_count",
        "extent_size_pages",
        "holder",
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
        self._device = shape.device
        self.zoned = shape.device.has_write_pointer
        self.losses: Sequence[Loss] = ()
        self._extent_size_bytes = shape.extent_size_bytes
        self._position = DevicePosition() if position is None else position
        self.holder: object = None  # the system that uses the medium, if it says so; the harness does not look
        self._dead = False
        self._observer: Observer | None = None
        self._watched = False  # see `_update_watched`: one flag, so that the hot path checks one
        self._update_watched(False)
        self._log: list[Entry] = []
        self._lost_ends: dict[int, int] = {}  # extent -> where it ended before a refused barrier lost writes of it
        self._lost_step = -1  # the step of that barrier
        self._extents = [shape.device.fresh(shape.extent_size_bytes)] * shape.extent_count

    # -- the device, as the store sees it

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        """The bytes of these pages. Raises `DeviceMisuseError` out of range or past the end."""
        if self._watched:
            self._check_alive()
            self._meet_faults(Site.READ, extent)
        if extent < 0 or page < 0 or page_count < 1 or extent >= self.extent_count:
            raise DeviceMisuseError("read out of range", f"{page_count} pages at page {page} of extent {extent}")
        content = self._extents[extent]
        page_size_bytes = self.page_size_bytes
        end = (page + page_count) * page_size_bytes
        if end > len(content):
            self._meet_loss(Site.READ, extent, end)
            raise DeviceMisuseError("read past the end", f"{page_count} pages at page {page} of extent {extent}")
        return content[page * page_size_bytes : end]

    def write(self, extent: int, page: int, data: bytes) -> None:
        """Issue a write of whole pages. Raises `DeviceMisuseError` where the device takes none."""
        if self._watched:
            self._pass_event(Strike.EVENT, extent, page, data)
        self.land(extent, page, data)

    def land(self, extent: int, page: int, data: bytes) -> None:
        """Let a write take effect, of which nobody is told."""
        start = page * self.page_size_bytes
        end = start + len(data)
        if not 0 <= extent < self.extent_count or page < 0 or end > self._extent_size_bytes:
            raise DeviceMisuseError("write out of range", f"{len(data)} bytes at page {page} of extent {extent}")
        if not data or len(data) % self.page_size_bytes:
            raise DeviceMisuseError("write of a partial page", f"{len(data)} bytes at page {page} of extent {extent}")
        before = self._extents[extent]
        if start > len(before):
            self._meet_loss(Site.WRITE, extent, start)
        data = bytes(data)  # a store may re-use its buffer
        self._extents[extent] = self._device.written(before, start, data)
        self._enter(extent, page, data, before)

    def reset(self, extent: int) -> None:
        """Issue a reset, by which the device model says what the extent then holds."""
        if self._watched:
            self._pass_event(Strike.RESET, extent)
        self.land_reset(extent)

    def land_reset(self, extent: int) -> None:
        """Let a reset take effect, of which nobody is told."""
        if not 0 <= extent < self.extent_count:
            raise DeviceMisuseError("reset out of range", f"extent {extent}")
        before = self._extents[extent]
        emptied = self._device.emptied(before)
        if emptied is not None:  # else a crash has nothing to take, so the log needs no entry
            self._extents[extent] = emptied
            self._enter(extent, 0, None, before)

    def barrier(self) -> None:
        """Make everything issued so far on this medium survive any crash."""
        if self._watched:
            self._pass_event(Strike.BARRIER)
        self._log.clear()

    def write_pointer(self, extent: int) -> int:
        """The page of an extent that may be written next. Raises `DeviceMisuseError` if the device has no pointers."""
        if self._watched:
            self._check_alive()
            self._meet_faults(Site.READ, extent)
        if not self.zoned or not 0 <= extent < self.extent_count:
            raise DeviceMisuseError("no write pointer", f"extent {extent}")
        return len(self._extents[extent]) // self.page_size_bytes

    def _enter(self, extent: int, page: int, data: bytes | None, before: bytes) -> None:
        position = self._position
        number = position.issued_count
        position.issued_count = number + 1
        if number >= ENTRIES_MAX:
            raise NoProgress(f"more than {ENTRIES_MAX:,} writes and resets in one step")
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
        self._meet_faults(_SITE_OF[kind], extent, page, data)

    def _meet_faults(self, site: Site, extent: int, page: int = 0, data: bytes = b"") -> None:
        if self._position.faults.are_armed:
            self._position.faults.meet(self, site, extent, page, data)

    # -- the device, as the harness sees it

    @property
    def log(self) -> Sequence[Entry]:
        """Writes and resets that were issued since the last completed barrier, in order."""
        return tuple(self._log)

    def kill(self) -> None:
        """Refuse all IO from here on, with `DeadMedium`."""
        self._dead = self._watched = True

    def watch(self, watched: bool) -> None:
        """Count events from here on, or no longer, because the power is to fail after some of them."""
        self._update_watched(watched)

    def observe(self, observer: Observer | None) -> None:
        """Tell the observer of each event from here on, until this medium is dead; None: tell nobody."""
        self._observer = observer
        self._update_watched(False)

    def _update_watched(self, is_counting: bool) -> None:
        self._watched = is_counting or self._dead or self._observer is not None or self._position.faults.are_armed

    def hold(self, extents: Sequence[bytes]) -> None:
        """Replace the contents by these, all persistent. The content of a zoned extent ends at its write pointer."""
        self._extents = list(extents)
        self._log.clear()

    def contents(self) -> tuple[bytes, ...]:
        """The content of each extent now, whether or not a barrier has passed it."""
        return tuple(self._extents)

    def reopen(self) -> SimulatedMedium:
        """The same device for a new process, with the log of what no barrier has passed. This medium is dead then."""
        return self._succeed(list(self._extents), list(self._log))

    def crash_image(self, choose_survivor: ChooseSurvivor, tier: Tier = "fine") -> SimulatedMedium:
        """A new medium that holds the survivors, all persistent. This medium is dead then."""
        extents = list(self._extents)
        losses: list[Loss] = []
        for extent, entries in self.open_entries().items():
            if tier == "fine":
                extents[extent] = self.survivors(entries, choose_survivor, losses)
            elif choose_survivor(f"{SURVIVOR}.extent.{self.index}.{extent}", 2):
                extents[extent] = entries[0].before
                losses += [whole_loss(entry, self._device.unit, self.shape.unit_size_bytes) for entry in entries]
        image = self._succeed(extents, [])
        image.losses = losses
        return image

    def lose(self, choose_survivor: ChooseSurvivor) -> None:
        """Lose what a crash may lose, and go on. What is left counts as persistent."""
        self._lost_step = self._position.step
        self._lost_ends = {}
        for extent, entries in self.open_entries().items():
            self._lost_ends[extent] = len(self._extents[extent])
            self._extents[extent] = self.survivors(entries, choose_survivor, [])
        self._log.clear()

    def _meet_loss(self, site: Site, extent: int, end: int) -> None:
        """Refuse what a loss has made impossible: until the barrier's caller is told, others may still count on it."""
        if self._lost_step == self._position.step and end <= self._lost_ends.get(extent, 0):
            raise DeviceError(site, extent)

    def rot(self, extent: int, offset_bytes: int, mask: int) -> None:
        """Flip bits of a byte at rest, for good. The caller takes one that no crash may take back."""
        self._extents[extent] = _flipped(self._extents[extent], offset_bytes, mask)
        self._log = [
            entry._replace(before=_flipped(entry.before, offset_bytes, mask)) if entry.extent == extent else entry
            for entry in self._log
        ]

    def is_open(self) -> bool:
        """Whether anything was issued since the last completed barrier, so that a crash may take it."""
        return bool(self._log)

    def open_entries(self) -> dict[int, list[Entry]]:
        """By extent, the entries that were issued since the last completed barrier, in order."""
        entries_of: dict[int, list[Entry]] = {}
        for entry in self._log:
            entries_of.setdefault(entry.extent, []).append(entry)
        return entries_of

    def state(self) -> Hashable:
        """A value by which to compare media: contents, the entries that no barrier has passed, and what is under them.

        It leaves out the order of entries between extents, since no crash depends on that.
        """
        open_entries = tuple(
            (extent, entries[0].before, tuple((entry.page, entry.data) for entry in entries))
            for extent, entries in sorted(self.open_entries().items())
        )
        return tuple(self._extents), open_entries

    def survivors(self, entries: Sequence[Entry], choose_survivor: ChooseSurvivor, losses: list[Loss]) -> bytes:
        """The content that a crash leaves of an extent with these open entries; their losses go to ``losses``."""
        content = self._extents[entries[0].extent]
        return self._device.survivors(entries, content, self.shape, choose_survivor, losses)

    def legal_states_count(self) -> int:
        """In how many ways a crash may leave this medium; ways that leave the same bytes count separately."""
        size = self.shape.unit_size_bytes
        return prod(
            self._device.legal_states_count([1 if entry.data is None else len(entry.data) // size for entry in entries])
            for entries in self.open_entries().values()
        )

    def _succeed(self, extents: list[bytes], log: list[Entry]) -> SimulatedMedium:
        self.kill()
        image = SimulatedMedium(self.shape, index=self.index, position=self._position)
        image._extents = extents
        image._log = log
        return image


def _flipped(content: bytes, offset_bytes: int, mask: int) -> bytes:
    if offset_bytes >= len(content):  # of an entry's content before: the byte came later
        return content
    return content[:offset_bytes] + bytes((content[offset_bytes] ^ mask,)) + content[offset_bytes + 1 :]
