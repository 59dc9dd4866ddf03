"""Checking a spec with many random scenarios.

Scenario ``i`` of seed ``s`` is the run of `RandomSource` from ``scenario_seed(s, i)``, whatever ran before it and
wherever: work can be cut anywhere by ``first_scenario``. The clock decides when to stop and nothing else.

*Violated* comes with the first failing run, recorded. *Unknown* is the answer where no scenario ran, where a crash
check saw no interesting crash, and where a failing scenario did not fail the same way when run again.
Never *holds*: random scenarios prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from harness.choices.sources import RandomSource
from harness.scenario.runner import record_scenario, run_plan
from harness.scenario.verdict import Answer, Counters, Failure, Mode, Run, Verdict
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Configuration, Spec

SCENARIOS_DEFAULT = 1_000
PROGRESS_INTERVAL_SECONDS = 0.5

_MASK = (1 << 64) - 1


def scenario_seed(seed: int, scenario: int) -> int:
    """SplitMix64 of the seed and the scenario's index: 64 bits that neighbours do not share."""
    mixed = (seed * 0xD1342543DE82EF95 + (scenario + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return mixed ^ mixed >> 31


def check(
    spec: Spec,
    mode: Mode,
    *,
    configuration: str | None = None,
    scenarios: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    first_scenario: int = 0,
    progress: Callable[[Counters, float], None] | None = None,
    begin: Callable[[int], None] | None = None,
) -> Verdict:
    """Run scenarios until one fails or the first of the budgets is used up.

    ``progress`` is called now and then, ``begin`` with the number of every scenario before it runs.
    Without a ``configuration`` the spec's first is used; without a budget `SCENARIOS_DEFAULT` scenarios are run.
    """
    if not __debug__:
        raise RuntimeError("the harness does not run under python -O: invariants are assertions too")
    if scenarios is None and seconds is None:
        scenarios = SCENARIOS_DEFAULT
    chosen = _find_configuration(spec, configuration)
    plan = compile_plan(spec, chosen, mode)
    counters = Counters()
    started = perf_counter()
    if mode is Mode.CRASH and not plan.menu.crashes:
        reason = "the spec has no Crash operation"
        return Verdict(spec.name, mode, chosen.name, Answer.UNKNOWN, counters, 0.0, reason, seed=seed)
    scenario, failure = _run_until_failure(plan, counters, seed, first_scenario, scenarios, seconds, progress, begin)
    run = None if failure is None else record_scenario(spec, chosen, mode, scenario_seed(seed, scenario))
    answer, reason = _conclude(counters, mode, failure, run)
    return Verdict(
        spec=spec.name,
        mode=mode,
        configuration=chosen.name,
        answer=answer,
        counters=counters,
        seconds=perf_counter() - started,
        reason=reason,
        run=run,
        seed=seed,
        scenario=None if failure is None else scenario,
    )


def _find_configuration(spec: Spec, name: str | None) -> Configuration:
    for configuration in spec.configurations:
        if name is None or configuration.name == name:
            return configuration
    known = ", ".join(configuration.name for configuration in spec.configurations)
    raise SpecError(f"spec {spec.name!r} has no configuration {name!r}; it has: {known or 'none'}")


def _run_until_failure(
    plan: Plan,
    counters: Counters,
    seed: int,
    first_scenario: int,
    scenarios: int | None,
    seconds: float | None,
    progress: Callable[[Counters, float], None] | None,
    begin: Callable[[int], None] | None,
) -> tuple[int, Failure | None]:
    """The last scenario that ran, and how it failed."""
    started = now = perf_counter()
    next_report = started + PROGRESS_INTERVAL_SECONDS
    scenario = first_scenario
    while (scenarios is None or scenario < first_scenario + scenarios) and (seconds is None or now - started < seconds):
        if begin is not None:
            begin(scenario)
        failure = run_plan(plan, RandomSource(scenario_seed(seed, scenario)), counters)
        if failure is not None:
            return scenario, failure
        scenario += 1
        now = perf_counter()
        if progress is not None and now >= next_report:
            progress(counters, now - started)
            next_report = now + PROGRESS_INTERVAL_SECONDS
    return scenario, None


def _conclude(counters: Counters, mode: Mode, failure: Failure | None, run: Run | None) -> tuple[Answer, str]:
    if failure is not None:
        if run is None or run.failure != failure:
            return Answer.UNKNOWN, f"not deterministic: {failure.property} at {failure.place} did not show again"
        return Answer.VIOLATED, f"{failure.property} at {failure.place}"
    if not counters.scenarios:
        return Answer.UNKNOWN, "no scenario was run"
    if mode is Mode.CRASH and not counters.crashes_interesting:
        return Answer.UNKNOWN, f"none of {counters.crashes} crashes was interesting"
    return Answer.NONE_FOUND, ""
