"""Histories: what happened in a run, one typed event after another, and the readable lines that each makes.

Events hold values. Their text is made when somebody reads it, and is never parsed back. Each line begins with the
identity of its step. Lines are a function of the run alone.

    3 put(key=b'a', payload=<130 bytes b'ahovcjqx'...>)
    3 -> pending
    7 crash
    7 polled: 3 put b'a' pending
    7 lost: entry 0 of step 5 (write of 3 pages to medium 0, extent 3 from page 2): pages 2 of it
    7 recovered b'a': None (allowed: None, <130 bytes b'ahovcjqx'...>)
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.scenario.describe import describe
from harness.scenario.violation import Violation
from harness.spec.device import Loss
from harness.world.power import Strike


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a step. `lines` gives its text, without the step."""

    step: int

    def lines(self) -> Iterable[str]:
        raise AssertionError("each kind of event has words of its own")


@dataclass(frozen=True, slots=True)
class Called(Event):
    """An operation was called on the system."""

    operation: str
    arguments: Mapping[str, Any]

    def lines(self) -> Iterable[str]:
        shown = ", ".join(f"{name}={describe(value)}" for name, value in self.arguments.items())
        yield f"{self.operation}({shown})"


@dataclass(frozen=True, slots=True)
class Returned(Event):
    """The call gave a result. ``state`` is that of its dependency, empty if it gave none."""

    result: object
    state: str

    def lines(self) -> Iterable[str]:
        shown = [] if self.state and self.result is None else [describe(self.result)]
        yield f"-> {', '.join([*shown, *([self.state] if self.state else [])])}"


@dataclass(frozen=True, slots=True)
class Raised(Event):
    """The call raised an error that the spec names; an excused error makes the step void."""

    error: str  # as text: an error object would keep alive every frame that led to it
    is_excused: bool

    def lines(self) -> Iterable[str]:
        yield f"-> {self.error}{', excused' if self.is_excused else ''}"


@dataclass(frozen=True, slots=True)
class Meanwhile(Event):
    """Something that another call did, in the middle of the step's own."""

    event: Event

    def lines(self) -> Iterable[str]:
        yield from (f"meanwhile {line}" for line in self.event.lines())


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """The operation was not called, since there was no earlier result that it could refer to."""

    operation: str

    def lines(self) -> Iterable[str]:
        yield f"{self.operation} skipped: no result to refer to"


@dataclass(frozen=True, slots=True)
class Began(Event):
    """The harness began a step of its own: a reboot, a crash, or the run's end."""

    operation: str

    def lines(self) -> Iterable[str]:
        yield self.operation


@dataclass(frozen=True, slots=True)
class PowerFailed(Event):
    """The power failed in the middle of an operation, after ``count`` events (of barriers or resets, one more)."""

    within: str
    strike: Strike
    count: int

    def lines(self) -> Iterable[str]:
        if self.strike is Strike.EVENT:
            after = f"{self.count} device event{'' if self.count == 1 else 's'}"
        else:
            after = f"{self.strike.name.lower()} {self.count + 1}"
        yield f"-> power fails within {self.within}, after {after}"


@dataclass(frozen=True, slots=True)
class Interrupted(Event):
    """An exception from outside arrived in the middle of an operation; ``place`` says where, in words."""

    within: str
    error: str
    place: str

    def lines(self) -> Iterable[str]:
        yield f"-> {self.error} arrives within {self.within}, {self.place}"


@dataclass(frozen=True, slots=True)
class RecoveryCut(Event):
    """Recovery was cut short by the next crash."""

    events_count: int

    def lines(self) -> Iterable[str]:
        yield f"recovery is cut short after {self.events_count} device events"


@dataclass(frozen=True, slots=True)
class Polled(Event):
    """The state of one write's dependency, as the system gave it just before the crash."""

    write_step: int
    operation: str
    key: object
    state: str

    def lines(self) -> Iterable[str]:
        yield f"polled: {self.write_step} {self.operation} {describe(self.key)} {self.state}"


@dataclass(frozen=True, slots=True)
class ProcessDied(Event):
    """Only the process died; the device kept what it had."""

    def lines(self) -> Iterable[str]:
        yield "the process dies, the device goes on"


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The crash took these of the issued writes and resets."""

    losses: Sequence[Loss]

    def lines(self) -> Iterable[str]:
        if not self.losses:
            yield "lost: nothing that was issued"
        for loss in self.losses:
            yield f"lost: {describe_loss(loss)}"


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """One key's outcome after the crash, and the outcomes that were allowed."""

    key: object
    outcome: object
    allowed: Sequence[object]

    def lines(self) -> Iterable[str]:
        options = ", ".join(dict.fromkeys(describe(option) for option in self.allowed))
        yield f"recovered {describe(self.key)}: {describe(self.outcome)} (allowed: {options})"


@dataclass(frozen=True, slots=True)
class ReadLive(Recovered):
    """The same of a key of an interrupted call, read before any crash."""

    def lines(self) -> Iterable[str]:
        yield from (line.replace("recovered", "reads", 1) for line in Recovered.lines(self))


@dataclass(frozen=True, slots=True)
class ContentsEqual(Event):
    """The contents of system and model were compared, and are equal."""

    def lines(self) -> Iterable[str]:
        yield "contents equal"


@dataclass(frozen=True, slots=True)
class Broke(Event):
    """A property was violated, and the run is over."""

    violation: Violation

    def lines(self) -> Iterable[str]:
        violation = self.violation
        yield f"violated {violation.property} at {violation.place}"
        yield f"answered: {violation.answered}"
        yield f"allowed: {violation.allowed}"


@dataclass(frozen=True, slots=True)
class Said(Event):
    """What a medium says of itself; or any event whose values cannot be taken to another process."""

    line: str

    def lines(self) -> Iterable[str]:
        yield self.line


def portable(events: Sequence[Event]) -> tuple[Event, ...]:
    """The same events, such that they can be pickled: as they are if possible, else as text."""
    try:
        pickle.dumps(events)
    except Exception:  # the values' own classes may raise anything
        return tuple(Said(event.step, line) for event in events for line in event.lines())
    return tuple(events)


def lines_of(events: Iterable[Event]) -> tuple[str, ...]:
    """A history as text: one or more lines an event, each of which begins with the step."""
    return tuple(f"{event.step} {line}" for event in events for line in event.lines())


def describe_loss(loss: Loss) -> str:
    entry = loss.entry
    place = f"medium {entry.medium}, extent {entry.extent}"
    if not loss.unit:
        return f"entry {entry.number} of step {entry.step} (reset of {place})"
    what = "all of it" if len(loss.units) == loss.unit_count else f"{loss.unit}s {_ranges(loss.units)}"
    size = f"{loss.unit_count} {loss.unit}{'s' if loss.unit_count > 1 else ''}"
    return f"entry {entry.number} of step {entry.step} (write of {size} to {place} from page {entry.page}): {what}"


def _ranges(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers) + " of it"
