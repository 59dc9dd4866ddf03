"""Faults within a scenario: arming them, and what a system may answer once its device has refused a call.

Once the device has refused a call, and until the system is opened again, the system may

    raise one of the spec's fault errors    but not if only reads were refused, and none in this step; nor if the
                                            operation uses no medium that has refused anything
    refuse a change                         which has then changed nothing
    have failed dependencies                but a call that promises something returns only once that is persistent
    not open                                if the refusal came within the opening: it opens once nothing fails

What it answers is right all the same, and what was persistent is there when it is opened again. Sometimes nobody can
tell what a call has done, since its keys cannot be read. Then the process dies, and what is left is judged like after
any crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.choices.tape import Tape
from harness.scenario.describe import describe
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violation
from harness.spec.plan import Plan
from harness.world.faults import Fault, Site
from harness.world.world import World

PASSING_MAX: Final = 16
FAILING_MAX: Final = 7  # so many calls more than one; the next value means all until the fault is mended


class Tolerance:
    """What the system may answer in the life under way. ``errors`` may be excused at all; empty before any refusal."""

    __slots__ = ("_counters", "_errors", "_is_refused_now", "_media", "_reaches", "_sites", "errors")

    def __init__(self, plan: Plan, counters: Counters) -> None:
        self._errors = plan.fault_errors
        self._reaches = plan.reaches
        self._counters = counters
        self.begin_life()

    def begin_life(self) -> None:
        self.errors: tuple[type[Exception], ...] = ()
        self._media: set[int] = set()
        self._sites: set[Site] = set()
        self._is_refused_now = False

    def begin_call(self) -> None:
        self._is_refused_now = False

    def note_refusal(self, medium: int, site: Site) -> None:
        self.errors = self._errors
        self._media.add(medium)
        self._sites.add(site)
        self._is_refused_now = True
        self._counters.note_refusal(site)

    @property
    def has_refused(self) -> bool:
        """Whether a call of the device was refused in this life."""
        return bool(self._media)

    def judge(self, error: Exception, operation: str, arguments: Mapping[str, Any]) -> Violation | None:
        """The violation of an operation that raised one of `errors` with no good reason."""
        if self._sites == {Site.READ} and not self._is_refused_now:
            return Violation("fault tolerance", "after the fault", describe(error), "an answer: nothing fails any more")
        media = None if self._reaches is None else set(self._reaches(operation, arguments))
        if media is not None and not media & self._media:
            return Violation("fault tolerance", "other medium", describe(error), "an answer: its medium has not failed")
        return None


def choose_fault(plan: Plan, world: World, tape: Tape) -> Fault | None:
    """Arm a fault that the tape chooses, or mend all, which gives None."""
    calls = plan.fault_calls
    kind = tape.choose("refused", 2 + len(calls))
    if not kind:
        world.faults.mend()
        return None
    medium = tape.choose("refusing", len(world.media)) if len(world.media) > 1 else 0
    passing_count = tape.choose("passing", PASSING_MAX)
    more_count = tape.choose("failing", 1 + FAILING_MAX)
    failing_count = None if more_count == FAILING_MAX else 1 + more_count
    is_sticking = bool(tape.choose("sticking", 2))
    refused = calls if kind > len(calls) else (calls[kind - 1],)  # all of them: the device goes away
    sites = tuple(Site[call.upper()] for call in refused)
    fault = Fault(medium, sites, passing_count, failing_count, is_sticking)
    world.arm_fault(fault)
    return fault


def describe_fault(fault: Fault) -> str:
    """The fault in words, for the history."""
    sites = "every call" if len(fault.sites) == len(Site) else f"{fault.sites[0].name.lower()}s"
    passing = f" after {fault.passing_count} of them" if fault.passing_count else ""
    how_often = "until it is mended" if fault.failing_count is None else f"{fault.failing_count} times"
    where = ", on the extent of the first" if fault.is_sticking else ""
    return f"{sites} of medium {fault.medium} fail{passing}, {how_often}{where}"
