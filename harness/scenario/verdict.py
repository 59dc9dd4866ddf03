"""Verdicts: the answers of a run, and of a check of many runs.

An answer has four values. *Unknown* is never success: it is the answer of a check that gave up, or that never reached a
state that matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from harness.choices.program import Program
from harness.scenario.distinct import DistinctCount
from harness.scenario.history import Event, lines_of, portable
from harness.scenario.violation import Violation
from harness.spec.spec import Mode
from harness.world.faults import Site

# The share of legal crash states that were tried is counted for so many crashes with at most so many states each.
SHARE_CRASHES_MAX: Final = 1_000
SHARE_STATES_MAX: Final = 100_000


_REFUSED: Final = {
    Site.READ: "reads_refused",
    Site.WRITE: "writes_refused",
    Site.RESET: "resets_refused",
    Site.BARRIER: "barriers_refused",
}


class Answer(StrEnum):
    """The answer of a check; see `Verdict`."""

    VIOLATED = "violated"
    NONE_FOUND = "none found"
    HOLDS = "holds"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Counters:
    """Counts of what one run did, or many runs together."""

    scenarios: int = 0
    operations: int = 0
    reboots: int = 0
    crashes: int = 0
    crashes_lossy: int = 0  # at which something was persistent, and something else was lost: only these test anything
    operations_cut: int = 0  # interrupted by the failing power
    interrupts: int = 0  # exceptions from outside that arrived in an operation
    overlapped: int = 0  # calls in the middle of others
    recoveries_cut: int = 0
    excused: int = 0  # operations that the system refused with an error which the spec excuses
    reads_refused: int = 0  # by a fault; so are the following
    writes_refused: int = 0
    resets_refused: int = 0
    barriers_refused: int = 0
    asides: int = 0  # crash states that were judged beside a run that went on
    skipped: int = 0  # steps with nothing to act on
    crash_states: DistinctCount = field(default_factory=DistinctCount)  # contents of the media after crashes
    # Of the first crashes with few enough legal states: how many states there were, and how many were tried.
    share_crashes: int = 0
    share_tried: int = 0
    share_legal: int = 0
    # Power cuts, asides included, and those at which the device log held writes to two extents or of two pages.
    cuts: int = 0
    cuts_telling: int = 0
    events: dict[str, int] = field(default_factory=dict)  # scenarios that had each of the spec's rare events
    knobs: dict[tuple[str, int], int] = field(default_factory=dict)  # scenarios with this knob at this place

    def add(self, other: Counters) -> None:
        """Add everything that the other has counted."""
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, DistinctCount):
                mine.merge(others)
            elif isinstance(mine, dict):
                for name, count in others.items():
                    mine[name] = mine.get(name, 0) + count
            else:
                setattr(self, each.name, mine + others)

    def note_refusal(self, site: Site) -> None:
        """Count a call of the device that a fault has refused."""
        name = _REFUSED[site]
        setattr(self, name, getattr(self, name) + 1)

    def refused(self, site: Site) -> int:
        """How many calls of this kind faults have refused."""
        count: int = getattr(self, _REFUSED[site])
        return count

    def progress(self) -> tuple[int, int]:
        """Is another one as soon as another step is under way."""
        return self.scenarios, self.operations

    def copy(self) -> Counters:
        """A copy that does not change when more is added to these."""
        copied = Counters()
        copied.add(self)
        return copied

    def figures(self) -> dict[str, Any]:
        """Every number, by name; of a knob, the scenarios with each of its values in turn."""
        counted = {each.name: getattr(self, each.name) for each in fields(self)}
        places: dict[str, dict[int, int]] = {}
        for (knob, place), count in sorted(self.knobs.items()):
            places.setdefault(knob, {})[place] = count
        knobs = {knob: [drawn.get(place, 0) for place in range(1 + max(drawn))] for knob, drawn in places.items()}
        return counted | {"crash_states": self.crash_states.estimate(), "knobs": knobs}


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario that was run. ``program`` and ``events`` are empty unless it was recorded or replayed."""

    violation: Violation | None
    counters: Counters
    program: Program = field(default_factory=Program)
    events: tuple[Event, ...] = ()

    def __reduce__(self) -> tuple[type[Run], tuple[object, ...]]:
        """Make a run such that it can go from process to process, whatever values its events hold."""
        return Run, (self.violation, self.counters, self.program, portable(self.events))

    @property
    def history(self) -> tuple[str, ...]:
        """The events as text, one or more lines each."""
        return lines_of(self.events)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a check of one spec in one mode under one configuration.

    *Violated*: a scenario failed. *None found*: none failed, which proves nothing. *Holds*: everything within the
    bounds was tried. *Unknown*: see ``reason``.
    """

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
