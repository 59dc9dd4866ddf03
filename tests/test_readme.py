"""What the README shows is what is there: its spec, the failure that it prints, its picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.planted.plants import plant_tree, read_plant

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "docs" / "example"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    plant_tree(read_plant(EXAMPLE / "plants" / "unsynced.toml"), ROOT, tmp_path)
    return tmp_path


def test_the_spec_is_the_one_of_the_example() -> None:
    assert blocks("python")[0] == (EXAMPLE / "notebook" / "store_spec.py").read_text()


def test_nothing_is_found_in_the_example_as_it_is(tmp_path: Path) -> None:
    done = harness(ROOT, "check", "docs/example/notebook", "--scenarios", "200", "--corpus", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none found" in done.stdout


def test_the_failure_is_what_is_printed_and_its_case_the_one_in_the_corpus(planted: Path) -> None:
    (printed,) = blocks("text")
    done = harness(planted, "check", "docs/example/notebook", "--scenarios", "200", "--jobs", "1")
    assert done.returncode == 1, done.stderr
    assert printed in done.stdout
    (saved,) = (planted / "fuzz_corpus").iterdir()
    assert f"harness replay fuzz_corpus/{saved.name}\n" in printed
    in_corpus = (ROOT / "fuzz_corpus" / saved.name).read_text()
    assert re.sub("story: .*\n", "", in_corpus) == saved.read_text()


def test_a_test_of_the_spec_says_the_same(planted: Path) -> None:
    (printed,) = blocks("text")
    test = "from notebook.store_spec import SPEC\nTestNotebook = SPEC.as_test()\n"
    (planted / "test_notebook.py").write_text(test)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(planted / "docs" / "example"), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "check_crash", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True, check=False)
    assert _unindented(printed) in _unindented(done.stdout), done.stdout + done.stderr


def _unindented(text: str) -> str:
    """The lines without what pytest puts before them."""
    return "".join(re.sub("^E? +", "", line) + "\n" for line in text.splitlines())


def test_the_picture_is_what_show_draws(planted: Path) -> None:
    (case,) = (ROOT / "fuzz_corpus").glob("notebook-*.case")
    drawn = planted / "drawn.svg"
    done = harness(planted, "show", str(case), "--svg", str(drawn))
    assert done.returncode == 1, done.stderr
    assert drawn.read_text() == (ROOT / "docs" / "failure.svg").read_text()
