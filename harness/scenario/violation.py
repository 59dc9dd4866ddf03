"""Violations: a property broken at one step of one run, and which errors count as one.

Errors that derive from `Exception` are violations, and so are the stop signals of medium and seam, and `SystemExit`.
`MemoryError`, and other errors that derive from `BaseException` alone, are not: they are passed on unchanged. Examples
are a keyboard interrupt and a program that no longer applies.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass, replace
from typing import Final

from harness.scenario.describe import describe
from harness.spec.device import DeviceMisuseError
from harness.spec.spec import ViolationError
from harness.world.interruption import ARRIVALS
from harness.world.power import DeadMedium, NoProgress
from harness.world.sequential_seam import Deadlock, LockMisuse


@dataclass(frozen=True, slots=True)
class Violation:
    """A property broken at one step of one run.

    `signature` tells violations apart: property and kind of place, never the text of a message. ``step`` and
    ``operation`` are unset until `at` sets them.
    """

    property: str  # "conformance", "persistence", "forward progress", "recovery", "deadlock", "invariant", ...
    place: str  # kind of place: operation name, exception type, invariant name; stable across runs
    answered: str  # by the system, in words
    allowed: str  # by the model, in words
    step: int = 0  # identity of the step at which it showed
    operation: str = ""  # that step's operation

    @builtins.property  # the field of that name hides it
    def signature(self) -> tuple[str, str]:
        return (self.property, self.place)

    def at(self, step: int, operation: str) -> Violation:
        """The same violation, with the step at which it showed."""
        return replace(self, step=step, operation=operation)

    def after_interrupt(self) -> Violation:
        """The same where an exception from outside has arrived: an answer that is wrong breaks *interrupt*."""
        return replace(self, property="interrupt") if self.property in _OF_ANSWERS else self


_OF_ANSWERS: Final = frozenset({"conformance", "persistence", "forward progress", "unexpected error"})


class Violated(BaseException):
    """A property is broken, and the run cannot go on. No `Exception`, so that no system or spec catches it."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation)
        self.violation = violation


def violation_of_system(
    error: BaseException, operation: str, property_name: str = "unexpected error"
) -> Violation | None:
    """The violation that an error of the system stands for; None if it says nothing about the system.

    ``property_name`` is the property that an ordinary error breaks here.
    """
    if isinstance(error, ViolationError):
        return _of_rule(error)
    if isinstance(error, Deadlock):
        return Violation("deadlock", operation, str(error), "every wait ends")
    if isinstance(error, NoProgress):
        return Violation("no progress", operation, str(error), "every call returns")
    if isinstance(error, LockMisuse):
        return Violation("lock misuse", operation, str(error), "each lock taken once and let go by its holder")
    if isinstance(error, DeviceMisuseError):
        return Violation("device", error.kind, str(error), "only what the device model takes")
    if isinstance(error, DeadMedium):
        return Violation("device", "use after a crash", str(error), "no further use of what has crashed")
    if _is_passed_on(error) and not isinstance(error, ARRIVALS):  # one that arrived may only leave the call it struck
        return None
    return Violation(property_name, _place_of(error), describe(error), "no such error")


def violation_of_model(error: BaseException, operation: str) -> Violation | None:
    """The same for an error of the model: models can be wrong too."""
    if isinstance(error, ViolationError):
        return _of_rule(error)
    if isinstance(error, NoProgress):
        return Violation("no progress", f"model: {operation}", str(error), "a model that answers")
    if _is_passed_on(error):
        return None
    return Violation("unexpected error", f"model: {_place_of(error)}", describe(error), "a model that answers")


def _is_passed_on(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or not isinstance(error, Exception | SystemExit)


def _of_rule(error: ViolationError) -> Violation:
    return Violation("invariant", error.place, describe(error.answered), describe(error.allowed))


def _place_of(error: BaseException) -> str:
    """The type of error and the function that raised it, not the operation: the same fault has the same place."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    function = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}"
    return f"{type(error).__name__}{function}"
