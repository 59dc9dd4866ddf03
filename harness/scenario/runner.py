"""Running scenarios: once as fast as possible, recorded, or from a recorded program.

Same program, same code: same history, byte for byte. An unrecorded run builds neither program nor history and makes
the same choices as a recorded one from the same source.
"""

from __future__ import annotations

from harness.choices.program import Program
from harness.choices.sources import NoLongerApplies, RandomSource, RecordingSource, ReplaySource, Source
from harness.scenario.failures import ScenarioFailed
from harness.scenario.history import History
from harness.scenario.scenario import Scenario
from harness.scenario.verdict import Counters, Failure, Mode, Run
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Configuration, Spec

__all__ = [
    "NoLongerApplies",
    "SpecError",
    "record_scenario",
    "replay_program",
    "run_plan",
    "run_scenario",
]

_last_plan: Plan | None = None


def run_scenario(spec: Spec, configuration: Configuration, mode: Mode, source: Source, *, record: bool = False) -> Run:
    """One scenario. With ``record`` the run has its program and history."""
    plan = _plan_for(spec, configuration, mode)
    counters = Counters()
    if not record:
        return Run(run_plan(plan, source, counters), counters)
    recording = RecordingSource(source)
    history = History()
    failure = run_plan(plan, recording, counters, history)
    return Run(failure, counters, recording.program(), tuple(history.lines))


def record_scenario(spec: Spec, configuration: Configuration, mode: Mode, seed: int) -> Run:
    """The scenario that `RandomSource` gives from this seed, recorded."""
    return run_scenario(spec, configuration, mode, RandomSource(seed), record=True)


def replay_program(spec: Spec, configuration: Configuration, mode: Mode, program: Program, *, strict: bool) -> Run:
    """Run a program again. The run's own program has only the choices that were asked for.

    Strict: raises `NoLongerApplies` where the program does not fit the code. Otherwise what does not fit is skipped.
    """
    return run_scenario(spec, configuration, mode, ReplaySource(program, strict=strict), record=True)


def run_plan(plan: Plan, source: Source, counters: Counters, history: History | None = None) -> Failure | None:
    """One scenario of a compiled plan; what it did is added to ``counters``."""
    source.begin(plan.menu)
    scenario = Scenario(plan, source, counters, history)
    try:
        scenario.perform_all()
        scenario.finish()
    except ScenarioFailed as stop:
        return stop.failure
    source.close()
    return None


def _plan_for(spec: Spec, configuration: Configuration, mode: Mode) -> Plan:
    """Compiling again for each of the thousands of candidates of one shrink would be a waste; keep the last plan."""
    global _last_plan
    plan = _last_plan
    if plan is None or plan.spec is not spec or plan.configuration is not configuration or plan.mode is not mode:
        plan = _last_plan = compile_plan(spec, configuration, mode)
    return plan
