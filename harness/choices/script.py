"""Scripts: a recorded program, read by a run that goes through its steps again.

A *strict* script raises `NoLongerApplies` for an unknown operation, a value out of range, and a choice that its step
did not ask for. A script that is not strict skips, clamps and ignores these, which shrinking needs. A choice that the
program does not have reads 0.

Choices of a lenient lane are never held to, even by a strict script. A mended store may put a barrier before a crash,
and the crash then asks for no survivor of the writes that the barrier passed. The case must still replay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.choices.lanes import LENIENT, OF_SURROUNDINGS, lane_of
from harness.choices.mix import Mix
from harness.choices.program import ENDING, OPENING, Program, Step


class NoLongerApplies(BaseException):
    """At this step, a recorded program asks for something that the code no longer offers.

    ``choice`` is the name of the choice that no longer fits; it is empty if the step itself does not.
    """

    def __init__(self, step: int, reason: str, choice: str = "") -> None:
        super().__init__(f"no longer applies at step {step}: {reason}")
        self.step = step
        self.reason = reason
        self.choice = choice

    def is_of_surroundings(self) -> bool:
        """Whether the choice that no longer fits is one of the surroundings', not of the caller's."""
        return lane_of(self.choice) in OF_SURROUNDINGS


class Script:
    """See the module. A misfit in one of ``lenient_lanes`` never raises."""

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
        """Give identity and operation index of each step, and of the end (-1).

        Asking for the next turn closes the step before. Raises `NoLongerApplies` if the script is strict.
        """
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
                if index < 0:  # the program has recorded choices for its end
                    return
            elif self._strict:
                raise NoLongerApplies(step.identity, f"there is no operation {step.operation!r} here")
        self.check_all_asked()
        self._enter(Step(self._step + 1, ENDING))
        yield self._step, -1

    def value(self, name: str, count: int) -> int:
        """The recorded choice, below ``count``. Raises `NoLongerApplies` if it is too large and held to."""
        value = self._ask(name)
        if value < count or not value:
            return value
        if self._strict and lane_of(name) not in self._lenient_lanes:
            raise NoLongerApplies(self._step, f"choice {name}={value}, but there are only {count}", name)
        return max(count - 1, 0)

    def identity(self, name: str, identities: Sequence[int]) -> int:
        """The recorded identity of an earlier step, or 0 if it is not among ``identities``."""
        # Never a misfit: the step may have been removed, and the step that refers to it is then skipped.
        value = self._ask(name)
        return value if value in identities else 0

    def _ask(self, name: str) -> int:
        if self._strict:
            self._asked.add(name)
        return self._choices.get(name, 0)

    def check_all_asked(self) -> None:
        """Raise `NoLongerApplies` if a strict script has a choice in this step that nobody asked for."""
        if not self._strict or self._asked.issuperset(self._choices):
            return
        names = sorted(name for name in self._choices if name not in self._asked)
        wanted = [name for name in names if lane_of(name) not in self._lenient_lanes]
        if wanted:
            raise NoLongerApplies(self._step, f"choice {wanted[0]!r} was never asked for", wanted[0])
