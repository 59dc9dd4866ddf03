"""A small share of the torture of the real store on a real file, and bugs of the kind that only it can show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.scenario.verdict import Answer
from harness.torture.halves import Dose, HalfResult, torture, torture_plan
from shardstore import file_disk
from shardstore.dependency import PERSISTENT_STATE
from shardstore.file_disk import FileDisk
from shardstore.io_scheduler import IoScheduler
from shardstore.node_spec import SPEC
from shardstore.store import Store

ROOT = Path(__file__).parents[2]

Plant = Callable[[pytest.MonkeyPatch], None]


def only_half(*, images: int = 0, kills: int = 0) -> HalfResult:
    (half,) = torture(torture_plan(SPEC), Dose(images, kills, 0)).halves
    return half


def test_power_cuts_and_kills_lose_nothing_that_was_acknowledged() -> None:
    result = torture(torture_plan(SPEC), Dose(150, 8, 0))
    images, kills = result.halves
    assert (images.answer, images.reason) == (Answer.NONE_FOUND, "")
    assert kills.bad is None  # so few kills may all have come between operations, and then it is unknown
    assert result.images.images == 150
    assert result.images.lossy > 30
    assert result.kills.kills == 8


DIGESTS = """
import tempfile
from hashlib import blake2b
from pathlib import Path
from harness.torture.crash_images import judge_images
from harness.torture.halves import torture_plan
from shardstore.node_spec import SPEC

with tempfile.TemporaryDirectory() as folder:
    figures, bad = judge_images(torture_plan(SPEC), Path(folder), 7, range(2), 20)
print(bad, blake2b(b"".join(sorted(figures.digests))).hexdigest())
"""


def test_images_are_the_same_in_every_process() -> None:
    said = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
    assert said.pop().startswith("None ")


def barrier_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileDisk, "barrier", lambda disk: None)


def persistent_when_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    issue = IoScheduler._issue

    def issue_and_settle(scheduler: IoScheduler, extent: int) -> None:
        request = scheduler._queues[extent][0]
        issue(scheduler, extent)
        request.settle(PERSISTENT_STATE)

    monkeypatch.setattr(IoScheduler, "_issue", issue_and_settle)


def opening_does_not_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """REC-1: what recovery read is in the operating system's cache and nowhere else."""
    recover = Store._recover
    barrier = FileDisk.barrier

    def skip_once(disk: FileDisk) -> None:
        monkeypatch.setattr(FileDisk, "barrier", barrier)

    def recover_without(store: Store) -> None:
        monkeypatch.setattr(FileDisk, "barrier", skip_once)
        recover(store)

    monkeypatch.setattr(Store, "_recover", recover_without)


def name_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_disk, "_sync_folder", lambda calls, path: None)


@pytest.mark.parametrize(
    ("plant", "properties"),
    [
        (barrier_left_out, {"persistence", "recovery"}),
        # A buffer comes back at the barrier, so a log that does not wait for it may find none (POOL-1).
        (persistent_when_issued, {"persistence", "unexpected error"}),
        (opening_does_not_settle, {"persistence", "recovery"}),
        (name_not_synced, {"recovery"}),
    ],
)
def test_images_of_power_cuts_show(plant: Plant, properties: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    half = only_half(images=400)
    assert half.answer is Answer.VIOLATED
    assert half.reason in properties


def test_kills_show_writes_that_the_process_kept_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there are four of them, or the file is closed."""
    write, read, close = FileDisk.write, FileDisk.read, FileDisk.close
    kept: list[tuple[int, int, bytes]] = []

    def write_kept(disk: FileDisk) -> None:
        while kept:
            write(disk, *kept.pop(0))

    def keep(disk: FileDisk, extent: int, page: int, data: bytes) -> None:
        kept.append((extent, page, data))
        if len(kept) == 4:
            write_kept(disk)

    def read_all(disk: FileDisk, extent: int, page: int, page_count: int) -> bytes:
        write_kept(disk)
        return read(disk, extent, page, page_count)

    def close_all(disk: FileDisk) -> None:
        write_kept(disk)
        close(disk)

    monkeypatch.setattr(FileDisk, "write", keep)
    monkeypatch.setattr(FileDisk, "read", read_all)
    monkeypatch.setattr(FileDisk, "close", close_all)
    half = only_half(kills=100)
    assert half.answer is Answer.VIOLATED
    assert half.reason in ("persistence", "recovery")


def test_a_kill_does_not_show_a_barrier_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page cache outlives the process: see the docstring of `harness.torture.kills`."""
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    assert only_half(kills=4).answer is not Answer.VIOLATED
