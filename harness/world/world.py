"""The world that a system under check lives in: its media and its seam, across reboots and crashes.

Each reboot or crash makes new media and a new seam. The old ones are dead then, so a system that was left behind can do
nothing more. Serial numbers of identifiers go on where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from harness.choices.tape import Tape
from harness.spec.device import Loss, MediumShape
from harness.spec.spec import Configuration, Tier
from harness.world.faults import Fault, Faults
from harness.world.medium import SimulatedMedium
from harness.world.power import DevicePosition, Strike
from harness.world.sequential_seam import Monitor, SequentialSeam

NewMedium = Callable[[MediumShape, int, DevicePosition], SimulatedMedium]  # (shape, index, position): a new medium


class Serials:
    """Gives 1, 2, 3, ... and counts how many it has given."""

    __slots__ = ("given_count",)

    def __init__(self) -> None:
        self.given_count = 0

    def __iter__(self) -> Serials:
        return self

    def __next__(self) -> int:
        self.given_count += 1
        return self.given_count


class World:
    """A system opens itself on ``configuration``, ``media`` and ``seam``.

    ``kept`` survives reboots and crashes; it is for fakes and stand-ins, which have no medium of their own.
    """

    __slots__ = ("_new_monitor", "_serials", "_tape", "configuration", "faults", "kept", "media", "position", "seam")

    def __init__(self, configuration: Configuration, tape: Tape, new_medium: NewMedium = SimulatedMedium) -> None:
        self._tape = tape
        self._serials = Serials()
        self._new_monitor: Callable[[str], Monitor] = Monitor
        self.configuration = configuration
        self.kept: dict[str, Any] = {}
        self.faults = Faults(tape.choose, tape.choose_at)
        self.position = DevicePosition(self.faults)
        self.media = tuple(new_medium(shape, index, self.position) for index, shape in enumerate(configuration.media))
        self.seam = self._new_seam()

    @property
    def step(self) -> int:
        """Identity of the step under way."""
        return self.position.step

    @property
    def identifiers_count(self) -> int:
        """How many identifiers the seams of this world have given out."""
        return self._serials.given_count

    def make_monitors_by(self, new_monitor: Callable[[str], Monitor]) -> None:
        """Let the seams of this world make their monitors in this way, before any system is opened."""
        self._new_monitor = new_monitor
        self.seam = self._new_seam()

    def resume(self, media: Sequence[Sequence[bytes]], kept: Mapping[str, Any], identifiers_count: int) -> None:
        """Go on where another world was; the contents of its media all count as persistent."""
        for medium, extents in zip(self.media, media, strict=True):
            medium.hold(extents)
        self.kept.update(kept)
        self._serials.given_count = identifiers_count

    def contents(self) -> list[bytes]:
        """The content of every extent of every medium."""
        return [extent for medium in self.media for extent in medium.contents()]

    def legal_states_count(self) -> int:
        """In how many ways a crash may leave the media now."""
        return prod(medium.legal_states_count() for medium in self.media)

    def is_much_open(self) -> bool:
        """Whether a crash may take part of what was issued: writes to two extents, or of two pages."""
        open_entries = [medium.open_entries() for medium in self.media]
        if sum(map(len, open_entries)) > 1:
            return True
        entries = [entry for by_extent in open_entries for each in by_extent.values() for entry in each]
        return sum(len(entry.data or b"") // self.media[entry.medium].page_size_bytes for entry in entries) > 1

    def fail_power_after(self, strike: Strike, count: int, at_cut: Callable[[], None] | None = None) -> None:
        """Let the power fail after ``count`` events of this kind, as `DevicePosition.arm` does."""
        self.position.arm(strike, count, at_cut)
        for medium in self.media:
            medium.watch(True)

    def keep_power(self) -> None:
        """Call off `fail_power_after`."""
        self.position.disarm()
        for medium in self.media:
            medium.watch(False)

    def arm_fault(self, fault: Fault) -> None:
        """Let calls of a medium fail from here on, as `Fault` says."""
        self.faults.arm(fault)
        for medium in self.media:
            medium.watch(False)

    @property
    def is_power_cut(self) -> bool:
        return self.position.is_cut

    def crash(self, tier: Tier = "fine") -> Sequence[Loss]:
        """Stop the device and let the tape choose what survives. Gives the losses."""
        self.position.disarm()
        choose_survivor = self._tape.choose_at
        self.media = tuple([medium.crash_image(choose_survivor, tier) for medium in self.media])
        self._replace_seam()
        return [loss for medium in self.media for loss in medium.losses]

    def reboot(self) -> None:
        """End the system's process. The media keep everything issued, and their logs of what no barrier has passed."""
        self.position.disarm()
        self.media = tuple([medium.reopen() for medium in self.media])
        self._replace_seam()

    def _replace_seam(self) -> None:
        self.seam.kill()
        self.seam = self._new_seam()

    def _new_seam(self) -> SequentialSeam:
        return SequentialSeam(self._tape, self._serials, self.configuration.collisions, self._new_monitor)
