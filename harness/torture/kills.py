"""Killed processes: a child works on a file and is killed at a random moment; then the file is judged.

    parent   fork -------- reads reports -------- SIGKILL, reads the rest -- opens the file, judges -- fork ...
    child         opens, works, reports on a pipe   x

Each child is a fork of this process, which has everything loaded. It reports each call before and after, and each
acknowledgement, straight into a pipe, which outlives its writer. A report that the kill cut short is ignored. The next
child goes on with the same file, so the store ages; after `KILLS_PER_FILE` kills a new file is begun. A kill may also
come during creation or recovery.

A kill shows what the death of a *process* leaves, not a power cut: writes that the process gave to the operating system
are in its cache and stay. `crash_images` is for power cuts. The machine decides when a kill comes, so a seed does not
find a round again: a file that breaks a property is kept instead.
"""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from harness.choices.random_policy import random_tape, scenario_seed
from harness.fleet.interrupts import SIGNALS
from harness.fleet.worker import end_with_parent
from harness.scenario.violation import Violated
from harness.spec.plan import Plan
from harness.torture.account import Account, Event, What, describe_event
from harness.torture.crash_images import BadFile
from harness.torture.file_worker import Worker, on_file_of, open_crashed

KILLS_PER_FILE: Final = 50
EVENTS_MAX: Final = 160  # the kill comes after at most so many reports
OPENING_ODDS: Final = 4  # one kill of so many comes while the child opens the file ...
OPENING_SECONDS_MAX: Final = 0.004  # ... within this time of its beginning
CREATION_ODDS: Final = 2  # the same for a child that creates the file
CREATION_SECONDS_MAX: Final = 0.03
LATE_SECONDS_MAX: Final = 0.0005  # any other kill comes within this time after the last report waited for
SILENCE_SECONDS_MAX: Final = 60.0  # a child that reports nothing for so long hangs
STORY_LINES_MAX: Final = 20_000

_FRAME = struct.Struct("<I")
_READ_SIZE_BYTES = 1 << 16


class ChildError(Exception):
    """A child failed, and the system is not at fault."""


@dataclass(slots=True)
class KillFigures:
    """Counts of what was tried."""

    files: int = 0
    kills: int = 0
    within_call: int = 0
    within_recovery: int = 0
    within_creation: int = 0
    refused: int = 0  # killed while the file was being made, and refused by a typed error
    calls: int = 0
    acknowledged_checked: int = 0

    def add(self, other: KillFigures) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Child(NamedTuple):
    pid: int
    pipe: int


def kill_and_judge(
    plan: Plan, folder: Path, seed: int, files: range, kills_count: int
) -> tuple[KillFigures, BadFile | None]:
    """Kill ``kills_count`` times on each of these files, up to the first file that breaks a property."""
    figures = KillFigures()
    for number in files:
        bad = _OneFile(plan, folder, scenario_seed(seed, number), number, figures).torture(kills_count)
        if bad is not None:
            return figures, bad
    return figures, None


class _OneFile:
    """One file and all that happens to it."""

    def __init__(self, plan: Plan, folder: Path, seed: int, number: int, figures: KillFigures) -> None:
        self._plan = plan
        self._path = folder / "file"
        self._before = folder / "file.before"  # a copy from before the file was opened to be judged
        self._tape = random_tape(seed)
        self._seed = seed
        self._number = number
        self._figures = figures
        self._account = Account(plan)
        self._story: list[str] = []
        self._step = 0
        self._events: list[Event] = []  # of the last child

    def torture(self, kills_count: int) -> BadFile | None:
        self._figures.files += 1
        self._path.unlink(missing_ok=True)
        killed_count = 0
        for round_number in range(4 * kills_count):  # children that end by themselves do not count
            killed_count += self._round(round_number)
            try:
                self._judge()
            except Violated as stop:
                where = f"kill {killed_count} of file {self._number}"
                content = self._before.read_bytes() if self._before.exists() else None
                return BadFile(where, stop.violation, content, tuple(self._story))
            if killed_count == kills_count:
                break
        return None

    def _round(self, number: int) -> bool:
        """Run one child, from fork to death. Gives whether it was killed, not ended by itself."""
        child = _start(self._plan, self._path, scenario_seed(self._seed, number), self._step + 1, self._account)
        reports = _Reports(child.pipe)
        try:
            self._read_until_due(reports)
        finally:
            # Safe also if the child has ended: its process id is not used again before it is waited for.
            os.kill(child.pid, signal.SIGKILL)
            _, status = os.waitpid(child.pid, 0)
            try:
                self._events = reports.read_rest()
            finally:
                os.close(child.pipe)
        was_killed = os.WIFSIGNALED(status)
        if was_killed:
            self._count(self._events)
        self._story.append(f"-- child {number}{' killed' if was_killed else ' ended'}")
        return was_killed

    def _read_until_due(self, reports: _Reports) -> None:
        choose = self._tape.choose
        is_created = self._account.is_created
        is_early = choose("early", OPENING_ODDS if is_created else CREATION_ODDS) == 0
        seconds_max = (OPENING_SECONDS_MAX if is_created else CREATION_SECONDS_MAX) if is_early else LATE_SECONDS_MAX
        seconds = choose("delay", 1024) / 1024 * seconds_max
        if reports.wait_for(1 if is_early else 2 + choose("events", EVENTS_MAX)):
            time.sleep(seconds)

    def _count(self, events: Sequence[Event]) -> None:
        figures = self._figures
        figures.kills += 1
        last = events[-1].what if events else What.OPEN if self._account.is_created else What.CREATE
        figures.within_call += last is What.CALL
        figures.within_recovery += last is What.OPEN
        figures.within_creation += last is What.CREATE

    def _judge(self) -> None:
        """Follow the reports, then open the file and judge it. Raises `Violated`."""
        self._figures.calls += sum(event.what is What.CALL for event in self._events)
        for event in self._events:
            self._step = max(self._step, event.step)
            self._tell(event)
        for event in self._events:
            self._account.follow(event)
        self._before.unlink(missing_ok=True)
        if self._path.exists():
            shutil.copyfile(self._path, self._before)
        checked_before = self._account.acknowledged_checked
        system = open_crashed(self._plan, self._path, self._account, self._account.follow)
        if system is None:
            self._figures.refused += 1
            self._path.unlink(missing_ok=True)
            return
        try:
            self._tell(Event(What.SETTLED, value=self._account.judge(system)))
        finally:
            on_file_of(self._plan).close(system)
            self._figures.acknowledged_checked += self._account.acknowledged_checked - checked_before

    def _tell(self, event: Event) -> None:
        self._story.append(describe_event(event))
        if len(self._story) > STORY_LINES_MAX:
            del self._story[: STORY_LINES_MAX // 2]


# --- the child --------------------------------------------------------------------------------------


def _start(plan: Plan, path: Path, seed: int, first_step: int, account: Account) -> Child:
    reading, writing = os.pipe()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the parent decides when a child ends
        end_with_parent(parent_pid)
        os.close(reading)
        _be_child(plan, path, seed, first_step, account.is_created, writing)
    os.close(writing)
    return Child(pid, reading)


def _be_child(plan: Plan, path: Path, seed: int, first_step: int, is_created: bool, pipe: int) -> NoReturn:
    """Work until killed. Ends by `os._exit`, so that nothing which the parent has open is flushed or closed here."""
    try:
        worker = Worker(plan, path, lambda event: _send(pipe, event), first_step=first_step)
        if is_created:
            worker.open()
        else:
            worker.create()
        number = 0
        while True:
            worker.run(random_tape(scenario_seed(seed, number)))
            number += 1
    except Violated:
        pass  # the worker has reported it
    except BaseException:
        _send(pipe, traceback.format_exc())
    finally:
        os._exit(0)


def _send(pipe: int, value: Event | str) -> None:
    """Write a value into the pipe at once, unbuffered."""
    data = pickle.dumps(tuple(value) if isinstance(value, Event) else value)
    frame = _FRAME.pack(len(data)) + data
    done = 0
    while done < len(frame):
        done += os.write(pipe, frame[done:])


class _Reports:
    """Reads the reports of a child as they come."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._buffer = bytearray()
        self._events: list[Event] = []

    def wait_for(self, count: int) -> bool:
        """Wait for ``count`` events; False if the child ended before. Raises `ChildError` if it hangs."""
        while len(self._events) < count:
            ready, _, _ = select.select([self._pipe], [], [], SILENCE_SECONDS_MAX)
            if not ready:
                raise ChildError(f"a child reported nothing for {SILENCE_SECONDS_MAX:.0f} s: it hangs")
            if not self._read():
                return False
        return True

    def read_rest(self) -> list[Event]:
        """All events of a child that is dead, without a report that it did not finish."""
        while self._read():
            pass
        return self._events

    def _read(self) -> bool:
        data = os.read(self._pipe, _READ_SIZE_BYTES)
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            (size,) = _FRAME.unpack_from(self._buffer)
            end = _FRAME.size + size
            if len(self._buffer) < end:
                break
            self._take(pickle.loads(self._buffer[_FRAME.size : end]))
            del self._buffer[:end]
        return bool(data)

    def _take(self, value: Any) -> None:
        if isinstance(value, str):
            raise ChildError(f"a child failed: {value.strip().splitlines()[-1]}")
        self._events.append(Event(*value))
