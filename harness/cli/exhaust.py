"""``harness exhaust``: exhausts specs within their bounds, prints the results and saves failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.exit_status import exit_status_of
from harness.cli.report import make_console, plain_table
from harness.corpus.case_file import Case
from harness.corpus.saving import replay_command, save_case
from harness.fleet.budget import Budget
from harness.fleet.interrupts import listening
from harness.scenario.failing_sequence import comments, failing_sequence
from harness.scenario.verdict import Answer
from harness.search.exhaust import Tally
from harness.search.exhaustion import Result, list_parts, run_parts
from harness.spec.loader import LoadedSpec, find_spec_files, load_specs
from harness.spec.plan import SpecError
from harness.spec.spec import Mode

if TYPE_CHECKING:
    from rich.console import Console

_NOTE_SECONDS = 10.0  # between lines that say how far it is


def exhaust_spec(
    argument: str,
    operations_max: int,
    configuration: str | None,
    starts: Sequence[str],
    budget: Budget,
    json_path: Path | None,
    corpus: Path,
) -> int:
    """Exhaust every spec of ``argument`` that has bounds, print the results, and give the exit status."""
    folder = Path.cwd()
    console = make_console()
    loaded = [each for path in find_spec_files([argument], folder) for each in load_specs(path, folder)]
    bounded = [each for each in loaded if each.spec.bounds is not None]
    if not bounded:
        raise SpecError(f"{argument}: no spec with bounds to exhaust")
    all_results: list[tuple[LoadedSpec, Result]] = []
    with listening():  # an interrupt ends the specs that follow, too
        for each in bounded:
            parts = list_parts(each, operations_max, configuration, starts, budget)
            results = run_parts(parts, budget.workers, folder, _note_progress(console, len(parts)))
            print_results(console, each.spec.name, operations_max, results)
            all_results += [(each, result) for result in results]
    paths = [_save(console, each, result, corpus) for each, result in all_results]
    if json_path is not None:
        rows = [_figures(each, result, path) for (each, result), path in zip(all_results, paths, strict=True)]
        json_path.write_text(json.dumps({"operations": operations_max, "results": rows}, indent=2) + "\n", "utf-8")
    return exit_status_of([result.answer for _, result in all_results])


# --- telling ----------------------------------------------------------------------------------------


def _note_progress(console: Console, part_count: int) -> Callable[[int, Tally], None]:
    shown_at = time.monotonic()

    def note(done_count: int, tally: Tally) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _NOTE_SECONDS:
            shown_at = time.monotonic()
            console.print(
                f"{done_count} of {part_count} parts, {tally.programs:,} programs, {tally.states:,} states",
                soft_wrap=True,
            )

    return note


def print_results(console: Console, name: str, operations_max: int, results: Sequence[Result]) -> None:
    """Print the table of results, and the reason for each answer that needs one."""
    console.print(
        f"{name}: programs of up to {operations_max} operations, a crash at every crash point of the last, and after it"
    )
    table = plain_table()
    for column in ("config", "start"):
        table.add_column(column, no_wrap=True)
    for column in ("programs", "schedules", "legal states: k of N", "recovered", "core s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    for result in results:
        table.add_row(*_row(result), style={Answer.VIOLATED: "bold red", Answer.UNKNOWN: "yellow"}.get(result.answer))
    console.print(table)
    for result in results:
        if result.reason:
            where = f"{result.configuration}, {result.start}"
            console.print(f"{result.answer}: {where}: {result.reason}", soft_wrap=True, style="yellow")


def _row(result: Result) -> Iterator[str]:
    tally = result.tally
    yield from (result.configuration, result.start, f"{tally.programs:,}", f"{tally.schedules:,}")
    # A search that stopped early does not know how many states there are.
    is_known = tally.is_complete and result.run is None
    yield f"{tally.states_judged:,} of {f'{tally.states:,}' if is_known else '?'}"
    yield from (f"{tally.recoveries:,}", f"{result.core_seconds:,.1f}", result.answer)


def _save(console: Console, each: LoadedSpec, result: Result, corpus: Path) -> Path | None:
    """Save and print the failure, if there is one."""
    run = result.run
    if run is None or run.violation is None:
        return None
    bounded = each.spec.bounded()
    name = bounded.name
    violation = run.violation
    case = Case(each.path, name, result.configuration, Mode.CRASH, violation.property, violation.place, run.program)
    path = save_case(case, comments(run.events), corpus, bounded)
    shown = failing_sequence(
        run,
        spec=f"{name} ({each.path})",
        mode=Mode.CRASH,
        configuration=f"{result.configuration}, from {result.start}",
        command=replay_command(path),
    )
    console.print()
    console.print(shown, soft_wrap=True)
    return path


def _figures(each: LoadedSpec, result: Result, path: Path | None) -> dict[str, Any]:
    violation = result.run.violation if result.run else None
    return {
        "spec": each.spec.name,
        "configuration": result.configuration,
        "start": result.start,
        "answer": result.answer,
        "reason": result.reason,
        **asdict(result.tally),
        "core_seconds": result.core_seconds,
        "violation": asdict(violation) if violation else None,
        "case": str(path) if path else None,
    }
