"""Running scenarios of a plan: as fast as possible, recorded, or from a recorded program.

The same program with the same code gives the same history, byte for byte. An unrecorded run builds neither program nor
history, but makes the same choices as a recorded run from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.choices.program import Program
from harness.choices.random_policy import random_tape
from harness.choices.replay_policy import replay_tape
from harness.choices.tape import Tape
from harness.scenario.history import Event
from harness.scenario.scenario import Scenario
from harness.scenario.side_by_side import Watcher
from harness.scenario.verdict import Counters, Run
from harness.scenario.violation import Violated, Violation
from harness.scenario.watchdog import Watchdog
from harness.spec.plan import Plan


def run_plan(
    plan: Plan,
    tape: Tape,
    counters: Counters,
    history: list[Event] | None = None,
    watch: Callable[[Scenario], Watcher] | None = None,
) -> Violation | None:
    """Run one scenario and add what it did to ``counters``. The caller must see to a `Watchdog`, if it wants one."""
    tape.begin(plan.mix)
    scenario = Scenario(plan, tape, counters, history)
    if watch is not None:
        scenario.watcher = watch(scenario)
    try:
        scenario.perform_all()
        scenario.finish()
    except Violated as stop:
        return stop.violation
    tape.close()  # not after a violation, which may come before the end of a recorded program
    return None


def run_recorded(plan: Plan, tape: Tape) -> Run:
    """Run one scenario and keep its program and history. The tape must record."""
    counters = Counters()
    history: list[Event] = []
    with Watchdog(counters.progress, plan.spec.step_seconds_max):
        violation = run_plan(plan, tape, counters, history)
    return Run(violation, counters, tape.program(), tuple(history))


def record_scenario(plan: Plan, seed: int) -> Run:
    """Run and record the scenario that a random tape gives from this seed."""
    return run_recorded(plan, random_tape(seed, recording=True))


def replay_program(plan: Plan, program: Program, *, strict: bool) -> Run:
    """Run a program again. The program of the resulting run has only the choices that were asked for.

    If strict, raises `NoLongerApplies` where the program does not fit the code; else skips whatever does not fit.
    """
    return run_recorded(plan, replay_tape(program, strict=strict))
