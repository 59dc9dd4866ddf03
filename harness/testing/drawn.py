"""Choices drawn by someone else, Hypothesis above all: a flag before each step, and integers below a count.

Each step is led by a *more* flag, so that deleting a step is deleting a stretch of draws. Names play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.choices.mix import Menu

STEPS_MAX = 40

DrawBelow = Callable[[str, int], int]
"""An integer below a count; what it is for is said for people only."""


class DrawnSource:
    """A source that asks someone else for every choice: a flag before each step, and integers below a count."""

    def __init__(self, draw_more: Callable[[], bool], draw_below: DrawBelow, steps_max: int) -> None:
        self.step = 0
        self._draw_more = draw_more
        self._draw_below = draw_below
        self._steps_max = steps_max
        self._allowed: tuple[int, ...] = ()

    def begin(self, menu: Menu) -> None:
        self.step = 0
        self._allowed = menu.allowed

    def next_step(self) -> int:
        self.step += 1
        if self.step > self._steps_max or not self._draw_more():
            return -1
        return self._allowed[self._draw_below("operation", len(self._allowed))]

    def choose(self, name: str, count: int) -> int:
        return self._draw_below(name, count) if count > 1 else 0

    choose_at = choose
    choose_rare = choose

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return identities[self.choose(name, len(identities))] if identities else 0

    def close(self) -> None:
        """Nothing is left to check."""
