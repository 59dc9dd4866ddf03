"""Planted bugs from finding to replay: a few on the command line, and one by the tests of a spec.

Every test run walks the whole way with these. All on the command line: ``harness bugs``. All by tests: marked nightly.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.choices.program import operation_count
from harness.corpus.case_file import read_case
from harness.planted.plants import find_plants, plant_tree, read_plant
from harness.spec.loader import module_name

ROOT = Path(__file__).parent.parent.parent
PLANTED = ROOT / "tests" / "planted"


def test_every_plant_still_applies() -> None:
    """What it replaces occurs exactly once in the code as it is."""
    for plant in [*find_plants(PLANTED), *find_plants(PLANTED / "deep")]:
        for replacement in plant.replacements:
            source = (ROOT / replacement.file).read_text()
            assert source.count(replacement.old) == 1, f"{plant.id}: {replacement.file}"


@pytest.mark.parametrize("plant", ["fig5-01", "scheduler-no-barrier"])
def test_a_planted_bug_is_caught_shrunk_and_replayed(plant: str) -> None:
    command = [sys.executable, "-m", "harness", "bugs", str(PLANTED / f"{plant}.toml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{plant}: caught" in done.stdout


TEST_FILE = """
import {module} as module
from harness import Spec

for name, spec in list(vars(module).items()):
    if isinstance(spec, Spec):
        globals()["Test" + name] = spec.as_test()
"""


NOT_FOUND = {"fig5-10": "needs thousands of scenarios"}


def every_plant() -> list[Any]:
    """The one plant for every run of the tests, and all of them for the night."""
    return [pytest.param(path, id=path.stem, marks=_marks(path.stem)) for path in sorted(PLANTED.glob("*.toml"))]


def _marks(plant: str) -> list[pytest.MarkDecorator]:
    nightly = [] if plant == "pointer-early" else [pytest.mark.nightly]
    missed = [pytest.mark.xfail(reason=NOT_FOUND[plant], strict=True)] if plant in NOT_FOUND else []
    return nightly + missed


@pytest.mark.parametrize("path", every_plant())
def test_a_planted_bug_is_found_by_the_tests_of_its_spec(path: Path, tmp_path: Path) -> None:
    """With default settings. What a check finds first may be another property that the plant breaks."""
    plant = read_plant(path)
    plant_tree(plant, ROOT, tmp_path)
    (tmp_path / "test_spec.py").write_text(TEST_FILE.format(module=module_name(tmp_path / plant.spec)[0]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        ).stdout

    wanted = f"check_{plant.mode}{f'_{plant.configuration}' if plant.configuration else ''}"
    told = run("pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-k", wanted)
    cases = [read_case(each) for each in (tmp_path / "fuzz_corpus").glob("*.case")]
    assert cases, told
    for case in cases:
        assert case.property != plant.property or operation_count(case.program) == plant.minimum_operations, told
    for command in set(re.findall(r"^E +harness (replay \S+)$", told, re.MULTILINE)):
        assert "still fails" in run("harness", *command.split())
