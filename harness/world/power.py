"""Power: the step that a world is at, and the moment at which its power fails.

`DevicePosition` is all that a medium knows of its surroundings, its faults among them.

`DevicePosition.arm` makes the power fail in the middle of whatever the system does: after a number of events, which are
writes, resets and barriers on any medium of the world. The next event does not happen: this one and all that follow
raise `PowerCut`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from harness.world.faults import Faults


class DeadMedium(BaseException):
    """A medium or seam was used again after its crash."""


class NoProgress(BaseException):
    """One call of the system took more than it may: of device entries, of waits or, as the last resort, of seconds."""


class PowerCut(BaseException):
    """The power has failed: this event did not happen, and no later one will."""


class Strike(IntEnum):
    """The kind of event that is counted until the power fails."""

    EVENT = 0  # writes, resets and barriers alike
    BARRIER = 1
    RESET = 2


def _first(lane: str, count: int) -> int:
    return 0


class DevicePosition:
    """The step a world is at, how many device entries that step has issued, and when its power or a call will fail."""

    __slots__ = ("_at_cut", "_left_count", "_strike", "faults", "is_cut", "issued_count", "step")

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults(_first)
        self.step = 0
        self.issued_count = 0
        self.is_cut = False
        self._at_cut: Callable[[], None] | None = None
        self._strike = Strike.EVENT
        self._left_count = -1  # negative: not armed

    def arm(self, strike: Strike, count: int, at_cut: Callable[[], None] | None = None) -> None:
        """Let ``count`` more events of this kind happen; the power fails at the next event of any kind.

        ``at_cut`` is called at that moment, before `PowerCut` is raised.
        """
        self._at_cut = at_cut
        self._strike = strike
        self._left_count = count

    def disarm(self) -> None:
        self._left_count = -1
        self.is_cut = False

    def pass_event(self, kind: Strike) -> None:
        """Count an event that is about to happen. Raises `PowerCut` if the power has failed by now."""
        if not self._left_count and not self.is_cut:
            self.is_cut = True  # before `at_cut`, so that an event within it fails, too
            if self._at_cut is not None:
                self._at_cut()
        if self.is_cut:
            raise PowerCut
        if self._strike in (Strike.EVENT, kind):
            self._left_count -= 1
