"""Scripts: a recorded program, read by a run that goes through its steps again.

*Strict* raises `NoLongerApplies` for an unknown operation, for a value out of range, and for a choice that was not
asked for by the end of its step. Otherwise these are skipped, clamped and ignored: made for shrinking. A choice that
the program does not have reads 0.

What a crash was to take of a write is not asked for if a barrier has passed that write meanwhile. That is how a mended
store looks, so a choice of a lenient lane has no place then but does not make the program inapplicable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.choices.lanes import LENIENT, OF_SURROUNDINGS, lane_of
from harness.choices.mix import Mix
from harness.choices.program import ENDING, OPENING, Program, Step


class NoLongerApplies(BaseException):
    """A recorded program asks for what the code no longer offers, at this step.

    ``choice`` is the name of the choice that has no place any more; empty if it is the step itself.
    """

    def __init__(self, step: int, reason: str, choice: str = "") -> None:
        super().__init__(f"no longer applies at step {step}: {reason}")
        self.step = step
        self.reason = reason
        self.choice = choice

    def is_of_surroundings(self) -> bool:
        """Whether what has changed is only what the surroundings may choose from."""
        return lane_of(self.choice) in OF_SURROUNDINGS


class Script:
    """See the module. ``lenient_lanes`` are never held to."""

    __slots__ = ("_asked", "_choices", "_lenient_lanes", "_step", "_strict", "program")

    def __init__(self, program: Program, *, strict: bool, lenient_lanes: frozenset[str] = LENIENT) -> None:
        self.program = program
        self._strict = strict
        self._lenient_lanes = lenient_lanes
        self._enter(Step(0, OPENING))

    def _enter(self, step: Step) -> None:
        self._step = step.identity
        self._choices = step.choices
        self._asked: set[str] = set()

    def turns(self, mix: Mix) -> Iterator[tuple[int, int]]:
        """Identity and operation of each step in turn, and of the end; entering one leaves the one before."""
        steps = self.program.steps
        has_opening = bool(steps) and steps[0].operation == OPENING
        self._enter(steps[0] if has_opening else Step(0, OPENING))
        return self._turns(steps[has_opening:], mix)

    def _turns(self, steps: Sequence[Step], mix: Mix) -> Iterator[tuple[int, int]]:
        indices = {mix.names[index]: index for index in mix.allowed}
        for step in steps:
            self.check_all_asked()
            self._enter(step)
            index = indices.get(step.operation, -1)
            if index >= 0 or (step.operation == ENDING and step is steps[-1]):
                yield step.identity, index
                if index < 0:
                    return
            elif self._strict:
                raise NoLongerApplies(step.identity, f"there is no operation {step.operation!r} here")
        self.check_all_asked()
        self._enter(Step(self._step + 1, ENDING))
        yield self._step, -1

    def value(self, name: str, count: int) -> int:
        """The recorded choice, below ``count``."""
        value = self._ask(name)
        if value < count or not value:
            return value
        if self._strict and lane_of(name) not in self._lenient_lanes:
            raise NoLongerApplies(self._step, f"choice {name}={value}, but there are only {count}", name)
        return max(count - 1, 0)

    def identity(self, name: str, identities: Sequence[int]) -> int:
        """The recorded identity of an earlier step, 0 if that is not among these."""
        value = self._ask(name)
        return value if value in identities else 0

    def _ask(self, name: str) -> int:
        if self._strict:
            self._asked.add(name)
        return self._choices.get(name, 0)

    def check_all_asked(self) -> None:
        """Raises `NoLongerApplies` if a strict script has a choice in this step that nobody asked for."""
        if not self._strict or self._asked.issuperset(self._choices):
            return
        names = sorted(name for name in self._choices if name not in self._asked)
        wanted = [name for name in names if lane_of(name) not in self._lenient_lanes]
        if wanted:
            raise NoLongerApplies(self._step, f"choice {wanted[0]!r} was never asked for", wanted[0])
