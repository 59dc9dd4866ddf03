"""Jobs, what they report while they run, and what becomes of them.

A job is a function and its arguments. It is given a `Reporter` first, and reports what it has so far: a job that does
not come to its end counts with what it reported last. So nothing is decided twice: interrupted, lost and silent jobs
all have an `Outcome` with what is known of them and why it is not all.
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
STEP, STOP = 0, 1  # places on a board, the memory that a worker and its parent share
NO_STEP: Final = -1


class Stopped(BaseException):
    """Leaves a job that is to stop; not an Exception, so that no code under test swallows it."""


class Reporter:
    """What a job tells whoever runs it."""

    def __init__(
        self, deliver: Callable[[Any], None], board: MutableSequence[int], is_stopped: Callable[[], bool]
    ) -> None:
        self._deliver = deliver
        self._board = board
        self._is_stopped = is_stopped

    def report(self, known: Any) -> None:
        """What the job has so far; it is not to change later. Raises `Stopped` when the job is to end."""
        self._deliver(known)
        if self._is_stopped():
            raise Stopped

    def note_step(self, number: int) -> None:
        """What the job is at: in shared memory, so that it is known of a job that hangs. Costs next to nothing."""
        self._board[STEP] = number


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """To be pickled, unless there is one worker only. ``name`` and ``step_name`` are for people."""

    name: str
    function: Callable[..., T]  # takes a Reporter, then the arguments
    arguments: tuple[Any, ...] = ()
    silence_seconds_max: float | None = None  # without report or step for so long, it hangs; None: never
    step_name: str = "step"
    expected_errors: tuple[type[BaseException], ...] = ()  # whose message says all


class Fate(StrEnum):
    DONE = "done"
    FAILED = "failed"  # by an exception
    STOPPED = "stopped"  # by an interrupt, while it ran
    NOT_RUN = "not run"  # not wanted any more, or interrupted before it began
    LOST = "lost"  # its worker died, each time
    SILENT = "silent"  # and killed


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one job."""

    fate: Fate
    value: T | None = None  # of a job that was done
    reason: str = ""  # why it was not; empty if it was not wanted
    reported: Any = None  # what it reported last
    step: int | None = None  # what a lost or silent job was at

    @property
    def known(self) -> Any:
        """The value, or what was reported until it ended; None if that is nothing."""
        return self.value if self.fate is Fate.DONE else self.reported


def why_incomplete(outcomes: Iterable[Outcome[Any]]) -> str:
    """Why these together are not the whole; empty if they are."""
    return "; ".join(sorted({outcome.reason for outcome in outcomes if outcome.reason}))


def perform(job: Job[T], reporter: Reporter) -> Outcome[T]:
    """Run a job in this process."""
    try:
        return Outcome(Fate.DONE, job.function(reporter, *job.arguments))
    except Stopped:
        return Outcome(Fate.STOPPED, reason=INTERRUPTED)
    except job.expected_errors as error:
        return Outcome(Fate.FAILED, reason=str(error))
    except (Exception, SystemExit) as error:
        return failed(error)


def failed(error: BaseException) -> Outcome[Any]:
    """With one line for the reason, and the place."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Outcome(Fate.FAILED, reason=f"the check itself failed: {said}{at}")
