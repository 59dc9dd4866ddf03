"""The test *programs* of a spec: Hypothesis draws a whole program, which runs at once.

A *more* flag precedes each step, so that Hypothesis can delete a step by deleting a stretch of draws. Names of choices
play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from harness.choices.mix import Mix
from harness.choices.tape import Tape, Turn
from harness.scenario.runner import run_recorded
from harness.scenario.verdict import Answer
from harness.spec.plan import Plan
from harness.testing.hypothesis_run import DrawBelow, FoundError, labelled, note_statistics, settings_for

_MORE = st.integers(0, 9)  # 0 ends the program, so that it has ten steps on average


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


def drawn_programs(plan: Plan, chosen: hypothesis.settings | None) -> Any:
    """A test, by Hypothesis, of programs of up to ``stateful_step_count`` steps; raises `FoundError`."""
    effective = settings_for(plan, "programs", chosen)

    @effective
    @given(st.data())
    def run_program(data: st.DataObject) -> None:
        policy = DrawnPolicy(lambda: data.draw(_MORE, label="more") > 0, labelled(data), effective.stateful_step_count)
        run = run_recorded(plan, Tape(policy))
        answer = Answer.NONE_FOUND if run.violation is None else Answer.VIOLATED
        note_statistics(plan, run.program, run.events, run.counters, answer)
        if run.violation is not None:
            raise FoundError(run)

    return run_program
