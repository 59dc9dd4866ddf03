"""The command line, from arguments to exit status, on the sample project and planted copies of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from harness.choices.program import operation_count
from harness.cli.exit_status import EXIT_OK, EXIT_UNKNOWN, EXIT_UNUSABLE, EXIT_VIOLATED
from harness.cli.main import main
from harness.corpus.case_file import read_case
from harness.fleet.budget import Budget
from harness.fleet.jobs import INTERRUPTED
from harness.planted.plants import find_plants, plant_tree
from harness.scenario.failing_sequence import WIDTH_MAX
from harness.scenario.verdict import Answer, Counters, Verdict
from harness.search.campaign import list_checks, run_checks
from harness.search.check import Sample
from harness.spec.loader import load_specs
from harness.spec.spec import Mode

SAMPLE = Path(__file__).parents[2] / "toys" / "sample"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _harness_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folders that the tests change to, too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(SAMPLE)
    return SAMPLE


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample project in which a record counts as persistent before any barrier."""
    (plant,) = find_plants(SAMPLE / "plants" / "early.toml")
    folder = tmp_path / "planted"
    folder.mkdir()
    plant_tree(plant, SAMPLE, folder)
    monkeypatch.chdir(folder)
    return folder


CHECK_PLANTED = ["check", "--mode", "crash", "--config", "small", "--scenarios", "500", "--jobs", "1"]


def test_a_clean_project_is_none_found_in_every_mode_and_configuration(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["check", "--scenarios", "60", "--jobs", "1", "--json", str(figures), "--corpus", str(tmp_path / "c")]
    assert main(arguments) == EXIT_OK
    out = capsys.readouterr().out
    assert out.count("none found") == 4
    assert max(map(len, out.splitlines())) <= WIDTH_MAX
    checks = json.loads(figures.read_text())["checks"]
    assert [(each["mode"], each["configuration"]) for each in checks] == [
        ("conformance", "small"),
        ("conformance", "tiny"),
        ("crash", "small"),
        ("crash", "tiny"),
    ]
    assert all(each["scenarios"] == 60 for each in checks)
    assert not (tmp_path / "c").exists()


def test_a_violation_is_shrunk_saved_explained_and_replayable(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CHECK_PLANTED, "--json", "figures.json"]) == EXIT_VIOLATED
    out = capsys.readouterr().out
    (saved,) = (planted / "fuzz_corpus").iterdir()
    assert "persistence violated: sample (samplestore/store_spec.py), crash, small" in out
    assert "3 operations, 1-minimal" in out
    assert f"  harness replay fuzz_corpus/{saved.name}\n" in out
    case = read_case(saved)
    assert [step.operation for step in case.program.steps] == ["put", "write_back", "crash"]
    assert "# put(key=b'a', value=b'a') -> pending" in saved.read_text()
    (failure,) = json.loads((planted / "figures.json").read_text())["failures"]
    assert failure["operations"] == 3
    assert failure["one_minimal"]
    assert main(["replay", f"fuzz_corpus/{saved.name}"]) == EXIT_VIOLATED
    assert f"fuzz_corpus/{saved.name}: still fails at step " in capsys.readouterr().out


def test_the_same_failure_is_reported_once_and_its_file_kept(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "--mode", "crash", "--scenarios", "500", "--jobs", "1"]
    assert main(arguments) == EXIT_VIOLATED
    assert capsys.readouterr().out.count("persistence violated:") == 1
    (saved,) = (planted / "fuzz_corpus").iterdir()
    before = saved.read_text()
    assert main([*arguments, "--seed", "1"]) == EXIT_VIOLATED
    assert [path.read_text() for path in (planted / "fuzz_corpus").iterdir()] == [before]


def test_a_case_that_guards_a_fixed_bug_is_never_overwritten(planted: Path) -> None:
    assert main(CHECK_PLANTED) == EXIT_VIOLATED
    (saved,) = (planted / "fuzz_corpus").iterdir()
    lines = saved.read_text().splitlines(keepends=True)
    guard = "".join(line for line in lines if " crash " not in line)
    saved.write_text(guard)
    assert main(CHECK_PLANTED) == EXIT_VIOLATED
    assert saved.read_text() == guard
    numbered = saved.with_name(f"{saved.stem}-2.case")
    assert sorted((planted / "fuzz_corpus").iterdir()) == sorted([saved, numbered])
    assert numbered.read_text() == "".join(lines)


def test_several_processes_find_the_same_failure(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CHECK_PLANTED[:-1], "2"]) == EXIT_VIOLATED
    assert "3 operations, 1-minimal" in capsys.readouterr().out


CASE = """\
harness case 1
spec: samplestore/store_spec.py
name: sample
configuration: small
mode: crash
property: persistence
place: outcome

1 put                     # put(key=b'a', value=b'a') -> pending
2 write_back
3 crash survivor.2.0=1
"""


@pytest.fixture
def case(planted: Path) -> Path:
    path = planted / "early.case"
    path.write_text(CASE)
    return path


def in_clean_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """On the unplanted sample project; the planted copy of its package is imported in this process."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=SAMPLE, capture_output=True, text=True, check=False
    )


def test_on_the_clean_tree_the_case_is_fixed(case: Path) -> None:
    ended = in_clean_process("replay", str(case))
    assert ended.stdout == f"{case}: fixed\n"
    assert ended.returncode == EXIT_OK


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("configuration: small", "configuration: large", "no configuration named 'large'; it has small, tiny"),
        ("name: sample", "name: simple", "no spec named 'simple'"),
        ("spec: samplestore/", "spec: gonestore/", "gonestore/store_spec.py: no such file or folder"),
        (" put ", " post ", " at step [0-9]+: there is no operation 'post' here"),
        (" put ", " put key.0=99 ", " at step [0-9]+: choice key.0=99, but there are only"),
        (" put ", " put key.7=1 ", " at step [0-9]+: choice 'key.7' was never asked for"),
    ],
)
def test_a_case_that_means_nothing_today_no_longer_applies(
    case: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = case.read_text()
    assert old in text
    case.write_text(text.replace(old, new, 1))
    assert main(["replay", str(case)]) == EXIT_UNKNOWN
    out = capsys.readouterr().out
    assert ": no longer applies" in out
    assert re.search(said, out)


def test_another_failure_than_the_saved_one_is_said_to_be_another(
    case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write_text(case.read_text().replace("place: outcome", "place: somewhere"))
    assert main(["replay", str(case)]) == EXIT_VIOLATED
    assert "fails differently at step" in capsys.readouterr().out


def test_a_case_can_be_shown_as_it_runs_today(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(case)]) == EXIT_VIOLATED
    out = capsys.readouterr().out
    assert "put(key=b'a', value=b'a')" in out
    assert "model allows" in out
    assert "today: still fails at step" in out


def test_a_case_that_no_longer_fails_is_shown_as_it_was_saved(case: Path) -> None:
    ended = in_clean_process("show", str(case))
    assert "# put(key=b'a', value=b'a') -> pending" in ended.stdout
    assert ended.stdout.endswith("today: fixed\n")
    assert ended.returncode == EXIT_OK


def test_a_padded_case_shrinks_back(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gets = "".join(f"{identity} get\n" for identity in range(3, 23))
    case.write_text(CASE.replace("1 put", "1 put value.1=3").replace("3 crash", f"{gets}23 crash"))
    assert main(["shrink", str(case), "--json", "shrink.json"]) == EXIT_VIOLATED
    assert "23 to 3 operations" in capsys.readouterr().out
    assert operation_count(read_case(case).program) == 3
    assert json.loads(Path("shrink.json").read_text())["one_minimal"] is True


def test_a_shrink_that_is_stopped_writes_the_best_so_far(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", str(case), "--seconds", "1e-9"]) == EXIT_VIOLATED
    assert "not shown to be 1-minimal, stopped after 1e-09 s, the best so far written to" in capsys.readouterr().out
    assert operation_count(read_case(case).program) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere_spec.py"], "nowhere_spec.py: no such file or folder"),
        (["check", "plants"], "plants: no *_spec.py in this folder"),
        (["check", "--config", "huge", "--scenarios", "1"], "no configuration named 'huge'; there are small, tiny"),
        (["check", "--scenarios", "0"], "Invalid value for '--scenarios': 0 is not in the range x>=1."),
        (["check", "--scenarios", "5", "--seconds", "5"], "give --scenarios or --seconds, not both"),
        (["check", "--mode", "storm"], "Invalid value for '--mode': 'storm' is not one of"),
        (["check", "--json", "no/such/folder/x.json"], "--json no/such/folder/x.json: cannot be written"),
        (["replay", "nowhere.case"], "nowhere.case: No such file or directory"),
        (["replay", "plants/early.toml"], "plants/early.toml: line 1: not a case file"),
        (["shrink", "nowhere.case"], "nowhere.case: No such file or directory"),
        (["show", "nowhere.case"], "nowhere.case: No such file or directory"),
        (["bugs", "samplestore"], "no *.toml in this folder"),
        (["bugs", "nowhere"], "does not exist"),
        (["dance"], "No such command 'dance'"),
        (["replay"], "Missing argument 'CASE...'"),
    ],
)
def test_unusable_input_is_one_clear_line(
    clean: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == EXIT_UNUSABLE
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_spec_that_contradicts_itself_is_one_clear_line(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = planted / "samplestore" / "store_spec.py"
    spec.write_text(spec.read_text().replace('weight=2, writes="key"', 'weight=2, writes="kee"'))
    assert main(["check", "--scenarios", "5", "--jobs", "1"]) == EXIT_UNUSABLE
    err = capsys.readouterr().err
    assert "samplestore/store_spec.py: operation 'delete' writes 'kee', which is none of its arguments" in err


def test_a_check_that_breaks_is_unknown_and_says_where(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = planted / "samplestore" / "store_spec.py"
    spec.write_text(spec.read_text().replace("key=keys, value=payloads(16)", "key=keys, value=lambda c, n: 1 // 0"))
    assert main(["check", "--scenarios", "5", "--jobs", "1", "--mode", "crash"]) == EXIT_UNKNOWN
    out = capsys.readouterr().out
    assert "unknown: sample, crash, small: the check itself failed: ZeroDivisionError" in out
    assert "at store_spec.py:" in out


def test_a_crash_check_without_a_crash_is_unknown(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = planted / "samplestore" / "store_spec.py"
    spec.write_text(spec.read_text().replace("        Crash(),\n", ""))
    assert main(["check", "--scenarios", "5", "--jobs", "1", "--mode", "crash"]) == EXIT_UNKNOWN
    assert "the spec has no Crash operation" in capsys.readouterr().out
    assert main(["check", "--scenarios", "5", "--jobs", "1"]) == EXIT_OK
    assert "crash" not in capsys.readouterr().out.replace("crashes", "")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where SIGINT is ignored, as in a shell's background job."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_run_with_what_is_known(clean: Path, workers: int) -> None:
    loaded = load_specs(SAMPLE / "samplestore" / "store_spec.py", SAMPLE)
    jobs = list_checks(loaded, lambda spec: [Mode.CRASH], None)
    interrupted: list[int] = []

    def interrupt(check: int, counters: Counters, seconds: float) -> None:
        if not interrupted:
            interrupted.append(counters.scenarios)
            signal.raise_signal(signal.SIGINT)

    verdicts: list[Verdict] = run_checks(jobs, Sample(), Budget(30.0, workers), SAMPLE, interrupt)
    assert [(each.answer, each.reason) for each in verdicts] == [(Answer.UNKNOWN, INTERRUPTED)] * 2
    assert sum(each.counters.scenarios for each in verdicts) >= interrupted[0] > 0


FAULTS = {
    "hangs": ('re.match(r"(a+)+$", "a" * 60 + "b")', r"the worker was silent for 3 s at scenario \d+", 3.0),
    "dies": (
        "os.kill(os.getpid(), 9)",
        r"the worker was killed by signal 9, SIGKILL at scenario \d+, as 2 before it",
        None,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_system_that_takes_its_process_along_is_unknown_and_says_where(planted: Path, fault: str) -> None:
    statement, reason, silence_seconds_max = FAULTS[fault]
    spec = planted / "samplestore" / "store_spec.py"
    text = spec.read_text().replace("        self.entries.pop(key, None)\n", f"        {statement}\n")
    spec.write_text(text.replace("import annotations\n", "import annotations\n\nimport os\nimport re\n", 1))
    jobs = list_checks(load_specs(spec, planted), lambda spec: [Mode.CONFORMANCE], "small")
    (verdict,) = run_checks(
        jobs, Sample(scenarios=2000), Budget(None, 2), planted, lambda *_: None, silence_seconds_max
    )
    assert verdict.answer is Answer.UNKNOWN
    assert re.fullmatch(f"{reason}(; {reason})?", verdict.reason)


def test_start_up_imports_neither_hypothesis_nor_rich() -> None:
    code = (
        "import sys; from harness.cli.main import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('hypothesis', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_optimised_python_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-O", "-m", "harness", "check"], cwd=SAMPLE, capture_output=True, text=True, check=False
    )
    assert ended.returncode == EXIT_UNUSABLE
    assert ended.stderr == "harness: the checks must not run under python -O\n"


def test_bugs_says_which_plants_are_caught(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "bugs.json"
    assert main(["bugs", "plants", "--seeds", "2", "--jobs", "2", "--json", str(figures)]) == EXIT_OK
    out = capsys.readouterr().out
    assert "early: caught" in out
    assert max(map(len, out.splitlines())) <= WIDTH_MAX
    plants = {each["id"]: each for each in json.loads(figures.read_text())["plants"]}
    assert plants["early"]["operations"] == [3, 3]
    assert [seed["clean_answer"] for seed in plants["early"]["seeds"]] == ["fixed", "fixed"]
    assert [seed["seed"] for seed in plants["undeleted"]["seeds"]] == [5]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('property = "persistence"', 'property = "recovery"', "not found within the budget by 1 of 1 seeds"),
        ("self.unconfirmed.append(dependency)\n'", "self.gone()\n'", "its old text occurs 0 times"),
        ("dependency.persistent = True", "pass", "not found within the budget by 1 of 1 seeds"),
        ("dependency.persistent = True", "(", "SyntaxError"),
        ('spec = "samplestore/store_spec.py"', 'spec = "samplestore/gone_spec.py"', "no spec samplestore/gone_spec.py"),
    ],
)
def test_a_plant_that_is_not_caught_says_why(
    clean: Path, tmp_path: Path, old: str, new: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (SAMPLE / "plants" / "early.toml").read_text()
    assert old in text
    (tmp_path / "early.toml").write_text(text.replace(old, new, 1))
    assert main(["bugs", str(tmp_path), "--seconds", "0.3", "--jobs", "1"]) == EXIT_VIOLATED
    assert problem in capsys.readouterr().out


def test_a_plant_in_a_file_that_the_spec_does_not_import_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    (plant,) = find_plants(SAMPLE / "plants" / "early.toml")
    project.mkdir()
    plant_tree(plant, SAMPLE, project)
    (project / "samplestore" / "unused.py").write_text("X = 1\n")
    (tmp_path / "unused.toml").write_text(
        (SAMPLE / "plants" / "early.toml").read_text().split("[[replace]]")[0]
        + "[[replace]]\nfile = 'samplestore/unused.py'\nold = 'X = 1'\nnew = 'X = 2'\n"
    )
    monkeypatch.chdir(project)
    assert main(["bugs", str(tmp_path), "--seconds", "0.2", "--jobs", "1"]) == EXIT_VIOLATED
    assert "samplestore/unused.py was not imported by the spec" in capsys.readouterr().out


def test_the_working_folder_is_left_as_it_was(clean: Path) -> None:
    assert sorted(os.listdir(SAMPLE)) == ["plants", "samplestore"]


def harness_process(*arguments: str, cwd: Path, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_stops_reading_costs_no_saved_failure(planted: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = harness_process(*CHECK_PLANTED, cwd=planted, output=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_UNKNOWN
    assert errors == ""
    assert len(list((planted / "fuzz_corpus").iterdir())) == 1


def test_output_that_can_not_be_written_is_one_line(clean: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = harness_process("check", "--scenarios", "5", "--jobs", "1", cwd=clean, output=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_UNUSABLE
    assert errors.count("\n") == 1


def test_a_corpus_that_can_not_be_written_is_seen_at_the_start(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (planted / "file").write_text("")
    assert main([*CHECK_PLANTED, "--corpus", "file/corpus"]) == EXIT_UNUSABLE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "harness: --corpus file/corpus: cannot be written\n"


def test_a_spec_that_exits_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "exits_spec.py"
    spec.write_text("raise SystemExit(0)\n")
    assert main(["check", str(spec)]) == EXIT_UNUSABLE
    assert capsys.readouterr().err.count("\n") == 1


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_UNUSABLE
    assert "Commands:" in capsys.readouterr().err


def test_seconds_must_be_a_number(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--seconds", "nan"]) == EXIT_UNUSABLE
    assert capsys.readouterr().err == "harness: --seconds takes a number\n"
