"""Jobs for the tests of the fleet. Workers import this file, so they find them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.fleet.jobs import Reporter

FOREVER_SECONDS = 60.0  # of a job that is to be stopped or killed; only when that fails is it waited for


def square(reporter: Reporter, number: int) -> int:
    reporter.report(number)
    return number * number


def fail(reporter: Reporter) -> None:
    reporter.report("begun")
    raise ValueError("bad\nluck")


def give(reporter: Reporter, value: Any) -> Any:
    return value


def give_what_cannot_be_pickled(reporter: Reporter) -> Any:
    return lambda: None


def die_at_first(reporter: Reporter, marker: Path) -> str:
    """Is killed, unless it was before."""
    reporter.note_step(7)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die(reporter: Reporter) -> None:
    reporter.report("partial")
    os.kill(os.getpid(), signal.SIGKILL)


def leave(reporter: Reporter) -> None:
    os._exit(5)


def die_with_a_child_that_holds_the_pipe(reporter: Reporter) -> None:
    if os.fork() == 0:
        time.sleep(2.0)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def hang(reporter: Reporter) -> None:
    """Even the interpreter: no other thread and no handler of a signal runs."""
    reporter.report("before it hung")
    reporter.note_step(3)
    re.match(r"(a+)+$", "a" * 60 + "b")


def step_often(reporter: Reporter, seconds: float) -> str:
    ends_at = time.monotonic() + seconds
    number = 0
    while time.monotonic() < ends_at:
        reporter.note_step(number)
        number += 1
        time.sleep(0.01)
    return "done"


def report_until_stopped(reporter: Reporter) -> int:
    ends_at = time.monotonic() + FOREVER_SECONDS
    count = 0
    while time.monotonic() < ends_at:
        count += 1
        reporter.report(count)
        time.sleep(0.01)
    return -1


def never_report_again(reporter: Reporter, folder: Path) -> None:
    """Says who it is and where its temporary files are."""
    Path(tempfile.mkdtemp(), "file").write_text("left behind")
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    (folder / f"{os.getpid()}.worker").write_text(tempfile.gettempdir())
    reporter.report("ready")
    time.sleep(FOREVER_SECONDS)


def answer_signals(reporter: Reporter) -> str:
    """A worker ignores the signals that its parent decides on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return "still here"
