r"""Where in a draining barriers come, so that no crash state is left out and few schedules are run (ADR 0015).

             .--> a write, not the first of those ready --> a barrier
    FREE ----+--> the first of those ready --> a barrier
      |      |                            \--> the next, and so on until none is ready --> whatever there is
      '------'
       whatever is neither; or a barrier over what was issued before the draining

What may be left between two barriers is left by the moment at which all that is ready has been issued; what can be
persistent is reached one write at a time. That holds for a system to which an issued write is not yet persistent: only
a barrier brings anything about. It is watched: `Pacer.is_broken` once the system was seen to be another. Not seen is
one whose records take in what is only issued; such a record is built behind all that is ready, so it is still tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any


class Pace(IntEnum):
    """What was issued since the last barrier."""

    FREE = 0  # nothing by this draining
    FIRST = 1  # the first of the writes that were ready
    SINGLE = 2  # another of them
    ALL = 3  # several: all that are ready are on their way


class Pacer:
    """Follows one run of a draining. ``device_options`` is that of the spec's `Bounds`."""

    __slots__ = (
        "_can_barrier",
        "_device_options",
        "_other_count",
        "_ready_count",
        "_states",
        "_was_asked",
        "is_broken",
        "pace",
    )

    def __init__(self, device_options: Callable[[Any], tuple[int, bool]]) -> None:
        self._device_options = device_options
        self.is_broken = False
        self.pace = Pace.FREE
        self._was_asked = False  # for the choice of what happens next
        self._can_barrier = False  # when it was asked
        self._ready_count = self._other_count = 0  # options when the last event was chosen
        self._states: Sequence[str] | None = None  # of the ledger's writes, since the last barrier

    def options(self, system: Any, option_count: int) -> Sequence[int]:
        """Which of the options to try: writes come first, then a barrier if there is anything to pass, then others."""
        ready_count, can_barrier = self._device_options(system)
        other_count = option_count - ready_count - can_barrier
        is_free = self.pace is Pace.FREE
        if other_count < 0 or not (is_free or (can_barrier and self._follows(ready_count, other_count))):
            self.is_broken = True
        self._was_asked = True
        self._ready_count, self._can_barrier, self._other_count = ready_count, can_barrier, other_count
        if is_free or self.is_broken:
            return range(option_count)  # where it is broken the run will not count
        if self.pace is Pace.SINGLE:
            return (ready_count,)
        if not ready_count:
            return range(option_count)
        return (0, ready_count) if self.pace is Pace.FIRST else (0,)

    def _follows(self, ready_count: int, other_count: int) -> bool:
        """Whether the last write brought nothing about but that the next of its extent may be ready."""
        if self._was_asked:
            return True  # what came since was neither write nor barrier
        return self._other_count == other_count and self._ready_count - 1 <= ready_count <= self._ready_count

    def before_event(self, is_barrier: bool, picked: int) -> None:
        """A write or a barrier is about to happen; ``picked`` is what was answered to the last choice."""
        is_picked_write = self._was_asked and picked < self._ready_count
        is_picked_barrier = self._was_asked and self._can_barrier and picked == self._ready_count
        if is_barrier if is_picked_write else is_picked_barrier and not is_barrier:
            self.is_broken = True  # the options were not what they were said to be
        if is_barrier:
            self.pace = Pace.FREE
            self._states = None
        elif self.pace is not Pace.FREE:
            self.pace = Pace.ALL
        else:
            self.pace = Pace.SINGLE if is_picked_write and picked else Pace.FIRST
        if not is_picked_write:  # nobody was asked: it was all there was to do
            self._ready_count, self._other_count = 1, 0
        self._was_asked = False

    def see(self, states: Sequence[str]) -> None:
        """What the ledger's writes are now said to be."""
        if self.pace is not Pace.FREE and self._states is not None and states != self._states:
            self.is_broken = True
        self._states = states
