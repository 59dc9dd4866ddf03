"""Exit status: 0 none found, holds or fixed; 1 violated; 2 unusable arguments or input; 3 unknown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import click

from harness.corpus.replay import ReplayAnswer
from harness.scenario.verdict import Answer

EXIT_OK: Final = 0
EXIT_VIOLATED: Final = 1
EXIT_UNUSABLE: Final = 2
EXIT_UNKNOWN: Final = 3


class Unusable(click.ClickException):
    """Arguments or input that cannot be used. The message is one line."""

    exit_code = EXIT_UNUSABLE


def exit_status_of(answers: Collection[Answer]) -> int:
    """The exit status for several answers; the worst counts: violated, then unknown."""
    if Answer.VIOLATED in answers:
        return EXIT_VIOLATED
    return EXIT_UNKNOWN if Answer.UNKNOWN in answers else EXIT_OK


def exit_status_of_replays(answers: Collection[ReplayAnswer]) -> int:
    """The exit status for several replays; the worst counts: a failure, then a case that no longer applies."""
    if {ReplayAnswer.STILL_FAILS, ReplayAnswer.FAILS_DIFFERENTLY} & set(answers):
        return EXIT_VIOLATED
    return EXIT_UNKNOWN if ReplayAnswer.NO_LONGER_APPLIES in answers else EXIT_OK
