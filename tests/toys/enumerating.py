"""A policy for small exhaustive tests: every program of so many steps and every choice in it, depth first."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn
from harness.choices.trail import Trail


class EnumeratingPolicy:
    """Run, then `advance`, until that answers False. Lanes that are ``pinned`` always read 0."""

    def __init__(self, steps_count: int, *, pinned: Collection[str] = ("entropy",)) -> None:
        self._steps_count = steps_count
        self._pinned = frozenset(pinned)
        self._trail = Trail()

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        self._trail.rewind()
        return self._turns(mix.allowed)

    def _turns(self, allowed: tuple[int, ...]) -> Iterator[Turn]:
        for step in range(1, self._steps_count + 1):
            yield step, allowed[self._trail.pick(len(allowed))]
        yield self._steps_count + 1, -1

    def pick(self, lane: str, count: int) -> int:
        return 0 if lane in self._pinned else self._trail.pick(count)

    def advance(self) -> bool:
        """Go to the next combination; False when all were had."""
        return self._trail.advance()


def simplest_tape() -> Tape:
    """A tape of no steps that picks what is simplest."""
    return Tape(EnumeratingPolicy(0))
