"""Exhaustion in parts, on the toy store: what does not come to its end makes *unknown*, and is said."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.fleet.budget import Budget
from harness.fleet.jobs import INTERRUPTED
from harness.scenario.verdict import Answer
from harness.search.exhaust import Tally
from harness.search.exhaustion import list_parts, run_parts
from harness.spec.loader import LoadedSpec, load_specs
from harness.spec.plan import SpecError

SOURCE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_exhaust import bounded_toy\n"


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> Iterator[None]:
    """Also where SIGINT is ignored, as in a shell's background job."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def toy_in(folder: Path, name: str, source: str = "SPEC = bounded_toy()\n") -> LoadedSpec:
    path = folder / f"{name}_spec.py"
    path.write_text(SOURCE + source)
    (loaded,) = load_specs(path, folder)
    return loaded


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_the_rest_unknown(tmp_path: Path, workers: int) -> None:
    parts = list_parts(toy_in(tmp_path, f"quick{workers}"), 1, "file", ["empty", "one flushed"], Budget(None, workers))

    def interrupt(count: int, tally: Tally) -> None:
        if count == 1:
            signal.raise_signal(signal.SIGTERM)

    results = run_parts(parts, workers, tmp_path, interrupt)
    assert [(each.answer, each.reason) for each in results] == [(Answer.UNKNOWN, INTERRUPTED)] * 2
    assert results[0].tally.programs > 0
    assert not results[0].tally.is_complete


def test_a_part_that_kills_its_worker_is_unknown(tmp_path: Path) -> None:
    deadly = "if multiprocessing.parent_process():\n    os.kill(os.getpid(), 9)\n"
    source = f"import multiprocessing, os\nSPEC = bounded_toy()\n{deadly}"
    parts = list_parts(toy_in(tmp_path, "deadly", source), 0, "file", ["empty"], Budget())
    (result,) = run_parts(parts, 2, tmp_path)
    assert result.answer is Answer.UNKNOWN
    assert result.reason == "the worker was killed by signal 9, SIGKILL, as 2 before it"


KEEPING = """
from dataclasses import replace

def keeping():
    clean = bounded_toy()

    def system(world):
        world.kept.setdefault("list", []).append(1)
        return clean.system(world)

    return replace(clean, system=system)

SPEC = keeping()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_spec_that_shows_itself_unfit_is_refused(tmp_path: Path, workers: int) -> None:
    parts = list_parts(toy_in(tmp_path, f"unfit{workers}", KEEPING), 1, "zoned", ["empty"], Budget())
    with pytest.raises(SpecError, match="list"):
        run_parts(parts, workers, tmp_path)


def test_time_is_shared_among_the_parts(tmp_path: Path) -> None:
    parts = list_parts(toy_in(tmp_path, "shared"), 1, None, ["empty"], Budget(28.0, 2))
    assert len(parts) == 2 * (1 + 6)
    assert {part.seconds for part in parts} == {4.0}
