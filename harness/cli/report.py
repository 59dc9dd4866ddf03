"""Reports for people: progress, and tables of checks and of planted bugs.

Everything printed fits 100 columns and reads the same without colour, so that it can be pasted anywhere. On a terminal,
progress is live; elsewhere it is a plain line now and then. Printing decides nothing: every figure comes from verdicts
and counters, and `figures` gives the same ones for machines.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from harness.scenario.failing_sequence import WIDTH_MAX
from harness.scenario.verdict import SHARE_STATES_MAX, Answer, Counters, Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.planted.bugs import PlantResult
    from harness.search.campaign import CheckJob

_PLAIN_SECONDS = 5.0  # between progress lines where there is no terminal
_LIVE_SECONDS = 0.1


def make_console() -> Console:
    """A console of exactly `WIDTH_MAX` columns: a narrower terminal wraps lines, but loses no figures."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # `cli.main` makes an exit status of it; the base class would end the process

    return Piped(highlight=False, emoji=False, markup=False, width=WIDTH_MAX)


def rate(counters: Counters, seconds: float) -> float:
    """Scenarios per second and core; ``seconds`` are core seconds."""
    return counters.scenarios / seconds if seconds > 0 else 0.0


def percent(share: float) -> str:
    """A share in percent that shows whether it is nothing, something or all."""
    in_percent = 100 * share
    if not share or share == 1:
        return f"{in_percent:.0f}"
    if in_percent < 0.1:
        return "<0.1"
    if in_percent > 99:
        return ">99"
    return f"{in_percent:.1f}" if in_percent < 10 else f"{in_percent:.0f}"


def figures(verdict: Verdict) -> dict[str, Any]:
    """Every figure of a verdict and its violation, for ``--json``."""
    violation = verdict.run.violation if verdict.run else None
    return {
        "spec": verdict.spec,
        "mode": verdict.mode,
        "configuration": verdict.configuration,
        "answer": verdict.answer,
        "reason": verdict.reason,
        **verdict.counters.figures(),
        "core_seconds": verdict.seconds,
        "scenarios_per_core_second": rate(verdict.counters, verdict.seconds),
        "seed": verdict.seed,
        "scenario": verdict.scenario,
        "violation": asdict(violation) if violation else None,
    }


class Progress:
    """Shows how far a run of several checks is. It is a context, so that the terminal is always restored."""

    def __init__(self, console: Console, jobs: Sequence[CheckJob]) -> None:
        self._console = console
        self._jobs = jobs
        self._latest: dict[int, tuple[Counters, float]] = {}
        self._shown_at = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, check: int, counters: Counters, seconds: float) -> None:
        self._latest[check] = (counters, seconds)
        now = time.monotonic()
        if now - self._shown_at < (_LIVE_SECONDS if self._live else _PLAIN_SECONDS):
            return
        self._shown_at = now
        if self._live is not None:
            fits = get_terminal_size().columns >= WIDTH_MAX  # a live table that wraps would leave lines behind
            self._live.update(self._table() if fits else self._line())
        else:
            self._console.print(self._line(), soft_wrap=True)

    def _table(self) -> Table:
        rows = [
            (job.spec, job.mode, job.configuration, *_work(*self._latest.get(index, (Counters(), 0.0))), "")
            for index, job in enumerate(self._jobs)
        ]
        return _check_table(rows)

    def _line(self) -> str:
        total, seconds = Counters(), 0.0
        for counters, spent in self._latest.values():
            total.add(counters)
            seconds += spent
        begun = f"{len(self._latest)} of {len(self._jobs)} checks begun"
        return f"{begun}, {total.scenarios:,} scenarios, {rate(total, seconds):,.0f} a second and core"


def _work(counters: Counters, seconds: float) -> tuple[str, ...]:
    counts = (counters.scenarios, counters.crashes, counters.crashes_lossy)
    return (*map(_count, counts), _count(counters.crash_states.estimate()), f"{rate(counters, seconds):,.0f}")


def _count(value: int) -> str:
    return f"{value:,}" if value < 10_000_000 else f"{value / 1e6:,.1f}M"


def _check_table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = plain_table()
    for name in ("spec", "mode", "config"):
        table.add_column(name, no_wrap=True)
    for name in ("scenarios", "crashes", "lossy\nones", "distinct\nstates", "scenarios\n/core s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("answer", no_wrap=True, min_width=1 + max(map(len, Answer)))  # the one word that nobody may miss
    for row in rows:
        table.add_row(*row, style=_STYLES.get(row[-1], ""))
    return table


_STYLES: dict[str, str] = {
    Answer.VIOLATED: "bold red",
    Answer.UNKNOWN: "yellow",
    Answer.HOLDS: "green",
    Answer.NONE_FOUND: "green",
}


def plain_table() -> Table:
    """A table without a frame."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print the final table of a check, and the reason for each answer that is unknown."""
    console.print(
        _check_table(
            (each.spec, each.mode, each.configuration, *_work(each.counters, each.seconds), each.answer)
            for each in verdicts
        )
    )
    total = Counters()
    for each in verdicts:
        total.add(each.counters)
    if total.share_crashes:
        console.print(_share(total), soft_wrap=True)
    if total.cuts:
        console.print(_telling(total), soft_wrap=True)
    for each in verdicts:
        if each.answer is Answer.UNKNOWN:
            where = f"{each.spec}, {each.mode}, {each.configuration}"
            console.print(f"unknown: {where}: {each.reason or 'no reason given'}", soft_wrap=True, style="yellow")


def _share(counters: Counters) -> str:
    """How many of the legal crash states were tried."""
    tried = f"{counters.share_tried:,} of {counters.share_legal:,} legal crash states"
    return f"share: {tried}, at {counters.share_crashes:,} crashes with at most {SHARE_STATES_MAX:,} each"


def _telling(counters: Counters) -> str:
    """How many power cuts could take a part of what was issued, and leave another."""
    share = f"{counters.cuts_telling:,} of {counters.cuts:,} power cuts, {counters.cuts_telling / counters.cuts:.0%}"
    return f"telling: {share}, found writes to two extents or of two pages in the device log"


def print_plants(console: Console, results: Sequence[PlantResult]) -> None:
    """Print the table of planted bugs, and the problems of those that were not caught."""
    table = plain_table()
    table.add_column("plant", no_wrap=True)
    table.add_column("property")
    for name in ("found", "scena-\nrios", "reach-\ned %", "median\ns", "worst\ns", "steps\n/least", "con-\nfirmed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("caught", no_wrap=True, min_width=1 + len("caught"))  # the answer is never cut
    for result in results:
        table.add_row(*_plant_row(result), style=None if result.is_caught else "bold red")
    console.print(table)
    for result in results:
        for problem in result.problems():
            console.print(f"{result.plant.id}: {problem}", soft_wrap=True, style="red")


def _sizes(operations: Sequence[int]) -> str:
    """The smallest and the largest of the programs that failures were shrunk to."""
    return "-".join(str(size) for size in sorted({operations[0], operations[-1]})) if operations else "-"


def _plant_row(result: PlantResult) -> tuple[str, ...]:
    plant = result.plant
    found = sum(seed.found for seed in result.seeds)
    scenarios, median, worst = result.scenarios_median(), result.seconds_median(), result.seconds_worst()
    operations, share = sorted(set(result.operations())), result.reached_share()
    return (
        plant.id,
        plant.property,
        f"{found}/{len(result.seeds)}",
        "-" if scenarios is None else f"{scenarios:,.0f}",
        "-" if share is None else percent(share),
        "-" if median is None else f"{median:.1f}",
        "-" if worst is None else f"{worst:.1f}",
        f"{_sizes(operations)}/{plant.minimum_operations}",
        result.confirmed() or "-",
        "yes" if result.is_caught else "no",
    )
