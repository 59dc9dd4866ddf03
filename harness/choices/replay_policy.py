"""Replay: the choices of a recorded program again, or with some of them drawn anew.

ReplayPolicy      takes each choice from the script
RedrawingPolicy   keeps or redraws evenly the choices of some lanes: the same steps under other surroundings
VaryingPolicy     keeps choices or redraws them as random runs do: a near program, for shrinking
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from harness.choices.mix import Mix
from harness.choices.program import Program
from harness.choices.random_policy import RandomPolicy
from harness.choices.script import Script
from harness.choices.tape import Tape, Turn

REDRAW_CHANCE: Final = 0.5

# Chance that a choice is drawn anew: (of a crash step, of any other step). A seed takes one of these pairs.
VARIATIONS: Final = ((1.0, 0.0), (0.25, 0.0), (0.25, 0.25))


def replay_tape(program: Program, *, strict: bool) -> Tape:
    """A tape that repeats a program's choices; the module `script` says what ``strict`` refuses."""
    return Tape(ReplayPolicy(), script=Script(program, strict=strict))


def redrawing_tape(program: Program, seed: int, lanes: frozenset[str]) -> Tape:
    """The program with choices of ``lanes`` redrawn from ``seed``; its other choices are replayed strictly."""
    return Tape(RedrawingPolicy(seed, lanes), script=Script(program, strict=True, lenient_lanes=lanes))


def varying_tape(program: Program, seed: int) -> Tape:
    """The steps of a program, redrawing from ``seed`` all choices of its crashes, some of these, or some of all."""
    return Tape(VaryingPolicy(seed), script=Script(program, strict=False))


class ReplayPolicy:
    __slots__ = ("_tape",)

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        self._tape = tape
        return tape.script.turns(mix)

    def pick(self, lane: str, count: int) -> int:
        return self._tape.scripted(count)


class RedrawingPolicy(ReplayPolicy):
    __slots__ = ("_lanes", "_random")

    def __init__(self, seed: int, lanes: frozenset[str]) -> None:
        self._random = Random(seed).random
        self._lanes = lanes

    def pick(self, lane: str, count: int) -> int:
        if lane in self._lanes and self._random() < REDRAW_CHANCE:
            return int(self._random() * count)
        return self._tape.scripted(count)


class VaryingPolicy(ReplayPolicy):
    __slots__ = ("_chances", "_crashes", "_fresh", "_random")

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self._fresh = RandomPolicy(seed)
        self._chances = VARIATIONS[seed % len(VARIATIONS)]

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        self._fresh.begin(tape, mix)  # only for its chances: the steps are the script's
        self._crashes = frozenset(mix.names[index] for index in mix.crashes)
        if not any(step.operation in self._crashes for step in tape.script.program.steps):
            self._chances = VARIATIONS[-1]  # the other pairs would redraw nothing
        return super().begin(tape, mix)

    def pick(self, lane: str, count: int) -> int:
        recorded = self._tape.scripted(count)
        is_of_crash = self._tape.operation in self._crashes
        is_varied = self._random() < self._chances[0 if is_of_crash else 1]
        return self._fresh.pick(lane, count) if is_varied else recorded
