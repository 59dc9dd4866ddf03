"""One scenario: runs system and model step by step, up to the first violation.

After `open`, each `perform` makes one step and compares. `finish` shuts down, opens again and compares whole contents.
The first violation raises `Violated`, and the scenario is over. The driver picks the steps: the runner takes them from
a tape, a state machine rule by rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from harness.choices.program import ENDING, OPENING
from harness.choices.tape import Tape
from harness.scenario import history as events
from harness.scenario.crash import CrashStep
from harness.scenario.history import Event
from harness.scenario.overlap import Overlap
from harness.scenario.side_by_side import SideBySide
from harness.scenario.verdict import Counters
from harness.spec.models import copy_of
from harness.spec.plan import CRASH, FAULT, Plan

EARLY_ODDS: Final = 6  # in faults mode the first opening of one scenario of so many meets a fault


class Recovered(NamedTuple):
    """The whole state after a crash, once the system has recovered and the model is settled."""

    media: tuple[tuple[bytes, ...], ...]
    kept: Mapping[str, Any]
    model: Any
    identifiers_count: int  # given out so far: those to come must not repeat them


class Scenario(SideBySide):
    """See the module. A step of the tape is a `CrashStep`, or is made by `act`."""

    __slots__ = ("_actions", "_has_invariants")

    def __init__(self, plan: Plan, tape: Tape, counters: Counters, history: list[Event] | None = None) -> None:
        super().__init__(plan, tape, counters, history)
        self._actions = plan.actions
        self._has_invariants = bool(plan.spec.invariants)

    def open(self) -> None:
        """Step 0: the system opens on empty media."""
        self.counters.scenarios += 1
        if self.history is not None:
            for line in self.knobs_turned():
                self.note(events.Said, line)
        if self.plan.overlapping and self.tape.choose("overlap", 2):
            self.overlap = Overlap(self)
        if self.tolerance is not None and self.tape.choose("early", EARLY_ODDS) == 1:
            self.arm_fault()
        self.open_system(OPENING)

    def resume(self, state: Recovered) -> None:
        """Recover the system on this state, in place of `open` and of all steps that led to the state."""
        self.counters.scenarios += 1
        self.world.resume(state.media, state.kept, state.identifiers_count)
        self.model = copy_of(state.model)
        self.open_system(OPENING)

    def recovered(self) -> Recovered:
        """The state now, which must be just after the recovery from a crash, with nothing written since."""
        media = tuple(medium.contents() for medium in self.world.media)
        return Recovered(media, dict(self.world.kept), copy_of(self.model), self.world.identifiers_count)

    def perform(self, index: int) -> None:
        """Perform the step that the tape is at: operation ``index`` of the mix. Raises `Violated`."""
        position = self.position  # what `begin_step` does, without the call
        position.step = self.tape.step
        position.issued_count = 0
        action = self._actions[index]
        self.operation = action.name
        if self.tolerance is not None:
            self.tolerance.begin_call()
        if action.kind == CRASH:
            CrashStep(self, action).perform()
        elif action.kind == FAULT:
            self.arm_fault()
        else:
            self.act(action)
        self.counters.operations += 1
        if self._has_invariants:
            self.check_invariants()
        if self.watcher is not None:
            self.watcher.step_ends()

    def perform_all(self) -> None:
        """Open, then perform every step that the tape gives. Raises `Violated`."""
        self.open()
        for index in self.tape.steps():
            self.perform(index)

    def perform_after(self, flushes: Sequence[str], index: int, begin: Callable[[], None]) -> None:
        """Perform one step that begins like a crash: these background operations, then operation ``index``.

        ``begin`` is called between them.
        """
        self.begin_step()
        for name in flushes:
            self.call(self.plan.action_of[name])
        begin()
        self.operation = self._actions[index].name
        self.act(self._actions[index])
        self.check_invariants()

    def write_back_again(self) -> None:
        """Take as many more device steps as one write-back may have."""
        assert self.plan.write_back is not None
        self.operation = self.plan.write_back.name
        self.write_back_steps(self.plan.write_back, self.plan.write_back.steps_max)

    def finish(self) -> None:
        """End the run: a clean shutdown and reopening if the spec has reboots, then compare whole contents."""
        self.begin_step()
        self.operation = ENDING
        self.world.faults.mend()
        if self.plan.reboots:
            self.reboot(ENDING)
        else:
            self.compare_contents(ENDING, "conformance")
