"""Power: where a world is, and when it fails.

Power can be made to fail in the middle of whatever the system does: `DevicePosition.arm` says after which event, a
write, reset or barrier on any medium of the world. The next event does not happen; it, and all that follow, raise
`PowerCut`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class DeadMedium(BaseException):
    """Something that crashed was used again."""


class NoProgress(BaseException):
    """One call of the system took more than it may: device entries, waits, or, as the last resort, seconds."""


class PowerCut(BaseException):
    """The power has failed: the event did not happen, and none will."""


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
