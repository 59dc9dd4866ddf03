"""``harness shrink``: make a saved failure minimal."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from harness.choices.program import operation_count
from harness.cli.cases import describe_replay, read_named
from harness.cli.exit_status import EXIT_VIOLATED, Unusable, exit_status_of_replays
from harness.cli.report import make_console
from harness.corpus.case_file import format_case
from harness.corpus.replay import ReplayAnswer, replay
from harness.corpus.saving import replay_command, sequence_of
from harness.scenario.failing_sequence import comments
from harness.shrink.shrink import NotReproducedError, shrink
from harness.spec.loader import find_configuration, load_spec
from harness.spec.plan import compile_plan


def shrink_case(name: str, output: Path | None, seconds_max: float, json_path: Path | None) -> int:
    """Shrink a case, write it back or to ``output``, and give the exit status, as for replaying it.

    After so many seconds, or on Ctrl-C, the best so far is written, and it is said so.
    """
    case = read_named(name)
    console = make_console()
    replayed = replay(case)
    if replayed.answer is not ReplayAnswer.STILL_FAILS or replayed.run is None or replayed.run.violation is None:
        console.print(f"{name}: {describe_replay(replayed)}; nothing to shrink", soft_wrap=True)
        return exit_status_of_replays([replayed.answer])
    each = load_spec(case.spec, case.name, Path.cwd())
    plan = compile_plan(each.spec, find_configuration(each.spec, case.configuration), case.mode)
    try:
        result = shrink(plan, replayed.run.program, replayed.run.violation, seconds_max=seconds_max)
    except NotReproducedError as error:
        raise Unusable(f"{name}: {error}") from error
    smaller = replace(case, program=result.program)
    after = replay(smaller).run or replayed.run
    path = output or Path(name)
    path.write_text(format_case(smaller, comments(after.events)), encoding="utf-8")
    console.print(
        f"{name}: {operation_count(case.program)} to {operation_count(result.program)} operations, "
        f"{result.seconds:.1f} s, {'' if result.one_minimal else 'not shown to be '}1-minimal, "
        f"{f'{result.stopped}, the best so far ' if result.stopped else ''}written to {path}",
        soft_wrap=True,
    )
    for pass_name, counters in result.passes.items():
        console.print(f"  {pass_name:<9} {counters.tried:>7,} tried {counters.improved:>5,} improved")
    console.print(sequence_of(smaller, after, replay_command(path)), soft_wrap=True)
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(result), indent=2, default=dict) + "\n", encoding="utf-8")
    return EXIT_VIOLATED
