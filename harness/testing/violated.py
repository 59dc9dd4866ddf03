"""What a failing test says: the failing sequence at its simplest, saved, with the command that replays it.

A failure that the corpus has already, still failing and at least as simple, is neither shrunk nor saved again, and its
saved case is what is shown. So all tests of one spec and mode show a failure alike, whichever of them finds it.
"""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.corpus.case_file import SUFFIX, Case, CaseFileError, format_case, read_case
from harness.corpus.replay import ReplayAnswer, replay_on
from harness.corpus.saving import Saved, find_saved, replay_command, sequence_of
from harness.scenario.verdict import Run
from harness.shrink.failure import Failure, case_of, save_failure, shrink_failure
from harness.spec.loader import display_path, file_of, module_name
from harness.spec.plan import Plan
from harness.spec.spec import Spec

_NOWHERE: Final = "no module"  # stands for the path of a spec that no file has
_NOT_SAVED: Final = "not saved: no module has this spec at its top level, so no command could load it; the case is"


class PropertyViolatedError(AssertionError):
    """A run broke a property; the message is the failing sequence."""


@dataclass(frozen=True, slots=True)
class Project:
    """Where a spec's file is, and where its failures are saved."""

    folder: Path  # where the commands run
    spec_path: str  # relative to the folder
    corpus: Path | None  # None: nothing can be saved

    def saved_cases(self, plan: Plan) -> list[tuple[Path, Case]]:
        """The cases of this spec, mode and configuration, in order; a file that cannot be read is warned of."""
        found = []
        for path in sorted(self.corpus.glob(f"*{SUFFIX}")) if self.corpus else []:
            try:
                case = read_case(path)
            except (CaseFileError, FileNotFoundError) as error:
                warnings.warn(f"{path}: {error}", stacklevel=2)
                continue
            wanted = (self.spec_path, plan.spec.name, plan.mode, plan.configuration.name)
            if (case.spec, case.name, case.mode, case.configuration) == wanted:
                found.append((path, case))
        return found

    def command(self, path: Path) -> str:
        """The command that replays a case, from wherever the tests run."""
        command = replay_command(Path(display_path(path, self.folder)))
        here = Path.cwd().resolve() == self.folder.resolve()
        return command if here else f"cd {shlex.quote(str(self.folder))} && {command}"


def find_project(spec: Spec, corpus: Path) -> Project:
    """The current folder, as on the command line; or, if the spec's file is not below it, the folder of its package.

    A relative ``corpus`` is below that folder.
    """
    file = file_of(spec)
    if file is None:
        return Project(Path.cwd(), _NOWHERE, None)
    here = Path.cwd().resolve()
    folder = here if file.is_relative_to(here) else module_name(file)[1]
    return Project(folder, display_path(file, folder), folder / corpus)


def saved_failure(plan: Plan, project: Project) -> str:
    """What to say of the first saved case that fails today; empty if none does."""
    for path, case in project.saved_cases(plan):
        replayed = replay_on(plan.spec, case)
        if replayed.answer is ReplayAnswer.NO_LONGER_APPLIES:
            warnings.warn(f"{path}: {replayed.answer}: {replayed.detail}", stacklevel=2)
        elif replayed.run is not None and replayed.run.violation is not None:
            is_alike = replayed.answer is ReplayAnswer.STILL_FAILS
            text = sequence_of(case, replayed.run, project.command(path))
            return text if is_alike else f"{replayed.answer}: {replayed.detail}\n{text}"
    return ""


def tell(plan: Plan, run: Run, project: Project, seed: int | None = None, scenario: int | None = None) -> str:
    """Shrink and save a failing run, and give what to say of it."""
    case = case_of(project.spec_path, plan, run, seed, scenario)
    if project.corpus is None:
        failure = shrink_failure(plan, run, case)
        return _told(failure, "", f"{_NOT_SAVED}\n\n{format_case(failure.case)}")
    saved = find_saved(case, project.corpus, plan.spec)
    if saved is not None:
        return _known(saved, plan, project)
    failure = save_failure(shrink_failure(plan, run, case), plan, project.corpus)
    if failure.is_interrupted:
        raise KeyboardInterrupt
    assert failure.path is not None
    return _told(failure, project.command(failure.path), failure.trouble)


def _told(failure: Failure, command: str, trouble: str) -> str:
    return failure.sequence(command) + (f"\n{trouble}\n" if trouble else "")


def _known(saved: Saved, plan: Plan, project: Project) -> str:
    assert saved.replayed.run is not None
    text = sequence_of(saved.case, saved.replayed.run, project.command(saved.path))
    if saved.case.configuration == plan.configuration.name:
        return text
    return f"{text}\nfound again: {plan.mode}, {plan.configuration.name}\n"
