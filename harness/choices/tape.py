"""The tape: names each choice of one run, checks its bound and writes it down.

    system, device, generators --choose("device", 3)--> Tape --pick("device", 3)--> Policy
                                                         |
                                                         `--> device.0=2 of step 7, in the program

Code that leaves something open asks the tape. The tape names the choice by its step, lane and number, asks a *policy*
for an integer below the count, and keeps the answer. A tape may also have a *script*, the choices of a recorded
program; a policy that replays asks `Tape.scripted`. Policies only decide, as Hypothesis' `PrimitiveProvider` does.

A tape that neither records nor has a script names nothing. Its `choose` is then the policy's own `pick`, so that a
random run pays for the draw alone. It makes the same choices as a recording tape, so a seed that failed can be run
again and recorded.

The calls of a run, in order:

    begin        choices of step 0, the opening, follow
    next_step    choices of that step follow; again until it answers -1
                 choices of the run's end follow, which has an identity of its own
    close
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from harness.choices.lanes import KNOB, SURVIVOR, lane_of
from harness.choices.mix import Mix
from harness.choices.program import ENDING, OPENING, RESERVED_NAMES, Program, Step
from harness.choices.script import Script

Turn = tuple[int, int]  # a step's identity, and its operation's index in the mix; -1: the run's end


class Policy(Protocol):
    """Decides each choice; names, bounds and records are the tape's business."""

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        """Begin a run and give its turns, the end last. The tape asks for each one when the step before is over."""

    def pick(self, lane: str, count: int) -> int:
        """An integer below ``count``. ``tape.name`` is the choice's name, unless that tape names nothing."""


class Tape:
    """See the module. ``step`` is the identity of the step under way, ``operation`` the name of its operation.

    ``within`` begins the names of all choices that are made now; empty unless they are those of a call in the middle of
    another, so that without it the other's choices keep their names.
    """

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
        "within",
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
        self.name = self.within = ""
        self.operation = OPENING
        self._steps: list[Step] = []
        self._choices: dict[str, int] = {}
        self._drawn: dict[str, int] = {}

    def begin(self, mix: Mix) -> None:
        self._mix = mix
        self._reset()
        self._turns = self._policy.begin(self, mix)

    def next_step(self) -> int:
        """Go to the next step; give its operation's index in the mix, or -1 for the run's end."""
        if not self._is_naming:
            self.step, index = next(self._turns)
            return index
        self._keep_step()
        self._choices, self._drawn = {}, {}
        self.step, index = next(self._turns)
        self.operation = self._mix.names[index] if index >= 0 else ENDING
        return index

    def steps(self) -> Iterator[int]:
        """Go to each of the steps to come, by its operation's index, up to the run's end."""
        return iter(self.next_step, -1)

    def close(self) -> None:
        """End a run that violated nothing. Raises `NoLongerApplies` if a strict script has choices nobody asked for."""
        if self._script is not None:
            self._script.check_all_asked()

    # --- choices ------------------------------------------------------------------------------------

    def choose_at(self, name: str, count: int) -> int:
        """An integer below ``count``, kept under exactly this name. Only for survivors, each asked for once a step."""
        return self._decide(lane_of(name), name, count) if self._is_naming else self._policy.pick(SURVIVOR, count)

    def choose_knob(self, knob: str, count: int) -> int:
        """An integer below ``count``, kept under the knob's name, so that it stays when other knobs come and go."""
        return self._decide(KNOB, f"{KNOB}.{knob}", count) if self._is_naming else self._policy.pick(KNOB, count)

    def choose_step(self, lane: str, identities: Sequence[int]) -> int:
        """One of these identities of earlier steps, or 0 if there are none.

        The record keeps the identity itself, not its place among them: removing other steps does not change it.
        """
        if not self._is_naming:
            return identities[self._policy.pick(lane, len(identities))] if identities else 0
        name = self._next_name(lane)
        if self._script is not None:
            return self._keep(name, self._script.identity(name, identities))
        return self._keep(name, identities[self._policy.pick(lane, len(identities))] if identities else 0)

    def scripted(self, count: int) -> int:
        """The script's value for the choice under way, below ``count``; 0, the simplest, if the script has none."""
        return self.script.value(self.name, count)

    @property
    def script(self) -> Script:
        """The script of a tape that replays; no other tape may be asked for it."""
        assert self._script is not None
        return self._script

    def _choose_named(self, lane: str, count: int) -> int:
        return self._decide(lane, self._next_name(lane), count)

    def _next_name(self, lane: str) -> str:
        lane = self.within + lane
        number = self._drawn.get(lane, 0)
        self._drawn[lane] = number + 1
        return f"{lane}.{number}"

    def _decide(self, lane: str, name: str, count: int) -> int:
        self.name = name
        value = self._policy.pick(lane, count)
        assert 0 <= value < max(count, 1), f"{name}={value} is not below {count}"
        return self._keep(name, value)

    def _keep(self, name: str, value: int) -> int:
        if value:  # a choice that is not recorded reads 0
            self._choices[name] = value
        return value

    # --- the record ---------------------------------------------------------------------------------

    def program(self) -> Program:
        """The run so far, including the step under way, with only the choices that were asked for."""
        return Program((*self._steps, *self._step_under_way()))

    def _keep_step(self) -> None:
        self._steps += self._step_under_way()

    def _step_under_way(self) -> list[Step]:
        """The step under way; nothing for an opening or an end that has no choices other than 0."""
        if not self._choices and self.operation in RESERVED_NAMES:
            return []
        return [Step(self.step, self.operation, self._choices)]
