"""What counts as a failure of the system, of all that can come out of it.

Not failures, and passed on unchanged: `MemoryError`, and whatever derives from `BaseException` other than the stop
signals of medium and seam (a keyboard interrupt, a program that no longer applies). A system that exits is a failure.
"""

from __future__ import annotations

from harness.scenario.history import describe
from harness.scenario.verdict import Failure
from harness.spec.spec import ViolationError
from harness.world.medium import DeadMedium, MediumMisuseError
from harness.world.sequential_seam import Deadlock, LockMisuse

Finding = tuple[str, str, str, str]  # property, place, answered, allowed


class ScenarioFailed(BaseException):
    """A property is broken; the scenario cannot go on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def finding_of_system(error: BaseException, operation: str, property_name: str = "unexpected error") -> Finding | None:
    """What an error that came out of the system says about it; None if it is not the system's.

    ``property_name`` is what an ordinary error breaks here.
    """
    if isinstance(error, ViolationError):
        return _finding_of_violated(error)
    if isinstance(error, Deadlock):
        return "deadlock", operation, str(error), "every wait ends"
    if isinstance(error, LockMisuse):
        return "lock misuse", operation, str(error), "each lock taken once and let go by its holder"
    if isinstance(error, MediumMisuseError):
        return "device", error.kind, str(error), "only what the device model takes"
    if isinstance(error, DeadMedium):
        return "device", "use after a crash", str(error), "no further use of what has crashed"
    if isinstance(error, MemoryError) or not isinstance(error, Exception | SystemExit):
        return None
    return property_name, _place_of(error), describe(error), "no such error"


def finding_of_model(error: BaseException, operation: str) -> Finding | None:
    """The same for an error that came out of the model: models can be wrong too."""
    if isinstance(error, ViolationError):
        return _finding_of_violated(error)
    if isinstance(error, MemoryError) or not isinstance(error, Exception | SystemExit):
        return None
    return "unexpected error", f"model: {_place_of(error)}", describe(error), "a model that answers"


def _finding_of_violated(error: ViolationError) -> Finding:
    return "invariant", error.place, describe(error.answered), describe(error.allowed)


def _place_of(error: BaseException) -> str:
    """The type of error and the function that raised it, whatever operation came by there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    function = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}"
    return f"{type(error).__name__}{function}"
