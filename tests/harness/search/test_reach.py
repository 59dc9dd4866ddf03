"""Reach: scenarios are counted in which an event happened, and what was never reached makes a long check unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from toy_store import CONFIGURATIONS, SPEC, ToyStore

from harness.scenario.verdict import Answer, Counters, Verdict
from harness.search.check import check
from harness.search.reach import hold_to_reach, misplaced
from harness.spec.events import Event
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Knob, Mode, Spec

OPENED = Event("opened", ToyStore._recover)
PUT = Event("put", ToyStore.put)
NEXT_EXTENT = Event("next extent", ToyStore._append, "self.extent, self.page = ")
NEVER = Event("never", ToyStore._issue_one, when="len(self.buffered) > 1000")
SPEC_WITH_EVENTS = replace(SPEC, events=(OPENED, PUT, NEXT_EXTENT, NEVER))


def verdict_of(spec: Spec, counted: Mapping[str, int], mode: Mode = Mode.CRASH, scenarios: int = 50_000) -> Verdict:
    counters = Counters(scenarios=scenarios, events=dict(counted))
    return Verdict(spec.name, mode, CONFIGURATIONS[0].name, Answer.NONE_FOUND, counters, 1.0)


def test_a_scenario_counts_once_for_each_event_that_it_had() -> None:
    counters = check(SPEC_WITH_EVENTS, Mode.CRASH, scenarios=60).counters
    assert counters.events["opened"] == 60
    assert 30 < counters.events["put"] < 60
    assert 0 < counters.events["next extent"] < counters.events["put"]
    assert "never" not in counters.events


def test_events_change_nothing_of_a_check() -> None:
    with_events, without = (check(spec, Mode.CRASH, scenarios=60).counters for spec in (SPEC_WITH_EVENTS, SPEC))
    with_events.events.clear()
    assert with_events.figures() == without.figures()


def test_events_of_one_name_are_one() -> None:
    either = replace(SPEC, events=(OPENED, replace(PUT, name="opened")))
    assert check(either, Mode.CONFORMANCE, scenarios=20).counters.events == {"opened": 20}


ALL = {"opened": 9, "put": 9, "next extent": 9}


@pytest.mark.parametrize(
    ("counted", "mode", "scenarios", "answer"),
    [
        (ALL | {"never": 1}, Mode.CRASH, 50_000, Answer.NONE_FOUND),
        (ALL, Mode.CRASH, 50_000, Answer.UNKNOWN),
        (ALL, Mode.CRASH, 500, Answer.NONE_FOUND),  # too few to conclude anything
        (ALL, Mode.CONFORMANCE, 50_000, Answer.NONE_FOUND),  # crashes may be what it takes
    ],
)
def test_what_a_long_check_never_reached_makes_it_unknown(
    counted: Mapping[str, int], mode: Mode, scenarios: int, answer: Answer
) -> None:
    spec = replace(SPEC_WITH_EVENTS, configurations=CONFIGURATIONS[:1])
    (verdict,) = hold_to_reach(spec, [verdict_of(spec, counted, mode, scenarios)])
    assert verdict.answer is answer
    assert verdict.reason == ("never reached in 50,000 scenarios: never" if answer is Answer.UNKNOWN else "")


def test_what_another_check_of_the_spec_reached_counts() -> None:
    spec = replace(SPEC_WITH_EVENTS, configurations=CONFIGURATIONS[:1])
    verdicts = [verdict_of(spec, ALL), verdict_of(spec, {"never": 1}, Mode.CONFORMANCE)]
    assert {each.answer for each in hold_to_reach(spec, verdicts)} == {Answer.NONE_FOUND}


def test_nothing_is_concluded_unless_all_configurations_were_checked() -> None:
    assert len(CONFIGURATIONS) > 1
    (verdict,) = hold_to_reach(SPEC_WITH_EVENTS, [verdict_of(SPEC_WITH_EVENTS, ALL)])
    assert verdict.answer is Answer.NONE_FOUND


def test_what_cannot_be_is_not_missed() -> None:
    explained = replace(NEVER, because="nobody buffers so much")
    spec = replace(SPEC, events=(OPENED, explained), configurations=CONFIGURATIONS[:1])
    (verdict,) = hold_to_reach(spec, [verdict_of(spec, ALL)])
    assert verdict.answer is Answer.NONE_FOUND


def test_a_violation_stays_one() -> None:
    spec = replace(SPEC_WITH_EVENTS, configurations=CONFIGURATIONS[:1])
    (verdict,) = hold_to_reach(spec, [replace(verdict_of(spec, {}), answer=Answer.VIOLATED)])
    assert verdict.answer is Answer.VIOLATED


def test_an_event_without_a_place_makes_any_check_unknown_but_stops_none() -> None:
    """A planted bug, or a mutant, may have changed the line."""
    gone = Event("gone", ToyStore._append, "no such text")
    spec = replace(SPEC, events=(OPENED, gone), configurations=CONFIGURATIONS[:1])
    assert misplaced(spec.events).keys() == {"gone"}
    assert check(spec, Mode.CRASH, scenarios=5).counters.events == {"opened": 5}
    (verdict,) = hold_to_reach(spec, [verdict_of(spec, ALL, scenarios=5)])
    assert verdict.answer is Answer.UNKNOWN
    assert "'gone' cannot be seen: 0 statements" in verdict.reason


def test_a_knob_is_crossed_at_an_event_of_its_spec() -> None:
    configuration = replace(CONFIGURATIONS[0], knobs=(Knob("size", (1, 2), "no such event"),), turn=lambda it, _: it)
    with pytest.raises(SpecError, match="which is no event"):
        compile_plan(replace(SPEC, configurations=(configuration,)), configuration, Mode.CRASH)


def test_each_value_of_a_knob_is_counted() -> None:
    configuration = replace(CONFIGURATIONS[0], knobs=(Knob("size", (1, 2, 3)),), turn=lambda it, _: it)
    knobs = check(replace(SPEC, configurations=(configuration,)), Mode.CRASH, scenarios=200).counters.figures()["knobs"]
    assert sum(knobs["size"]) == 200
    assert all(knobs["size"])
    assert max(knobs["size"]) == knobs["size"][0]
