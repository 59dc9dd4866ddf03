"""The corpus: saved failures in a folder, each distinct failure once.

A failure's file name follows from its signature. A simpler case of the same name replaces one that still fails. A case
that no longer fails guards a fixed bug: it is never overwritten, and the new case gets a number.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from harness.choices.program import cost
from harness.corpus.case_file import Case, CaseFileError, file_name, format_case, read_case
from harness.corpus.replay import ReplayAnswer, Replayed, replay_on
from harness.scenario.failing_sequence import failing_sequence
from harness.scenario.verdict import Run
from harness.spec.spec import Spec

CORPUS_DEFAULT: Final = Path("fuzz_corpus")  # relative to the project


class Saved(NamedTuple):
    """A case in the corpus that still fails, as it ran."""

    path: Path
    case: Case
    replayed: Replayed


def save_case(case: Case, comments: Mapping[int, str], corpus: Path, spec: Spec) -> Path:
    """Write the case into the folder ``corpus``, and give the file that holds this failure at its simplest.

    What is there already is replayed on ``spec``. A file is written whole or not at all.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    for path in _files_of(case, corpus):
        saved = _still_failing(path, case, spec)
        if saved is not None and cost(saved.case.program) <= cost(case.program):
            return path
        if saved is not None or not path.exists():
            break
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(format_case(case, comments), encoding="utf-8")
    unfinished.replace(path)
    return path


def find_saved(case: Case, corpus: Path, spec: Spec) -> Saved | None:
    """The same failure, if the corpus has it, it still fails on ``spec``, and it is at least as simple."""
    for path in _files_of(case, corpus):
        if not path.exists():
            return None
        saved = _still_failing(path, case, spec)
        if saved is not None:
            return saved if cost(saved.case.program) <= cost(case.program) else None
    raise AssertionError("the names of files do not end")


def sequence_of(case: Case, run: Run, command: str) -> str:
    """The failing sequence of a saved case, as it ran, with the command that replays it."""
    return failing_sequence(
        run,
        spec=f"{case.name} ({case.spec})",
        mode=case.mode,
        configuration=case.configuration,
        command=command,
        story=case.story,
    )


def replay_command(path: Path) -> str:
    """The exact command that replays a case from the current folder."""
    return f"harness replay {shlex.quote(str(path))}"


def _files_of(case: Case, corpus: Path) -> Iterator[Path]:
    """The files that may hold this failure, in order, without end."""
    copy = 1
    while True:
        yield corpus / file_name(case, copy)
        copy += 1


def _still_failing(path: Path, case: Case, spec: Spec) -> Saved | None:
    """The case in this file, if it is the same failure and still fails."""
    try:
        existing = read_case(path)
    except (CaseFileError, FileNotFoundError):
        return None
    if (existing.name, existing.signature) != (case.name, case.signature):
        return None
    replayed = replay_on(spec, existing)
    return Saved(path, existing, replayed) if replayed.answer is ReplayAnswer.STILL_FAILS else None
