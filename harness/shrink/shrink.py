"""Shrinking: from a failing program to a 1-minimal one.

A candidate counts only if it breaks the same property at the same kind of place (`Violation.signature`). The `passes`
run first. Then suggestions give them other programs to start from, and the simplest outcome is kept. Each leads out of
another kind of local minimum:

    redraw    the same steps without one, and with other choices, those of crashes above all: for a step that can only
              go if several choices change with it
    rewrite   near programs as they are (`rewrites`): for one thing that must take the place of another
    again     random programs that fail with the same signature, first about as short, then of any length: for a shorter
              program that needs other operations
    swap      a step less, and one other operation in the place of another: for two steps that do as much as one of
              a different kind

A limit of seconds, or Ctrl-C, ends the search with the best program so far, which is then not called 1-minimal.

A program that hangs is shrunk by the passes alone, since each candidate that hangs costs its whole bound of seconds. A
search that reaches its bound on candidates is not called 1-minimal. Not promised: that no shorter program exists, only
that none is one change away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from harness.choices.program import Program, operation_count
from harness.choices.random_policy import random_tape
from harness.choices.replay_policy import varying_tape
from harness.choices.script import NoLongerApplies
from harness.scenario.runner import record_scenario, replay_program, run_plan, run_recorded
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violation
from harness.scenario.watchdog import Watchdog
from harness.shrink.passes import CANDIDATES_MAX, BoundReached, PassCounters, Search, Suggest, always_go_on, minimise
from harness.shrink.rewrites import calmed, elsewhere, enclosed, fewer, joined, moved, refitted, swapped, turned
from harness.spec.plan import Plan, compile_plan

REDRAW_STEPS_MAX = 20
REDRAWS_COUNT = 2_000  # shared among the steps that may be left out
SWAPS_COUNT = 4_000  # shared among all swaps of one program
AGAIN_SCENARIOS_MAX = 600  # of about the same length, and again of any length
AGAIN_FAILURES_MAX = 10
REWRITES_MAX = 3_000  # of each kind, for one program
HANGING_SECONDS_MAX = 0.5


class NotReproducedError(Exception):
    """The program to be shrunk does not fail in the way it should."""


@dataclass(frozen=True, slots=True)
class ShrinkResult:
    """A failing program that no pass makes simpler. ``one_minimal``: it was tried and is 1-minimal.

    ``stopped`` says what ended the search early, in words; empty if nothing did.
    """

    program: Program
    violation: Violation
    passes: Mapping[str, PassCounters]
    errors: int  # candidates that made the spec or the harness itself raise an error
    seconds: float
    one_minimal: bool
    stopped: str = ""


INTERRUPTED = "interrupted"


class _Deadline:
    """Ends a search once its seconds are over."""

    def __init__(self, started: float, seconds_max: float | None) -> None:
        self._end = None if seconds_max is None else started + seconds_max
        self.is_over = False

    def __call__(self) -> None:
        if self._end is not None and time.perf_counter() >= self._end:
            self.is_over = True
            raise BoundReached


class Reproducer:
    """Replays candidates leniently: missing choices read zero, and misfits are clamped or ignored."""

    def __init__(self, plan: Plan, signature: tuple[str, str]) -> None:
        self._plan = plan
        self._signature = signature
        self.errors = 0

    def __call__(self, candidate: Program) -> Program | None:
        try:
            run = replay_program(self._plan, candidate, strict=False)
        except NoLongerApplies:
            return None
        except Exception:  # a candidate that breaks the spec or the harness is not the failure looked for
            self.errors += 1
            return None
        if run.violation is None or run.violation.signature != self._signature:
            return None
        return run.program


def shrink(
    plan: Plan,
    program: Program,
    violation: Violation,
    *,
    candidates_max: int = CANDIDATES_MAX,
    seconds_max: float | None = None,
) -> ShrinkResult:
    """Make a failing program minimal; raises `NotReproducedError` if it does not fail like ``violation``.

    The search ends early after ``seconds_max``, or by a `KeyboardInterrupt`: then the result depends on the machine.
    """
    started = time.perf_counter()
    is_hanging = violation.property == "no progress"
    if is_hanging:  # each candidate that hangs takes the whole bound, so make the bound short
        step_seconds_max = min(plan.spec.step_seconds_max, HANGING_SECONDS_MAX)
        plan = replace(plan, spec=replace(plan.spec, step_seconds_max=step_seconds_max))
    reproduce = Reproducer(plan, violation.signature)
    as_it_ran = reproduce(program)
    if as_it_ran is None:
        raise NotReproducedError(f"the program does not break {violation.property} at {violation.place}")
    deadline = _Deadline(started, seconds_max)
    search = Search(reproduce, as_it_ran, candidates_max, deadline)
    stopped = ""
    try:
        one_minimal = minimise(search, [] if is_hanging else _suggestions(plan, violation.signature, deadline))
        if deadline.is_over:
            stopped = f"stopped after {seconds_max:g} s"
    except KeyboardInterrupt:
        one_minimal, stopped = False, INTERRUPTED
    final = _strict_violation(plan, search.best)
    alike = final is not None and final.signature == violation.signature
    return ShrinkResult(
        search.best,
        final if final is not None and alike else violation,
        search.passes,
        reproduce.errors,
        time.perf_counter() - started,
        one_minimal and alike,
        stopped,
    )


def _suggestions(plan: Plan, signature: tuple[str, str], before_run: Callable[[], None]) -> list[tuple[str, Suggest]]:
    """What leads out of local minima, in the order in which it is tried; see the module."""

    def redraw(best: Program) -> Iterator[Program]:
        return redrawn_failures(plan, signature, best, before_run=before_run)

    def redraw_on(best: Program) -> Iterator[Program]:
        return redrawn_failures(plan, signature, best, first_seed=REDRAWS_COUNT, before_run=before_run)

    def swap(best: Program) -> Iterator[Program]:
        return swapped_failures(plan, signature, best, before_run=before_run)

    def again(best: Program) -> Iterator[Program]:
        return similar_failures(plan, signature, operation_count(best), before_run=before_run)

    def rewrites(best: Program) -> Iterator[Program]:
        if operation_count(best) <= REDRAW_STEPS_MAX:
            for rewrite in (turned, calmed, elsewhere, enclosed, fewer, joined, refitted, moved):
                yield from islice(rewrite(best, plan), REWRITES_MAX)

    return [
        ("redraw", redraw),
        ("rewrite", rewrites),
        ("again", again),
        ("swap", swap),
        ("redraw", redraw_on),
        ("rewrite", rewrites),
    ]


def redrawn_failures(
    plan: Plan,
    signature: tuple[str, str],
    program: Program,
    *,
    first_seed: int = 0,
    before_run: Callable[[], None] = always_go_on,
) -> Iterator[Program]:
    """Programs of one step fewer that fail alike with some of their choices drawn anew."""
    if operation_count(program) > REDRAW_STEPS_MAX:
        return
    for step in reversed(program.steps):
        shorter = program.without([step.identity])
        for seed in range(first_seed, first_seed + REDRAWS_COUNT // len(program.steps)):
            before_run()
            run = run_recorded(plan, varying_tape(shorter, seed))
            if run.violation is not None and run.violation.signature == signature:
                yield run.program
                break  # one is enough without this step: on to the next


def swapped_failures(
    plan: Plan, signature: tuple[str, str], program: Program, *, before_run: Callable[[], None] = always_go_on
) -> Iterator[Program]:
    """Programs of one step fewer that fail alike with another step of another kind and some choices drawn anew."""
    if operation_count(program) > REDRAW_STEPS_MAX:
        return
    swaps = list(swapped(program, plan))
    for seed in range(-(-SWAPS_COUNT // max(1, len(swaps)))):
        for swap in swaps:
            before_run()
            run = run_recorded(plan, varying_tape(swap, seed))
            if run.violation is not None and run.violation.signature == signature:
                yield run.program


def similar_failures(
    plan: Plan, signature: tuple[str, str], operations: int, *, before_run: Callable[[], None] = always_go_on
) -> Iterator[Program]:
    """Random programs that fail alike: first about as short, then of any length. They depend on the arguments alone."""
    spec = plan.spec
    short = compile_plan(replace(spec, steps_mean=max(2, operations)), plan.configuration, plan.mode)
    for each in (short, plan):
        found = 0
        for seed in range(AGAIN_SCENARIOS_MAX):
            before_run()
            if signature_of(each, seed) == signature:
                yield record_scenario(each, seed).program
                found += 1
                if found == AGAIN_FAILURES_MAX:
                    break


def signature_of(plan: Plan, seed: int) -> tuple[str, str] | None:
    """The signature of the violation in the random scenario of this seed; None if nothing breaks."""
    counters = Counters()
    with Watchdog(counters.progress, plan.spec.step_seconds_max):
        violation = run_plan(plan, random_tape(seed), counters)
    return None if violation is None else violation.signature


def _strict_violation(plan: Plan, program: Program) -> Violation | None:
    """The violation of the program when it is replayed strictly, as its case file will be."""
    try:
        return replay_program(plan, program, strict=True).violation
    except NoLongerApplies:
        return None
