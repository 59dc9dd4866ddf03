"""Torture, on a toy store in a file: what is clean stays so, and each planted bug is found by the half that can."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_on_file import BUGS, IMAGE_BUGS, KILL_BUGS, KeyMissingError, toy_spec

from harness.cli.exit_status import EXIT_OK, EXIT_UNKNOWN, EXIT_UNUSABLE, EXIT_VIOLATED
from harness.cli.main import main
from harness.fleet.jobs import INTERRUPTED, Reporter
from harness.scenario.ledger import PERSISTENT
from harness.scenario.verdict import Answer
from harness.scenario.violation import Violated
from harness.spec.plan import Plan, SpecError
from harness.spec.spec import Background, Operation
from harness.torture import halves, kills
from harness.torture.account import Account, Event, What, describe_event
from harness.torture.crash_images import ImageFigures, judge_images
from harness.torture.file_worker import Worker
from harness.torture.halves import Dose, HalfResult, list_parts, run_part, torture, torture_plan
from harness.torture.kills import ChildError, KillFigures, _Reports, _send

HERE = Path(__file__).parents[2] / "toys"
ROOT = HERE.parents[1]


def plan_of(bug: str = "") -> Plan:
    return torture_plan(toy_spec(bug))


def only_half(bug: str, *, images: int = 0, kills: int = 0, seed: int = 0) -> HalfResult:
    (half,) = torture(plan_of(bug), Dose(images, kills, seed)).halves
    return half


# --- clean and planted ------------------------------------------------------------------------------


def test_a_clean_store_survives_both_halves() -> None:
    result = torture(plan_of(), Dose(300, 24, 0))
    assert [half.answer for half in result.halves] == [Answer.NONE_FOUND, Answer.NONE_FOUND]
    images, killed = result.images, result.kills
    assert images.images == 300
    assert 150 < len(images.digests) <= 300
    assert images.lossy
    assert images.within_call
    assert images.within_recovery
    assert images.within_creation
    assert images.refused
    assert images.of_images
    assert images.acknowledged_checked
    assert killed.kills == 24
    assert killed.calls
    assert killed.acknowledged_checked


@pytest.mark.parametrize("bug", IMAGE_BUGS)
def test_images_find_each_planted_bug(bug: str) -> None:
    half = only_half(bug, images=800)
    assert half.answer is Answer.VIOLATED
    assert half.bad is not None
    assert half.bad.violation.property == IMAGE_BUGS[bug]


@pytest.mark.parametrize("bug", KILL_BUGS)
def test_kills_find_each_planted_bug(bug: str) -> None:
    half = only_half(bug, kills=150)
    assert half.answer is Answer.VIOLATED
    assert half.bad is not None
    assert half.bad.violation.property == KILL_BUGS[bug]


def test_what_only_a_power_cut_loses_no_kill_shows() -> None:
    """The page cache survives a process; that is why there are two halves."""
    assert only_half("no sync", kills=6).answer is not Answer.VIOLATED
    assert only_half("name not synced", kills=6).answer is not Answer.VIOLATED


def test_a_found_image_says_what_was_acknowledged_what_was_lost_and_what_was_read() -> None:
    bad = only_half("persistent when written", images=800).bad
    assert bad is not None
    told = "\n".join(bad.story)
    assert "persistent" in told
    assert "the power fails after" in told
    assert "lost" in told
    assert bad.content is not None


# --- determinism ------------------------------------------------------------------------------------


def test_images_are_a_function_of_the_seed(tmp_path: Path) -> None:
    def digests(seed: int) -> set[bytes]:
        figures, bad = judge_images(plan_of(), tmp_path, seed, range(3), 20)
        assert bad is None
        return figures.digests

    assert digests(5) == digests(5)
    assert digests(5) != digests(6)


def test_a_failure_of_an_image_is_found_again() -> None:
    first, second = (only_half("group in pieces", images=400, seed=3) for _ in range(2))
    assert first == second


def test_images_do_not_depend_on_how_they_are_dealt_out() -> None:
    whole = torture(plan_of(), Dose(420, 0, 2)).images
    pieces: set[bytes] = set()
    quiet = Reporter(lambda known: None, [0, 0], lambda: False)
    for part in reversed(list_parts(Dose(420, 0, 2))):
        pieces |= run_part(quiet, part, plan_of()).images.digests
    assert pieces == whole.digests


def test_parts_add_up() -> None:
    for images, killed in ((0, 1), (1, 0), (49, 50), (1001, 101)):
        dealt = list_parts(Dose(images, killed, 0))
        for half, total in (("images", images), ("kills", killed)):
            mine = [part for part in dealt if part.half == half]
            assert sum(len(part.numbers) * part.count for part in mine) == total
            numbers = [number for part in mine for number in part.numbers]
            assert numbers == list(range(len(numbers)))


# --- unknown ----------------------------------------------------------------------------------------


def test_images_that_could_lose_nothing_are_unknown() -> None:
    spec = toy_spec()
    reads = [operation for operation in spec.operations if operation.name in ("get", "reboot")]
    (half,) = torture(torture_plan(replace(spec, operations=reads)), Dose(20, 0, 0)).halves
    assert half.answer is Answer.UNKNOWN
    assert "acknowledged" in half.reason


def test_a_kill_that_comes_too_early_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "CREATION_ODDS", 1)
    monkeypatch.setattr(kills, "OPENING_ODDS", 1)
    monkeypatch.setattr(kills, "CREATION_SECONDS_MAX", 0.0)
    monkeypatch.setattr(kills, "OPENING_SECONDS_MAX", 0.0)
    spec = toy_spec()
    nothing_but_waiting = replace(spec, operations=[Background("flush")])  # so that nothing is ever acknowledged
    (half,) = torture(torture_plan(nothing_but_waiting), Dose(0, 3, 0)).halves
    assert half.answer is Answer.UNKNOWN


def test_a_file_that_is_used_past_the_log_is_unknown() -> None:
    spec = toy_spec()
    assert spec.on_file is not None
    opening = spec.on_file.create

    def create(path: Path) -> object:
        store = opening(path)
        with path.open("r+b") as file:
            file.write(b"past")
        return store

    on_file = replace(spec.on_file, create=create)
    (half,) = torture(torture_plan(replace(spec, on_file=on_file)), Dose(20, 0, 0)).halves
    assert half.answer is Answer.UNKNOWN
    assert "past the functions of os" in half.reason


def test_a_spec_that_cannot_be_run_on_a_file_is_refused() -> None:
    spec = toy_spec()
    with pytest.raises(SpecError, match="on_file"):
        torture_plan(replace(spec, on_file=None))
    with pytest.raises(SpecError, match="durability"):
        torture_plan(replace(spec, durability=None))
    with pytest.raises(SpecError, match="adopt"):
        torture_plan(replace(spec, operations=[Operation("flush", adopts=True)]))


# --- the account ------------------------------------------------------------------------------------


class Dictionary(dict[bytes, bytes]):
    """A system that reads as it is told to."""

    @property
    def entries(self) -> dict[bytes, bytes]:
        return self


def journal(*, is_done: bool, is_acknowledged: bool) -> list[Event]:
    events = [
        Event(What.CREATE),
        Event(What.OPENED),
        Event(What.CALL, 1, "put", {"key": b"a", "payload": b"old"}),
        Event(What.DONE, 1, "put", (None, True)),
        Event(What.STATE, 1, "put", PERSISTENT),
        Event(What.CALL, 2, "put_group", {"group": (b"a", b"b"), "payload": b"new"}),
    ]
    if is_done:
        events.append(Event(What.DONE, 2, "put_group", (None, True)))
    if is_acknowledged:
        events.append(Event(What.STATE, 2, "put_group", PERSISTENT))
    return [*events, Event(What.OPEN), Event(What.OPENED)]


BEFORE, AFTER = {b"a": b"old"}, {b"a": b"new", b"b": b"new"}


@pytest.mark.parametrize(
    ("found", "is_done", "is_acknowledged", "is_allowed"),
    [
        (BEFORE, False, False, True),  # cut short, and took no effect
        (AFTER, False, False, True),  # or did
        ({b"a": b"new"}, False, False, False),  # a mixture
        ({}, False, False, False),  # what was acknowledged is gone
        (BEFORE, True, False, True),
        (AFTER, True, False, True),
        (BEFORE, True, True, False),
        (AFTER, True, True, True),
        ({**AFTER, b"c": b"?"}, True, True, False),  # nobody wrote that
    ],
)
def test_what_a_journal_allows(
    found: dict[bytes, bytes], is_done: bool, is_acknowledged: bool, is_allowed: bool
) -> None:
    account = Account(plan_of())
    for event in journal(is_done=is_done, is_acknowledged=is_acknowledged):
        account.follow(event)
    if not is_allowed:
        with pytest.raises(Violated):
            account.judge(Dictionary(found))
        return
    account.judge(Dictionary(found))
    assert account.model.entries == found
    assert account.acknowledged_checked == 1 + 2 * is_acknowledged
    with pytest.raises(Violated):  # what was found is settled, and has to stay
        account.judge(Dictionary(AFTER if found == BEFORE else BEFORE))


def test_a_journal_is_told_line_by_line() -> None:
    told = [describe_event(event) for event in journal(is_done=True, is_acknowledged=True)]
    assert told[2:5] == ["1 put(key=b'a', payload=b'old')", "1 -> None, and a dependency", "1 state put 'persistent'"]


def test_a_dependency_that_fails_is_a_finding() -> None:
    account = Account(plan_of())
    with pytest.raises(Violated) as caught:
        account.follow(Event(What.STATE, 1, "put", "failed"))
    assert caught.value.violation.property == "forward progress"


def test_typed_errors_are_results_and_must_be_the_models() -> None:
    call = Event(What.CALL, 1, "get", {"key": b"a"})
    account = Account(plan_of())
    account.follow(call)
    account.follow(Event(What.ERROR, 1, "get", KeyMissingError))
    account.model.entries[b"a"] = b"there"
    account.follow(call)
    with pytest.raises(Violated) as caught:
        account.follow(Event(What.ERROR, 1, "get", KeyMissingError))
    assert caught.value.violation.property == "conformance"


def test_a_refused_call_has_changed_nothing() -> None:
    account = Account(plan_of())
    account.follow(Event(What.CALL, 1, "put", {"key": b"a", "payload": b"1"}))
    account.follow(Event(What.REFUSED, 1, "put"))
    account.follow(Event(What.OPEN))
    with pytest.raises(Violated):
        account.judge(Dictionary({b"a": b"1"}))


# --- the pipe ---------------------------------------------------------------------------------------


def test_a_report_that_was_cut_short_is_ignored_and_those_before_it_are_not() -> None:
    sent = journal(is_done=True, is_acknowledged=True)
    reading, writing = os.pipe()
    for event in sent:
        _send(writing, event)
    os.write(writing, b"\xff\x00\x00\x00torn")
    os.close(writing)
    assert _Reports(reading).read_rest() == sent
    os.close(reading)


def test_a_child_that_fails_by_itself_is_no_verdict_on_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("the harness, not the system")

    monkeypatch.setattr(Worker, "run", fail)
    half = only_half("", kills=3)
    assert half.answer is Answer.UNKNOWN
    assert "MemoryError" in half.reason


def test_a_child_that_hangs_is_no_verdict_on_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "SILENCE_SECONDS_MAX", 0.0)
    reading, writing = os.pipe()
    with pytest.raises(ChildError, match="hangs"):
        _Reports(reading).wait_for(1)
    os.close(writing)
    os.close(reading)


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "planted_spec":
            del sys.modules[name]


def spec_file(folder: Path, bug: str) -> Path:
    assert not bug or bug in BUGS
    path = folder / "planted_spec.py"
    path.write_text(f"from toy_on_file import toy_spec\n\nSPEC = toy_spec({bug!r})\n")
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_command_prints_every_figure(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
    path = spec_file(tmp_path, "")
    status = main(["torture", str(path), "--images", "60", "--kills", "24", "--jobs", str(jobs), "--json", "figures"])
    out = capsys.readouterr().out
    assert status == EXIT_OK, out
    assert out.count("none found") == 2
    figures = json.loads(Path("figures").read_text())["specs"][0]
    assert figures["images"]["images"] == 60
    assert figures["kills"]["kills"] == 24
    for figure in (*figures["images"].values(), *figures["kills"].values()):
        assert f"{figure:,}" in out
    assert not Path("torture_failures").exists()


def test_the_command_keeps_what_breaks_and_says_how_to_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec_file(tmp_path, "persistent when written")
    arguments = ["torture", "planted_spec.py", "--images", "200", "--kills", "0", "--jobs", "1", "--json", "figures"]
    assert main(arguments) == EXIT_VIOLATED
    out = capsys.readouterr().out
    (kept,) = Path("torture_failures").iterdir()
    failure = json.loads(Path("figures").read_text())["specs"][0]["halves"][0]["violation"]
    assert failure["property"] == "persistence"
    assert failure["kept"] == str(kept)
    for said in (failure["where"], failure["answered"], failure["allowed"], str(kept)):
        assert said in out
        assert said in (kept / "story.txt").read_text() or said == str(kept)
    command = shlex.split(out.partition("to open it: ")[2])
    assert (command[0], command[3], command[4:7]) == ("cp", "&&", ["python", "-i", "-c"])
    shutil.copyfile(command[1], command[2])
    opened = subprocess.run(
        [sys.executable, "-c", command[7] + "; print('opened', type(system).__name__)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert opened.stdout == "opened ToyOnFile\n", opened.stderr


def test_what_could_not_show_a_loss_is_status_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec_file(tmp_path, "")
    assert main(["torture", "planted_spec.py", "--images", "1", "--kills", "0", "--jobs", "1"]) == EXIT_UNKNOWN
    assert "unknown: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["no_such_spec.py"],
        ["planted_spec.py", "--images", "0", "--kills", "0"],
        ["planted_spec.py", "--images", "-1"],
        ["planted_spec.py", "--keep", "planted_spec.py/folder"],
        ["planted_spec.py", "--json", "missing/figures"],
        ["no_file_spec.py"],
        ["unsuitable_spec.py"],
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec_file(tmp_path, "")
    changed = "from dataclasses import replace\nfrom toy_on_file import toy_spec\n\nSPEC = replace(toy_spec(), {})\n"
    (tmp_path / "no_file_spec.py").write_text(changed.format("on_file=None"))
    (tmp_path / "unsuitable_spec.py").write_text(changed.format("durability=None"))
    assert main(["torture", *arguments]) == EXIT_UNUSABLE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where SIGINT is ignored, as in a shell's background job."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_is_unknown_with_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "LIVES_PER_PART", 1)

    interrupted: list[int] = []

    def interrupt(images: ImageFigures, killed: KillFigures) -> None:
        if not interrupted:
            interrupted.append(images.images)
            signal.raise_signal(signal.SIGINT)

    result = torture(plan_of(), Dose(200, 50, 0), interrupt)
    assert [(half.answer, half.reason) for half in result.halves] == [(Answer.UNKNOWN, INTERRUPTED)] * 2
    assert 0 < result.images.images == interrupted[0] < 200


def test_an_interrupt_reaches_a_part_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge_and_interrupt(plan: Plan, folder: Path, *numbers: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return judge_images(plan, folder, *numbers)

    monkeypatch.setattr(halves, "judge_images", judge_and_interrupt)
    result = torture(plan_of(), Dose(140, 0, 0))
    assert (result.halves[0].answer, result.halves[0].reason) == (Answer.UNKNOWN, INTERRUPTED)
    assert result.images.lives == 1


def test_a_part_that_fails_is_unknown_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ChildError("a child failed: so it is")

    monkeypatch.setattr(halves, "kill_and_judge", fail)
    (half,) = torture(plan_of(), Dose(0, 10, 0)).halves
    assert (half.answer, half.reason) == (Answer.UNKNOWN, "a child failed: so it is")
