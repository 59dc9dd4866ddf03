"""Asides: crash states of a run that goes on, recovered and judged beside it.

    step --- step --- step --- crash --- step --- end         the run: its own crashes, about one
       |        |  |
       aside    |  aside    at the end of a step, or before a barrier within background work
                aside

A scenario has about one crash, and that finds mostly an empty device log. An aside costs a recovery only, so one life
can be judged at many of its states. It takes an image that a crash might leave there, opens a second system on it, and
judges that against copies of ledger and model. The run itself sees nothing of it.

What an aside finds is told as a program: the steps of the run up to there, and a crash that leaves the same image. The
caller runs that program. Only what fails then counts.

Asides come beside the run's own crashes and not in their place: what only a life after a crash shows needs those. They
have one recovery, no further crash, and no step after it.

Of a system whose ``world.kept`` may change there are no asides, since two systems would share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from harness.choices.program import Program, Step
from harness.choices.random_policy import random_survivors
from harness.scenario.crash import CUT_EVENTS_MAX, CUT_FAR_MAX, cut_after
from harness.scenario.judge import model_after_crash
from harness.scenario.ledger import PERSISTENT
from harness.scenario.scenario import Scenario
from harness.scenario.violation import Violation, violation_of_system
from harness.search.observation import world_on
from harness.spec.models import NotCopiableError, is_unchanging
from harness.spec.plan import BACKGROUND, CRASH, WRITE_BACK, Action, Plan
from harness.world.legal_images import Image
from harness.world.medium import SimulatedMedium
from harness.world.power import Strike

END_CHANCE: Final = 0.4  # that a step's end is judged, if the media are not as at the aside before
WITHIN_MAX: Final = 4  # within one step; what does much upkeep at once would have dozens
BARRIER_CHANCE: Final = 0.6  # that the moment before a barrier is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run was when an aside found something: in or behind a step, after so many events of it."""

    step: int
    events_count: int | None  # None: behind the step
    survivors: Mapping[str, int]  # the choices of the crash other than 0


class Asides:
    """Watches one scenario. ``found`` is the place of the first aside that broke a property.

    What it draws depends on ``seed`` alone, and not on what the scenario draws.
    """

    __slots__ = (
        "_events_count",
        "_is_off",
        "_judged",
        "_random",
        "_scenario",
        "_step",
        "_survive",
        "_within_count",
        "found",
    )

    _scenario: Scenario

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self._survive = random_survivors(seed)
        self.found: Place | None = None
        self._is_off = False
        self._step = -1  # whose events are counted
        self._events_count = self._within_count = 0
        self._judged: dict[Image, int] = {}  # of this life: how many writes were persistent when it was judged

    # --- a watcher of the scenario ------------------------------------------------------------------

    def watch(self, scenario: Scenario) -> Asides:
        """Watch this scenario from its opening on."""
        self._scenario = scenario
        return self

    def life_ends(self) -> None:
        """The media of the next life are others, and are not observed yet."""

    def life_begins(self) -> None:
        self._judged = {}
        for medium in self._scenario.world.media:
            medium.observe(self)

    def step_ends(self) -> None:
        if self._may_look() and self._random() < END_CHANCE:
            self._look(None)

    # --- an observer of its media -------------------------------------------------------------------

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None:
        step = self._scenario.position.step
        if step != self._step:
            self._step, self._events_count, self._within_count = step, 0, 0
        if kind is Strike.BARRIER and medium.is_open() and self._may_look_within():
            self._within_count += 1
            with self._scenario.world.seam.held_monitors_aside():
                self._look(self._events_count)
        self._events_count += 1

    def _may_look_within(self) -> bool:
        """Only in work that changes nothing of the model: else nobody knows yet what the call will have changed."""
        action = self._action()
        is_background = action is not None and action.kind in (BACKGROUND, WRITE_BACK) and not action.model_sees
        overlap = self._scenario.overlap
        if overlap is not None and overlap.is_under_way:
            return False
        is_near = self._events_count < CUT_EVENTS_MAX * CUT_FAR_MAX and self._within_count < WITHIN_MAX
        return is_background and is_near and self._may_look() and self._random() < BARRIER_CHANCE

    def _may_look(self) -> bool:
        action = self._action()
        return self.found is None and not self._is_off and action is not None and action.kind != CRASH

    def _action(self) -> Action | None:
        """The step's operation; None at the opening and the end."""
        return self._scenario.plan.action_of.get(self._scenario.operation)

    # --- one aside ----------------------------------------------------------------------------------

    def _look(self, events_count: int | None) -> None:
        scenario = self._scenario
        image, survivors = self._image()
        states = scenario.ledger.poll()
        # Recovery on the same image gives the same, and only what was persistent since could forbid it.
        persistent_count = states.count(PERSISTENT)
        if self._judged.get(image) == persistent_count:
            return
        self._judged[image] = persistent_count
        try:
            violation = self._judge(image, states)
        except NotCopiableError:
            self._is_off = True
            return
        scenario.counters.asides += 1
        scenario.counters.cuts += 1
        scenario.counters.cuts_telling += scenario.world.is_much_open()
        scenario.counters.crash_states.add(*[extent for extents in image for extent in extents])
        if violation is not None:
            self.found = Place(scenario.position.step, events_count, survivors)

    def _image(self) -> tuple[Image, dict[str, int]]:
        """What a crash might leave now, and the choices that leave it."""
        survivors: dict[str, int] = {}

        def choose(name: str, count: int) -> int:
            value = self._survive(name, count)
            if value:
                survivors[name] = value
            return value

        image = []
        for medium in self._scenario.world.media:
            extents = list(medium.contents())
            for extent, entries in medium.open_entries().items():
                extents[extent] = medium.survivors(entries, choose, [])
            image.append(tuple(extents))
        return tuple(image), survivors

    def _judge(self, image: Image, states: Sequence[str]) -> Violation | None:
        scenario = self._scenario
        plan, kept = scenario.plan, scenario.world.kept
        if not all(map(is_unchanging, kept.values())):
            raise NotCopiableError("what the world keeps may change")
        model = model_after_crash(plan, scenario.model)
        world = world_on(plan, image, kept, configuration=scenario.world.configuration)
        try:
            system = plan.spec.system(world)
        except BaseException as error:
            return _of_system(error)
        return scenario.judge.whole(scenario.ledger, states, system, model).violation


def _of_system(error: BaseException) -> Violation:
    violation = violation_of_system(error, "crash", "recovery")
    if violation is None:
        raise error
    return violation


def fine_crash(plan: Plan) -> str | None:
    """The name of the plan's crash whose survivors are chosen write by write, if it has one."""
    names = [plan.mix.names[index] for index in plan.mix.crashes if plan.actions[index].tier == "fine"]
    return names[0] if names else None


def crashed_at(plan: Plan, program: Program, place: Place) -> Program:
    """The program of a run, cut off at an aside, with a crash that leaves the image of that aside."""
    crash = fine_crash(plan)
    assert crash is not None
    steps = [step for step in program.steps if step.identity <= place.step]
    if place.events_count is None:
        return Program((*steps, Step(place.step + 1, crash, place.survivors)))
    last = steps[-1]
    cut = {**_within(plan, last.operation), **cut_after(place.events_count)}
    choices = {**last.choices, **cut, **place.survivors}
    return Program((*steps[:-1], Step(last.identity, crash, {name: value for name, value in choices.items() if value})))


def _within(plan: Plan, operation: str) -> dict[str, int]:
    """The choices of a crash that comes within this operation."""
    if plan.write_back is not None and operation == plan.write_back.name:
        return {"inside.0": 1}
    names = [action.name for action in plan.interruptible]
    return {"inside.0": 1 + (plan.write_back is not None), "during.0": names.index(operation)}
