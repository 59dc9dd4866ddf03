"""What a run, and a check of many runs, can answer.

A verdict has four values. *Unknown* is never success: a check that could not reach what matters, or gave
up, says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from harness.choices.program import Program
from harness.scenario.distinct import DistinctCount
from harness.scenario.history import Event, lines_of, portable
from harness.scenario.violation import Violation
from harness.spec.spec import Mode

# The share of legal crash states that were tried is told of the first so many crashes that have at most so many states.
SHARE_CRASHES_MAX: Final = 1_000
SHARE_STATES_MAX: Final = 100_000


class Answer(StrEnum):
    VIOLATED = "violated"
    NONE_FOUND = "none found"
    HOLDS = "holds"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Counters:
    """What a run, or many runs together, did."""

    scenarios: int = 0
    operations: int = 0
    reboots: int = 0
    crashes: int = 0
    crashes_lossy: int = 0  # something was persistent, and something that was not is gone
    operations_cut: int = 0  # in whose middle the power failed
    recoveries_cut: int = 0
    excused: int = 0  # operations the system refused for a reason the spec excuses
    skipped: int = 0  # steps with nothing to act on
    crash_states: DistinctCount = field(default_factory=DistinctCount)  # what crashes left on the media
    # Of the first crashes with few enough legal states: how many states there were, and how many were tried.
    share_crashes: int = 0
    share_tried: int = 0
    share_legal: int = 0

    def add(self, other: Counters) -> None:
        for each in fields(self):
            if each.name != "crash_states":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.crash_states.merge(other.crash_states)

    def progress(self) -> tuple[int, int]:
        """Is another one as soon as another step is under way."""
        return self.scenarios, self.operations

    def copy(self) -> Counters:
        """As they are now, whatever is added later."""
        copied = Counters()
        copied.add(self)
        return copied

    def figures(self) -> dict[str, int]:
        """Every number, by name."""
        counted = {each.name: getattr(self, each.name) for each in fields(self)}
        return counted | {"crash_states": self.crash_states.estimate()}


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario, run. ``program`` and ``events`` are empty unless it was recorded or replayed."""

    violation: Violation | None
    counters: Counters
    program: Program = field(default_factory=Program)
    events: tuple[Event, ...] = ()

    def __reduce__(self) -> tuple[type[Run], tuple[object, ...]]:
        """A run goes from process to process, whatever values its events hold."""
        return Run, (self.violation, self.counters, self.program, portable(self.events))

    @property
    def history(self) -> tuple[str, ...]:
        """The events as text, one readable line each or more."""
        return lines_of(self.events)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a check of one spec in one mode under one configuration."""

    spec: str
    mode: Mode
    configuration: str
    answer: Answer
    counters: Counters
    seconds: float
    reason: str = ""  # why unknown, or what was violated
    run: Run | None = None  # the first failing run, recorded, when violated
    seed: int = 0
    scenario: int | None = field(default=None)  # which scenario of the seed failed
