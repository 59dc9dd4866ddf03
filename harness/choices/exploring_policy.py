"""Exploring: replay a program up to some step, then try every combination of device choices, depth first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from harness.choices.mix import Mix
from harness.choices.program import Program
from harness.choices.replay_policy import ReplayPolicy
from harness.choices.script import Script
from harness.choices.tape import Tape, Turn
from harness.choices.trail import Trail


class Pick(NamedTuple):
    """A device choice: the step that made it, and its value."""

    step: int
    value: int


class ExploringPolicy(ReplayPolicy):
    """Replays the script up to step ``first``; after it, device choices are ``fixed`` first, then the trail's.

    The trail answers each run with the next combination. ``before_pick`` is called before each choice of the trail,
    with whether no earlier run has reached that choice. Once ``is_over`` is set, the script answers all choices again.
    """

    __slots__ = ("_first", "_fixed", "_trail", "before_pick", "is_over", "picks")

    def __init__(self, first: int, trail: Trail, fixed: Sequence[Pick] = ()) -> None:
        self._first = first
        self._fixed = fixed
        self._trail = trail
        self.before_pick: Callable[[bool], None] | None = None
        self.is_over = False
        self.picks: list[Pick] = []

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        self._trail.rewind()
        self.picks = []
        return super().begin(tape, mix)

    def pick(self, lane: str, count: int) -> int:
        tape = self._tape
        if lane != "device" or tape.step <= self._first or self.is_over:
            return tape.scripted(count)
        if len(self.picks) < len(self._fixed):
            value = self._fixed[len(self.picks)].value
        else:
            if self.before_pick is not None:
                self.before_pick(self._trail.is_at_end())
                if self.is_over:  # the callback may have ended the exploration: then the trail must not grow
                    return 0
            value = self._trail.pick(count)
        self.picks.append(Pick(tape.step, value))
        return value

    @property
    def is_on_new_ground(self) -> bool:
        """Whether no earlier run has made exactly the picks of this run so far."""
        return len(self.picks) >= len(self._fixed) and self._trail.is_at_end()


def exploring_tape(program: Program, policy: ExploringPolicy) -> Tape:
    # Not strict: after step ``first`` the run may ask for other choices than the program has.
    return Tape(policy, script=Script(program, strict=False), recording=False)
