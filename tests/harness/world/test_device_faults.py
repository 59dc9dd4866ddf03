"""A fault of a medium needs the medium alone: it asks the tape, tells the history, and is replayed like any choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_store import CONFIGURATIONS, SPEC

from harness.choices.program import format_program, parse_program
from harness.scenario.runner import record_scenario, replay_program
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode
from harness.world.medium import SimulatedMedium

ZONED, _ = CONFIGURATIONS


@pytest.fixture
def _refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other write is refused, as the tape chooses."""
    write = SimulatedMedium.write

    def refuse_or_write(medium: SimulatedMedium, extent: int, page: int, data: bytes) -> None:
        position = medium._position
        if position.choose("device", 2):
            if position.say is not None:
                position.say(f"refused: a write to extent {extent}")
            raise OSError("refused")
        write(medium, extent, page, data)

    monkeypatch.setattr(SimulatedMedium, "write", refuse_or_write)


@pytest.mark.usefixtures("_refusing")
def test_what_a_medium_chooses_is_recorded_told_and_replayed() -> None:
    plan = compile_plan(replace(SPEC, excuses=(*SPEC.excuses, OSError)), ZONED, Mode.CONFORMANCE)
    refused_count = 0
    for seed in range(20):
        run = record_scenario(plan, seed)
        told = [line for line in run.history if "refused: a write to extent" in line]
        refused_count += len(told)
        again = replay_program(plan, parse_program(format_program(run.program)), strict=True)
        assert again.history == run.history
        chosen = {name for step in run.program.steps for name in step.choices if name.startswith("device.")}
        assert bool(told) <= bool(chosen)
    assert refused_count
