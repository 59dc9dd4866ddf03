"""A failing run as a picture, in SVG: a card for each step, from left to right, with the losses of crashes.

    +---------+   +---------+  !  +---------+  !  +------------+
    | 1 put   |-->| 2 sync  |--!->| 3 crash |--!->| violated   |
    | pending |   |         |  !  | lost .. |  !  | read, may  |
    +---------+   +---------+  !  +---------+  !  +------------+

Colours follow the reader's light or dark theme. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as Xml

from harness.choices.program import ENDING
from harness.scenario.history import Began, Broke, Called, Event, Interrupted, Lost, PowerFailed, Recovered
from harness.scenario.verdict import Run
from harness.scenario.violation import Violation

CARD_WIDTH: Final = 248
CARDS_A_ROW_MAX: Final = 4
GAP: Final = 28
LINE_HEIGHT: Final = 17
MARGIN: Final = 16
TEXT_WIDTH: Final = 31  # letters in a line of a card
LINES_MAX: Final = 9

_STYLE: Final = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #24292f; }
.title { font-weight: bold; }
.card { fill: #f6f8fa; stroke: #8c959f; }
.crash { fill: #fff1e5; stroke: #bc4c00; }
.broken { fill: #ffebe9; stroke: #cf222e; }
.bad { fill: #cf222e; }
.arrow { stroke: #8c959f; fill: none; marker-end: url(#tip); }
.tip { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .card { fill: #161b22; stroke: #6e7681; }
  .crash { fill: #2f1e10; stroke: #f0883e; }
  .broken { fill: #2d1214; stroke: #f85149; }
  .bad { fill: #ff7b72; }
}
"""


@dataclass(frozen=True, slots=True)
class Card:
    """One box: a title and lines, some of which are bad news."""

    kind: str  # "card", "crash" or "broken"
    title: str
    lines: tuple[tuple[str, bool], ...]  # text, whether it is bad news


def timeline(run: Run, heading: str) -> str:
    """The picture of a run that failed, as SVG text. Raises `ValueError` if it did not fail."""
    if run.violation is None:
        raise ValueError("the run did not fail")
    cards = [*_cards(run.events), _broken(run.violation)]
    rows = [cards[first : first + CARDS_A_ROW_MAX] for first in range(0, len(cards), CARDS_A_ROW_MAX)]
    width = 2 * MARGIN + max(len(row) for row in rows) * (CARD_WIDTH + GAP) - GAP
    root = _root(width, heading)
    y = MARGIN + 2 * LINE_HEIGHT
    for number, row in enumerate(rows):
        _draw_row(root, row, y, is_last=number == len(rows) - 1)
        y += max(map(_height, row)) + GAP
    root.set("viewBox", f"0 0 {width} {y}")
    return Xml.tostring(root, encoding="unicode") + "\n"


# --- from events to cards -----------------------------------------------------------------------------


def _cards(events: Sequence[Event]) -> list[Card]:
    by_step: dict[int, list[Event]] = {}
    for event in events:
        if not isinstance(event, Broke):
            by_step.setdefault(event.step, []).append(event)
    return [_card(step, each) for step, each in by_step.items()]


def _card(step: int, events: Sequence[Event]) -> Card:
    is_crash = any(isinstance(event, Lost | PowerFailed | Interrupted) for event in events)
    began = [event.operation for event in events if isinstance(event, Began | Called)]
    title = began[-1] if began and is_crash else began[0] if began else ""
    title = "shutdown, reopened" if title == ENDING else title
    lines = [(line, _is_bad(event)) for event in events if not _is_title(event, title) for line in event.lines()]
    return Card("crash" if is_crash else "card", f"{step}  {title}", _wrapped(lines))


def _is_title(event: Event, title: str) -> bool:
    return isinstance(event, Began) and event.operation in (title, ENDING)


def _is_bad(event: Event) -> bool:
    if isinstance(event, Recovered):
        return event.outcome not in event.allowed
    return isinstance(event, Lost) and bool(event.losses)


def _broken(violation: Violation) -> Card:
    lines = [(f"at {violation.place}", False), (f"answered: {violation.answered}", True)]
    lines.append((f"allowed: {violation.allowed}", False))
    return Card("broken", f"{violation.property} violated", _wrapped(lines))


def _wrapped(lines: Sequence[tuple[str, bool]]) -> tuple[tuple[str, bool], ...]:
    found = [(part, is_bad) for text, is_bad in lines for part in textwrap.wrap(text, TEXT_WIDTH)]
    if len(found) <= LINES_MAX:
        return tuple(found)
    # Where there is no room for all lines, show the bad news first of all.
    shown = sorted(range(len(found)), key=lambda at: (not found[at][1], at))[: LINES_MAX - 1]
    return (*(found[at] for at in sorted(shown)), (f"... {len(found) - len(shown)} lines more", False))


# --- drawing ------------------------------------------------------------------------------------------


def _root(width: int, heading: str) -> Xml.Element:
    root = Xml.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "width": str(width)})
    Xml.SubElement(root, "title").text = heading
    Xml.SubElement(root, "style").text = _STYLE
    definitions = Xml.SubElement(root, "defs")
    tip = {"id": "tip", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "8", "markerHeight": "8"}
    Xml.SubElement(Xml.SubElement(definitions, "marker", tip), "path", {"d": "M0 0L8 4L0 8z", "class": "tip"})
    _text(root, MARGIN, MARGIN + LINE_HEIGHT - 4, heading, "title")
    return root


def _draw_row(root: Xml.Element, row: Sequence[Card], y: int, *, is_last: bool) -> None:
    for place, card in enumerate(row):
        x = MARGIN + place * (CARD_WIDTH + GAP)
        _draw_card(root, card, x, y)
        if place < len(row) - 1 or not is_last:
            across = y + LINE_HEIGHT
            path = f"M{x + CARD_WIDTH} {across}H{x + CARD_WIDTH + GAP}"
            Xml.SubElement(root, "path", {"d": path, "class": "arrow"})


def _draw_card(root: Xml.Element, card: Card, x: int, y: int) -> None:
    size = {"width": str(CARD_WIDTH), "height": str(_height(card))}
    Xml.SubElement(root, "rect", {"x": str(x), "y": str(y), "rx": "6", "class": card.kind, **size})
    _text(root, x + 10, y + LINE_HEIGHT + 2, card.title, "title")
    for number, (line, is_bad) in enumerate(card.lines, start=2):
        _text(root, x + 10, y + number * LINE_HEIGHT + 4, line, "bad" if is_bad else "")


def _height(card: Card) -> int:
    return (len(card.lines) + 2) * LINE_HEIGHT


def _text(root: Xml.Element, x: int, y: int, text: str, kind: str) -> None:
    Xml.SubElement(root, "text", {"x": str(x), "y": str(y), **({"class": kind} if kind else {})}).text = text
