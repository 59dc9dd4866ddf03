"""Jobs, their reports while they run, and their outcomes.

A job is a function and its arguments. The function takes a `Reporter` first, and reports its result so far: a job that
does not come to its end counts with its last report. Interrupted, lost and silent jobs all have an `Outcome`, with what
is known of them and the reason why it is not all.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

INTERRUPTED: Final = "interrupted"
STEP, STOP = 0, 1  # indices on a board: the memory that a worker and its parent share
NO_STEP: Final = -1


class Stopped(BaseException):
    """Leaves a job that is to stop. No `Exception`, so that no code under test swallows it."""


class Reporter:
    """Carries the reports of a job to the code that runs it."""

    def __init__(
        self, deliver: Callable[[Any], None], board: MutableSequence[int], is_stopped: Callable[[], bool]
    ) -> None:
        self._deliver = deliver
        self._board = board
        self._is_stopped = is_stopped

    def report(self, known: Any) -> None:
        """Report the job's result so far, which must not change later. Raises `Stopped` if the job is to end."""
        self._deliver(known)
        if self._is_stopped():
            raise Stopped

    def note_step(self, number: int) -> None:
        """Note the step that the job is at. It is in shared memory: cheap, and known even of a job that hangs."""
        self._board[STEP] = number


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """A function to run. It must be picklable unless there is only one worker. Both names are for people."""

    name: str
    function: Callable[..., T]  # takes a Reporter, then the arguments
    arguments: tuple[Any, ...] = ()
    silence_seconds_max: float | None = None  # it hangs if it is so long without report or step; None: never
    step_name: str = "step"
    expected_errors: tuple[type[BaseException], ...] = ()  # their message alone is the reason of the outcome


class Fate(StrEnum):
    """How a job ended."""

    DONE = "done"
    FAILED = "failed"  # by an exception
    STOPPED = "stopped"  # by an interrupt, while it ran
    NOT_RUN = "not run"  # not wanted any more, or interrupted before it began
    LOST = "lost"  # its worker died, each time
    SILENT = "silent"  # and killed


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How one job ended, and its result."""

    fate: Fate
    value: T | None = None  # the result of a job that was done
    reason: str = ""  # why the job was not done; empty if it was not wanted
    reported: Any = None  # its last report
    step: int | None = None  # the step that a lost or silent job was at

    @property
    def known(self) -> Any:
        """The value of a job that was done, else its last report; None if there is none."""
        return self.value if self.fate is Fate.DONE else self.reported


def why_incomplete(outcomes: Iterable[Outcome[Any]]) -> str:
    """The reasons why these outcomes are not the whole; empty if they are."""
    return "; ".join(sorted({outcome.reason for outcome in outcomes if outcome.reason}))


def perform(job: Job[T], reporter: Reporter) -> Outcome[T]:
    """Run a job in this process. Errors become outcomes, other than those that derive from `BaseException` alone."""
    try:
        return Outcome(Fate.DONE, job.function(reporter, *job.arguments))
    except Stopped:
        return Outcome(Fate.STOPPED, reason=INTERRUPTED)
    except job.expected_errors as error:
        return Outcome(Fate.FAILED, reason=str(error))
    except (Exception, SystemExit) as error:
        return failed(error)


def failed(error: BaseException) -> Outcome[Any]:
    """The outcome of a job that raised an unexpected error, with one line that names error and place."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Outcome(Fate.FAILED, reason=f"the check itself failed: {said}{at}")
