"""Observations: what a system that has recovered on one image of the media answers.

Recovery sees nothing but the image, so one observation of each different image is enough. `observe` opens the system,
reads every key and the whole contents, and shuts it down. `reopen` opens it once more, and the contents are compared.
The observation is then judged against every history that may have left the image: first the outcomes, which settle the
model, then the contents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from harness.choices.program import Program
from harness.choices.replay_policy import replay_tape
from harness.scenario.violation import Violation, violation_of_system
from harness.spec.models import is_unchanging
from harness.spec.plan import Plan, SpecError
from harness.spec.spec import Configuration, Key
from harness.world.legal_images import Image
from harness.world.medium import SimulatedMedium
from harness.world.world import NewMedium, World

_IDENTIFIERS_BEFORE: Final = 1 << 40  # more than any run gives out, so that none on the image is given again


class Observation:
    """``violation`` says why the system could not be recovered at all, or not be used afterwards.

    ``left`` is the image after the shutdown; None if there was none, or if there are no contents to compare.
    """

    __slots__ = ("_errors", "contents", "left", "outcomes", "violation")

    def __init__(self) -> None:
        self.violation: Violation | None = None
        self.outcomes: dict[Key, Any] = {}
        self._errors: dict[Key, Exception] = {}
        self.contents: Any = None
        self.left: Image | None = None

    def outcome(self, key: Key) -> Any:
        """The outcome of the key. Raises the error that reading it raised."""
        if key in self._errors:
            raise self._errors[key]
        return self.outcomes[key]

    def read_keys(self, plan: Plan, system: Any, keys: Collection[Key]) -> None:
        assert plan.read is not None
        for key in keys:
            try:
                self.outcomes[key] = plan.read(system, key)
            except Exception as error:
                self._errors[key] = error


class Reopened(NamedTuple):
    """The contents after a shutdown and reopening; ``violation`` says why the system cannot be opened."""

    contents: Any
    violation: Violation | None


def observe(
    plan: Plan, image: Image, kept: Mapping[str, Any], keys: Collection[Key], new_medium: NewMedium = SimulatedMedium
) -> Observation:
    """Recover on the image and read keys and contents. Errors of the spec, not of the system, are raised."""
    world = world_on(plan, image, kept, new_medium)
    observation = Observation()
    property_name = "recovery"
    try:
        system = plan.spec.system(world)
        property_name = "persistence"
        observation.read_keys(plan, system, keys)
        if plan.spec.contents is not None:
            observation.contents = plan.spec.contents(system)
            if plan.reboots:
                property_name = "recovery"
                observation.left = _shut_down(plan, world, system)
    except BaseException as error:
        observation.violation = violation_of_system(error, "crash", property_name)
        if observation.violation is None:
            raise
    return observation


def _shut_down(plan: Plan, world: World, system: Any) -> Image | None:
    try:
        system.shutdown()
    except plan.spec.excuses:
        return None  # a system may refuse to shut down, and stays open then
    return tuple(medium.contents() for medium in world.media)


def reopen(plan: Plan, image: Image, kept: Mapping[str, Any], new_medium: NewMedium = SimulatedMedium) -> Reopened:
    """Open the system on the image that a shutdown left, and read its contents. Errors of the spec are raised."""
    assert plan.spec.contents is not None
    try:
        world = world_on(plan, image, kept, new_medium, lives=2)
        return Reopened(plan.spec.contents(plan.spec.system(world)), None)
    except BaseException as error:
        violation = violation_of_system(error, "crash", "recovery")
        if violation is None:
            raise
        return Reopened(None, violation)


def compare_reopened(observation: Observation, reopened: Reopened) -> None:
    """Note a violation in the observation if opening once more changed the contents."""
    if reopened.violation is not None:
        observation.violation = reopened.violation
    elif reopened.contents != observation.contents:
        observation.violation = Violation("persistence", "contents", str(reopened.contents), str(observation.contents))


def world_on(
    plan: Plan,
    image: Image,
    kept: Mapping[str, Any],
    new_medium: NewMedium = SimulatedMedium,
    *,
    lives: int = 1,
    configuration: Configuration | None = None,
) -> World:
    """A world with the image on its media, whose choices are all 0; ``lives`` worlds have used the image before.

    ``configuration`` is the plan's unless given: a scenario may have turned its knobs.
    """
    tape = replay_tape(Program(), strict=False)
    tape.begin(plan.mix)
    world = World(configuration or plan.configuration, tape, new_medium)
    world.resume(image, kept, lives * _IDENTIFIERS_BEFORE)
    return world


def check_kept(kept: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless all kept values are plain: many recoveries share them, and none may change them."""
    for name, value in kept.items():
        if not is_unchanging(value):
            raise SpecError(f"cannot be exhausted: world.kept[{name!r}] is {type(value).__name__}, which may change")
