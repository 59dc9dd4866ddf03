"""Violations: a property that is broken, at one step of one run, and what of all that can happen counts as one.

Not violations, and passed on unchanged: `MemoryError`, and whatever derives from `BaseException` other than the stop
signals of medium and seam (a keyboard interrupt, a program that no longer applies). A system that exits is a violation.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass, replace

from harness.scenario.describe import describe
from harness.spec.device import DeviceMisuseError
from harness.spec.spec import ViolationError
from harness.world.power import DeadMedium, NoProgress
from harness.world.sequential_seam import Deadlock, LockMisuse


@dataclass(frozen=True, slots=True)
class Violation:
    """A property broken at one step of one run; where nobody has said which yet, ``step`` is 0.

    ``signature`` tells violations apart: the property and the kind of place, never a message's text.
    """

    property: str  # "conformance", "persistence", "forward progress", "recovery", "deadlock", "invariant", ...
    place: str  # kind of place: operation name, exception type, invariant name; stable across runs
    answered: str  # what the system answered, for people
    allowed: str  # what the model allows, for people
    step: int = 0  # identity of the step at which it showed
    operation: str = ""  # that step's operation

    @builtins.property  # the field of that name hides it
    def signature(self) -> tuple[str, str]:
        return (self.property, self.place)

    def at(self, step: int, operation: str) -> Violation:
        """The same, with where it showed."""
        return replace(self, step=step, operation=operation)


class Violated(BaseException):
    """A property is broken; the run cannot go on."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation)
        self.violation = violation


def violation_of_system(
    error: BaseException, operation: str, property_name: str = "unexpected error"
) -> Violation | None:
    """What an error that came out of the system says about it; None if it is not the system's.

    ``property_name`` is what an ordinary error breaks here.
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
    if _is_passed_on(error):
        return None
    return Violation(property_name, _place_of(error), describe(error), "no such error")


def violation_of_model(error: BaseException, operation: str) -> Violation | None:
    """The same for an error that came out of the model: models can be wrong too."""
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
    """The type of error and the function that raised it, whatever operation came by there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    function = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}"
    return f"{type(error).__name__}{function}"
