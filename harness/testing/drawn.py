"""A policy whose choices someone else draws, Hypothesis above all: a flag before each step, and integers below a count.

A *more* flag precedes each step, so that Hypothesis can delete a step by deleting a stretch of draws. Names of choices
play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn

STEPS_MAX = 40

DrawBelow = Callable[[str, int], int]
"""``draw_below(label, count)``: an integer below ``count``; the label is for people only."""


class DrawnPolicy:
    """Takes every choice from ``draw_below``, and up to ``steps_max`` steps as long as ``draw_more`` says so."""

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
