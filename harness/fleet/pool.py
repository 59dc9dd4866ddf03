"""The pool: runs jobs on worker processes, or in this one, and gives an outcome for each, in their order.

    parent   begins a job on each worker, hears reports and results, looks after workers that die or hang
    worker   a spawned process with a pipe of its own and a board of shared memory       `worker`

Survived:
    an interrupt     jobs under way stop at their next report, the others are not run; a second ends all at once
    a dead worker    killed, out of memory, gone: a fresh worker does its job again, at most twice; then it is lost
    a hanging job    killed after its bound of seconds without report or step, if it has a bound
    a dead parent    its workers die with it                                             `end_with_parent`
However `run_jobs` is left, no worker and no temporary file of a worker is left behind.

Not promised: with one worker, jobs run in this process, where nothing is bounded and no death is survived. A job must
itself end the processes that it starts. Time in which this process stands still does not count as silence of a job.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, Generic

from harness.fleet.interrupts import Interrupts, blocked, listening, scratch_folder
from harness.fleet.jobs import INTERRUPTED, NO_STEP, STEP, STOP, Fate, Job, Outcome, Reporter, T, failed, perform
from harness.fleet.worker import BEGUN, END, REPORT, work

REPEATS_MAX: Final = 2  # how often a job is done again whose worker was lost
_POLL_SECONDS: Final = 0.2
_START_SECONDS_MAX: Final = 60.0  # for a worker to begin, on top of the bound of silence
_DYING_SECONDS_MAX: Final = 5.0


def say(text: str) -> None:
    print(f"harness: {text}", file=sys.stderr, flush=True)


def run_jobs(
    jobs: Sequence[Job[T]],
    workers_max: int,
    *,
    is_wanted: Callable[[int], bool] = lambda number: True,
    on_report: Callable[[int, Any], None] = lambda number, known: None,
    on_end: Callable[[int, Outcome[T]], None] = lambda number, outcome: None,
    tell: Callable[[str], None] = say,
) -> list[Outcome[T]]:
    """Run the jobs on up to ``workers_max`` workers; give one outcome a job, in order.

    A job begins only if ``is_wanted(number)`` at that moment. ``on_report`` and ``on_end`` are called with the number
    of a job and its report or outcome. ``tell`` gets a line for every job that is done again.
    """
    with listening() as interrupts:
        run = _Run(jobs, interrupts, is_wanted, on_report, on_end)
        if workers_max <= 1:
            _run_here(run)
        else:
            with scratch_folder("fleet-") as folder:
                _Pool(run, workers_max, folder, tell).run()
    return [run.outcomes[number] for number in range(len(jobs))]


class _Run(Generic[T]):
    """The jobs that wait, and the outcomes of the others."""

    def __init__(
        self,
        jobs: Sequence[Job[T]],
        interrupts: Interrupts,
        is_wanted: Callable[[int], bool],
        on_report: Callable[[int, Any], None],
        on_end: Callable[[int, Outcome[T]], None],
    ) -> None:
        self.jobs = jobs
        self.interrupts = interrupts
        self.outcomes: dict[int, Outcome[T]] = {}
        self._waiting = deque(range(len(jobs)))
        self._reported: dict[int, Any] = {}
        self._is_wanted = is_wanted
        self._on_report = on_report
        self._on_end = on_end

    def next_job(self) -> int | None:
        """The next job to begin, if any. Jobs that are not to be run end here."""
        while self._waiting:
            number = self._waiting.popleft()
            if self.interrupts.is_noted:
                self.end(number, Outcome(Fate.NOT_RUN, reason=INTERRUPTED))
            elif not self._is_wanted(number):
                self.end(number, Outcome(Fate.NOT_RUN))
            else:
                return number
        return None

    def repeat(self, number: int) -> None:
        self._waiting.appendleft(number)

    def report(self, number: int, known: Any) -> None:
        self._reported[number] = known
        self._on_report(number, known)

    def end(self, number: int, outcome: Outcome[T]) -> None:
        self.outcomes[number] = replace(outcome, reported=self._reported.get(number))
        self._on_end(number, self.outcomes[number])


def _run_here(run: _Run[T]) -> None:
    while (number := run.next_job()) is not None:
        reporter = Reporter(partial(run.report, number), [NO_STEP, 0], lambda: run.interrupts.is_noted)
        run.end(number, perform(run.jobs[number], reporter))


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, folder: Path) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.board = context.RawArray("q", [NO_STEP, 0])
        self.process = context.Process(target=work, args=(theirs, self.board, os.getpid(), folder))
        self.job: int | None = None  # the job that it runs
        self.has_begun = False
        self.is_closed = False
        self.silent_seconds = 0.0
        self._step_seen = NO_STEP
        resource_tracker.ensure_running()  # now: starting it within `blocked` would unblock the signals
        with blocked():
            self.process.start()
        theirs.close()

    def begin(self, number: int, job: Job[Any]) -> None:
        packed = pickle.dumps(job)
        self.job, self.has_begun, self.silent_seconds = number, False, 0.0
        self.board[STEP] = self._step_seen = NO_STEP
        with suppress(OSError):  # the worker has died, which `_hear` notices
            self.connection.send_bytes(packed)

    def receive(self) -> bytes | None:
        """The next message, if there is one."""
        try:
            return self.connection.recv_bytes() if self.connection.poll() else None
        except (EOFError, OSError):
            self.is_closed = True
            return None

    @property
    def is_dead(self) -> bool:
        return self.is_closed or not self.process.is_alive()

    @property
    def step(self) -> int | None:
        return self.board[STEP] if self.board[STEP] != NO_STEP else None

    def grow_silent(self, seconds: float) -> float:
        """The seconds since its last sign of life, ``seconds`` later than before. A new step is a sign of life."""
        step, before = self.board[STEP], self._step_seen
        self._step_seen = step
        self.silent_seconds = self.silent_seconds + seconds if step == before else 0.0
        return self.silent_seconds

    def describe_end(self) -> str:
        self.process.join(_DYING_SECONDS_MAX)
        code = self.process.exitcode
        if code is None:
            return "closed its pipe"
        if code >= 0:
            return f"ended with exit code {code}"
        names = {each.value: f", {each.name}" for each in signal.Signals}
        return f"was killed by signal {-code}{names.get(-code, '')}"

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Pool(Generic[T]):
    """The workers, and the job that each runs."""

    def __init__(self, run: _Run[T], workers_max: int, folder: Path, tell: Callable[[str], None]) -> None:
        self._run = run
        self._workers_max = workers_max
        self._folder = folder
        self._tell = tell
        self._workers: list[_Worker] = []
        self._losses: Counter[int] = Counter()

    def run(self) -> None:
        try:
            while self._begin_jobs():
                self._listen()
        finally:
            with self._run.interrupts.held():
                for worker in self._workers:
                    worker.kill()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _begin_jobs(self) -> bool:
        """Give every worker a job, as long as there are jobs. False once all jobs have ended."""
        while len(self._busy()) < self._workers_max and (number := self._run.next_job()) is not None:
            self._idle_worker().begin(number, self._run.jobs[number])
        return bool(self._busy())

    def _idle_worker(self) -> _Worker:
        for worker in [each for each in self._workers if each.job is None]:
            if not worker.is_dead:
                return worker
            self._dismiss(worker)
        self._workers.append(_Worker(self._folder))
        return self._workers[-1]

    def _listen(self) -> None:
        """Wait a moment for messages, take them, and check for silence."""
        started = time.monotonic()
        wait([worker.connection for worker in self._busy()], _POLL_SECONDS)
        seconds = min(time.monotonic() - started, 2 * _POLL_SECONDS)  # more: this process itself stood still
        for worker in self._busy():
            if self._run.interrupts.is_noted:
                worker.board[STOP] = 1
            self._hear(worker)
            if worker.job is not None:
                self._bound_silence(worker, worker.job, worker.grow_silent(seconds))

    def _hear(self, worker: _Worker) -> None:
        """Take all messages of a worker, and notice if it is dead."""
        # Asked before its messages are read: a worker that was dead by then has sent all of them. Its pipe may still
        # be open, in processes that it has forked.
        was_dead = worker.is_dead
        while worker.job is not None and (packed := worker.receive()) is not None:
            self._take(worker, worker.job, packed)
        if worker.job is not None and (was_dead or worker.is_closed):
            self._lose(worker, worker.job)

    def _take(self, worker: _Worker, number: int, packed: bytes) -> None:
        try:
            kind, content = pickle.loads(packed)
        except Exception as error:  # say, a class that this process cannot import
            kind, content = END, failed(error)
            self._dismiss(worker)  # else its next message would be taken for one about its next job
        worker.silent_seconds = 0.0
        if kind == BEGUN:
            worker.has_begun = True
        elif kind == REPORT:
            self._run.report(number, content)
        elif kind == END:
            worker.job = None
            self._run.end(number, content)

    def _lose(self, worker: _Worker, number: int) -> None:
        job, how, at = self._run.jobs[number], worker.describe_end(), self._at(worker, number)
        step = self._dismiss(worker)
        self._losses[number] += 1
        if self._losses[number] <= REPEATS_MAX and not self._run.interrupts.is_noted:
            self._tell(f"{job.name}: the worker {how}{at}; it is done again")
            self._run.repeat(number)
            return
        times = f", as {self._losses[number] - 1} before it" if self._losses[number] > 1 else ""
        self._run.end(number, Outcome(Fate.LOST, reason=f"the worker {how}{at}{times}", step=step))

    def _bound_silence(self, worker: _Worker, number: int, silent_seconds: float) -> None:
        bound = self._run.jobs[number].silence_seconds_max
        if bound is None or silent_seconds < bound + (0.0 if worker.has_begun else _START_SECONDS_MAX):
            return
        reason = f"the worker was silent for {silent_seconds:.0f} s{self._at(worker, number)}"
        self._run.end(number, Outcome(Fate.SILENT, reason=reason, step=self._dismiss(worker)))

    def _at(self, worker: _Worker, number: int) -> str:
        return "" if worker.step is None else f" at {self._run.jobs[number].step_name} {worker.step}"

    def _dismiss(self, worker: _Worker) -> int | None:
        """Kill a worker. Gives the step that it was at."""
        worker.kill()
        self._workers.remove(worker)
        return worker.step
