"""A failure on its way to people: a failing run is shrunk, saved, and put in words.

The command line and the tests of a spec both take this way, so that they save and print the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.corpus.case_file import Case, file_name, format_case
from harness.corpus.saving import replay_command, save_case
from harness.scenario.failing_sequence import comments, failing_sequence
from harness.scenario.runner import replay_program
from harness.scenario.verdict import Run
from harness.shrink.shrink import INTERRUPTED, NotReproducedError, ShrinkResult, shrink
from harness.spec.plan import Plan

SECONDS_MAX = 300.0  # then the best so far is saved, which `harness shrink` can take up


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, after shrinking and saving."""

    case: Case
    run: Run
    path: Path | None  # where it was saved; None: nowhere
    shrunk: ShrinkResult | None
    trouble: str = ""  # why it was not shrunk, or not saved
    is_interrupted: bool = False  # shrinking was

    def sequence(self, command: str | None = None) -> str:
        """The failing sequence, with the command that replays it from the current folder unless told otherwise."""
        if command is None:
            command = replay_command(self.path) if self.path else ""
        return failing_sequence(
            self.run,
            spec=f"{self.case.name} ({self.case.spec})",
            mode=self.case.mode,
            configuration=self.case.configuration,
            one_minimal=self.shrunk.one_minimal if self.shrunk else None,
            command=command,
        )


def case_of(path: str, plan: Plan, run: Run, seed: int | None = None, scenario: int | None = None) -> Case:
    """The case of a failing run; ``path`` is that of the spec's file."""
    violation = run.violation
    assert violation is not None
    return Case(
        path,
        plan.spec.name,
        plan.configuration.name,
        plan.mode,
        violation.property,
        violation.place,
        run.program,
        seed=seed,
        scenario=scenario,
    )


def shrink_failure(plan: Plan, run: Run, case: Case) -> Failure:
    """Shrink a failing run, for `SECONDS_MAX` at most. If that fails, the failure is the run as it was found."""
    assert run.violation is not None
    try:
        shrunk = shrink(plan, run.program, run.violation, seconds_max=SECONDS_MAX)
        minimal = replay_program(plan, shrunk.program, strict=True)
    except NotReproducedError as error:
        return Failure(case, run, None, None, f"not shrunk: {error}; the system is not deterministic")
    except KeyboardInterrupt:
        return Failure(case, run, None, None, "not shrunk: interrupted", is_interrupted=True)
    trouble = f"not shrunk to the end: {shrunk.stopped}" if shrunk.stopped else ""
    is_interrupted = shrunk.stopped == INTERRUPTED
    return Failure(replace(case, program=minimal.program), minimal, None, shrunk, trouble, is_interrupted)


def save_failure(failure: Failure, plan: Plan, corpus: Path) -> Failure:
    """Save the case in the folder ``corpus``. If it cannot be written, its text is part of the trouble."""
    try:
        path = save_case(failure.case, comments(failure.run.events), corpus, plan.spec)
    except OSError as error:
        path = corpus / file_name(failure.case)
        trouble = f"not saved: {error.filename}: {error.strerror}; the case is\n\n{format_case(failure.case)}"
        return replace(failure, path=path, trouble=trouble)
    return replace(failure, path=path)
