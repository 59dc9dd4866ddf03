"""``harness replay``, ``shrink`` and ``show``: what to do with a saved failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cli.main import EXIT_OK, EXIT_UNKNOWN, EXIT_VIOLATED, Unusable
from harness.cli.report import comments, failing_sequence, make_console, replay_command
from harness.corpus.case_file import Case, CaseFileError, format_case, read_case
from harness.corpus.replay import ReplayAnswer, Replayed, replay
from harness.scenario.verdict import Run
from harness.shrink.passes import operation_count
from harness.shrink.shrink import NotReproducedError, shrink
from harness.spec.loader import find_configuration, load_spec

_STYLES = {ReplayAnswer.FIXED: "green", ReplayAnswer.NO_LONGER_APPLIES: "yellow"}


def replay_cases(names: Sequence[str], json_path: Path | None) -> int:
    """Replay each case and say what became of it; gives the exit status."""
    cases = [(name, _read(name)) for name in names]  # all, before any runs: a bad name is seen at once
    console = make_console()
    rows: list[dict[str, Any]] = []
    for name, case in cases:
        replayed = replay(case)
        console.print(f"{name}: {describe(replayed)}", style=_STYLES.get(replayed.answer, "bold red"), soft_wrap=True)
        rows.append({"case": name, "answer": replayed.answer, "step": replayed.step, "detail": replayed.detail})
    if json_path is not None:
        json_path.write_text(json.dumps({"cases": rows}, indent=2) + "\n", encoding="utf-8")
    return exit_status([row["answer"] for row in rows])


def exit_status(answers: Sequence[ReplayAnswer]) -> int:
    if {ReplayAnswer.STILL_FAILS, ReplayAnswer.FAILS_DIFFERENTLY} & set(answers):
        return EXIT_VIOLATED
    return EXIT_UNKNOWN if ReplayAnswer.NO_LONGER_APPLIES in answers else EXIT_OK


def describe(replayed: Replayed) -> str:
    """One line: the answer, the step it showed at, and why."""
    at = f" at step {replayed.step}" if replayed.step is not None else ""
    return f"{replayed.answer}{at}{f': {replayed.detail}' if replayed.detail else ''}"


def shrink_case(name: str, output: Path | None, json_path: Path | None) -> int:
    """Shrink a case and write it back, or to ``output``; gives the exit status."""
    case = _read(name)
    console = make_console()
    replayed = replay(case)
    if replayed.answer is not ReplayAnswer.STILL_FAILS or replayed.run is None or replayed.run.failure is None:
        console.print(f"{name}: {describe(replayed)}; nothing to shrink", soft_wrap=True)
        return exit_status([replayed.answer])
    each = load_spec(case.spec, case.name, Path.cwd())
    configuration = find_configuration(each.spec, case.configuration)
    try:
        result = shrink(each.spec, configuration, case.mode, replayed.run.program, replayed.run.failure)
    except NotReproducedError as error:
        raise Unusable(f"{name}: {error}") from error
    smaller = replace(case, program=result.program)
    after = replay(smaller).run or replayed.run
    path = output or Path(name)
    path.write_text(format_case(smaller, comments(after.history)), encoding="utf-8")
    console.print(
        f"{name}: {operation_count(case.program)} to {operation_count(result.program)} operations, "
        f"{result.seconds:.1f} s, {'' if result.certified else 'not '}certified minimal, written to {path}",
        soft_wrap=True,
    )
    for pass_name, counters in result.passes.items():
        console.print(f"  {pass_name:<9} {counters.tried:>7,} tried {counters.improved:>5,} improved")
    console.print(_sequence(smaller, after, path), soft_wrap=True)
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(result), indent=2, default=dict) + "\n", encoding="utf-8")
    return EXIT_VIOLATED


def show_case(name: str) -> int:
    """Print a case as it runs today; the saved text where it no longer runs or no longer fails."""
    case = _read(name)
    console = make_console()
    replayed = replay(case)
    if replayed.run is not None and replayed.run.failure is not None:
        console.print(_sequence(case, replayed.run, Path(name)), soft_wrap=True)
    else:
        console.print(Path(name).read_text(encoding="utf-8"), soft_wrap=True)
    console.print(f"today: {describe(replayed)}", soft_wrap=True)
    return exit_status([replayed.answer])


def _sequence(case: Case, run: Run, path: Path) -> str:
    return failing_sequence(
        run,
        spec=f"{case.name} ({case.spec})",
        mode=case.mode,
        configuration=case.configuration,
        command=replay_command(path),
        story=case.story,
    )


def _read(name: str) -> Case:
    try:
        return read_case(Path(name))
    except OSError as error:
        raise Unusable(f"{name}: {error.strerror or error}") from error
    except CaseFileError as error:
        raise Unusable(f"{name}: {error}") from error
