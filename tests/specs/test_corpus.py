"""Saved failures stay fixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.corpus.case_file import read_case
from harness.corpus.replay import ReplayAnswer, replay

ROOT = Path(__file__).parent.parent.parent
CASES = sorted((ROOT / "fuzz_corpus").glob("*.case"))


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_saved_failure_is_fixed(path: Path) -> None:
    replayed = replay(read_case(path), ROOT)
    assert replayed.answer is ReplayAnswer.FIXED, replayed.detail
