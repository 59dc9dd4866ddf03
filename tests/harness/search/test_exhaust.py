"""Exhaustion, on the toy store: what is tried, what is merged, and that bugs are found with the fewest operations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_store import CONFIGURATIONS, CRASH_BUGS, ToyStore, toy_spec

from harness.cli.main import main
from harness.scenario.runner import replay_program
from harness.search.exhaust import alphabet, exhaust
from harness.spec.device import MediumShape
from harness.spec.generators import sampled
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Background, Bounds, Mode, Operation, Spec
from harness.world import devices
from harness.world.legal_images import LegalImages
from harness.world.medium import SimulatedMedium

ZONED, FILE = CONFIGURATIONS

BOUNDS = Bounds(
    operations=[
        Operation("put", key=sampled([b"a"]), payload=sampled([b"x", b"y" * 70]), writes="key"),
        Operation("delete", key=sampled([b"a"]), writes="key"),
        Operation(
            "put_group",
            group=sampled([(b"a", b"b")]),
            payload=sampled([b"z"]),
            writes=lambda arguments, result: [arguments["group"]],
        ),
        Background("flush"),
    ],
    starts={
        "empty": "",
        "one flushed": "1 put payload.0=1\n2 flush",
        "after a crash": "1 put\n2 flush\n3 put\n4 crash",
    },
    in_memory=lambda toy: (tuple(record for record, _ in toy.buffered), len(toy.issued)),
    flushes=("issue",),
)


def bounded_toy(bug: str = "", **changes: Any) -> Spec:
    issue = Background("issue")
    return replace(toy_spec(bug), bounds=replace(BOUNDS, operations=[*BOUNDS.operations, issue], **changes))


@pytest.mark.parametrize("start", BOUNDS.starts)
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda each: each.name)
def test_every_legal_state_of_the_clean_store_is_judged(configuration: Any, start: str) -> None:
    done = exhaust(bounded_toy(), configuration, start, 2)
    assert done.run is None
    assert not done.trouble
    assert done.tally.is_complete
    calls = len(alphabet(bounded_toy(), configuration))
    assert calls == 6
    assert done.tally.programs == 1 + calls + calls**2
    assert done.tally.states_judged == done.tally.states > done.tally.recoveries > 0


# Shown by one operation and a crash, or two, from the start named.
FOUND = {
    "persistent when issued": ("empty", 1),
    "barrier left out": ("empty", 2),
    "oldest record wins": ("one flushed", 1),
    "group in pieces": ("empty", 1),
    "checksum not checked": ("empty", 1),
    "torn record is an error": ("empty", 1),
}


@pytest.mark.parametrize("bug", CRASH_BUGS)
def test_a_bug_is_found_and_its_program_fails_when_replayed(bug: str) -> None:
    start, operations_max = FOUND[bug]
    spec = bounded_toy(bug)
    done = exhaust(spec, FILE, start, operations_max)
    assert done.run is not None, done
    assert done.run.violation is not None
    assert done.run.violation.property == CRASH_BUGS[bug]
    again = replay_program(compile_plan(spec.bounded(), FILE, Mode.CRASH), done.run.program, strict=True)
    assert again.violation == done.run.violation


@pytest.mark.parametrize("bug", ["", "torn record is an error", "group in pieces"])
@pytest.mark.parametrize("start", BOUNDS.starts)
def test_merging_schedules_loses_no_state(start: str, bug: str) -> None:
    merged, unmerged = (exhaust(bounded_toy(bug), ZONED, start, 1, merging=merging) for merging in (True, False))
    assert merged.run == unmerged.run or (merged.run is not None and unmerged.run is not None)
    if merged.run is None:
        assert merged.tally.states == unmerged.tally.states
        assert merged.tally.crash_points == unmerged.tally.crash_points
        assert merged.tally.schedules < unmerged.tally.schedules


def test_a_store_that_does_not_say_what_is_in_memory_is_not_merged() -> None:
    quiet = exhaust(bounded_toy(in_memory=None), ZONED, "one flushed", 1)
    unmerged = exhaust(bounded_toy(), ZONED, "one flushed", 1, merging=False)
    assert quiet.tally == unmerged.tally


def test_one_part_a_call_is_the_whole() -> None:
    whole = exhaust(bounded_toy(), ZONED, "empty", 2).tally
    parts = [exhaust(bounded_toy(), ZONED, "empty", 2, first_call=call).tally for call in range(6)]
    assert sum(part.programs for part in parts) == whole.programs - 1  # the start by itself


def test_out_of_time_is_not_complete() -> None:
    done = exhaust(bounded_toy(), ZONED, "empty", 3, deadline=time.perf_counter())
    assert not done.tally.is_complete


def test_a_draining_that_has_not_come_to_its_end_is_not_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("harness.spec.spec", "harness.search.exhaust"):
        monkeypatch.setattr(f"{module}.DRAIN_STEPS_MAX", 1)
    done = exhaust(bounded_toy(), ZONED, "empty", 1)
    assert done.run is None
    assert not done.tally.is_complete


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda spec: replace(spec, durability=None), "durability"),
        (lambda spec: replace(spec, bounds=replace(spec.bounds, starts={"empty": "x put"})), "start 'empty'"),
    ],
)
def test_what_cannot_be_exhausted_is_refused(spoil: Callable[[Spec], Spec], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        exhaust(spoil(bounded_toy()), ZONED, "empty", 1)


def test_what_is_kept_must_not_change_under_the_images() -> None:
    clean = bounded_toy()

    def keeping(world: Any) -> Any:
        world.kept.setdefault("list", []).append(1)
        return clean.system(world)

    with pytest.raises(SpecError, match="list"):
        exhaust(replace(clean, system=keeping), ZONED, "empty", 1)


def test_the_images_of_a_zoned_extent_are_the_prefixes_of_what_is_open() -> None:
    medium = SimulatedMedium(MediumShape(2, 4, 8, device=devices.ZONED))
    medium.write(0, 0, b"a" * 8)
    medium.barrier()
    medium.write(0, 1, b"b" * 8 + b"c" * 8)
    medium.reset(1)
    found = {image[0][0] for image, _ in LegalImages().of([medium])}
    assert found == {b"a" * 8, b"a" * 8 + b"b" * 8, b"a" * 8 + b"b" * 8 + b"c" * 8}


def test_the_images_of_a_file_are_the_subsets_of_its_sectors() -> None:
    medium = SimulatedMedium(MediumShape(1, 2, 8, device=devices.FILE, sector_size_bytes=4))
    medium.write(0, 0, b"aaaabbbb")
    medium.write(0, 1, b"ccccdddd")
    images = LegalImages()
    found = [image[0][0] for image, _ in images.of([medium])]
    assert len(found) == len(set(found)) == images.count([medium]) == 2**4
    assert found[0] == b"aaaabbbbccccdddd"


def test_the_command_refuses_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Path(__file__).parents[2] / "toys" / "sample" / "samplestore" / "store_spec.py"
    assert main(["exhaust", str(spec), "--operations", "1"]) == 2
    assert "no spec with bounds" in capsys.readouterr().err
    assert main(["exhaust", str(tmp_path / "none.py"), "--operations", "1"]) == 2
    assert main(["exhaust", str(spec)]) == 2


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_tells_and_saves(
    jobs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / f"toyexhaust{jobs}"
    package.mkdir()
    (package / "__init__.py").touch()
    tests = Path(__file__).parent
    source = f"import sys; sys.path.insert(0, {str(tests)!r})\nfrom test_exhaust import bounded_toy\n"
    (package / "good_spec.py").write_text(f"{source}SPEC = bounded_toy()\n")
    (package / "bad_spec.py").write_text(f"{source}SPEC = bounded_toy('torn record is an error')\n")
    good = ["exhaust", f"toyexhaust{jobs}/good_spec.py", "--operations", "1", "--jobs", jobs, "--json", "good.json"]
    assert main(good) == 0
    assert "holds" in capsys.readouterr().out
    results = json.loads((tmp_path / "good.json").read_text())["results"]
    assert {result["answer"] for result in results} == {"holds"}
    assert all(result["states"] == result["states_judged"] > 0 for result in results)
    bad = ["exhaust", f"toyexhaust{jobs}/bad_spec.py", "--operations", "2", "--jobs", jobs, "--config", "file"]
    assert main([*bad, "--start", "empty"]) == 1
    assert "recovery violated" in capsys.readouterr().out
    (case,) = (tmp_path / "fuzz_corpus").glob("*.case")
    assert main(["replay", str(case)]) == 1
    assert "still fails" in capsys.readouterr().out


def test_what_is_only_in_memory_is_not_merged_away() -> None:
    """An issue that writes nothing, and by choice forgets what was to be written: from outside both look the same."""

    class Forgetful(ToyStore):
        def issue(self) -> None:
            if self.seam.choose(2):
                self.buffered.clear()

        def write_back(self, steps: int) -> None:
            """Left out, for every choice in it would be tried."""

    spec = replace(bounded_toy(in_memory=None, flushes=()), system=Forgetful)
    done = exhaust(spec, ZONED, "empty", 2)
    assert done.run is not None
    assert done.run.violation is not None
    assert done.run.violation.property == "forward progress"


class LoopingStore(ToyStore):
    """Never comes back from a deletion."""

    def delete(self, key: bytes) -> Any:
        while True:
            pass


class LoopingRecoveryStore(ToyStore):
    """Never comes back from recovering on something."""

    def _recover(self) -> None:
        super()._recover()
        while self.entries:
            pass


@pytest.mark.parametrize(("store", "place"), [(LoopingStore, "delete"), (LoopingRecoveryStore, "crash")])
def test_a_system_that_never_returns_is_a_violation(store: type[ToyStore], place: str) -> None:
    spec = replace(bounded_toy(), system=lambda world: store(world), step_seconds_max=0.2)
    done = exhaust(spec, ZONED, "empty", 1)
    assert done.run is not None, done
    assert done.run.violation is not None
    assert done.run.violation.signature == ("no progress", place)
