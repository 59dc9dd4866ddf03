"""The world a system under check lives in: its media and its seam, across reboots and crashes.

Each reboot or crash gives new media and a new seam; those of before are dead, so a system that was left behind can do
nothing more. Identifiers go on where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from harness.medium import DevicePosition, Loss, SimulatedMedium
from harness.sequential_seam import SequentialSeam
from harness.sources import Source
from harness.spec import Configuration, Tier


class World:
    """``configuration``, ``media`` and ``seam`` are what a system opens itself on.

    ``kept`` survives reboots and crashes: whatever a system's fakes and stand-ins must not lose.
    """

    __slots__ = ("_serials", "_source", "configuration", "kept", "media", "position", "seam")

    def __init__(self, configuration: Configuration, source: Source) -> None:
        self._source = source
        self._serials = count(1)
        self.configuration = configuration
        self.kept: dict[str, Any] = {}
        self.position = DevicePosition()
        self.media = tuple(
            SimulatedMedium(shape, index=index, position=self.position)
            for index, shape in enumerate(configuration.media)
        )
        self.seam = self._new_seam()

    @property
    def step(self) -> int:
        """Identity of the step under way."""
        return self.position.step

    def begin_step(self, identity: int) -> None:
        self.position.step = identity
        self.position.issued_count = 0

    def crash(self, tier: Tier = "fine") -> Sequence[Loss]:
        """The device stops; the source chooses what survives. Says what was lost."""
        choose_survivor = self._source.choose_at
        self.media = tuple([medium.crash_image(choose_survivor, tier) for medium in self.media])
        self._replace_seam()
        return [loss for medium in self.media for loss in medium.losses]

    def reboot(self) -> None:
        """Everything that was issued is there, but is no more past a barrier than before."""
        self.media = tuple([medium.reopen() for medium in self.media])
        self._replace_seam()

    def _replace_seam(self) -> None:
        self.seam.kill()
        self.seam = self._new_seam()

    def _new_seam(self) -> SequentialSeam:
        return SequentialSeam(self._source, self._serials, self.configuration.collisions)
