"""A spec as tests: clean stores pass, planted bugs fail with what the command line says, and are saved."""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis.database import InMemoryExampleDatabase
from toy_store import toy_spec

from harness.choices.program import operation_count
from harness.cli.exit_status import EXIT_OK, EXIT_VIOLATED
from harness.cli.main import main
from harness.corpus.case_file import read_case
from harness.planted.plants import find_plants, plant_tree
from harness.shrink import failure as failures
from harness.shrink.shrink import NotReproducedError
from harness.spec.generators import keys
from harness.spec.loader import load_specs
from harness.spec.spec import Crash, Mode, Operation, Spec
from harness.testing.as_test import as_test

SAMPLE = Path(__file__).parents[2] / "toys" / "sample"
ROOT = Path(__file__).parents[3]
FEW = hypothesis.settings(max_examples=5)
MANY = hypothesis.settings(max_examples=500, stateful_step_count=20)

TestToyStore = toy_spec().as_test(settings=FEW, scenarios=100)


def run_tests(tests: type[unittest.TestCase], *kinds: str) -> dict[str, str]:
    """The messages of the tests that failed; all must have run to their end."""
    failed: dict[str, str] = {}
    for name in unittest.defaultTestLoader.getTestCaseNames(tests):
        if not kinds or name.split("_")[1] in kinds:
            result = unittest.TestResult()
            tests(name).run(result)
            failed.update((name, text) for _, text in [*result.failures, *result.errors])
    return failed


def of_crashes(spec: Spec, kind: str, *, configuration: str = "small", seed: int = 0) -> str:
    """What the one test of this kind says."""
    tests = as_test(spec, modes=[Mode.CRASH], configurations=[configuration], settings=MANY, scenarios=500, seed=seed)
    (text,) = run_tests(tests, kind).values()
    return text


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrinking gives up, where it is not what a test is about."""

    def gives_up(*_: object, **__: object) -> None:
        raise NotReproducedError("in a test")

    monkeypatch.setattr(failures, "shrink", gives_up)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample project in which a record counts as persistent before any barrier."""
    (plant,) = find_plants(SAMPLE / "plants" / "early.toml")
    folder = tmp_path / "planted"
    folder.mkdir()
    plant_tree(plant, SAMPLE, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def spec(planted: Path) -> Spec:
    (loaded,) = load_specs(planted / "samplestore" / "store_spec.py", planted)
    return loaded.spec


def test_there_is_a_test_for_each_kind_mode_and_configuration() -> None:
    names = unittest.defaultTestLoader.getTestCaseNames
    assert list(names(as_test(toy_spec()))) == [
        f"test_{kind}_{mode}_{configuration}"
        for kind in ("check", "machine", "programs")
        for mode in ("conformance", "crash")
        for configuration in ("file", "zoned")
    ]
    assert list(names(as_test(toy_spec(), modes=[Mode.CRASH], configurations=["file"]))) == [
        "test_check_crash_file",
        "test_machine_crash_file",
        "test_programs_crash_file",
    ]
    with pytest.raises(ValueError, match="none of these configurations"):
        as_test(toy_spec(), configurations=["tape"])


def test_each_kind_finds_a_planted_bug_and_shrinks_it() -> None:
    spec = toy_spec("shutdown forgets a write")
    tests = as_test(spec, modes=[Mode.CONFORMANCE], configurations=["zoned"], settings=MANY)
    failed = run_tests(tests)
    assert [name.split("_")[1] for name in failed] == ["check", "machine", "programs"]
    for text in failed.values():
        assert "forward progress violated: toy (no module), conformance, zoned" in text
        assert "1 operation, 1-minimal" in text
        assert "not saved: no module has this spec at its top level" in text  # made by a function


def test_a_check_says_and_saves_what_the_command_line_does(
    planted: Path, spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", "--mode", "crash", "--config", "small", "--scenarios", "500", "--jobs", "1"]
    assert main([*arguments, "--corpus", "fuzz_corpus"]) == EXIT_VIOLATED
    (by_command,) = (planted / "fuzz_corpus").iterdir()
    printed, saved = capsys.readouterr().out, by_command.read_text()
    by_command.unlink()
    text = of_crashes(spec, "check")
    sequence = text[text.index("persistence violated") :].rstrip()
    assert "3 operations, 1-minimal" in sequence
    assert sequence in printed
    assert by_command.read_text() == saved


@pytest.mark.usefixtures("unshrunk")
def test_the_line_it_prints_replays_the_failure(planted: Path, spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    text = of_crashes(spec, "programs")
    (command,) = re.findall(r"^  harness (replay fuzz_corpus/\S+)$", text, re.MULTILINE)
    assert main(command.split()) == EXIT_VIOLATED
    assert "still fails at step" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["machine", "programs"])
def test_what_hypothesis_finds_is_shrunk_and_saved_and_then_the_check_replays_it(
    planted: Path, spec: Spec, kind: str
) -> None:
    text = of_crashes(spec, kind)
    (saved,) = (planted / "fuzz_corpus").iterdir()
    assert operation_count(read_case(saved).program) == 3
    assert "3 operations, 1-minimal" in text
    only_saved = as_test(spec, modes=[Mode.CRASH], configurations=["small"], scenarios=0)
    (again,) = run_tests(only_saved, "check").values()
    assert f"  harness replay fuzz_corpus/{saved.name}\n" in again
    assert run_tests(as_test(spec, modes=[Mode.CONFORMANCE], scenarios=0), "check") == {}


def test_a_failure_is_shrunk_once_whoever_finds_it_again(
    planted: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_crashes(spec, "check")
    monkeypatch.setattr(failures, "shrink", None)
    assert "found again" not in of_crashes(spec, "machine")
    other = of_crashes(spec, "programs", configuration="tiny")
    assert "violated: sample (samplestore/store_spec.py), crash, small" in other
    assert "found again: crash, tiny" in other
    assert len(list((planted / "fuzz_corpus").iterdir())) == 1


@pytest.mark.usefixtures("unshrunk")
def test_a_saved_case_that_is_fixed_or_unreadable_stops_nothing(planted: Path, spec: Spec) -> None:
    of_crashes(spec, "check")
    (saved,) = (planted / "fuzz_corpus").iterdir()
    saved.write_text("".join(line for line in saved.read_text().splitlines(True) if " crash " not in line))
    (planted / "fuzz_corpus" / "odd.case").write_text("odd")
    with pytest.warns(UserWarning, match=r"odd.case: line 1: not a case file"):
        text = of_crashes(spec, "check")
    assert f"fuzz_corpus/{saved.stem}-2.case" in text


@pytest.mark.usefixtures("unshrunk")
def test_the_corpus_may_be_elsewhere_and_so_may_the_tests(
    planted: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (planted / "checks").mkdir()
    monkeypatch.chdir(planted / "checks")
    tests = as_test(spec, modes=[Mode.CRASH], configurations=["small"], corpus="cases", scenarios=500)
    (text,) = run_tests(tests, "check").values()
    (saved,) = (planted / "cases").iterdir()
    assert f"  cd {planted} && harness replay cases/{saved.name}\n" in text


def test_an_interrupted_shrinking_saves_the_failure_as_it_was_found(
    planted: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(failures, "shrink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        of_crashes(spec, "check")
    (saved,) = (planted / "fuzz_corpus").iterdir()
    assert operation_count(read_case(saved).program) > 3


def test_a_check_that_has_tested_nothing_fails() -> None:
    lossless = replace(toy_spec(), operations=[Operation("get", key=keys), Crash()])
    tests = as_test(lossless, modes=[Mode.CRASH], configurations=["zoned"], scenarios=20)
    (text,) = run_tests(tests, "check").values()
    assert "unknown: toy, crash, zoned: none of" in text


# --- Hypothesis -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("kind", ["machine", "programs"])
def test_hypothesis_remembers_what_each_test_has_found(kind: str) -> None:
    database = InMemoryExampleDatabase()
    remembering = hypothesis.settings(MANY, database=database, derandomize=False)
    reusing = hypothesis.settings(remembering, phases=[hypothesis.Phase.reuse])
    clean, buggy = toy_spec(), toy_spec("deleted key still there")

    def run(spec: Spec, settings: hypothesis.settings) -> dict[str, str]:
        return run_tests(as_test(spec, modes=[Mode.CONFORMANCE], configurations=["zoned"], settings=settings), kind)

    assert run(buggy, remembering)
    assert run(replace(clean, name="another"), reusing) == {}  # which must not take what the first has saved
    assert run(buggy, reusing)
    assert run(clean, reusing) == {}  # mended


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("kind", ["machine", "programs"])
def test_hypothesis_prints_a_blob_if_asked_that_reproduces_the_failure(kind: str) -> None:
    spec = toy_spec("deleted key still there")
    settings = hypothesis.settings(MANY, print_blob=True)
    tests = as_test(spec, modes=[Mode.CONFORMANCE], configurations=["zoned"], settings=settings)
    (text,) = run_tests(tests, kind).values()
    version, blob = re.findall(r"@reproduce_failure\('(.*)', b'(.*)'\)", text)[0]
    few = as_test(spec, modes=[Mode.CONFORMANCE], configurations=["zoned"], settings=FEW)
    hypothesis.reproduce_failure(version, blob.encode())(vars(few)[f"test_{kind}_conformance_zoned"])
    (reproduced,) = run_tests(few, kind).values()
    assert "invariant violated" in reproduced
    assert "@reproduce_failure" not in reproduced


def test_pytest_shows_statistics_and_goes_by_the_profile(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from hypothesis import settings\n"
        "settings.register_profile('own', max_examples=17, stateful_step_count=19, derandomize=True)\n"
    )
    (tmp_path / "test_sample.py").write_text(
        "from samplestore.store_spec import SPEC\n"
        "TestSample = SPEC.as_test(modes=['crash'], configurations=['small'], scenarios=50)\n"
    )
    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=own",
        "--hypothesis-show-statistics",
    ]
    environment = {"PYTHONPATH": f"{SAMPLE}:{ROOT}", "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    for kind in ("machine", "programs"):
        shown = done.stdout[done.stdout.index(f"test_{kind}_crash_small:") :]
        assert "settings.max_examples=17" in shown
        assert "operation: put" in shown
        assert "verdict: none found" in shown
        assert "writes lost" in shown
