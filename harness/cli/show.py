"""``harness show``: print a saved failure step by step, as it runs today."""

from __future__ import annotations

from pathlib import Path

from harness.cli.cases import describe_replay, read_named
from harness.cli.exit_status import exit_status_of_replays
from harness.cli.report import make_console
from harness.cli.timeline import timeline
from harness.corpus.replay import replay
from harness.corpus.saving import replay_command, sequence_of


def show_case(name: str, svg_path: Path | None) -> int:
    """Print a case as it runs today, and draw it if asked. If it no longer runs or fails, print its saved text."""
    case = read_named(name)
    console = make_console()
    replayed = replay(case)
    if replayed.run is not None and replayed.run.violation is not None:
        console.print(sequence_of(case, replayed.run, replay_command(Path(name))), soft_wrap=True)
        if svg_path is not None:
            heading = f"{case.name}, {case.mode}, {case.configuration}: {case.property}"
            svg_path.write_text(timeline(replayed.run, heading), encoding="utf-8")
            console.print(f"drawn in {svg_path}", soft_wrap=True)
    else:
        console.print(Path(name).read_text(encoding="utf-8"), soft_wrap=True)
    console.print(f"today: {describe_replay(replayed)}", soft_wrap=True)
    return exit_status_of_replays([replayed.answer])
