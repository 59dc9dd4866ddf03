"""Replaying a saved case: does it still fail?

The answer is one of four and never a guess.

    still fails         the same property breaks at the same kind of place
    fails differently   another failure
    fixed               the program runs to its end and nothing breaks
    no longer applies   the spec or the code has changed, so that the program means something else today; the answer
                        names the step at which that shows, if there is one

A mend often takes from the device the order of writes that broke. Then the steps and their arguments are run with up to
`SCHEDULES_TRIED` other choices of the surroundings, and the answer says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.choices.lanes import OF_SURROUNDINGS
from harness.choices.replay_policy import redrawing_tape
from harness.choices.script import NoLongerApplies
from harness.corpus.case_file import Case
from harness.scenario.runner import replay_program, run_recorded
from harness.scenario.verdict import Run
from harness.spec.loader import SpecMissingError, find_configuration, load_spec
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Spec

SCHEDULES_TRIED = 300


class ReplayAnswer(StrEnum):
    STILL_FAILS = "still fails"
    FAILS_DIFFERENTLY = "fails differently"
    FIXED = "fixed"
    NO_LONGER_APPLIES = "no longer applies"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer of a replay; ``step`` is the identity of the step at which it failed or ceased to apply."""

    answer: ReplayAnswer
    detail: str = ""
    step: int | None = None
    run: Run | None = None


def replay(case: Case, folder: Path | None = None) -> Replayed:
    """Replay a saved case with the code in ``folder``; without one, in the current folder.

        case = read_case(Path("fuzz_corpus/notebook.case"))  # of harness.corpus.case_file
        replay(case).answer  # "still fails", "fails differently", "fixed" or "no longer applies"

    Raises `SpecLoadError` if the spec's file exists but cannot be imported.
    """
    try:
        spec = load_spec(case.spec, case.name, folder or Path.cwd()).spec
    except SpecMissingError as error:
        return Replayed(ReplayAnswer.NO_LONGER_APPLIES, str(error))
    return replay_on(spec, case)


def replay_on(spec: Spec, case: Case) -> Replayed:
    """Replay a case on this spec, wherever that comes from."""
    try:
        plan = compile_plan(spec, find_configuration(spec, case.configuration), case.mode)
        run = replay_program(plan, case.program, strict=True)
    except SpecMissingError as error:
        return Replayed(ReplayAnswer.NO_LONGER_APPLIES, str(error))
    except NoLongerApplies as error:
        if error.is_of_surroundings():
            return _replay_otherwise(case, plan, error)
        return Replayed(ReplayAnswer.NO_LONGER_APPLIES, error.reason, error.step)
    return judge(case, run)


def _replay_otherwise(case: Case, plan: Plan, gone: NoLongerApplies) -> Replayed:
    """Run the same steps with other choices of the surroundings, since the recorded ones are no longer possible."""
    why = f"step {gone.step}: {gone.reason}"
    for seed in range(SCHEDULES_TRIED):
        try:
            run = run_recorded(plan, redrawing_tape(case.program, seed, OF_SURROUNDINGS))
        except NoLongerApplies as error:  # of the caller's choices, which no redrawing can help
            return Replayed(ReplayAnswer.NO_LONGER_APPLIES, error.reason, error.step)
        if run.violation is not None:
            return replace(judge(case, run), detail=f"with other choices of the device ({why})")
    passed = f"{SCHEDULES_TRIED} other choices of the device with the same steps pass ({why})"
    return Replayed(ReplayAnswer.FIXED, passed, run=run)


def judge(case: Case, run: Run) -> Replayed:
    """The answer for a run that came to its end."""
    violation = run.violation
    if violation is None:
        return Replayed(ReplayAnswer.FIXED, run=run)
    if violation.signature == case.signature:
        return Replayed(ReplayAnswer.STILL_FAILS, step=violation.step, run=run)
    detail = f"{violation.property} at {violation.place}, not {case.property} at {case.place}"
    return Replayed(ReplayAnswer.FAILS_DIFFERENTLY, detail, violation.step, run)
