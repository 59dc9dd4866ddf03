"""The seam of the sequential checks: for one task, with locks that check their use and waits that do the work.

Guarantees. Taking a monitor twice, or releasing, notifying or waiting without holding it, raises `LockMisuse`. A wait
that nothing can satisfy raises `Deadlock`; a wait that is not satisfied after `WAIT_STEPS_MAX` steps raises
`NoProgress`. Identifiers never repeat within a world, whatever ending was chosen. After a crash every use raises
`DeadMedium`. All of these derive from `BaseException`, so that a store that catches `Exception` does not swallow them.

Not promised: anything about races. One task runs, so the seam sees only the misuse that one task can show. Monitors for
two tasks are in `turns.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from harness.choices.tape import Tape
from harness.world.power import DeadMedium, NoProgress

WAIT_STEPS_MAX = 100_000

_IDENTIFIER_SIZE_BYTES = 16
_IDENTIFIER_MASK = (1 << 8 * _IDENTIFIER_SIZE_BYTES) - 1
# Odd, so that its multiples do not repeat below 2**128, nor do their low bytes on their own. The bits of the golden
# ratio, so that they look like noise.
_IDENTIFIER_FACTOR = 0x9E3779B97F4A7C15F39CC0605CEDC835

FREE, _HELD, DEAD = 0, 1, 2


class LockMisuse(BaseException):
    """A monitor was used in a way that no lock allows."""


class Deadlock(BaseException):
    """A wait that cannot end."""


class Monitor:
    """A lock and a condition for a single task."""

    __slots__ = ("_state", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._state = FREE

    def __enter__(self) -> None:
        if self._state:
            self._refuse("acquired twice")
        self._state = _HELD

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._state == _HELD:
            self._state = FREE
        elif error is None:  # else the error under way says more than this one would
            self._refuse("released unheld")

    def acquire(self) -> None:
        if self._state:
            self._refuse("acquired twice")
        self._state = _HELD

    def release(self) -> None:
        if self._state != _HELD:
            self._refuse("released unheld")
        self._state = FREE

    def abandon(self) -> None:
        """Let go of the monitor if it is held, after an interrupt that came nobody knows where."""
        if self._state == _HELD:
            self._state = FREE

    def notify_all(self) -> None:
        if self._state != _HELD:
            self._refuse("notified unheld")

    def wait_until(self, done: Callable[[], bool], progress: Callable[[], bool]) -> None:
        """Run ``progress()``, one step at a time, until ``done()``. Both are called with the monitor held.

        ``progress()`` answers False if there was nothing to do. Raises `Deadlock` or `NoProgress`.
        """
        if self._state != _HELD:
            self._refuse("waited on unheld")
        for _ in range(WAIT_STEPS_MAX):
            if done():
                return
            if not progress() and not done():  # a step that found nothing to do may still have settled it
                raise Deadlock(f"nothing can end the wait on {self.name!r}")
            if self._state != _HELD:
                self._refuse("let go by the work waited for")
        raise NoProgress(f"the wait on {self.name!r} took more than {WAIT_STEPS_MAX:,} steps")

    def set_aside(self) -> int:
        """Free the monitor for a moment. Gives its state, which `put_back` takes."""
        state = self._state
        if state != DEAD:
            self._state = FREE
        return state

    def put_back(self, state: int) -> None:
        if self._state != DEAD:
            self._state = state

    def kill(self) -> None:
        self._state = DEAD

    def _refuse(self, what: str) -> None:
        if self._state == DEAD:
            raise DeadMedium(f"the world of monitor {self.name!r} has crashed")
        raise LockMisuse(f"monitor {self.name!r} {what}")


class SequentialSeam:
    """Monitors, identifiers and open decisions of one life of a world, from opening to crash or shutdown."""

    __slots__ = ("_choose", "_collisions", "_dead", "_monitors", "_new_monitor", "_next_serial", "_variant_count")

    def __init__(
        self,
        tape: Tape,
        serials: Iterator[int],
        collisions: Sequence[bytes],
        new_monitor: Callable[[str], Monitor] = Monitor,
    ) -> None:
        if any(len(suffix) > _IDENTIFIER_SIZE_BYTES // 2 for suffix in collisions):
            raise ValueError("a collision may take at most half of an identifier")
        self._choose = tape.choose
        self._next_serial = serials.__next__
        self._collisions = tuple(collisions)
        self._variant_count = 1 + len(collisions)
        self._new_monitor = new_monitor
        self._monitors: list[Monitor] = []
        self._dead = False

    def monitor(self, name: str) -> Monitor:
        self._check_alive()
        monitor = self._new_monitor(name)
        self._monitors.append(monitor)
        return monitor

    def unique_id(self) -> bytes:
        """16 bytes never given before in this world: a scrambled serial number, rarely with a chosen ending."""
        if self._dead:
            self._check_alive()
        number = self._next_serial() * _IDENTIFIER_FACTOR & _IDENTIFIER_MASK
        identifier = number.to_bytes(_IDENTIFIER_SIZE_BYTES, "little")
        variant = self._choose("entropy", self._variant_count)
        if variant:  # the bytes in front still differ between serials, so the identifier stays unique
            suffix = self._collisions[variant - 1]
            identifier = identifier[: _IDENTIFIER_SIZE_BYTES - len(suffix)] + suffix
        return identifier

    def choose(self, count: int) -> int:
        """Choose one of ``count`` legal ways to go on, as an integer below ``count``."""
        if self._dead:
            self._check_alive()
        return self._choose("device", count)

    @contextmanager
    def held_monitors_aside(self) -> Iterator[None]:
        """Free all monitors, so that the harness can ask the system something in the middle of a call."""
        states = [monitor.set_aside() for monitor in self._monitors]
        try:
            yield
        finally:
            for monitor, state in zip(self._monitors, states, strict=True):
                monitor.put_back(state)

    def kill(self) -> None:
        self._dead = True
        for monitor in self._monitors:
            monitor.kill()

    def _check_alive(self) -> None:
        if self._dead:
            raise DeadMedium("the world of this seam has crashed")
