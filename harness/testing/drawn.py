"""Choices drawn by someone else, Hypothesis above all: a flag before each step, and integers below a count.

Each step is led by a *more* flag, so that deleting a step is deleting a stretch of draws. Names play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn

STEPS_MAX = 40

DrawBelow = Callable[[str, int], int]
"""An integer below a count; what it is for is said for people only."""


class DrawnPolicy:
    """Asks someone else for every choice. It has no need of names."""

    def __init__(self, draw_more: Callable[[], bool], draw_below: DrawBelow, steps_max: int) -> None:
        self._draw_more = draw_more
        self._draw_below = draw_below
        self._steps_max = steps_max

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        step = 1
        while step <= self._steps_max and self._draw_more():
            yield step, mix.allowed[self._draw_below("operation", len(mix.allowed))]
            step += 1
        yield step, -1

    def pick(self, lane: str, count: int) -> int:
        return self._draw_below(lane, count) if count > 1 else 0
