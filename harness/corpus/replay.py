"""Replaying a saved case: does it still fail?

The answer is one of four and never a guess. *Still fails*: the same property at the same kind of place. *Fails
differently*: another failure. *Fixed*: the program runs to its end and nothing breaks. *No longer applies*: what
the case was recorded against has changed so that the program does not mean today what it meant then; the
step at which that shows is named where there is one.

A mend often changes what the device may choose from: an order of writes that broke is not to be had any more. Then the
steps and their arguments are run with `SCHEDULES_TRIED` other choices of the surroundings, and the answer says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.choices.sources import ENVIRONMENT_LANES, NoLongerApplies, RedrawingSource
from harness.corpus.case_file import Case
from harness.scenario.runner import replay_program, run_scenario
from harness.scenario.verdict import Run
from harness.spec.loader import SpecMissingError, find_configuration, load_spec
from harness.spec.spec import Configuration, Spec

SCHEDULES_TRIED = 300


class ReplayAnswer(StrEnum):
    STILL_FAILS = "still fails"
    FAILS_DIFFERENTLY = "fails differently"
    FIXED = "fixed"
    NO_LONGER_APPLIES = "no longer applies"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What replaying a case answered; ``step`` is the identity at which it failed or ceased to apply."""

    answer: ReplayAnswer
    detail: str = ""
    step: int | None = None
    run: Run | None = None


def replay(case: Case, folder: Path | None = None) -> Replayed:
    """Replay against the code in ``folder``, the current one unless given.

    Raises `SpecLoadError` where the spec's file is there but cannot be imported.
    """
    try:
        spec = load_spec(case.spec, case.name, folder or Path.cwd()).spec
        configuration = find_configuration(spec, case.configuration)
        run = replay_program(spec, configuration, case.mode, case.program, strict=True)
    except SpecMissingError as error:
        return Replayed(ReplayAnswer.NO_LONGER_APPLIES, str(error))
    except NoLongerApplies as error:
        if error.is_environment():
            return _replay_otherwise(case, spec, configuration, error)
        return Replayed(ReplayAnswer.NO_LONGER_APPLIES, error.reason, error.step)
    return judge(case, run)


def _replay_otherwise(case: Case, spec: Spec, configuration: Configuration, gone: NoLongerApplies) -> Replayed:
    """Run the same steps with other choices of the surroundings; those that were recorded are not to be had."""
    why = f"step {gone.step}: {gone.reason}"
    for seed in range(SCHEDULES_TRIED):
        source = RedrawingSource(case.program, seed, ENVIRONMENT_LANES)
        try:
            run = run_scenario(spec, configuration, case.mode, source, record=True)
        except NoLongerApplies as error:
            return Replayed(ReplayAnswer.NO_LONGER_APPLIES, error.reason, error.step)
        if run.failure is not None:
            return replace(judge(case, run), detail=f"with other choices of the device ({why})")
    passed = f"{SCHEDULES_TRIED} other choices of the device with the same steps pass ({why})"
    return Replayed(ReplayAnswer.FIXED, passed, run=run)


def judge(case: Case, run: Run) -> Replayed:
    """The answer that a finished run gives."""
    failure = run.failure
    if failure is None:
        return Replayed(ReplayAnswer.FIXED, run=run)
    if failure.signature == case.signature:
        return Replayed(ReplayAnswer.STILL_FAILS, step=failure.step, run=run)
    detail = f"{failure.property} at {failure.place}, not {case.property} at {case.place}"
    return Replayed(ReplayAnswer.FAILS_DIFFERENTLY, detail, failure.step, run)
