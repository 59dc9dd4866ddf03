"""Same program, same code: same history, byte for byte; and a step's choices are its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from every_spec import SPECS

from harness.choices.program import Program, Step
from harness.scenario.runner import record_scenario, replay_program
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode, Spec

SEEDS = range(5)
ROOT = Path(__file__).parent.parent.parent


def digest(seeds: range) -> str:
    """One number for the histories of all specs."""
    total = hashlib.sha256()
    for spec in SPECS:
        for configuration in spec.configurations:
            for seed in seeds:
                run = record_scenario(compile_plan(spec, configuration, Mode.CRASH), seed)
                total.update("\n".join(run.history).encode())
    return total.hexdigest()


def test_the_same_seed_gives_the_same_history_under_any_hash_seed() -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_determinism as t; "
    program += f"print(t.digest(range({len(SEEDS)})))"
    found = {digest(SEEDS)}
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_recorded_program_replays_to_the_same_history(spec: Spec) -> None:
    for seed in SEEDS:
        run = record_scenario(compile_plan(spec, spec.configurations[0], Mode.CRASH), seed)
        again = replay_program(compile_plan(spec, spec.configurations[0], Mode.CRASH), run.program, strict=True)
        assert again.history == run.history
        assert again.program == run.program


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_removing_a_step_leaves_every_other_choice_as_it_was(spec: Spec) -> None:
    """Whatever the other steps still ask for has the value it had; nothing is shifted to another name."""
    run = record_scenario(compile_plan(spec, spec.configurations[0], Mode.CRASH), 5)
    for gone in run.program.steps:
        shorter = run.program.without([gone.identity])
        assert shorter.steps == tuple(step for step in run.program.steps if step.identity != gone.identity)
        ran = replay_program(compile_plan(spec, spec.configurations[0], Mode.CRASH), shorter, strict=False).program
        assert_choices_kept(run.program, ran)


def assert_choices_kept(before: Program, after: Program) -> None:
    recorded: dict[int, Step] = {step.identity: step for step in before.steps}
    for step in after.steps:
        old = recorded.get(step.identity)
        for name, value in step.choices.items():
            # Lenient replay clamps what has fewer options now, so a value may be smaller, never another choice's.
            assert old is not None
            assert old.operation == step.operation
            assert value <= old.choices.get(name, 0)
