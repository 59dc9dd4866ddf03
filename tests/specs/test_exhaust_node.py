"""The node, exhausted: it holds, nothing is lost by leaving things out, and planted bugs are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from harness.planted.plants import find_plants, plant_tree
from harness.search.exhaust import exhaust, recoveries_of
from harness.search.observation import Observation
from harness.search.recoveries import Recoveries
from harness.spec.loader import find_configuration
from harness.spec.spec import Key
from harness.world.legal_images import Image
from shardstore.node_spec import SPEC

ROOT = Path(__file__).parent.parent.parent
PLANTED = ROOT / "tests" / "planted"

assert SPEC.bounds is not None
STARTS = tuple(SPEC.bounds.starts)


# Of the start that is left out a file has 73,550 states with one operation. `harness exhaust` walks it in the night.
SHORT = {("zoned", start) for start in ("empty", "just reset", "dead tail")} | {("file", "just reset")}
EVERY_START = [
    pytest.param(name, start, marks=[] if (name, start) in SHORT else [pytest.mark.nightly])
    for name in ("zoned", "file")
    for start in STARTS
    if (name, start) != ("file", "extent half dead")
]


@pytest.mark.parametrize(("configuration", "start"), EVERY_START)
def test_every_crash_state_of_every_single_operation_is_legal(configuration: str, start: str) -> None:
    done = exhaust(SPEC, find_configuration(SPEC, configuration), start, 1)
    assert done.run is None, done.run
    assert not done.trouble
    assert done.tally.is_complete
    assert done.tally.states_judged == done.tally.states > 100


@pytest.mark.parametrize("start", ["just reset"])
def test_merging_schedules_loses_nothing(start: str) -> None:
    zoned = find_configuration(SPEC, "zoned")
    merged, unmerged = (exhaust(SPEC, zoned, start, 1, merging=merging).tally for merging in (True, False))
    assert (merged.states, merged.crash_points) == (unmerged.states, unmerged.crash_points)
    assert merged.schedules < unmerged.schedules


@pytest.mark.parametrize(
    ("configuration", "start"),
    [
        pytest.param("zoned", "one flushed", marks=pytest.mark.nightly),
        ("zoned", "dead tail"),
        pytest.param("file", "dead tail", marks=pytest.mark.nightly),
    ],
)
def test_what_recovery_answers_is_shared_without_loss(
    configuration: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image is recovered by itself as well."""
    setting = find_configuration(SPEC, configuration)
    shared, alone = recoveries_of(SPEC, setting), recoveries_of(SPEC, setting, sharing=False)
    observation = Recoveries.observation

    def both(recoveries: Recoveries, image: Image, keys: Collection[Key]) -> Observation:
        alone.keep({"formatted": True})
        seen, other = observation(shared, image, keys), observation(alone, image, keys)
        assert (seen.violation, seen.outcomes, seen.contents) == (other.violation, other.outcomes, other.contents)
        return seen

    monkeypatch.setattr(Recoveries, "observation", both)
    assert exhaust(SPEC, setting, start, 1, recoveries=shared).run is None
    assert 0 < shared.run_count < alone.run_count


# The state that makes the bug short, the operations it takes from there, and how it shows.
PLANTS = {
    "fig5-06": ("dead tail", 1, "recovery"),
    "fig5-07": ("one flushed", 1, "recovery"),
    "fig5-08": ("empty", 1, "persistence"),
    "fig5-10": ("dead tail", 2, "conformance"),
    "scheduler-pretends": ("empty", 1, "recovery"),  # what it pretends is nowhere but in memory
    "change-of-issued": ("one flushed", 1, "recovery"),  # shows where a record comes behind what is issued
    "edit-of-issued": ("one flushed", 1, "persistence"),
    "promise-before-data": ("one flushed", 1, "persistence"),
    "doubt-believed": ("one flushed", 1, "recovery"),
    "digest-not-asked": ("one flushed", 1, "persistence"),
}
LONG = ("fig5-07", "fig5-10")
ON_FILE = ("edit-of-issued", "digest-not-asked")  # a hard pointer would tell


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] if name in LONG else []) for name in PLANTS]
)
def test_a_planted_bug_is_violated(name: str, tmp_path: Path) -> None:
    start, operations_max, property_name = PLANTS[name]
    (plant,) = (plant for folder in (PLANTED, PLANTED / "deep") for plant in find_plants(folder) if plant.id == name)
    plant_tree(plant, ROOT, tmp_path / "tree")
    command = ["exhaust", "shardstore/node_spec.py", "--operations", str(operations_max), "--start", start]
    command += ["--config", "file" if name in ON_FILE else "zoned", "--jobs", "1", "--json", str(tmp_path / "out.json")]
    done = _in(tmp_path / "tree", command)
    assert done.returncode == 1, done.stdout + done.stderr
    (result,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert result["violation"]["property"] == property_name
    case = tmp_path / "tree" / result["case"]
    assert "still fails" in _in(case.parent.parent, ["replay", str(case)]).stdout
    assert "still fails" not in _in(ROOT, ["replay", str(case)]).stdout


def _in(folder: Path, command: list[str]) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", "harness", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
