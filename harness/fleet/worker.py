"""The inside of a worker process: takes a job from its pipe, runs it, sends the outcome, and takes the next.

It ignores SIGINT and SIGTERM, for its parent decides: the parent stops a job through shared memory, or kills the
worker. On Linux the worker dies with its parent, at once, even if the interpreter hangs. Elsewhere it ends at its next
report or job.

Its temporary files go to a folder that the parent removes, so that a worker which is killed leaves none behind.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import MutableSequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from harness.fleet.interrupts import SIGNALS
from harness.fleet.jobs import STOP, Job, Reporter, failed, perform

BEGUN, REPORT, END = "begun", "report", "end"  # kinds of messages to the parent
_PR_SET_PDEATHSIG: Final = 1


def work(connection: Connection, board: MutableSequence[int], parent_pid: int, folder: Path) -> None:
    """Run jobs until the parent closes the pipe."""
    end_with_parent(parent_pid)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the parent had them blocked when it started this process
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    reporter = Reporter(lambda known: _send(connection, REPORT, known), board, lambda: bool(board[STOP]))
    while True:
        try:
            packed = connection.recv_bytes()
        except (EOFError, OSError):
            return
        _run(connection, packed, reporter)


def end_with_parent(parent_pid: int) -> None:
    """Have this process killed when the thread that started it ends; end it now if the parent has gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def _run(connection: Connection, packed: bytes, reporter: Reporter) -> None:
    _send(connection, BEGUN, None)
    try:
        job: Job[Any] = pickle.loads(packed)
    except Exception as error:
        _send(connection, END, failed(error))
        return
    outcome = perform(job, reporter)
    try:
        _send(connection, END, outcome)
    except Exception as error:  # the outcome cannot be pickled
        _send(connection, END, failed(error))


def _send(connection: Connection, kind: str, content: Any) -> None:
    packed = pickle.dumps((kind, content))
    try:
        connection.send_bytes(packed)
    except OSError:
        os._exit(1)  # the parent has gone
