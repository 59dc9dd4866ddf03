"""Checking a spec with many random scenarios.

Scenario ``i`` of seed ``s`` is the run of a random tape from ``scenario_seed(s, i)``, whatever ran before it and in
which process. So ``first_scenario`` can cut the work anywhere. The clock decides when to stop and nothing else.

*Violated* comes with the first failing run, recorded. *Unknown* has one of three reasons: no scenario ran, a crash
check saw no lossy crash, or what failed, a scenario or an aside, did not fail in the same way when run again. The
answer is never *holds*: random scenarios prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from harness.choices.random_policy import random_tape, scenario_seed
from harness.choices.tape import Tape
from harness.scenario.runner import replay_program, run_plan, run_recorded
from harness.scenario.verdict import Answer, Counters, Run, Verdict
from harness.scenario.violation import Violation
from harness.scenario.watchdog import Watchdog
from harness.search.asides import Asides, Place, crashed_at, fine_crash
from harness.search.reach import Reach, reach_of
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Configuration, Mode, Spec
from harness.world.faults import Site

SCENARIOS_DEFAULT = 1_000
PROGRESS_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """Scenarios of one seed, from ``first_scenario`` on: this number of them, or as many as there is time for.

    It makes the tapes, so that another way to decide is a field of it.
    """

    seed: int = 0
    first_scenario: int = 0
    scenarios: int | None = None
    seconds: float | None = None
    has_asides: bool = True  # to judge states beside the runs, in crash mode

    def tape(self, scenario: int, *, recording: bool = False) -> Tape:
        return random_tape(scenario_seed(self.seed, scenario), recording=recording)


def check(
    spec: Spec,
    mode: Mode,
    *,
    configuration: str | None = None,
    scenarios: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    first_scenario: int = 0,
) -> Verdict:
    """Run scenarios until one fails, or a budget (``scenarios`` or ``seconds``) is used up.

        verdict = check(SPEC, Mode.CRASH, configuration="zoned", scenarios=1_000)
        assert verdict.answer is Answer.NONE_FOUND, verdict.reason

    Without a ``configuration`` it takes the spec's first; without a budget it runs `SCENARIOS_DEFAULT` scenarios.

    Raises `SpecError` if the spec cannot be run or has no such configuration, and `RuntimeError` under ``python -O``.
    """
    if scenarios is None and seconds is None:
        scenarios = SCENARIOS_DEFAULT
    return check_sample(spec, mode, Sample(seed, first_scenario, scenarios, seconds), configuration)


def check_sample(
    spec: Spec,
    mode: Mode,
    sample: Sample,
    configuration: str | None = None,
    *,
    progress: Callable[[Counters, float], None] | None = None,
    begin: Callable[[int], None] | None = None,
    reach: Reach | None = None,
) -> Verdict:
    """Check a sample, as `check` does; without a budget in it, until something fails.

    ``progress`` is called now and then with the counters and the seconds so far. ``begin`` is called with the number
    of each scenario before that runs. ``reach`` is that of the spec's events unless given.
    """
    if not __debug__:
        raise RuntimeError("the harness does not run under python -O: invariants are assertions too")
    chosen = _find_configuration(spec, configuration)
    plan = compile_plan(spec, chosen, mode)
    counters = Counters()
    started = perf_counter()
    if mode not in spec.modes:
        reason = f"the spec has no {mode.needs} operation"
        return Verdict(spec.name, mode, chosen.name, Answer.UNKNOWN, counters, 0.0, reason, seed=sample.seed)
    with Watchdog(counters.progress, spec.step_seconds_max), reach or reach_of(spec) as reach:
        scenario, violation, place = _run_until_violation(plan, counters, sample, reach, progress, begin)
    # The runs above record nothing, which makes them fast; the failing one is run again and recorded.
    run = None if violation is None else run_recorded(plan, sample.tape(scenario, recording=True))
    if place is not None:
        run = run_recorded(plan, sample.tape(scenario, recording=True))
        run = replay_program(plan, crashed_at(plan, run.program, place), strict=False)
        violation = run.violation
        if violation is None:
            reason = f"not deterministic: the aside at step {place.step} of scenario {scenario} did not show again"
            seconds = perf_counter() - started
            return Verdict(spec.name, mode, chosen.name, Answer.UNKNOWN, counters, seconds, reason, seed=sample.seed)
    answer, reason = _conclude(plan, counters, violation, run)
    return Verdict(
        spec=spec.name,
        mode=mode,
        configuration=chosen.name,
        answer=answer,
        counters=counters,
        seconds=perf_counter() - started,
        reason=reason,
        run=run,
        seed=sample.seed,
        scenario=None if run is None else scenario,
    )


def _find_configuration(spec: Spec, name: str | None) -> Configuration:
    for configuration in spec.configurations:
        if name is None or configuration.name == name:
            return configuration
    known = ", ".join(configuration.name for configuration in spec.configurations)
    raise SpecError(f"spec {spec.name!r} has no configuration {name!r}; it has: {known or 'none'}")


def _run_until_violation(
    plan: Plan,
    counters: Counters,
    sample: Sample,
    reach: Reach,
    progress: Callable[[Counters, float], None] | None,
    begin: Callable[[int], None] | None,
) -> tuple[int, Violation | None, Place | None]:
    """The scenario that failed, with its violation or the place of a failing aside; or the next scenario and None."""
    started = now = perf_counter()
    next_report = started + PROGRESS_INTERVAL_SECONDS
    scenario, seconds = sample.first_scenario, sample.seconds
    has_asides = sample.has_asides and fine_crash(plan) is not None
    end = None if sample.scenarios is None else scenario + sample.scenarios
    while (end is None or scenario < end) and (seconds is None or now - started < seconds):
        if begin is not None:
            begin(scenario)
        asides = Asides(scenario_seed(sample.seed, scenario)) if has_asides else None
        violation = run_plan(plan, sample.tape(scenario), counters, watch=None if asides is None else asides.watch)
        reach.count(counters)
        if violation is not None:
            return scenario, violation, None
        if asides is not None and asides.found is not None:
            return scenario, None, asides.found
        scenario += 1
        now = perf_counter()
        if progress is not None and now >= next_report:
            progress(counters, now - started)
            next_report = now + PROGRESS_INTERVAL_SECONDS
    return scenario, None, None


def _conclude(plan: Plan, counters: Counters, violation: Violation | None, run: Run | None) -> tuple[Answer, str]:
    if violation is not None:
        if run is None or run.violation != violation:
            return Answer.UNKNOWN, f"not deterministic: {violation.property} at {violation.place} did not show again"
        return Answer.VIOLATED, f"{violation.property} at {violation.place}"
    mode = plan.mode
    if not counters.scenarios:
        return Answer.UNKNOWN, "no scenario was run"
    if mode is Mode.CRASH and not counters.crashes_lossy:
        return Answer.UNKNOWN, f"none of {counters.crashes} crashes was lossy"
    never_refused = [call for call in plan.fault_calls if not counters.refused(Site[call.upper()])]
    if mode is Mode.FAULTS and never_refused:
        return Answer.UNKNOWN, f"no {' and no '.join(never_refused)} was refused"
    return Answer.NONE_FOUND, ""
