"""The judge: compares the state after a crash, or after a life, with what the ledger and the model allow.

All checks share it, however they come to such a state: random runs, exhausted images, audited states, real files.

    outcomes    each key that was written reads as the ledger allows; the model then takes over these outcomes
    contents    after that, system and model have the same contents
    whole       both, and the spec's invariants

The caller hands in how a key is read (`Read`), since there need not be a system: an exhausted image is observed once,
and the observation is judged against many histories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.scenario.describe import describe, describe_difference
from harness.scenario.ledger import Ledger, Reading, UnreadableKeyError
from harness.scenario.violation import Violation, violation_of_system
from harness.spec.models import copy_of
from harness.spec.plan import Plan
from harness.spec.spec import Key

Read = Callable[[Key], Any]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging outcomes; ``reading`` is None if a key could not be read."""

    violation: Violation | None
    reading: Reading | None


class Judge:
    """Judges under one plan. Holds nothing of any run."""

    __slots__ = ("_contents", "_invariants", "_read", "_settle")

    def __init__(self, plan: Plan) -> None:
        self._read = plan.read
        self._settle = plan.settle
        self._contents = plan.spec.contents
        self._invariants = plan.spec.invariants

    def read_of(self, subject: Any) -> Read:
        """A function that reads keys of this system or model."""
        assert self._read is not None
        return partial(self._read, subject)

    def outcomes(
        self, ledger: Ledger, states: Sequence[str], read: Read, model: Any, operation: str = "crash"
    ) -> Judgement:
        """Read and judge every key written since the last settling. If all are allowed, the model takes them over."""
        try:
            reading = ledger.judge(read, states)
        except UnreadableKeyError as unreadable:
            return Judgement(_unreadable(unreadable, operation), None)
        except BaseException as error:
            return Judgement(_of_system(error, operation, "persistence"), None)
        wrong = reading.disallowed
        if wrong is not None:
            answered, allowed = describe(wrong.answered), describe(wrong.allowed)
            return Judgement(Violation("persistence", wrong.place, answered, allowed), reading)
        assert self._settle is not None
        for key, outcome in reading.observed.items():
            self._settle(model, key, outcome)
        return Judgement(None, reading)

    def contents(
        self, subject: Any, model: Any, property_name: str = "persistence", operation: str = "crash"
    ) -> Violation | None:
        """Compare the whole contents of system and model, which must be settled."""
        if self._contents is None:
            return None
        try:
            answered = self._contents(subject)
        except BaseException as error:
            return _of_system(error, operation, property_name)
        return self.observed_contents(answered, model, property_name)

    def observed_contents(self, answered: Any, model: Any, property_name: str = "persistence") -> Violation | None:
        """Compare contents that were read earlier with those of the model."""
        if self._contents is None:
            return None
        allowed = self._contents(model)
        if answered == allowed:
            return None
        return Violation(property_name, "contents", *describe_difference(answered, allowed))

    def invariants(self, system: Any, model: Any, operation: str = "crash") -> Violation | None:
        """The violation of the first of the spec's invariants that does not hold."""
        for invariant in self._invariants:
            try:
                invariant(system, model)
            except BaseException as error:
                return _of_system(error, operation, "unexpected error")
        return None

    def whole(self, ledger: Ledger, states: Sequence[str], system: Any, model: Any) -> Judgement:
        """Judge a system that has recovered: outcomes, then contents, then invariants, up to the first violation."""
        judgement = self.outcomes(ledger, states, self.read_of(system), model)
        if judgement.violation is not None:
            return judgement
        violation = self.contents(system, model) or self.invariants(system, model)
        return Judgement(violation, judgement.reading)


def model_after_crash(plan: Plan, model: Any) -> Any:
    """A copy of the model that was told of the crash, with nothing settled yet."""
    copied = copy_of(model)
    if plan.model_reopens:
        copied.reopened()
    return copied


def unfinished(ledger: Ledger) -> Violation | None:
    """The violation of a dependency that is pending after a clean shutdown. Raises what polling one raises."""
    pending = ledger.first_unfinished()
    if pending is None:
        return None
    since, writer = pending
    answered = f"{writer} of step {since} still pending after clean shutdown"
    return Violation("forward progress", "shutdown", answered, "persistent, or failed")


def broken_promise(operation: str, step: int, writer: str) -> Violation:
    """The violation of a call that has returned although what it promises is still pending."""
    return Violation("promise", operation, f"{writer} of step {step} still pending", "persistent, or failed")


def _of_system(error: BaseException, operation: str, property_name: str) -> Violation:
    violation = violation_of_system(error, operation, property_name)
    if violation is None:
        raise error
    return violation


def _unreadable(unreadable: UnreadableKeyError, operation: str) -> Violation:
    cause = unreadable.__cause__ or unreadable
    violation = _of_system(cause, operation, "persistence")
    return Violation(
        violation.property, violation.place, violation.answered, describe({unreadable.key: unreadable.allowed})
    )
