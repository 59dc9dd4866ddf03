"""The tables of what checks have reached: rare events, and knobs. Within 80 columns, but for what is folded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.cli.report import percent, plain_table
from harness.scenario.verdict import Counters, Verdict
from harness.spec.spec import Knob, Spec

if TYPE_CHECKING:
    from rich.console import Console

_NEVER = "bold yellow"


class Reached(NamedTuple):
    """A spec, and what all of its checks have counted."""

    spec: Spec
    counters: Counters


def reached_by(spec: Spec, verdicts: Sequence[Verdict]) -> Reached:
    total = Counters()
    for verdict in verdicts:
        total.add(verdict.counters)
    return Reached(spec, total)


def print_reached(console: Console, reached: Sequence[Reached]) -> None:
    """Print both tables, each unless it has no rows."""
    if any(each.spec.events for each in reached):
        _print_events(console, reached)
    if any(each.counters.knobs for each in reached):
        _print_knobs(console, reached)


def _print_events(console: Console, reached: Sequence[Reached]) -> None:
    table = plain_table()
    table.add_column("rare event")
    for name in ("scenarios", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("never in", max_width=24)
    reasons: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(event.name for each in reached for event in each.spec.events):
        having = [(each, why) for each in reached if (why := _why_not(each.spec, name)) is not None]
        count = sum(each.counters.events.get(name, 0) for each, _ in having)
        total = sum(each.counters.scenarios for each, _ in having)
        without = [(each.spec.name, why) for each, why in having if not each.counters.events.get(name, 0)]
        missing = [spec for spec, why in without if not why]
        for spec, why in without:
            if why:
                reasons.setdefault((spec, why), []).append(name)
        style = _NEVER if missing and not count else ""
        table.add_row(name, f"{count:,}", _percent(count, total), ", ".join(missing), style=style)
    console.print()
    console.print(table)
    for (spec, why), names in reasons.items():
        console.print(f"not in {spec}, since {why}: {', '.join(names)}", soft_wrap=True)


def _why_not(spec: Spec, name: str) -> str | None:
    """Why the spec cannot have the event, empty if it can; None if it does not name it."""
    return next((event.because for event in spec.events if event.name == name), None)


def _print_knobs(console: Console, reached: Sequence[Reached]) -> None:
    table = plain_table()
    table.add_column("knob", no_wrap=True)
    table.add_column("values drawn, in % of scenarios", max_width=30)
    table.add_column("crossed at", max_width=24)
    for knob in _knobs(reached):
        having = [each for each in reached if (knob.name, 0) in each.counters.knobs]
        drawn = [sum(each.counters.knobs.get((knob.name, place), 0) for each in having) for place in _places(knob)]
        values = [f"{knob.values[place]}: {_percent(drawn[place], sum(drawn))}" for place in _places(knob)]
        crossed = sum(each.counters.events.get(knob.crossed, 0) for each in having)
        told = f"{knob.crossed}: {crossed:,}" if knob.crossed else ""
        is_missed = not all(drawn) or (knob.crossed and not crossed)
        table.add_row(knob.name, "  ".join(values), told, style=_NEVER if is_missed else "")
    console.print()
    console.print(table)


def _places(knob: Knob) -> range:
    return range(len(knob.values))


def _knobs(reached: Sequence[Reached]) -> list[Knob]:
    """Every knob once."""
    configurations = [configuration for each in reached for configuration in each.spec.configurations]
    return list({knob.name: knob for each in configurations for knob in each.knobs}.values())


def _percent(count: int, total: int) -> str:
    return percent(count / total if total else 0.0)
