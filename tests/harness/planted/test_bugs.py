"""A plant counts as caught only if everything that was promised about it held, for every seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.planted.bugs import PlantResult, SeedResult
from harness.planted.plants import Plant, Replacement
from harness.spec.spec import Mode

PLANT = Plant("one", "store", "", "s/s_spec.py", Mode.CRASH, "persistence", 3, (Replacement("s/s.py", "a", "b"),))
GOOD = SeedResult(
    seed=0,
    found=True,
    scenarios=40,
    seconds=2.0,
    operations_found=30,
    operations=3,
    certified=True,
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
        (replace(GOOD, certified=False), "not certified minimal"),
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
