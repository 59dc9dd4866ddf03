"""Shrinking: from a failing program to a minimal one, and the proof that it is minimal.

A candidate counts only if it breaks the same property at the same kind of place (`Failure.signature`). The passes
of `shrink_passes` run first. Then others give them other programs to start from, and the simplest outcome is kept:

    redraw    the same steps less one, with other choices, those of crashes above all: leads out of local minima, where
              a step can only go if several choices change with it
    rewrite   near programs as they are (`rewrites`): leads out of local minima where one thing must take
              the place of another
    again     other failures of the same signature, from random programs, first about as short, then as long as any;
              leads out of local minima where a shorter program needs other operations
    swap      a step less, and one other operation in the place of another: leads out of local minima where two steps
              do what one of a different kind would do as well

A search that reaches its bound on candidates is not certified. Not promised: that no shorter program exists,
only that none is one change away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from harness.choices.program import Program
from harness.choices.sources import NoLongerApplies, RandomSource, VaryingSource
from harness.scenario.runner import record_scenario, replay_program, run_scenario
from harness.scenario.verdict import Failure, Mode
from harness.shrink.passes import CANDIDATES_MAX, PassCounters, Search, minimise, operation_count
from harness.shrink.rewrites import calmed, enclosed, joined, moved, refitted, swapped
from harness.spec.plan import compile_plan
from harness.spec.spec import Configuration, Spec

REDRAW_STEPS_MAX = 20
REDRAWS_COUNT = 2_000  # shared among the steps that may be left out
SWAPS_COUNT = 4_000  # shared among all swaps of one program
AGAIN_SCENARIOS_MAX = 600  # of each length
AGAIN_FAILURES_MAX = 10


class NotReproducedError(Exception):
    """The program to be shrunk does not fail in the way it should."""


@dataclass(frozen=True, slots=True)
class ShrinkResult:
    """A failing program that no pass makes simpler; ``certified`` says that its minimality was tried out."""

    program: Program
    failure: Failure
    passes: Mapping[str, PassCounters]
    errors: int  # candidates on which the harness itself, or the spec, gave up
    seconds: float
    certified: bool


class Reproducer:
    """Replays candidates leniently: what they lack reads as zero, what no longer fits is clamped or ignored."""

    def __init__(self, spec: Spec, configuration: Configuration, mode: Mode, signature: tuple[str, str]) -> None:
        self._spec = spec
        self._configuration = configuration
        self._mode = mode
        self._signature = signature
        self.errors = 0

    def __call__(self, candidate: Program) -> Program | None:
        try:
            run = replay_program(self._spec, self._configuration, self._mode, candidate, strict=False)
        except NoLongerApplies:
            return None
        except Exception:  # a candidate that breaks the spec or the harness is not the failure looked for
            self.errors += 1
            return None
        if run.failure is None or run.failure.signature != self._signature:
            return None
        return run.program


def shrink(
    spec: Spec,
    configuration: Configuration,
    mode: Mode,
    program: Program,
    failure: Failure,
    *,
    candidates_max: int = CANDIDATES_MAX,
) -> ShrinkResult:
    """Make a failing program minimal; raises `NotReproducedError` if it does not fail like ``failure``."""
    started = time.perf_counter()
    reproduce = Reproducer(spec, configuration, mode, failure.signature)
    as_it_ran = reproduce(program)
    if as_it_ran is None:
        raise NotReproducedError(f"the program does not break {failure.property} at {failure.place}")
    search = Search(reproduce, as_it_ran, candidates_max)

    def redraw(best: Program) -> Iterator[Program]:
        return redrawn_failures(spec, configuration, mode, failure.signature, best)

    def redraw_on(best: Program) -> Iterator[Program]:
        return redrawn_failures(spec, configuration, mode, failure.signature, best, first_seed=REDRAWS_COUNT)

    def swap(best: Program) -> Iterator[Program]:
        return swapped_failures(spec, configuration, mode, failure.signature, best)

    def again(best: Program) -> Iterator[Program]:
        return similar_failures(spec, configuration, mode, failure.signature, operation_count(best))

    def rewrites(best: Program) -> Iterator[Program]:
        if operation_count(best) <= REDRAW_STEPS_MAX:
            plan = compile_plan(spec, configuration, mode)
            for rewrite in (calmed, enclosed, joined, refitted, moved):
                yield from rewrite(best, plan)

    suggestions = [
        ("redraw", redraw),
        ("rewrite", rewrites),
        ("again", again),
        ("swap", swap),
        ("redraw", redraw_on),
        ("rewrite", rewrites),
    ]
    certified = minimise(search, suggestions)
    final = _strict_failure(spec, configuration, mode, search.best)
    alike = final is not None and final.signature == failure.signature
    return ShrinkResult(
        search.best,
        final if final is not None and alike else failure,
        search.passes,
        reproduce.errors,
        time.perf_counter() - started,
        certified and alike,
    )


def redrawn_failures(
    spec: Spec,
    configuration: Configuration,
    mode: Mode,
    signature: tuple[str, str],
    program: Program,
    *,
    first_seed: int = 0,
) -> Iterator[Program]:
    """Programs of one step fewer that fail alike when some of their choices are drawn anew."""
    if operation_count(program) > REDRAW_STEPS_MAX:
        return
    for step in reversed(program.steps):
        shorter = program.without([step.identity])
        for seed in range(first_seed, first_seed + REDRAWS_COUNT // len(program.steps)):
            run = run_scenario(spec, configuration, mode, VaryingSource(shorter, seed), record=True)
            if run.failure is not None and run.failure.signature == signature:
                yield run.program
                break


def swapped_failures(
    spec: Spec, configuration: Configuration, mode: Mode, signature: tuple[str, str], program: Program
) -> Iterator[Program]:
    """Programs of one step fewer, in which one other step is of another kind, that fail alike with choices redrawn."""
    if operation_count(program) > REDRAW_STEPS_MAX:
        return
    swaps = list(swapped(program, compile_plan(spec, configuration, mode)))
    for seed in range(-(-SWAPS_COUNT // max(1, len(swaps)))):
        for swap in swaps:
            run = run_scenario(spec, configuration, mode, VaryingSource(swap, seed), record=True)
            if run.failure is not None and run.failure.signature == signature:
                yield run.program


def similar_failures(
    spec: Spec, configuration: Configuration, mode: Mode, signature: tuple[str, str], operations: int
) -> Iterator[Program]:
    """Random programs that fail alike, about as short and then of any length; a function of its arguments alone."""
    for length in (replace(spec, steps_mean=max(2, operations)), spec):
        found = 0
        for seed in range(AGAIN_SCENARIOS_MAX):
            run = run_scenario(length, configuration, mode, RandomSource(seed))
            if run.failure is not None and run.failure.signature == signature:
                yield record_scenario(length, configuration, mode, seed).program
                found += 1
                if found == AGAIN_FAILURES_MAX:
                    break


def _strict_failure(spec: Spec, configuration: Configuration, mode: Mode, program: Program) -> Failure | None:
    """What the program breaks when nothing in it may be clamped or ignored, as it will be replayed."""
    try:
        return replay_program(spec, configuration, mode, program, strict=True).failure
    except NoLongerApplies:
        return None
