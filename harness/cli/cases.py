"""Cases on the command line: reads one by its name, and puts its replay in words."""

from __future__ import annotations

from pathlib import Path

from harness.cli.exit_status import Unusable
from harness.corpus.case_file import Case, CaseFileError, read_case
from harness.corpus.replay import Replayed


def describe_replay(replayed: Replayed) -> str:
    """A replay as one line: the answer, the step at which it showed, and the reason."""
    at = f" at step {replayed.step}" if replayed.step is not None else ""
    return f"{replayed.answer}{at}{f': {replayed.detail}' if replayed.detail else ''}"


def read_named(name: str) -> Case:
    try:
        return read_case(Path(name))
    except OSError as error:
        raise Unusable(f"{name}: {error.strerror or error}") from error
    except CaseFileError as error:
        raise Unusable(f"{name}: {error}") from error
