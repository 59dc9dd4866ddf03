"""A system that never returns is a violation of its own name, found, shrunk and replayed like any other."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from toy_store import CONFIGURATIONS, SPEC, ToyDependency, ToyStore

from harness.choices.program import operation_count
from harness.scenario.runner import record_scenario, replay_program
from harness.scenario.verdict import Answer, Counters
from harness.scenario.violation import Violation
from harness.scenario.watchdog import Watchdog
from harness.search.check import check
from harness.shrink.shrink import shrink
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode, Spec
from harness.world import medium as medium_module
from harness.world.power import NoProgress

ZONED, _ = CONFIGURATIONS


class LoopingStore(ToyStore):
    """Never comes back from a put once it holds two keys."""

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        while len(self.entries) >= 2:
            pass
        return super().put(key, payload)


class WritingStore(ToyStore):
    """Writes for ever once it holds two keys."""

    def flush(self) -> None:
        while len(self.entries) >= 2:
            self.medium.reset(0)
        super().flush()


class SwallowingStore(LoopingStore):
    """Takes whatever strikes it for no reason to stop."""

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        try:
            return super().put(key, payload)
        except BaseException:
            return super().put(key, payload)


def looping(store: type[ToyStore]) -> Spec:
    return replace(SPEC, system=lambda world: store(world), step_seconds_max=0.2)


def violation_of(spec: Spec) -> Violation:
    verdict = check(spec, Mode.CONFORMANCE, scenarios=200)
    assert verdict.answer is Answer.VIOLATED, verdict.reason
    assert verdict.run is not None
    assert verdict.run.violation is not None
    return verdict.run.violation


@pytest.mark.parametrize("store", [LoopingStore, SwallowingStore])
def test_a_loop_is_interrupted_and_named(store: type[ToyStore]) -> None:
    found = violation_of(looping(store))
    assert found.signature == ("no progress", "put")


def test_a_loop_that_writes_meets_its_bound_before_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medium_module, "ENTRIES_MAX", 100)
    found = violation_of(replace(looping(WritingStore), step_seconds_max=60.0))
    assert found.property == "no progress"
    assert "100 writes" in found.answered


def test_it_is_shrunk_and_replayed_like_any_other() -> None:
    one_by_one = [operation for operation in SPEC.operations if operation.name != "put_group"]
    plan = compile_plan(replace(looping(LoopingStore), operations=one_by_one), ZONED, Mode.CONFORMANCE)
    run = next(run for seed in range(100) if (run := record_scenario(plan, seed)).violation is not None)
    assert run.violation is not None
    result = shrink(plan, run.program, run.violation)
    assert operation_count(result.program) == 3  # two puts of different keys, and the one that loops
    assert result.one_minimal
    again = replay_program(plan, result.program, strict=True).violation
    assert again is not None
    assert again.signature == ("no progress", "put")


def test_the_timer_is_given_back() -> None:
    with Watchdog(Counters().progress, 5.0):
        assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_somebody_elses_timer_is_left_alone() -> None:
    def theirs(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGALRM, theirs)
    try:
        with Watchdog(Counters().progress, 5.0):
            assert signal.getsignal(signal.SIGALRM) is theirs
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_step_that_goes_on_is_not_late() -> None:
    """Whatever the clock says: what is counted goes on."""
    counters = Counters()

    def go_on_for_a_while() -> None:
        with Watchdog(counters.progress, 0.1):
            while True:
                counters.operations += counters.operations < 1_000_000

    with pytest.raises(NoProgress):
        go_on_for_a_while()
    assert counters.operations == 1_000_000
