"""The bridge to Hypothesis: a recorded program is handed over whole, and comes back at its known minimum."""

from __future__ import annotations

import hypothesis
import pytest
from toy_store import CONFIGURATIONS, toy_spec

from harness.choices.program import Program, Step
from harness.scenario.runner import record_scenario, replay_program, run_scenario
from harness.scenario.verdict import Mode, Run
from harness.search.check import check
from harness.shrink.passes import cost, operation_count
from harness.testing.hypothesis_bridge import DrawnSource, shrink_values, transcribe

ZONED, FILE = CONFIGURATIONS


def test_the_version_is_the_one_whose_insides_are_known() -> None:
    assert hypothesis.__version_info__[:2] == (6, 170)


def played(spec_bug: str, choices: list[int], steps_max: int, mode: Mode) -> Run:
    """Run with the choices in order, as Hypothesis would give them."""
    stream = iter(choices)
    source = DrawnSource(lambda: bool(next(stream)), lambda _, count: next(stream), steps_max)
    run = run_scenario(toy_spec(spec_bug), ZONED, mode, source, record=True)
    assert not list(stream), "choices are left over"
    return run


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("seed", range(8))
def test_a_program_written_down_plays_back_as_the_same_run(mode: Mode, seed: int) -> None:
    spec = toy_spec()
    run = record_scenario(spec, ZONED, mode, seed)
    again = played("", transcribe(spec, ZONED, mode, run.program), len(run.program.steps), mode)
    assert without_identities(again.history) == without_identities(run.history)


def without_identities(history: tuple[str, ...]) -> list[str]:
    return [line.split(" ", 1)[1] for line in history]


def failing(bug: str, mode: Mode, seed: int = 0) -> Run:
    verdict = check(toy_spec(bug), mode, configuration=ZONED.name, scenarios=3_000, seed=seed)
    assert verdict.run is not None
    return verdict.run


def test_a_recorded_failure_comes_back_at_its_known_minimum() -> None:
    """Two operations, put and delete of the simplest key; the end shows that the delete is forgotten."""
    run = failing("tombstones forgotten at opening", Mode.CONFORMANCE, seed=1)
    assert run.failure is not None
    assert operation_count(run.program) > 2
    shrunk = shrink_values(
        toy_spec("tombstones forgotten at opening"), ZONED, Mode.CONFORMANCE, run.program, run.failure.signature
    )
    assert shrunk is not None
    assert [(step.operation, dict(step.choices)) for step in shrunk.steps] == [("put", {}), ("delete", {})]


def test_a_crash_is_handed_over_with_its_survivors() -> None:
    spec = toy_spec("barrier left out")
    run = failing("barrier left out", Mode.CRASH)
    assert run.failure is not None
    shrunk = shrink_values(spec, ZONED, Mode.CRASH, run.program, run.failure.signature)
    assert shrunk is not None
    assert operation_count(shrunk) == 3
    again = replay_program(spec, ZONED, Mode.CRASH, shrunk, strict=True)
    assert again.failure is not None
    assert again.failure.signature == run.failure.signature


def test_it_gives_the_same_every_time_and_nothing_where_nothing_is_simpler() -> None:
    spec = toy_spec("barrier left out")
    run = failing("barrier left out", Mode.CRASH, seed=1)
    assert run.failure is not None
    first = shrink_values(spec, ZONED, Mode.CRASH, run.program, run.failure.signature)
    assert first == shrink_values(spec, ZONED, Mode.CRASH, run.program, run.failure.signature)
    assert first is not None
    assert shrink_values(spec, ZONED, Mode.CRASH, first, run.failure.signature) is None


def test_a_bound_on_candidates_still_gives_the_best_so_far() -> None:
    spec = toy_spec("tombstones forgotten at opening")
    run = failing("tombstones forgotten at opening", Mode.CONFORMANCE)
    assert run.failure is not None
    shrunk = shrink_values(spec, ZONED, Mode.CONFORMANCE, run.program, run.failure.signature, candidates_max=10)
    assert shrunk is None or cost(shrunk) < cost(run.program)


def test_a_program_past_what_is_replayed_is_left_alone() -> None:
    program = Program(tuple(Step(identity, "put", {"payload.1": 7}) for identity in range(1, 3_000)))
    signature = ("conformance", "put")
    assert shrink_values(toy_spec("deleted key still there"), ZONED, Mode.CONFORMANCE, program, signature) is None
