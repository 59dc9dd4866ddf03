"""The checker on the toy store: clean it finds nothing, and each planted bug under the property meant for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from toy_store import BUGS, CONFORMANCE_BUGS, SPEC, toy_spec

from harness.choices.random_policy import random_tape, scenario_seed
from harness.scenario.runner import record_scenario, run_plan
from harness.scenario.verdict import Answer, Counters
from harness.search.check import Sample, check, check_sample
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Background, Crash, Mode

CONFIGURATION_NAMES = [configuration.name for configuration in SPEC.configurations]
# The rarest of the bugs, "group in pieces", shows in about one of 70 scenarios: 1,500 miss it once in 10**9.
SCENARIOS_MAX = 1_500


@pytest.mark.parametrize("configuration", CONFIGURATION_NAMES)
@pytest.mark.parametrize("mode", SPEC.modes)
def test_nothing_is_found_in_the_clean_store(mode: Mode, configuration: str) -> None:
    verdict = check(SPEC, mode, configuration=configuration, scenarios=400)
    assert verdict.answer is Answer.NONE_FOUND
    assert verdict.run is None
    assert verdict.counters.scenarios == 400
    assert verdict.counters.crashes_lossy > 20 or mode is Mode.CONFORMANCE


@pytest.mark.parametrize(
    ("bug", "configuration"),
    [
        (bug, configuration)
        for bug in BUGS
        for configuration in CONFIGURATION_NAMES
        if (bug, configuration) != ("write off the pointer", "file")  # a file has no pointer to be off
    ],
)
def test_each_planted_bug_is_found(bug: str, configuration: str) -> None:
    mode = Mode.CONFORMANCE if bug in CONFORMANCE_BUGS else Mode.CRASH
    # a bug may be caught by a more general property first, so look until the one meant for it has shown
    properties: set[str] = set()
    first = 0
    while BUGS[bug] not in properties:
        verdict = check(
            toy_spec(bug), mode, configuration=configuration, scenarios=SCENARIOS_MAX - first, first_scenario=first
        )
        assert verdict.answer is Answer.VIOLATED, f"only {properties}"
        assert verdict.run is not None
        assert verdict.run.violation is not None
        assert verdict.run.program.steps
        assert verdict.run.history
        assert verdict.scenario is not None
        properties.add(verdict.run.violation.property)
        first = verdict.scenario + 1


def test_a_failing_scenario_can_be_recorded_from_its_seed() -> None:
    spec = toy_spec("barrier left out")
    verdict = check(spec, Mode.CRASH, scenarios=500, seed=7)
    assert verdict.scenario is not None
    again = record_scenario(compile_plan(spec, spec.configurations[0], Mode.CRASH), scenario_seed(7, verdict.scenario))
    assert again == verdict.run


def test_work_can_be_cut_anywhere() -> None:
    whole = check(SPEC, Mode.CRASH, scenarios=60)
    parts = [check(SPEC, Mode.CRASH, scenarios=30, first_scenario=first) for first in (0, 30)]
    total = Counters()
    for part in parts:
        total.add(part.counters)
    assert total == whole.counters


def test_seeds_of_neighbours_share_nothing() -> None:
    seeds = {scenario_seed(seed, scenario) for seed in range(30) for scenario in range(300)}
    assert len(seeds) == 9_000
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_no_lossy_crash_is_unknown() -> None:
    flushed = replace(SPEC, operations=[Crash()])
    verdict = check(flushed, Mode.CRASH, scenarios=20)
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.counters.crashes > 0
    assert "lossy" in verdict.reason


def test_a_spec_without_crashes_cannot_be_crash_checked() -> None:
    calm = replace(SPEC, operations=[Background("flush")])
    verdict = check(calm, Mode.CRASH, scenarios=20)
    assert verdict.answer is Answer.UNKNOWN
    assert "no Crash" in verdict.reason


def test_nothing_run_is_unknown() -> None:
    assert check(SPEC, Mode.CONFORMANCE, seconds=0.0).answer is Answer.UNKNOWN


def test_a_failure_that_does_not_show_again_is_unknown() -> None:
    opened: list[int] = []

    def open_once_broken(world: object) -> object:
        opened.append(1)
        if len(opened) == 3:
            raise ZeroDivisionError
        return SPEC.system(world)

    verdict = check(replace(SPEC, system=open_once_broken), Mode.CONFORMANCE, scenarios=5)
    assert verdict.answer is Answer.UNKNOWN
    assert "deterministic" in verdict.reason


def test_an_unknown_configuration_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="zoned, file"):
        check(SPEC, Mode.CRASH, configuration="tape")


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("harness.search.check")  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "PROGRESS_INTERVAL_SECONDS", 0.0)
    seen: list[int] = []
    sample = Sample(scenarios=3)
    check_sample(SPEC, Mode.CONFORMANCE, sample, progress=lambda counters, _: seen.append(counters.scenarios))
    assert seen == [1, 2, 3]


def test_refuses_to_run_without_assertions() -> None:
    script = "from harness.search.check import check; check(None, None)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-O", "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python -O" in done.stderr


HISTORIES = """
import sys
sys.path.insert(0, "tests/toys")
from toy_store import toy_spec
from harness.choices.program import format_program
from harness.choices.random_policy import scenario_seed
from harness.scenario.runner import record_scenario
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode
spec = toy_spec("group in pieces")
for scenario in range(25):
    for configuration in spec.configurations:
        run = record_scenario(compile_plan(spec, configuration, Mode.CRASH), scenario_seed(0, scenario))
        print(format_program(run.program), *run.history, run.violation, run.counters, sep="\\n")
"""


def test_runs_do_not_depend_on_the_hash_seed() -> None:
    root = Path(__file__).parents[3]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", HISTORIES],
            cwd=root,
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
        ).stdout
        for hash_seed in ("0", "4711")
    ]
    assert len(outputs[0]) > 10_000
    assert outputs[0] == outputs[1]


def test_running_many_leaves_nothing_behind_in_the_plan() -> None:
    plan = compile_plan(SPEC, SPEC.configurations[0], Mode.CRASH)
    alone = Counters()
    run_plan(plan, random_tape(5), alone)
    for seed in range(20):
        run_plan(plan, random_tape(seed), Counters())
    again = Counters()
    run_plan(plan, random_tape(5), again)
    assert again == alone
