"""What the tests drawn by Hypothesis have in common: settings, a database for each test, statistics, and failures.

Hypothesis is used through its public interface alone. It draws and remembers; shrinking is ours. What the user has set
is kept, but for two phases: *shrink* and *explain*. No deadline and no health check is the default, as for Hypothesis'
own state machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, event, target
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase

from harness.choices.program import Program
from harness.scenario.history import Event, Lost
from harness.scenario.verdict import Answer, Counters, Run
from harness.spec.plan import Plan
from harness.spec.spec import Mode
from harness.testing.violated import PropertyViolatedError, find_project, tell

_DEADLINE_UNSET: Final = timedelta(milliseconds=200)  # what Hypothesis takes if nobody says otherwise
_PHASES_LEFT_OUT: Final = (Phase.shrink, Phase.explain)

DrawBelow = Callable[[str, int], int]
"""``draw_below(label, count)``: an integer below ``count``; the label is for people only."""


class FoundError(AssertionError):
    """A drawn run broke a property."""

    def __init__(self, run: Run) -> None:
        assert run.violation is not None
        super().__init__(f"{run.violation.property} at {run.violation.place}")
        self.run = run


def settings_for(plan: Plan, kind: str, chosen: hypothesis.settings | None) -> hypothesis.settings:
    """Of the settings chosen, or else of the profile that is loaded, what holds for this test."""
    base = chosen or hypothesis.settings()
    database = base.database
    if database is not None:
        database = _OneTest(database, f"{plan.spec.name}/{kind}/{plan.mode}/{plan.configuration.name}")
    is_unset = chosen is None and base.deadline == _DEADLINE_UNSET
    return hypothesis.settings(
        base,
        database=database,
        deadline=None if is_unset else base.deadline,
        verbosity=Verbosity.quiet
        if base.verbosity is Verbosity.normal
        else base.verbosity,  # our sequence says it better
        phases=[phase for phase in base.phases if phase not in _PHASES_LEFT_OUT],
        suppress_health_check=list(HealthCheck) if chosen is None else base.suppress_health_check,
    )


class _OneTest(ExampleDatabase):
    """The examples of one test: Hypothesis names them after the test's source, which all tests made here share."""

    def __init__(self, inner: ExampleDatabase, test: str) -> None:
        super().__init__()
        self._inner = inner
        self._prefix = test.encode() + b"\0"

    def save(self, key: bytes, value: bytes) -> None:
        self._inner.save(self._prefix + key, value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self._inner.fetch(self._prefix + key)

    def delete(self, key: bytes, value: bytes) -> None:
        self._inner.delete(self._prefix + key, value)

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self._inner.move(self._prefix + src, self._prefix + dest, value)


def labelled(data: st.DataObject) -> DrawBelow:
    return lambda name, count: data.draw(st.integers(0, count - 1), label=name)


def note_statistics(plan: Plan, program: Program, history: Sequence[Event], counters: Counters, answer: Answer) -> None:
    """Tell Hypothesis which operations a run had and what came of it, and let it look for many lost writes."""
    for name in sorted({step.operation for step in program.steps}):
        event(f"operation: {name}")
    if plan.mode is not Mode.CONFORMANCE:
        if plan.mode is Mode.CRASH and answer is Answer.NONE_FOUND and not counters.crashes_lossy:
            answer = Answer.UNKNOWN  # no crash was lossy, so the run has tested nothing
        lost = sum(len(each.losses) for each in history if isinstance(each, Lost))
        target(float(lost), label="writes lost")
    event(f"verdict: {answer}")


def run_told(plan: Plan, corpus: Any, drawn: Callable[[], None]) -> None:
    """Run a test; of what it finds, say what the command line says. What Hypothesis adds comes below."""
    __tracebackhide__ = True
    try:
        drawn()
        return
    except FoundError as error:
        found = error
    violated = PropertyViolatedError("\n" + tell(plan, found.run, find_project(plan.spec, corpus)))
    for note in getattr(found, "__notes__", ()):
        violated.add_note(note)
    raise violated from None
