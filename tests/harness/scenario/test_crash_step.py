"""The crash step: in the middle of operations and of recovery, process deaths, and once more at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_store import CONFIGURATIONS, SPEC, ToyDependency, ToyStore, toy_spec

from harness.choices.program import operation_count, parse_program
from harness.scenario.runner import replay_program
from harness.scenario.verdict import Answer, Run
from harness.search.check import check
from harness.spec.device import MediumShape
from harness.spec.loader import load_specs
from harness.spec.plan import compile_plan
from harness.spec.spec import Crash, Mode, Spec
from harness.world import devices
from harness.world.medium import SimulatedMedium
from harness.world.power import PowerCut, Strike
from harness.world.world import World

ZONED, FILE = CONFIGURATIONS
SAMPLE = Path(__file__).parents[2] / "toys" / "sample"

# Of the operations that can be interrupted, write-back aside.
GET, PUT, DELETE, PUT_GROUP, FLUSH, ISSUE, COMPACT, REBOOT = range(8)


def run(program: str, spec: Spec = SPEC, *, zoned: bool = True) -> Run:
    return replay_program(compile_plan(spec, ZONED if zoned else FILE, Mode.CRASH), parse_program(program), strict=True)


def notes(ran: Run, step: int) -> list[str]:
    return [line.removeprefix(f"{step} ") for line in ran.history if line.startswith(f"{step} ")]


# --- the device ---------------------------------------------------------------------------------------


def events(medium: SimulatedMedium) -> Iterator[None]:
    """A write, a barrier, a reset, a barrier, a write, a barrier."""
    changes: list[Callable[[], None]] = [
        lambda: medium.write(0, 0, b"a" * 8),
        lambda: medium.reset(0),
        lambda: medium.write(0, 0, b"b" * 8),
    ]
    for change in changes:
        change()
        yield
        medium.barrier()
        yield


@pytest.mark.parametrize(
    ("strike", "count", "happened_count"),
    [(Strike.EVENT, n, n) for n in range(6)]
    + [(Strike.BARRIER, 1, 2), (Strike.BARRIER, 2, 4), (Strike.RESET, 1, 3), (Strike.RESET, 2, 6)],
)
def test_the_power_fails_before_the_next_event(strike: Strike, count: int, happened_count: int) -> None:
    medium = SimulatedMedium(MediumShape(1, 4, 8, device=devices.ZONED))
    medium._position.arm(strike, count)
    medium.watch(True)
    happened = 0
    try:
        for _ in events(medium):
            happened += 1
    except PowerCut:
        assert medium._position.is_cut
    assert happened == happened_count


def test_once_cut_nothing_happens_any_more_but_reading() -> None:
    medium = SimulatedMedium(MediumShape(1, 4, 8, device=devices.ZONED))
    medium.write(0, 0, b"a" * 8)
    medium._position.arm(Strike.EVENT, 0)
    medium.watch(True)
    for _ in range(3):
        with pytest.raises(PowerCut):
            medium.barrier()
    with pytest.raises(PowerCut):
        medium.write(0, 1, b"b" * 8)
    assert medium.read(0, 0, 1) == b"a" * 8
    assert len(medium.log) == 1


# --- in the middle of an operation --------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(2))
def test_what_an_operation_did_before_the_power_failed_is_there_and_no_more(cut: int) -> None:
    """A flush writes the put's record, and passes a barrier."""
    ran = run(f"1 put\n2 crash inside.0=2 during.0={FLUSH} cut.0={cut}")
    assert ran.violation is None
    assert ran.counters.operations_cut == 1
    assert f"-> power fails within flush, after {cut} device event{'' if cut == 1 else 's'}" in notes(ran, 2)
    assert "polled: 1 put b'a' pending" in notes(ran, 2)
    recovered = "b'a'" if cut else "None"  # issued, and nothing of it was chosen to be lost
    assert f"recovered b'a': {recovered} (allowed: None, b'a')" in notes(ran, 2)


def test_an_operation_with_fewer_events_ends_and_the_crash_comes_after_it() -> None:
    ran = run(f"1 put\n2 crash inside.0=2 during.0={FLUSH} cut.0=2")
    assert ran.counters.operations_cut == 0
    assert "polled: 1 put b'a' persistent" in notes(ran, 2)
    assert "recovered b'a': b'a' (allowed: b'a')" in notes(ran, 2)


def test_the_power_may_fail_right_after_a_barrier() -> None:
    ran = run(f"1 put\n2 crash inside.0=2 during.0={COMPACT} strike.0={Strike.BARRIER.value}")
    assert "-> power fails within compact, after barrier 1" in notes(ran, 2)


class ThroughStore(ToyStore):
    """Its puts write through, so that they can be interrupted."""

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        dependency = super().put(key, payload)
        self.flush()
        return dependency


class QuietStore(ThroughStore):
    """Says nothing of whatever strikes it."""

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        try:
            return super().put(key, payload)
        except BaseException:
            return ToyDependency()


WRITING_THROUGH = replace(SPEC, system=lambda world: ThroughStore(world))


@pytest.mark.parametrize(("cut", "recovered"), [(0, "None"), (1, "b'a'")])
def test_an_interrupted_change_reads_as_before_or_after(cut: int, recovered: str) -> None:
    ran = run(f"1 crash inside.0=2 during.0={PUT} cut.0={cut}", WRITING_THROUGH)
    assert ran.violation is None
    assert f"recovered b'a': {recovered} (allowed: None, b'a')" in notes(ran, 1)


def test_a_system_that_swallows_the_power_cut_is_cut_all_the_same() -> None:
    ran = run(f"1 crash inside.0=2 during.0={PUT} cut.0=1", replace(SPEC, system=lambda world: QuietStore(world)))
    assert ran.violation is None
    assert ran.counters.operations_cut == 1


def test_an_interrupted_operation_counts_as_one() -> None:
    assert operation_count(parse_program("1 put\n2 crash")) == 2
    assert operation_count(parse_program("1 put\n2 crash inside.0=1 cut.0=3")) == 3


# --- recovery -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_recovery_that_is_cut_short_is_begun_anew(cut: int) -> None:
    ran = run(f"1 put\n2 flush\n3 put key.0=1\n4 issue\n5 crash recovery.0={cut} recovery.1={cut}")
    assert ran.violation is None
    assert ran.counters.recoveries_cut == 2
    assert f"recovery is cut short after {cut - 1} device events" in notes(ran, 5)


def test_a_dying_process_loses_nothing_that_was_issued() -> None:
    program = "1 put\n2 issue\n3 crash death.0=1 survivor.2.0=1"
    ran = replay_program(compile_plan(SPEC, ZONED, Mode.CRASH), parse_program(program), strict=False)
    assert "the process dies, the device goes on" in notes(ran, 3)
    assert "recovered b'a': b'a' (allowed: None, b'a')" in notes(ran, 3)


def test_a_store_that_trusts_what_it_reads_before_a_barrier_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (sample,) = load_specs(SAMPLE / "samplestore" / "store_spec.py", SAMPLE)
    from samplestore.store import SampleStore

    assert check(sample.spec, Mode.CRASH, scenarios=2_000).answer is Answer.NONE_FOUND

    class Trusting:
        """A medium whose first barrier is left out."""

        def __init__(self, medium: SimulatedMedium) -> None:
            self._medium = medium
            self._opening = True

        def barrier(self) -> None:
            if not self._opening:
                self._medium.barrier()
            self._opening = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._medium, name)

    class TrustingWorld:
        def __init__(self, world: World) -> None:
            self.media = [Trusting(medium) for medium in world.media]
            self.seam = world.seam

    verdict = check(
        replace(sample.spec, system=lambda world: SampleStore(TrustingWorld(world))), Mode.CRASH, scenarios=2_000
    )
    assert verdict.answer is Answer.VIOLATED
    assert verdict.reason.startswith("persistence")


def test_random_runs_have_all_of_it() -> None:
    counters = check(SPEC, Mode.CRASH, scenarios=600).counters
    assert counters.operations_cut > 10
    assert counters.recoveries_cut > 5
    assert counters.crashes > 600 / 2
    assert counters.crash_states.estimate() > 100
    assert 0 < counters.share_tried == counters.share_crashes <= counters.share_legal


def test_a_crash_alone_is_never_within_anything() -> None:
    ran = run("1 crash", replace(SPEC, operations=[Crash()]))
    assert ran.violation is None


def test_bugs_between_the_pieces_of_a_group_are_found_within_the_flush() -> None:
    ran = run(
        f"1 put_group group.more.0=1 group.1=1\n2 crash inside.0=2 during.0={FLUSH} cut.0=1",
        toy_spec("group in pieces"),
    )
    assert ran.violation is not None
    assert ran.violation.signature == ("persistence", "mixture")
