"""A few planted bugs from finding to replay, so that every test run walks the whole way. All: ``harness bugs``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.planted.plants import find_plants

ROOT = Path(__file__).parent.parent.parent
PLANTED = ROOT / "tests" / "planted"


def test_every_plant_still_applies() -> None:
    """What it replaces occurs exactly once in the code as it is."""
    for plant in [*find_plants(PLANTED), *find_plants(PLANTED / "deep")]:
        for replacement in plant.replacements:
            source = (ROOT / replacement.file).read_text()
            assert source.count(replacement.old) == 1, f"{plant.id}: {replacement.file}"


@pytest.mark.parametrize("plant", ["fig5-01", "fig5-03", "fig5-07", "fig5-08", "scheduler-no-barrier"])
def test_a_planted_bug_is_caught_shrunk_and_replayed(plant: str) -> None:
    command = [sys.executable, "-m", "harness", "bugs", str(PLANTED / f"{plant}.toml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{plant}: caught" in done.stdout
