"""The corpus: saved failures in a folder, each distinct failure once.

A failure's file name follows from its signature. A simpler case of the same name replaces one that still fails. A case
that no longer fails guards a fixed bug: it is never overwritten, and the new case gets a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.choices.program import cost
from harness.corpus.case_file import Case, CaseFileError, file_name, format_case, read_case
from harness.corpus.replay import ReplayAnswer, replay
from harness.spec.loader import SpecLoadError


def save_case(case: Case, comments: Mapping[int, str], corpus: Path, folder: Path) -> Path:
    """Write the case into the folder ``corpus``, and give the file that holds this failure at its simplest.

    Specs are loaded from ``folder``.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    copy = 1
    while (path := corpus / file_name(case, copy)).exists():
        existing = _still_failing(path, case, folder)
        if existing is not None and cost(existing.program) <= cost(case.program):
            return path
        if existing is not None:
            break
        copy += 1
    path.write_text(format_case(case, comments), encoding="utf-8")
    return path


def _still_failing(path: Path, case: Case, folder: Path) -> Case | None:
    """The case in this file, if it is the same failure and still fails."""
    try:
        existing = read_case(path)
        if existing.signature == case.signature and replay(existing, folder).answer is ReplayAnswer.STILL_FAILS:
            return existing
    except (CaseFileError, SpecLoadError):
        pass
    return None
