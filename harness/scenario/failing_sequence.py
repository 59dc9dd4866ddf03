"""The failing sequence: a failing run as text for people, with its steps, the violation, and how to see it again.

Everything fits `WIDTH_MAX` columns and reads the same without colour, so that it can be pasted anywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from harness.choices.program import ENDING, operation_count
from harness.scenario.history import Began, Broke, Event
from harness.scenario.verdict import Run
from harness.scenario.violation import Violation
from harness.spec.spec import Mode

WIDTH_MAX = 100

MEANINGS = {
    "conformance": "system and model give equal results and contents",
    "persistence": "after a crash each key reads as its last persistent operation left it, or a later one",
    "promise": "what a call has promised is persistent, or has failed, once it has returned",
    "interrupt": "after an exception from outside a call is whole or absent, reads go on, and no shutdown lies",
    "forward progress": "after clean shutdown every dependency is persistent, unless it failed",
    "recovery": "what a crash or a shutdown leaves can be opened again",
    "invariant": "what the spec says must hold after every step",
    "device": "the store uses its device as the device allows",
    "no progress": "every call returns, within a bound of device steps, waits or seconds",
    "deadlock": "every wait ends: some pending work can satisfy it",
    "lock misuse": "locks are taken once, held when waited on, and given back by their holder",
    "unexpected error": "only the errors that the spec names come out of the system",
}


def failing_sequence(
    run: Run,
    *,
    spec: str,
    mode: Mode,
    configuration: str,
    one_minimal: bool | None = None,
    command: str = "",
    story: str = "",
) -> str:
    """A failing run as plain text. Raises `ValueError` if the run did not fail.

    ``one_minimal`` is None if it was not shrunk. ``command`` shows it again. ``story`` explains.
    """
    violation = run.violation
    if violation is None:
        raise ValueError("the run did not fail")
    lines = [f"{violation.property} violated: {spec}, {mode}, {configuration}"]
    lines += _wrapped(MEANINGS.get(violation.property, "a property of the spec's own"), "  ")
    lines += _wrapped(story, "  ") if story else []
    lines += ["", *_history(run), "", *_outcome(violation), ""]
    lines += _wrapped(_minimality(run, one_minimal), "  ")
    if command:
        lines += ["", f"  {command}"]
    return "\n".join(lines) + "\n"


def _minimality(run: Run, one_minimal: bool | None) -> str:
    count = operation_count(run.program)
    size = f"{count} operation{'s' if count != 1 else ''}"
    if one_minimal is None:
        return f"{size}."
    if one_minimal:
        smaller = "without any one of them, or with one choice zero or one less"
        return f"{size}, 1-minimal: {smaller}, this does not fail."
    return f"{size}, not shown to be 1-minimal: the search for a shorter sequence was not completed."


def _history(run: Run) -> list[str]:
    """Each step's call behind its number, and below it the events that followed."""
    lines: list[str] = []
    at: int | None = None
    for identity, text in _words(run.events):
        lines += _wrapped(text, "          " if identity == at else f"{identity:>5}  ")
        at = identity
    return lines


def _words(events: Sequence[Event]) -> Iterator[tuple[int, str]]:
    """Each event's lines with its step, without the violation, which `_outcome` tells."""
    for event in events:
        if isinstance(event, Began) and event.operation == ENDING:
            yield event.step, "clean shutdown, then opened again"
        elif not isinstance(event, Broke):
            yield from ((event.step, line) for line in event.lines())


def comments(events: Sequence[Event]) -> dict[int, str]:
    """A one-line account of every step, for a case file: its call and its answer."""
    found: dict[int, list[str]] = {}
    for identity, text in _words(events):
        found.setdefault(identity, []).append(text)
    return {identity: "; ".join(texts).replace("; ->", " ->") for identity, texts in found.items()}


def _outcome(violation: Violation) -> list[str]:
    rows = [("broken at", f"step {violation.step}, {violation.operation} ({violation.place})")]
    if violation.answered:
        rows.append(("system answered", violation.answered))
    if violation.allowed:
        rows.append(("model allows", violation.allowed))
    return [line for name, text in rows for line in _wrapped(text, f"  {name:<17}")]


def _wrapped(text: str, first: str) -> list[str]:
    """Lines of at most `WIDTH_MAX`, the first led by ``first``, the others indented as deep."""
    return textwrap.wrap(
        text, WIDTH_MAX, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    ) or [first.rstrip()]
