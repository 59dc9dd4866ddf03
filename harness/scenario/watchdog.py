"""The watchdog: a system that never returns is interrupted, so that its scenario ends with a violation.

Within the context a timer looks now and then whether the same step is still under way. Once that has taken the bound of
seconds of the processor, or `WALL_FACTOR` times as long by the clock, `NoProgress` is raised in the middle of whatever
runs. So a busy machine does not make a step late. This is the last resort, for a loop that neither waits nor uses its
device; those have bounds that count (`world/sequential_seam.py`, `world/medium.py`).

Costs nothing in the loop: scenarios and steps are counted anyway. Not promised: a call that does not come back into
Python is not interrupted; who runs jobs in processes ends such a process. Where the timer is not to be had, outside the
main thread, on Windows, or with a SIGALRM handler of somebody else's, nothing is watched.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Hashable
from time import monotonic, process_time
from types import FrameType, TracebackType
from typing import Final

from harness.world.power import NoProgress

LOOKS_COUNT: Final = 4  # so often is looked within the bound
WALL_FACTOR: Final = 6


class Watchdog:
    """``progress()`` is another one as soon as another step is under way; one may take ``seconds_max``."""

    __slots__ = ("_is_on", "_progress", "_seconds_max", "_seen", "_since")

    def __init__(self, progress: Callable[[], Hashable], seconds_max: float) -> None:
        self._progress = progress
        self._seconds_max = seconds_max
        self._seen: Hashable = None
        self._since = (0.0, 0.0)  # when this step was first seen, by processor and by clock
        self._is_on = False

    def __enter__(self) -> None:
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
            signal.signal(signal.SIGALRM, self._look)
            interval = self._seconds_max / LOOKS_COUNT
            signal.setitimer(signal.ITIMER_REAL, interval, interval)
            self._is_on = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_on:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        seen = self._progress()
        if seen != self._seen:
            self._seen, self._since = seen, (process_time(), monotonic())
            return
        spent, passed = process_time() - self._since[0], monotonic() - self._since[1]
        if spent >= self._seconds_max or passed >= WALL_FACTOR * self._seconds_max:
            raise NoProgress(f"nothing came back within {self._seconds_max:g} s")
