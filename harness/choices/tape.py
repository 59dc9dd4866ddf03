"""The tape: one run's choices, each given a name, bounded, and written down.

    system, device, generators --choose("device", 3)--> Tape --pick("device", 3)--> Policy
                                                         |
                                                         `--> device.0=2 of step 7, in the program

Whoever leaves something open asks the tape. The tape names the choice by its step, lane and number, asks a *policy* for
an integer below the count, and keeps it. A tape may also have a *script*, the choices of a recorded program; a policy
that replays asks `Tape.scripted`. Back ends that only decide are as in Hypothesis' `PrimitiveProvider`.

A tape that neither records nor has a script names nothing: `choose` is then the policy's own `pick`, so that a random
run pays for the draw alone. It makes the very choices that a recording tape makes, so a seed that failed is run again.

A run: `begin`; choices of step 0, the opening; `next_step` until it answers -1, with each step's choices after it; the
choices of the run's end, which has an identity of its own; `close`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from harness.choices.lanes import SURVIVOR, lane_of
from harness.choices.mix import Mix
from harness.choices.program import ENDING, OPENING, RESERVED_NAMES, Program, Step
from harness.choices.script import Script

Turn = tuple[int, int]  # a step's identity, and its operation's index in the mix; -1: the run's end


class Policy(Protocol):
    """Decides, and nothing else."""

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        """A run begins; gives its turns, the end last. Each is asked for when the step before is over."""

    def pick(self, lane: str, count: int) -> int:
        """An integer below ``count``. ``tape.name`` is the choice's name, unless the tape names nothing."""


class Tape:
    """See the module. ``step`` is the identity of the step under way, ``operation`` its operation."""

    __slots__ = (
        "_choices",
        "_drawn",
        "_is_naming",
        "_mix",
        "_policy",
        "_script",
        "_steps",
        "_turns",
        "choose",
        "name",
        "operation",
        "step",
    )

    choose: Callable[[str, int], int]
    """``choose(lane, count)``: an integer below ``count``."""

    def __init__(self, policy: Policy, *, script: Script | None = None, recording: bool = True) -> None:
        self._policy = policy
        self._script = script
        self._is_naming = recording or script is not None
        self.choose = self._choose_named if self._is_naming else policy.pick
        self._reset()

    def _reset(self) -> None:
        self.step = 0
        self.name = ""
        self.operation = OPENING
        self._steps: list[Step] = []
        self._choices: dict[str, int] = {}
        self._drawn: dict[str, int] = {}

    def begin(self, mix: Mix) -> None:
        self._mix = mix
        self._reset()
        self._turns = self._policy.begin(self, mix)

    def next_step(self) -> int:
        """Go to the next step; answers its operation's index in the mix, or -1 if the run's end is next."""
        if not self._is_naming:
            self.step, index = next(self._turns)
            return index
        self._keep_step()
        self._choices, self._drawn = {}, {}
        self.step, index = next(self._turns)
        self.operation = self._mix.names[index] if index >= 0 else ENDING
        return index

    def close(self) -> None:
        """The run is over and nothing was violated. Raises `NoLongerApplies` if a strict script has more to say."""
        if self._script is not None:
            self._script.check_all_asked()

    # --- choices ------------------------------------------------------------------------------------

    def choose_at(self, name: str, count: int) -> int:
        """An integer below ``count``, kept under exactly this name, asked for once a step. Made for survivors."""
        return self._decide(lane_of(name), name, count) if self._is_naming else self._policy.pick(SURVIVOR, count)

    def choose_step(self, lane: str, identities: Sequence[int]) -> int:
        """One of these identities of earlier steps, or 0 if there is none to be had."""
        if not self._is_naming:
            return identities[self._policy.pick(lane, len(identities))] if identities else 0
        name = self._next_name(lane)
        if self._script is not None:
            return self._keep(name, self._script.identity(name, identities))
        return self._keep(name, identities[self._policy.pick(lane, len(identities))] if identities else 0)

    def scripted(self, count: int) -> int:
        """What the script has for the choice under way, below ``count``; 0, the simplest, where it has nothing."""
        return self.script.value(self.name, count)

    @property
    def script(self) -> Script:
        """Only a tape of a policy that replays is asked for it."""
        assert self._script is not None
        return self._script

    def _choose_named(self, lane: str, count: int) -> int:
        return self._decide(lane, self._next_name(lane), count)

    def _next_name(self, lane: str) -> str:
        number = self._drawn.get(lane, 0)
        self._drawn[lane] = number + 1
        return f"{lane}.{number}"

    def _decide(self, lane: str, name: str, count: int) -> int:
        self.name = name
        value = self._policy.pick(lane, count)
        assert 0 <= value < max(count, 1), f"{name}={value} is not below {count}"
        return self._keep(name, value)

    def _keep(self, name: str, value: int) -> int:
        if value:
            self._choices[name] = value
        return value

    # --- the record ---------------------------------------------------------------------------------

    def program(self) -> Program:
        """The run so far, the step under way included; it has only the choices that were asked for."""
        return Program((*self._steps, *self._step_under_way()))

    def _keep_step(self) -> None:
        self._steps += self._step_under_way()

    def _step_under_way(self) -> list[Step]:
        """Opening and end are steps of a program only where they have choices."""
        if not self._choices and self.operation in RESERVED_NAMES:
            return []
        return [Step(self.step, self.operation, self._choices)]
