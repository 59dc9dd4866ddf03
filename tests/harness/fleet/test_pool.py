"""The pool: outcomes in order, and what it survives. Nothing depends on speed; waits are bounded for failures only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import fleet_jobs
import pytest

from harness.fleet.interrupts import listening, scratch_folder
from harness.fleet.jobs import INTERRUPTED, Fate, Job, Outcome, why_incomplete
from harness.fleet.pool import run_jobs

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WAIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _jobs_are_found_and_interrupts_heard(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def one(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Outcome[Any], list[str]]:
    """The outcome of one job in a worker, and what was told."""
    told: list[str] = []
    (outcome,) = run_jobs([Job("it", function, arguments, **options)], 2, tell=told.append)
    return outcome, told


def squares(count: int) -> list[Job[int]]:
    return [Job(f"square of {number}", fleet_jobs.square, (number,)) for number in range(count)]


# --- ordinary ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_outcomes_come_in_the_order_of_jobs(workers: int) -> None:
    reports: list[tuple[int, int]] = []
    ended: list[int] = []
    outcomes = run_jobs(
        squares(7),
        workers,
        on_report=lambda number, known: reports.append((number, known)),
        on_end=lambda number, outcome: ended.append(number),
    )
    assert [outcome.value for outcome in outcomes] == [number * number for number in range(7)]
    assert sorted(reports) == [(number, number) for number in range(7)]
    assert sorted(ended) == list(range(7))
    assert why_incomplete(outcomes) == ""


def test_no_jobs_are_no_outcomes() -> None:
    assert run_jobs([], 2) == run_jobs([], 1) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_is_no_longer_wanted_is_not_begun(workers: int) -> None:
    unwanted: set[int] = set()
    outcomes = run_jobs(
        squares(5),
        workers,
        is_wanted=lambda number: number not in unwanted,
        on_end=lambda number, outcome: unwanted.update((3, 4)),
    )
    assert [outcome.fate for outcome in outcomes] == [Fate.DONE] * 3 + [Fate.NOT_RUN] * 2
    assert why_incomplete(outcomes) == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_described_and_what_was_reported_kept(workers: int) -> None:
    jobs = [Job("it", fleet_jobs.fail), Job("it", fleet_jobs.fail, expected_errors=(ValueError,))]
    unexpected, expected = run_jobs(jobs, workers)
    assert unexpected.fate is expected.fate is Fate.FAILED
    assert unexpected.reason.startswith("the check itself failed: ValueError: bad luck at fleet_jobs.py:")
    assert expected.reason == "bad\nluck"
    assert unexpected.known == expected.known == "begun"


def test_a_large_result_comes_whole() -> None:
    outcome, _ = one(fleet_jobs.give, b"x" * 5_000_000)
    assert outcome.value == b"x" * 5_000_000


def test_a_result_that_cannot_be_pickled_is_a_failure() -> None:
    outcome, _ = one(fleet_jobs.give_what_cannot_be_pickled)
    assert outcome.fate is Fate.FAILED


# --- dead and hanging workers -----------------------------------------------------------------------


def test_a_job_whose_worker_was_killed_is_done_again(tmp_path: Path) -> None:
    outcome, told = one(fleet_jobs.die_at_first, tmp_path / "marker", step_name="scenario")
    assert outcome.value == "survived"
    assert told == ["it: the worker was killed by signal 9, SIGKILL at scenario 7; it is done again"]


def test_a_job_that_kills_its_worker_each_time_is_lost_and_the_others_go_on() -> None:
    told: list[str] = []
    jobs: list[Job[Any]] = [*squares(2), Job("deadly", fleet_jobs.die), *squares(3)]
    outcomes = run_jobs(jobs, 2, tell=told.append)
    assert [outcome.fate for outcome in outcomes] == [Fate.DONE] * 2 + [Fate.LOST] + [Fate.DONE] * 3
    assert outcomes[2].reason == "the worker was killed by signal 9, SIGKILL, as 2 before it"
    assert outcomes[2].known == "partial"
    assert len(told) == 2


def test_a_worker_that_ends_is_lost_with_its_exit_code() -> None:
    outcome, _ = one(fleet_jobs.leave)
    assert (outcome.fate, outcome.reason) == (Fate.LOST, "the worker ended with exit code 5, as 2 before it")


def test_a_dead_worker_is_seen_also_when_its_pipe_is_held() -> None:
    outcome, _ = one(fleet_jobs.die_with_a_child_that_holds_the_pipe)
    assert outcome.fate is Fate.LOST


def test_a_job_that_hangs_the_interpreter_is_killed_and_what_it_was_at_is_known() -> None:
    outcome, told = one(fleet_jobs.hang, silence_seconds_max=1.0, step_name="scenario")
    assert (outcome.fate, outcome.step) == (Fate.SILENT, 3)
    assert outcome.reason == "the worker was silent for 1 s at scenario 3"
    assert outcome.known == "before it hung"
    assert told == []


def test_steps_are_signs_of_life() -> None:
    outcome, _ = one(fleet_jobs.step_often, 3.0, silence_seconds_max=2.0)
    assert outcome.value == "done"


def test_whatever_a_callback_raises_no_worker_is_left() -> None:
    def break_off(number: int, known: Any) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_jobs([Job("it", fleet_jobs.report_until_stopped)] * 2, 2, on_report=break_off)
    assert active_children() == []


# --- interrupts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_stops_jobs_at_their_next_report_and_the_rest_is_not_run(
    workers: int, number: signal.Signals
) -> None:
    raised: list[int] = []

    def interrupt(job: int, known: int) -> None:
        if not raised:
            raised.append(job)
            signal.raise_signal(number)

    jobs = [Job("it", fleet_jobs.report_until_stopped) for _ in range(workers + 1)]
    outcomes = run_jobs(jobs, workers, on_report=interrupt)
    assert outcomes[0].fate is Fate.STOPPED
    assert outcomes[0].known >= 1
    assert outcomes[-1].fate is Fate.NOT_RUN
    assert why_incomplete(outcomes) == INTERRUPTED


def test_workers_ignore_both_signals() -> None:
    outcome, _ = one(fleet_jobs.answer_signals)
    assert outcome.value == "still here"


def test_interrupts_are_noted_once_for_all_that_is_nested() -> None:
    with listening() as outer:
        signal.raise_signal(signal.SIGTERM)
        with listening() as inner:
            assert inner is outer
            assert inner.is_noted
        (outcome,) = run_jobs(squares(1), 1)
        assert outcome.fate is Fate.NOT_RUN
        with outer.held():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_was_ignored_is_ignored_still() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with listening() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert not interrupts.is_noted
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_scratch_folder_goes_with_a_second_interrupt() -> None:
    folders: list[Path] = []

    def be_interrupted() -> None:
        with scratch_folder("test-") as folder:
            folders.append(folder)
            (folder / "file").write_text("")
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert not folders[0].exists()


# --- a parent that ends -----------------------------------------------------------------------------


def start_parent(function: str, folder: Path, jobs: int = 3, workers: int = 2) -> subprocess.Popen[str]:
    """Started and ready: each worker is at a job."""
    command = [sys.executable, str(HERE / "fleet_parent.py"), function, str(jobs), str(workers), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def wait_until_gone(pids: list[int]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while any(map(is_there, pids)) and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert not any(map(is_there, pids))


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def worker_pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.worker")]


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix != ".worker"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_is_interrupted_gives_what_is_known(tmp_path: Path, number: signal.Signals) -> None:
    process = start_parent("report_until_stopped", tmp_path)
    process.send_signal(number)
    out, errors = process.communicate(timeout=WAIT_SECONDS)
    assert out.splitlines() == [*["stopped interrupted with result"] * 2, "not run interrupted without result"]
    assert (process.returncode, errors) == (0, "")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once_and_leaves_nothing(tmp_path: Path, first: signal.Signals) -> None:
    process = start_parent("never_report_again", tmp_path)
    pids = worker_pids(tmp_path)
    assert len(pids) == 2
    assert {path.read_text() for path in tmp_path.glob("*.worker")} == {str(each) for each in left_behind(tmp_path)}
    process.send_signal(first)
    process.send_signal(signal.SIGTERM if first is signal.SIGINT else signal.SIGINT)  # the same might come only once
    out, errors = process.communicate(timeout=WAIT_SECONDS)
    assert (out, errors, process.returncode) == ("interrupted at once\n", "", 0)
    assert not any(map(is_there, pids))
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its next report")
def test_workers_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    process = start_parent("never_report_again", tmp_path)
    pids = worker_pids(tmp_path)
    assert len(pids) == 2
    process.kill()
    process.communicate(timeout=WAIT_SECONDS)
    wait_until_gone(pids)


# --- place ------------------------------------------------------------------------------------------


def test_the_fleet_knows_nothing_of_the_rest() -> None:
    for path in (ROOT / "harness" / "fleet").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (harness\S*)", path.read_text(), re.MULTILINE)
        assert all(name.startswith("harness.fleet.") for name in imported), path.name
