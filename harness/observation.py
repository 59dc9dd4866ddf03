"""What recovery makes of one image of the media, whatever led to it.

Recovery sees nothing but the image, so it is run once for each different one: opened, every key read, whole contents
read, shut down, opened once more and contents compared. The outcomes are judged against every history that may have
left that image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.failures import Finding, finding_of_system
from harness.legal_images import Image
from harness.plan import Plan, SpecError
from harness.program import Program
from harness.sources import ReplaySource
from harness.spec import Key
from harness.world import World

_PLAIN = (bool, int, str, bytes, type(None))


class Observation:
    """``finding`` is why it could not be recovered at all, or used afterwards."""

    __slots__ = ("_errors", "contents", "finding", "outcomes")

    def __init__(self) -> None:
        self.finding: Finding | None = None
        self.outcomes: dict[Key, Any] = {}
        self._errors: dict[Key, Exception] = {}
        self.contents: Any = None

    def outcome(self, key: Key) -> Any:
        """What the key read as; raises what reading it raised."""
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

    def has_read(self, keys: Collection[Key]) -> bool:
        return all(key in self.outcomes or key in self._errors for key in keys)


def observe(plan: Plan, image: Image, kept: Mapping[str, Any], keys: Collection[Key]) -> Observation:
    """Recover on the image. Raises what is an error of the spec, not of the system."""
    world = _world_of(plan, image, kept)
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
                _compare_after_reboot(plan, world, system, observation)
    except BaseException as error:
        observation.finding = finding_of_system(error, "crash", property_name)
        if observation.finding is None:
            raise
    return observation


def _compare_after_reboot(plan: Plan, world: World, system: Any, observation: Observation) -> None:
    assert plan.spec.contents is not None
    system.shutdown()
    world.reboot()
    again = plan.spec.contents(plan.spec.system(world))
    if again != observation.contents:
        observation.finding = ("persistence", "contents", str(again), str(observation.contents))


def _world_of(plan: Plan, image: Image, kept: Mapping[str, Any]) -> World:
    source = ReplaySource(Program(), strict=False)
    source.begin(plan.menu)
    world = World(plan.configuration, source)
    world.kept.update(kept)
    for medium, extents in zip(world.media, image, strict=True):
        medium.hold(extents)
    return world


def check_kept(kept: Mapping[str, Any]) -> None:
    """What is kept across crashes must be plain: an image is recovered many times, each time with the same."""
    for name, value in kept.items():
        if not isinstance(value, _PLAIN):
            raise SpecError(f"cannot be exhausted: world.kept[{name!r}] is {type(value).__name__}, which may change")
