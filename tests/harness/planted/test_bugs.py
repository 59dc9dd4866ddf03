"""A plant counts as caught only if everything that was promised about it held, for every seed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from harness.fleet.jobs import INTERRUPTED
from harness.planted.bugs import PlantResult, SeedResult, run_plants
from harness.planted.plants import Plant, Replacement, find_plants
from harness.spec.spec import Mode

PLANT = Plant("one", "store", "", "s/s_spec.py", Mode.CRASH, "persistence", 3, (Replacement("s/s.py", "a", "b"),))
GOOD = SeedResult(
    seed=0,
    found=True,
    scenarios=40,
    seconds=2.0,
    operations_found=30,
    operations=3,
    one_minimal=True,
    shrink_seconds=0.5,
    still_fails_planted=True,
    clean_answer="fixed",
)


def test_caught_is_everything_held() -> None:
    result = PlantResult(PLANT, (GOOD, replace(GOOD, seed=1, seconds=4.0)))
    assert result.problems() == []
    assert result.is_caught
    assert (result.seconds_median(), result.seconds_worst()) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (SeedResult(1, False, 900, 60.0), "not found within the budget by 1 of 2 seeds"),
        (SeedResult(1, False, 900, 60.0, ("recovery",)), "found instead: recovery"),
        (replace(GOOD, operations=4), "shrunk to 4 operations, not 3"),
        (replace(GOOD, operations=2), "shrunk to 2 operations, fewer than the stated minimum of 3"),
        (replace(GOOD, one_minimal=False), "not 1-minimal"),
        (replace(GOOD, still_fails_planted=False), "its case does not replay on the plant"),
        (replace(GOOD, clean_answer="still fails"), "on the clean tree its case answers: still fails"),
    ],
)
def test_one_bad_seed_is_enough_not_to_be_caught(bad: SeedResult, problem: str) -> None:
    result = PlantResult(PLANT, (GOOD, bad))
    assert not result.is_caught
    assert problem in result.problems()


def test_a_plant_that_could_not_be_run_or_had_no_seeds_is_not_caught() -> None:
    assert PlantResult(PLANT, error="plant one: gone").problems() == ["plant one: gone"]
    assert not PlantResult(PLANT).is_caught


# --- interrupts -------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests" / "toys" / "sample"
WAIT_SECONDS = 30.0


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where SIGINT is ignored, as in a shell's background job."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_the_rest_unknown(jobs: int) -> None:
    def interrupt(result: PlantResult) -> None:
        if result.error != INTERRUPTED:
            signal.raise_signal(signal.SIGINT)

    unusable = Plant("none", "store", "", "s/s_spec.py", Mode.CRASH, "persistence", 3, (Replacement("none", "a", "b"),))
    plants = [unusable, *find_plants(SAMPLE / "plants" / "early.toml")]
    results = run_plants(plants, SAMPLE, jobs=jobs, report=interrupt)
    assert [result.is_unknown for result in results] == [False, True]
    assert [result.error == INTERRUPTED for result in results] == [False, True]


# Searches for a property that nothing breaks.
PARENT = """
import signal, sys
from dataclasses import replace
from pathlib import Path
from harness.planted import bugs
from harness.planted.plants import find_plants

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plants = [replace(plant, property="none such") for plant in find_plants(Path("plants/early.toml"))]
    try:
        results = bugs.run_plants(plants, Path.cwd(), seconds=60.0, jobs=int(sys.argv[1]))
        print(*[result.error for result in results])
    except KeyboardInterrupt:
        print("at once")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT)])
def test_no_process_and_no_folder_is_left_behind(
    jobs: str, numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    script, folder = tmp_path / "parent.py", tmp_path / "temporary"
    script.write_text(PARENT)
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), jobs],
        cwd=SAMPLE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: bool(searching(folder)))
    for number in numbers:
        parent.send_signal(number)
    out, _ = parent.communicate(timeout=WAIT_SECONDS)
    assert out == ("at once\n" if len(numbers) > 1 else f"{INTERRUPTED}\n")
    wait_until(lambda: not searching(folder))
    assert list(folder.iterdir()) == []


def searching(folder: Path) -> list[Path]:
    """The processes that work on a planted tree in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.joinpath("cwd").resolve().is_relative_to(folder):
                found.append(process)
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not is_so() and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert is_so()
