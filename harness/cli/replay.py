"""``harness replay``: does a saved failure still fail?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.cases import describe_replay, read_named
from harness.cli.exit_status import exit_status_of_replays
from harness.cli.report import make_console
from harness.corpus.replay import ReplayAnswer, replay

_STYLES = {ReplayAnswer.FIXED: "green", ReplayAnswer.NO_LONGER_APPLIES: "yellow"}


def replay_cases(names: Sequence[str], json_path: Path | None) -> int:
    """Replay each case, print its answer, and give the exit status."""
    cases = [(name, read_named(name)) for name in names]  # all before the first run, so that a bad name shows at once
    console = make_console()
    rows: list[dict[str, Any]] = []
    for name, case in cases:
        replayed = replay(case)
        console.print(
            f"{name}: {describe_replay(replayed)}", style=_STYLES.get(replayed.answer, "bold red"), soft_wrap=True
        )
        rows.append({"case": name, "answer": replayed.answer, "step": replayed.step, "detail": replayed.detail})
    if json_path is not None:
        json_path.write_text(json.dumps({"cases": rows}, indent=2) + "\n", encoding="utf-8")
    return exit_status_of_replays([row["answer"] for row in rows])
