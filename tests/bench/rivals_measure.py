"""Measures the stores of `rivals`, each in a process of its own, in rounds that take turns.

    python rivals_measure.py --store NAME --value-size BYTES --folder EMPTY_FOLDER --scale 1

is such a process: it prints one JSON object of figures. `measure_all` starts them. Every store is given the same keys
and values in the same order, and what it gives back is compared with what it was given.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rivals import RIVALS, Item, Rival, ShardStoreRival, Workload, opened

VALUE_SIZES_BYTES = (100, 4_000)
KEY_SIZE_BYTES = 16
LOADED_COUNTS = {100: 10_000, 4_000: 3_000}  # by the size of a value, at scale 1
LOAD_GROUP_COUNT = 1_000
GETS_COUNT = 2_000
BOX_SECONDS = 0.15  # how long each of the other measurements takes, at scale 1
SPARE_BYTES = 32 << 20  # room for what is put in boxes of time, at scale 1
TRACED_PUTS_COUNT = 50
CHILD_SECONDS_MAX = 300.0
_NOISE = random.Random(1).randbytes(1 << 20)  # values are cut from it, so that no store gets far by compressing them


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    title: str
    more_is_better: bool = True


MEASURES = (
    Measure("put_1", "durable puts, groups of 1"),
    Measure("put_10", "durable puts, groups of 10"),
    Measure("put_1000", "durable puts, groups of 1,000"),
    Measure("put_threads_8", "durable puts by 8 threads"),
    Measure("put_threads_32", "durable puts by 32 threads"),
    Measure("get_warm", "get, warm"),
    Measure("get_cold", "get, reopened, nothing cached"),
    Measure("list", "keys listed"),
    Measure("reopen_ms", "reopening, ms", more_is_better=False),
    Measure("flushes", "device flushes a durable put", more_is_better=False),
    Measure("written_1", "bytes written / put, groups of 1", more_is_better=False),
    Measure("written_1000", "bytes written / put, groups of 1,000", more_is_better=False),
    Measure("device_1", "device bytes / put, groups of 1", more_is_better=False),
    Measure("device_1000", "device bytes / put, groups of 1,000", more_is_better=False),
    Measure("space", "bytes on disk / put", more_is_better=False),
    Measure("memory_mb", "peak memory, MB", more_is_better=False),
)


# --- one store, in a process of its own -------------------------------------------------------------


class Run:
    """One store's measurements on one folder, which is empty at the beginning."""

    def __init__(self, name: str, folder: Path, value_size_bytes: int, scale: float) -> None:
        self._name = name
        self._folder = folder
        self._value_size_bytes = value_size_bytes
        self._item_size_bytes = KEY_SIZE_BYTES + value_size_bytes
        self._loaded_count = int(LOADED_COUNTS.get(value_size_bytes, 3_000) * scale)
        self._box_seconds = BOX_SECONDS * scale
        room_bytes = int(2 * self._loaded_count * (self._item_size_bytes + 64) + SPARE_BYTES * max(1.0, scale))
        self._workload = Workload(value_size_bytes, room_bytes)
        self._numbers = itertools.count()
        self.figures: dict[str, float] = {}

    def measure(self) -> None:
        """Everything but the flushes."""
        memory_before = memory_bytes("VmRSS")
        with opened(self._name, self._folder, self._workload) as rival:
            before = _Written.now(self._folder)
            self._load(rival)
            self._get(rival, "get_warm")
            self._list(rival)
            in_use = rival.bytes_in_use() if isinstance(rival, ShardStoreRival) else None
        drop_cache(self._folder)  # first of all what was not yet on the device goes there
        loaded_bytes = self._loaded_count * self._item_size_bytes
        self._tell_written("1000", before, loaded_bytes)
        self.figures["space"] = (in_use or folder_bytes(self._folder)) / loaded_bytes
        started = time.perf_counter()
        with opened(self._name, self._folder, self._workload) as rival:
            self.figures["reopen_ms"] = 1e3 * (time.perf_counter() - started)
            self._get(rival, "get_cold")
            self._put_one_by_one(rival)
            self.figures["put_10"] = self._put_for_a_while(rival, 10)
            if RIVALS[self._name].threads:
                for thread_count in (8, 32):
                    self._put_by_threads(rival, thread_count)
            self.figures["memory_mb"] = (memory_bytes("VmHWM") - memory_before) / 1e6

    def put_between_marks(self) -> None:
        """Single puts between two calls that a tracer sees: changes to the folder one is in already."""
        with opened(self._name, self._folder, self._workload) as rival:
            rival.put(self._next_items(LOAD_GROUP_COUNT))
            os.chdir(".")
            for _ in range(TRACED_PUTS_COUNT):
                rival.put(self._next_items(1))
            os.chdir(".")

    def _load(self, rival: Rival) -> None:
        seconds = 0.0
        for start in range(0, self._loaded_count, LOAD_GROUP_COUNT):
            items = self._next_items(min(LOAD_GROUP_COUNT, self._loaded_count - start))
            started = time.perf_counter()
            rival.put(items)
            seconds += time.perf_counter() - started
        self.figures["put_1000"] = self._loaded_count / seconds

    def _get(self, rival: Rival, figure: str) -> None:
        choose = random.Random(figure).randrange
        wanted = [self._item(choose(self._loaded_count)) for _ in range(GETS_COUNT)]
        started = time.perf_counter()
        found = [rival.get(key) for key, _ in wanted]
        self.figures[figure] = GETS_COUNT / (time.perf_counter() - started)
        if found != [value for _, value in wanted]:
            raise ValueError("a get gave something else than was put")

    def _list(self, rival: Rival) -> None:
        started = time.perf_counter()
        found = rival.keys()
        self.figures["list"] = len(found) / (time.perf_counter() - started)
        if set(found) != {self._item(number)[0] for number in range(self._loaded_count)}:
            raise ValueError("the keys listed are not those put")

    def _put_one_by_one(self, rival: Rival) -> None:
        written_before = _Written.now(self._folder)
        own_before = _own_counts(rival)
        before = next(self._numbers)
        self.figures["put_1"] = self._put_for_a_while(rival, 1)
        put_count = next(self._numbers) - before - 1
        self._tell_written("1", written_before, put_count * self._item_size_bytes)
        for figure, now, then in zip(("own_barriers", "own_bytes"), _own_counts(rival), own_before, strict=True):
            self.figures[figure] = (now - then) / put_count

    def _tell_written(self, groups: str, before: _Written, put_bytes: int) -> None:
        now = _Written.now(self._folder)
        self.figures[f"written_{groups}"] = (now.process_bytes - before.process_bytes) / put_bytes
        if now.device_bytes is not None and before.device_bytes is not None:
            self.figures[f"device_{groups}"] = (now.device_bytes - before.device_bytes) / put_bytes

    def _put_for_a_while(self, rival: Rival, group_count: int) -> float:
        """Keys a second."""
        put_count = 0
        seconds = 0.0
        while seconds < self._box_seconds:
            items = self._next_items(group_count)
            started = time.perf_counter()
            rival.put(items)
            seconds += time.perf_counter() - started
            put_count += group_count
        return put_count / seconds

    def _put_by_threads(self, rival: Rival, thread_count: int) -> None:
        counts = [0] * thread_count
        ready = threading.Barrier(thread_count + 1)
        deadline = 0.0

        def work(number: int) -> None:
            with closing(rival.session()) as session:
                ready.wait()
                while time.perf_counter() < deadline or not counts[number]:
                    session.put(self._next_items(1))
                    counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(thread_count)]
        for thread in threads:
            thread.start()
        own_before = _own_counts(rival)
        started = time.perf_counter()
        deadline = started + self._box_seconds
        ready.wait()
        for thread in threads:
            thread.join()
        if not all(counts):
            raise RuntimeError("a thread failed")
        self.figures[f"put_threads_{thread_count}"] = sum(counts) / (time.perf_counter() - started)
        self.figures[f"own_barriers_{thread_count}"] = (_own_counts(rival)[0] - own_before[0]) / sum(counts)

    def _next_items(self, count: int) -> list[Item]:
        return [self._item(next(self._numbers)) for _ in range(count)]

    def _item(self, number: int) -> Item:
        """Keys come in no order."""
        key = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=KEY_SIZE_BYTES).digest()
        start = number * 7_919 % (len(_NOISE) - self._value_size_bytes)
        return key, _NOISE[start : start + self._value_size_bytes]


def _own_counts(rival: Rival) -> tuple[int, int]:
    """Barriers and bytes as this store counts them itself; else zero."""
    if not isinstance(rival, ShardStoreRival):
        return 0, 0
    return rival.store.scheduler.barriers_count, rival.store.scheduler.bytes_written


@dataclass(frozen=True, slots=True)
class _Written:
    """Bytes that this process has handed to calls that write, and bytes that the device has been given.

    The device's count is in whole blocks and has the file system's journal in it, and what other processes write. The
    system's ``write_bytes`` of a process is neither: a block that is written within a large page counts as all of it.
    """

    process_bytes: int
    device_bytes: int | None

    @classmethod
    def now(cls, folder: Path) -> _Written:
        device = os.stat(folder).st_dev
        statistics_file = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        device_bytes = 512 * int(statistics_file.read_text().split()[6]) if statistics_file.exists() else None
        return cls(_number_after("wchar", Path("/proc/self/io")), device_bytes)


def memory_bytes(name: str) -> int:
    """``VmRSS``, or its peak ``VmHWM``. Not ``ru_maxrss``, which a process inherits from the one that started it."""
    return 1024 * _number_after(name, Path("/proc/self/status"))


def _number_after(name: str, path: Path) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"no {name} in {path}")
    return int(found[1])


def folder_bytes(folder: Path) -> int:
    """What its files take up, holes left out."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def drop_cache(folder: Path) -> None:
    """Let the system forget the files' pages."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # what is not yet on the device is not forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


# --- all of them ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Results:
    """For one size of values: the figures by store and measure, and why there are none of a store that failed."""

    figures: dict[str, dict[str, float]]
    failures: dict[str, str]
    noise: dict[str, float]  # by store: its highest rate of single durable puts in a round, over its lowest

    def ratio(self, name: str, measure: str, yardstick: str) -> float | None:
        """What a store's figure is to that of another."""
        value = self.figures.get(name, {}).get(measure)
        base = self.figures.get(yardstick, {}).get(measure)
        return value / base if value is not None and base else None


def measure_all(
    names: Sequence[str],
    value_size_bytes: int,
    rounds_count: int,
    scale: float,
    folder: Path,
    tell: Callable[[str], None],
) -> Results:
    """Rounds in which each store has its turn, so that all meet the same noise; every other one backwards."""
    found: dict[str, list[dict[str, float]]] = {}
    failures: dict[str, str] = {}
    for number in range(rounds_count):
        for name in names if number % 2 == 0 else reversed(names):
            if name in failures:
                continue
            tell(f"values of {value_size_bytes:,} bytes, round {number + 1} of {rounds_count}, {name}")
            try:
                found.setdefault(name, []).append(run_child(name, value_size_bytes, scale, folder))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                failures[name] = _reason(error)
    figures = {name: medians(rounds) for name, rounds in found.items() if name not in failures}
    for name, own in figures.items():
        tell(f"values of {value_size_bytes:,} bytes, counting flushes, {name}")
        flushes = count_flushes(name, value_size_bytes, folder)
        if flushes is not None or own["own_barriers"]:
            own["flushes"] = own["own_barriers"] if flushes is None else flushes
    return Results(figures, failures, {name: noise(found[name]) for name in figures})


def noise(rounds: Sequence[dict[str, float]]) -> float:
    rates = [each["put_1"] for each in rounds]
    return max(rates) / min(rates)


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure, over the rounds."""
    return {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        return str(error.stderr).strip().splitlines()[-1]
    return str(error) or type(error).__name__


def run_child(name: str, value_size_bytes: int, scale: float, folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as own:
        done = subprocess.run(
            _command(name, value_size_bytes, scale, own),
            check=True,
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS_MAX * max(1.0, scale),
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _command(name: str, value_size_bytes: int, scale: float, folder: str) -> list[str]:
    program = [sys.executable, __file__, "--store", name, "--value-size", str(value_size_bytes)]
    return [*program, "--scale", str(scale), "--folder", folder]


# --- counting flushes -------------------------------------------------------------------------------

_FLUSHES = ("fsync", "fdatasync", "msync")
_WRITES = ("write", "writev", "pwrite64", "pwritev")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)")
_OPENED = re.compile(r"O_D?SYNC.* = (\d+)$")


def count_flushes(name: str, value_size_bytes: int, folder: Path) -> float | None:
    """Calls a put that wait for the device, as ``strace`` sees them. None if it is not installed, or not allowed."""
    tracer = shutil.which("strace")
    if tracer is None:
        return None
    calls = ",".join(("openat", "chdir", *_FLUSHES, *_WRITES))
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as own:
        trace = Path(own) / "trace"
        store = Path(own) / "store"
        store.mkdir()
        command = [tracer, "-f", "--seccomp-bpf", "-o", str(trace), "-e", f"trace={calls}", "-s", "4"]
        command += [*_command(name, value_size_bytes, 1.0, str(store)), "--between-marks"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=CHILD_SECONDS_MAX)
            return flushes_between_marks(trace.read_text().splitlines()) / TRACED_PUTS_COUNT
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


def flushes_between_marks(lines: Sequence[str]) -> int:
    """Flushing calls, and writes through descriptors that flush each write, between the two marks."""
    count = marks_count = 0
    synchronous: set[str] = set()
    for call, rest in _calls(lines):
        if call == "openat":
            if found := _OPENED.search(rest):
                synchronous.add(found[1])
        elif call == "chdir":
            marks_count += rest.startswith('"."')
        elif marks_count == 1:
            count += call in _FLUSHES or rest.split(",", 1)[0] in synchronous
    if marks_count != 2:
        raise ValueError(f"{marks_count} marks in the trace")
    return count


def _calls(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The calls' names and what follows; the rest of one that was interrupted in the trace is left out."""
    for line in lines:
        if found := _CALL.match(line):
            yield found[1], found[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=RIVALS, required=True)
    parser.add_argument("--value-size", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--between-marks", action="store_true", help="only put, for a tracer")
    arguments = parser.parse_args()
    run = Run(arguments.store, arguments.folder, arguments.value_size, arguments.scale)
    if arguments.between_marks:
        run.put_between_marks()
    else:
        run.measure()
    print(json.dumps(run.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
