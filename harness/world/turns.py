"""Turns: two calls of a system that overlap, without threads, for as long as a scenario has such calls.

    main     call ----- lets its monitor go ..................... goes on ---- its end ... waits for the other
                              |                                      |                          |
    other                     begins ---- waits for what main holds -'                          goes on ---- its end

The main task makes the calls of a run, step by step. In the middle of one, where that lets its monitor go, it may begin
one other task, which makes another call. At each such *point* (`at_point`) the turn may change. A task that waits, and
cannot end its wait by itself, lets the other one go on. So does a task that wants a monitor which the other holds.

Guarantees. One task runs at a time, and the turn changes only at these places, so a run is a function of its choices.
If neither task can go on, that is a `Deadlock`. An error that ends the other task is raised in the main one, where that
goes on. Misuse of a monitor is seen as by `Monitor`, and also if it is the other task that holds the monitor.

Not promised: more than two tasks, and a change of turns at any other place. Code between two such places is atomic, as
it is under one lock.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from greenlet import getcurrent, greenlet

from harness.choices.tape import Tape
from harness.world.power import NoProgress
from harness.world.sequential_seam import DEAD, FREE, WAIT_STEPS_MAX, Deadlock, Monitor

_BY_MAIN, _BY_OTHER = 1, 3  # states of a monitor beside free and dead
_GIVEN_UP_MAX = 2  # hand-overs in a row, after each of which a task found nothing to do


class Turns:
    """See the module. Each task's choices have names of their own (`Tape.within`)."""

    __slots__ = ("_error", "_given_up_count", "_is_main_over", "_main", "_other", "_tape", "at_point")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._main = getcurrent()
        self._other: greenlet | None = None
        self._error: BaseException | None = None
        self._given_up_count = 0
        self._is_main_over = False
        self.at_point: Callable[[], None] | None = None

    @property
    def is_other_under_way(self) -> bool:
        return self._other is not None

    @property
    def is_main_over(self) -> bool:
        """Whether only the other task is left."""
        return self._is_main_over

    @property
    def holder(self) -> int:
        """The state of a monitor that the task under way holds."""
        return _BY_MAIN if getcurrent() is self._main else _BY_OTHER

    def begin(self, call: Callable[[], None], within: str) -> None:
        """Begin the other task, from the main one. Comes back at its end, or when it hands over. Raises its error."""

        def run() -> None:
            self._tape.within = within
            try:
                call()
            except BaseException as error:
                self._error = error
            self._other = None
            self._given_up_count = 0

        self._other = greenlet(run, self._main)
        self.hand_over()

    def hand_over(self) -> None:
        """Let the other of the two tasks go on, until it hands over again."""
        within = self._tape.within
        if getcurrent() is not self._main:
            self._main.switch()
        else:
            assert self._other is not None
            self._other.switch()
        self._tape.within = within
        if self._error is not None and getcurrent() is self._main:
            raise self._error

    def give_up(self, what: str) -> None:
        """Let the other task go on, since this one can do nothing. Raises `Deadlock` if that one cannot either."""
        self._given_up_count += 1
        if self._other is None or self._is_main_over or self._given_up_count > _GIVEN_UP_MAX:
            raise Deadlock(f"nothing can end the wait on {what!r}")
        self.hand_over()

    def go_on(self) -> None:
        """The task under way has got somewhere."""
        self._given_up_count = 0

    def pass_point(self) -> None:
        """A monitor was let go, or is about to be taken back."""
        if self.at_point is not None and self._error is None:
            self.at_point()

    def finish(self) -> None:
        """Run the other task to its end, now that the main one has come to its own. Raises its error."""
        self._is_main_over = True
        try:
            while self._other is not None:
                self.hand_over()
        finally:
            self._is_main_over = False

    def stop(self, error: BaseException) -> BaseException | None:
        """End the other task by this error, raised where it was left. Gives the error that has ended it, if any."""
        self._is_main_over = True
        while self._other is not None:
            within = self._tape.within
            self._other.throw(error)
            self._tape.within = within
        self._is_main_over = False
        return self.take_error()

    def take_error(self) -> BaseException | None:
        """The error that has ended the other task, if any; it is not raised again."""
        error, self._error = self._error, None
        return error


class SharedMonitor(Monitor):
    """A monitor that two tasks may want."""

    __slots__ = ("_turns",)

    def __init__(self, name: str, turns: Turns) -> None:
        super().__init__(name)
        self._turns = turns

    def __enter__(self) -> None:
        self._take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._is_held():
            self._state = FREE
        elif error is None:
            self._refuse("released unheld")

    def acquire(self) -> None:
        self._turns.pass_point()
        self._take()

    def release(self) -> None:
        self._check_held("released")
        self._state = FREE
        self._turns.pass_point()

    def abandon(self) -> None:
        if self._is_held():
            self._state = FREE

    def notify_all(self) -> None:
        self._check_held("notified")

    def wait_until(self, done: Callable[[], bool], progress: Callable[[], bool]) -> None:
        self._check_held("waited on")
        for _ in range(WAIT_STEPS_MAX):
            if done():
                self._turns.go_on()
                return
            if progress() or done():
                self._turns.go_on()
            else:
                self._sleep()
            if not self._is_held():
                self._refuse("let go by the work waited for")
        raise NoProgress(f"the wait on {self.name!r} took more than {WAIT_STEPS_MAX:,} steps")

    def _sleep(self) -> None:
        """Let the other task go on, with the monitor let go meanwhile. It is taken back whatever happens."""
        holder = self._state
        self._state = FREE
        try:
            self._turns.give_up(self.name)
            while self._state not in (FREE, DEAD):
                self._turns.give_up(self.name)
        finally:
            if self._state == FREE:
                self._state = holder

    def _take(self) -> None:
        holder = self._turns.holder
        if self._state in (holder, DEAD):
            self._refuse("acquired twice")
        while self._state != FREE:
            self._turns.give_up(self.name)
            if self._state == DEAD:
                self._refuse("acquired")
        self._turns.go_on()
        self._state = holder

    def _is_held(self) -> bool:
        return self._state == self._turns.holder

    def _check_held(self, what: str) -> None:
        if not self._is_held():
            self._refuse(f"{what} unheld")
