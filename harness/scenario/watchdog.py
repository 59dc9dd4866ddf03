"""The watchdog: interrupts a system that never returns, so that its scenario ends with a violation.

Within the context, a timer looks now and then whether the same step is still under way. It raises `NoProgress` in the
middle of whatever runs, once the step has taken its bound in seconds of processor time. By the clock it allows
`WALL_FACTOR` times as long, so that a busy machine does not make a step late. This is the last resort, for a loop that
neither waits nor uses its device. Waits and device entries have bounds that count (`world/sequential_seam.py`,
`world/medium.py`).

It costs nothing in the loop: scenarios and steps are counted anyway. Not promised: a call that does not come back into
Python is not interrupted; the pool that runs jobs in processes ends such a process. Nothing is watched where the timer
cannot be used: outside the main thread, on Windows, or if something else handles SIGALRM.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Hashable
from time import monotonic, process_time
from types import FrameType, TracebackType
from typing import Final

from harness.world.power import NoProgress

LOOKS_COUNT: Final = 4  # how often the timer looks within the bound
WALL_FACTOR: Final = 6


class Watchdog:
    """Watches a run: one step may take ``seconds_max``. ``progress()`` changes whenever another step is under way."""

    __slots__ = ("_is_on", "_progress", "_seconds_max", "_seen", "_since")

    def __init__(self, progress: Callable[[], Hashable], seconds_max: float) -> None:
        self._progress = progress
        self._seconds_max = seconds_max
        self._seen: Hashable = None
        self._since = (0.0, 0.0)  # when this step was first seen, in processor time and by the clock
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
