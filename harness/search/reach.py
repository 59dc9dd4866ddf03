"""Reach: in how many scenarios each rare event happened, and what it means if one never did.

A check that never reached what its spec names has not looked there. So its answer is *unknown* once enough scenarios
were run that the event was to be expected. Smaller checks only show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.scenario.verdict import Answer, Counters, Verdict
from harness.spec.events import Event
from harness.spec.spec import Mode, Spec
from harness.world.probes import Probe, ProbeError, Probes, probe_of

SCENARIOS_MIN: Final = 20_000  # of one spec: with fewer, an event at zero may be bad luck


class Reach:
    """A context that counts events of scenarios run within it."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = Probes(probes)
        self._names = [each.name for each in probes]

    def __enter__(self) -> Reach:
        self._probes.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._probes.__exit__()

    def count(self, counters: Counters) -> None:
        """Count one scenario: what was reached since the last call."""
        reached = self._probes.reached
        if reached:
            for name in {self._names[number] for number in reached}:
                counters.events[name] = counters.events.get(name, 0) + 1
            reached.clear()


def reach_of(spec: Spec) -> Reach:
    """The reach of the spec's events, but for those that `misplaced` tells of."""
    probes = []
    for event in spec.events:
        try:
            probes.append(probe_of(event))
        except ProbeError:
            continue
    return Reach(probes)


def misplaced(events: Iterable[Event]) -> dict[str, str]:
    """The events that the code has no place for, and why: it has changed, or is another with a planted bug."""
    found = {}
    for event in events:
        try:
            probe_of(event)
        except ProbeError as error:
            found[event.name] = str(error)
    return found


def never_reached(spec: Spec, counted: Mapping[str, int]) -> list[str]:
    """The events of the spec that no scenario had, without those that it explains."""
    names = dict.fromkeys(event.name for event in spec.events if not event.because)
    return [name for name in names if not counted.get(name)]


def hold_to_reach(spec: Spec, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of all checks of a spec, *unknown* in place of *none found* if these did not reach its events.

    Only crash mode reaches all of them, so without it nothing is concluded.
    """
    total = Counters()
    for verdict in verdicts:
        total.add(verdict.counters)
    reasons = [f"{name!r} cannot be seen: {why}" for name, why in misplaced(spec.events).items()]
    modes = {verdict.mode for verdict in verdicts}
    has_all = (Mode.CRASH in modes or not spec.can_crash) and total.scenarios >= SCENARIOS_MIN
    configurations = {verdict.configuration for verdict in verdicts}
    if not reasons and has_all and configurations == {each.name for each in spec.configurations}:
        reasons = [
            f"never reached in {total.scenarios:,} scenarios: {name}" for name in never_reached(spec, total.events)
        ]
    if not reasons:
        return list(verdicts)
    return [
        replace(verdict, answer=Answer.UNKNOWN, reason="; ".join(reasons))
        if verdict.answer is Answer.NONE_FOUND
        else verdict
        for verdict in verdicts
    ]
