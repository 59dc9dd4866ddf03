"""``harness exhaust``: the parts of an exhaustion run side by side, merged, told and saved.

The answer for a configuration and a start is *violated*, *holds* (every legal state was judged), *none found* (time ran
out, and nothing failed until then) or *unknown* (nothing was judged, or a violation did not show again).
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.choices.lanes import INTERRUPTS
from harness.choices.program import Program
from harness.cli.exit_status import exit_status_of
from harness.cli.report import make_console, plain_table, replay_command
from harness.corpus.case_file import Case
from harness.corpus.saving import save_case
from harness.scenario.failing_sequence import comments, failing_sequence
from harness.scenario.verdict import Answer, Run
from harness.search.exhaust import Exhausted, Tally, alphabet, exhaust, parse_start, recoveries_of
from harness.search.recoveries import Recoveries
from harness.spec.loader import LoadedSpec, find_configuration, find_spec_files, load_spec, load_specs
from harness.spec.plan import SpecError
from harness.spec.spec import Configuration, Mode

if TYPE_CHECKING:
    from rich.console import Console

_NOTE_SECONDS = 10.0  # between lines that say how far it is


@dataclass(frozen=True, slots=True)
class Part:
    """The programs of one start that begin with one call; the start by itself if there is no call."""

    path: str
    spec: str
    configuration: str
    start: str
    operations_max: int
    first_call: int | None
    seconds: float | None  # for it alone; None: as long as it takes

    @property
    def place(self) -> tuple[str, str]:
        return self.configuration, self.start


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one start under one configuration."""

    configuration: str
    start: str
    answer: Answer
    tally: Tally
    core_seconds: float
    run: Run | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    part: Part
    exhausted: Exhausted
    seconds: float


def exhaust_spec(
    argument: str,
    operations_max: int,
    configuration: str | None,
    starts: Sequence[str],
    seconds: float | None,
    jobs: int,
    json_path: Path | None,
    corpus: Path,
) -> int:
    """Exhaust every spec that the argument names and that has bounds; gives the exit status."""
    folder = Path.cwd()
    console = make_console()
    loaded = [each for path in find_spec_files([argument], folder) for each in load_specs(path, folder)]
    bounded = [each for each in loaded if each.spec.bounds is not None]
    if not bounded:
        raise SpecError(f"{argument}: no spec with bounds to exhaust")
    all_results: list[tuple[LoadedSpec, Result]] = []
    for each in bounded:
        parts = _parts(each, operations_max, configuration, starts, seconds, jobs)
        results = _merge(run_parts(parts, jobs, folder, _note_progress(console, len(parts))))
        print_results(console, each.spec.name, operations_max, results)
        all_results += [(each, result) for result in results]
    paths = [_save(console, each, result, corpus, folder) for each, result in all_results]
    if json_path is not None:
        rows = [_figures(each, result, path) for (each, result), path in zip(all_results, paths, strict=True)]
        json_path.write_text(json.dumps({"operations": operations_max, "results": rows}, indent=2) + "\n", "utf-8")
    return exit_status_of([result.answer for _, result in all_results])


def _parts(
    each: LoadedSpec,
    operations_max: int,
    configuration: str | None,
    starts: Sequence[str],
    seconds: float | None,
    jobs: int,
) -> list[Part]:
    spec = each.spec
    assert spec.bounds is not None
    for start in starts:
        if start not in spec.bounds.starts:
            raise SpecError(f"spec {spec.name!r} has no start {start!r}; it has: {', '.join(spec.bounds.starts)}")
    chosen = [find_configuration(spec, configuration)] if configuration else list(spec.configurations)
    for start in starts or spec.bounds.starts:
        parse_start(spec, start)
    # The start by itself, and then by its first call what begins with one.
    firsts = [(0, None), *((operations_max, call) for call in range(len(alphabet(spec, chosen[0]))) if operations_max)]
    combinations = [
        (setting.name, start, depth, first)
        for setting in chosen
        for start in starts or spec.bounds.starts
        for depth, first in firsts
    ]
    share = None if seconds is None else seconds * jobs / len(combinations)
    return [
        Part(each.path, spec.name, setting, start, depth, first, share) for setting, start, depth, first in combinations
    ]


def run_parts(parts: Sequence[Part], jobs: int, folder: Path, note: Callable[[int, Tally], None]) -> list[Done]:
    """All parts, in their order; of what is violated already, those not begun are left out.

    So are, after Ctrl-C, all that were not begun, and what they are of is not complete.
    """
    if jobs <= 1:
        return _run_here(parts, folder)
    context = multiprocessing.get_context("spawn")
    total = Tally()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts) as pool:
        futures = {pool.submit(run_part, part, folder): part for part in parts}
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                if not future.cancelled():
                    done = future.result()
                    total.add(done.exhausted.tally)
                    if done.exhausted.run is not None:
                        _cancel([each for each, part in futures.items() if part.place == done.part.place])
                note(count, total)
        except KeyboardInterrupt:
            pool.shutdown(wait=True, cancel_futures=True)
    return [_done(future, part) for future, part in futures.items()]


def _run_here(parts: Sequence[Part], folder: Path) -> list[Done]:
    violated: set[tuple[str, str]] = set()
    found = []
    for part in parts:
        done = _left_out(part) if part.place in violated else run_part(part, folder)
        if done.exhausted.run is not None:
            violated.add(part.place)
        found.append(done)
    return found


def _left_out(part: Part) -> Done:
    return Done(part, Exhausted(Tally(is_complete=False)), 0.0)


def _cancel(futures: Sequence[Future[Done]]) -> None:
    for future in futures:
        future.cancel()


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _done(future: Future[Done], part: Part) -> Done:
    return _left_out(part) if future.cancelled() else future.result()


def run_part(part: Part, folder: Path) -> Done:
    """One part, in this process. A violation is looked for once more among shorter programs."""
    each, setting, recoveries = _loaded(part.path, part.spec, part.configuration, part.start, folder)
    started = time.perf_counter()
    deadline = None if part.seconds is None else started + part.seconds
    found = exhaust(
        each.spec,
        setting,
        part.start,
        part.operations_max,
        first_call=part.first_call,
        deadline=deadline,
        recoveries=recoveries,
    )
    if found.run is not None:
        found = Exhausted(found.tally, _shortest(each, setting, part, found.run, deadline))
    return Done(part, found, time.perf_counter() - started)


@lru_cache(maxsize=1)  # parts come in order: what other starts have left on the media is seldom seen again
def _loaded(
    path: str, name: str, configuration: str, start: str, folder: Path
) -> tuple[LoadedSpec, Configuration, Recoveries]:
    """What the parts of one place have in common, for those that this process is given."""
    each = load_spec(path, name, folder)
    setting = find_configuration(each.spec, configuration)
    return each, setting, recoveries_of(each.spec, setting)


def _shortest(each: LoadedSpec, setting: Configuration, part: Part, run: Run, deadline: float | None) -> Run:
    """A failing run of the fewest operations after the start, if there is time to look for it."""
    start = parse_start(each.spec, part.start)
    first = start.steps[-1].identity if start.steps else 0
    for operations_count in range(_operations_after(run.program, first)):
        shorter = exhaust(each.spec, setting, part.start, operations_count, deadline=deadline)
        if shorter.run is not None:
            return shorter.run
    return run


def _operations_after(program: Program, first: int) -> int:
    """Operations behind the start; the crash, and the draining it comes in, are none."""
    return sum(
        step.operation not in ("crash", "write_back") or step.choices.get(INTERRUPTS, 0) > 1
        for step in program.steps
        if step.identity > first
    )


def _merge(parts: Sequence[Done]) -> list[Result]:
    places = dict.fromkeys(done.part.place for done in parts)
    return [_result(*place, [done for done in parts if done.part.place == place]) for place in places]


def _result(configuration: str, start: str, parts: Sequence[Done]) -> Result:
    tally, core_seconds = Tally(), 0.0
    for done in parts:
        tally.add(done.exhausted.tally)
        core_seconds += done.seconds
    runs = [done.exhausted.run for done in parts if done.exhausted.run is not None]
    troubles = [done.exhausted.trouble for done in parts if done.exhausted.trouble]
    if runs:
        shortest = min(runs, key=lambda run: len(run.program.steps))
        return Result(configuration, start, Answer.VIOLATED, tally, core_seconds, shortest)
    if troubles or not tally.states:
        reason = troubles[0] if troubles else "nothing was judged"
        return Result(configuration, start, Answer.UNKNOWN, tally, core_seconds, reason=reason)
    is_exhausted = tally.is_complete and tally.states_judged == tally.states
    answer = Answer.HOLDS if is_exhausted else Answer.NONE_FOUND
    return Result(configuration, start, answer, tally, core_seconds)


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
    """The table, and why anything in it is unknown."""
    console.print(
        f"{name}: programs of up to {operations_max} operations, a crash at every moment of the last and after it"
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
    # Where it was broken off nobody knows how many there are.
    is_known = tally.is_complete and result.run is None
    yield f"{tally.states_judged:,} of {f'{tally.states:,}' if is_known else '?'}"
    yield from (f"{tally.recoveries:,}", f"{result.core_seconds:,.1f}", result.answer)


def _save(console: Console, each: LoadedSpec, result: Result, corpus: Path, folder: Path) -> Path | None:
    """Save and print the failure, if there is one."""
    run = result.run
    if run is None or run.violation is None:
        return None
    name = each.spec.bounded().name
    violation = run.violation
    case = Case(each.path, name, result.configuration, Mode.CRASH, violation.property, violation.place, run.program)
    path = save_case(case, comments(run.events), corpus, folder)
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
