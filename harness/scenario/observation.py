"""What recovery makes of one image of the media, and whether a history that may have led to it allows that.

Recovery sees nothing but the image, so it need be run once only for each different one: opened, every key read, whole
contents read, shut down (`observe`), opened once more (`reopen`) and contents compared. The outcomes are judged against
every history that may have left that image: by outcomes first, which settle the model, then by contents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

from harness.choices.program import Program
from harness.choices.sources import ReplaySource
from harness.scenario.failures import Finding, finding_of_system
from harness.scenario.history import describe, describe_difference
from harness.scenario.ledger import Ledger, UnreadableKeyError
from harness.spec.plan import Plan, SpecError
from harness.spec.spec import Key
from harness.world.legal_images import Image
from harness.world.medium import SimulatedMedium
from harness.world.world import NewMedium, World

_IDENTIFIERS_BEFORE: Final = 1 << 40  # more than any program or recovery gives out: none on the image is given again
_PLAIN = (bool, int, str, bytes, type(None))


class Observation:
    """``finding`` is why it could not be recovered at all, or used afterwards.

    ``left`` is what was on the media once it had been shut down: None if it was not, or there is nothing to compare.
    """

    __slots__ = ("_errors", "contents", "finding", "left", "outcomes")

    def __init__(self) -> None:
        self.finding: Finding | None = None
        self.outcomes: dict[Key, Any] = {}
        self._errors: dict[Key, Exception] = {}
        self.contents: Any = None
        self.left: Image | None = None

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


class Reopened(NamedTuple):
    """What is there after a shutdown; ``finding`` is why it cannot be opened."""

    contents: Any
    finding: Finding | None


def observe(
    plan: Plan, image: Image, kept: Mapping[str, Any], keys: Collection[Key], new_medium: NewMedium = SimulatedMedium
) -> Observation:
    """Recover on the image. Raises what is an error of the spec, not of the system."""
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
        observation.finding = finding_of_system(error, "crash", property_name)
        if observation.finding is None:
            raise
    return observation


def _shut_down(plan: Plan, world: World, system: Any) -> Image | None:
    try:
        system.shutdown()
    except plan.spec.excuses:
        return None  # it may refuse, and stays open then
    return tuple(medium.contents() for medium in world.media)


def reopen(plan: Plan, image: Image, kept: Mapping[str, Any], new_medium: NewMedium = SimulatedMedium) -> Reopened:
    """Open what a shutdown has left and read whole contents. Raises what is an error of the spec."""
    assert plan.spec.contents is not None
    try:
        world = world_on(plan, image, kept, new_medium, lives=2)
        return Reopened(plan.spec.contents(plan.spec.system(world)), None)
    except BaseException as error:
        finding = finding_of_system(error, "crash", "recovery")
        if finding is None:
            raise
        return Reopened(None, finding)


def compare_reopened(observation: Observation, reopened: Reopened) -> None:
    """Opening once more must change nothing: else that is the observation's finding."""
    if reopened.finding is not None:
        observation.finding = reopened.finding
    elif reopened.contents != observation.contents:
        observation.finding = ("persistence", "contents", str(reopened.contents), str(observation.contents))


def world_on(
    plan: Plan,
    image: Image,
    kept: Mapping[str, Any],
    new_medium: NewMedium = SimulatedMedium,
    *,
    lives: int = 1,
) -> World:
    """A world that has the image on its media and chooses nothing; ``lives`` worlds have been on it before."""
    source = ReplaySource(Program(), strict=False)
    source.begin(plan.menu)
    world = World(plan.configuration, source, new_medium)
    world.resume(image, kept, lives * _IDENTIFIERS_BEFORE)
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
