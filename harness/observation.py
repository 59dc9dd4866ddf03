"""What recovery makes of one image of the media, and whether a history that may have led to it allows that.

Recovery sees nothing but the image, so it is run once for each different one: opened, every key read, whole contents
read, shut down, opened once more and contents compared. The outcomes are judged against every history that may have
left that image: by outcomes first, which settle the model, then by contents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from harness.failures import Finding, finding_of_system
from harness.history import describe, describe_difference
from harness.ledger import Ledger, UnreadableKeyError
from harness.legal_images import Image
from harness.plan import Plan, SpecError
from harness.program import Program
from harness.sources import ReplaySource
from harness.spec import Key
from harness.world import World

_IDENTIFIERS_BEFORE: Final = 1 << 40  # more than any program gives out: those on the image are not given again
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
    world = world_on(plan, image, kept)
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
    try:
        system.shutdown()
    except plan.spec.excuses:
        return  # it may refuse, and stays open then
    world.reboot()
    again = plan.spec.contents(plan.spec.system(world))
    if again != observation.contents:
        observation.finding = ("persistence", "contents", str(again), str(observation.contents))


def world_on(plan: Plan, image: Image, kept: Mapping[str, Any]) -> World:
    """A world that has the image on its media and chooses nothing."""
    source = ReplaySource(Program(), strict=False)
    source.begin(plan.menu)
    world = World(plan.configuration, source)
    world.resume(image, kept, _IDENTIFIERS_BEFORE)
    return world


def model_after_crash(plan: Plan, model: Any) -> Any:
    """A copy, nothing settled yet."""
    copy = deepcopy(model)
    if plan.model_reopens:
        copy.reopened()
    return copy


def compare_outcomes(plan: Plan, ledger: Ledger, states: Sequence[str], subject: Any, model: Any) -> Finding | None:
    """What reading the keys says of the subject, a system or an `Observation`; the model takes it over."""
    assert plan.settle is not None
    try:
        judgement = ledger.judge(subject, states)
    except UnreadableKeyError as unreadable:
        cause = unreadable.__cause__ or unreadable
        finding = finding_of_system(cause, "crash", "persistence")
        if finding is None:
            raise cause from None
        property_name, place, answered, _ = finding
        return property_name, place, answered, describe({unreadable.key: unreadable.allowed})
    mismatch = judgement.mismatch
    if mismatch is not None:
        return "persistence", mismatch.place, describe(mismatch.answered), describe(mismatch.allowed)
    for key, outcome in judgement.observed.items():
        plan.settle(model, key, outcome)
    return None


def compare_contents(plan: Plan, answered: Any, model: Any) -> Finding | None:
    """The same of whole contents; the model must be settled."""
    if plan.spec.contents is None:
        return None
    allowed = plan.spec.contents(model)
    return None if answered == allowed else ("persistence", "contents", *describe_difference(answered, allowed))


def check_kept(kept: Mapping[str, Any]) -> None:
    """What is kept across crashes must be plain: an image is recovered many times, each time with the same."""
    for name, value in kept.items():
        if not isinstance(value, _PLAIN):
            raise SpecError(f"cannot be exhausted: world.kept[{name!r}] is {type(value).__name__}, which may change")
