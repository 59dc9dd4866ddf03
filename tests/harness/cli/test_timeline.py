"""A failing run drawn: every step has a card, what is bad news stands out, and nothing runs out of its box."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_store import CONFIGURATIONS, toy_spec

from harness.cli.timeline import CARDS_A_ROW_MAX, LINES_MAX, TEXT_WIDTH, timeline
from harness.scenario.history import Lost
from harness.scenario.runner import record_scenario
from harness.scenario.verdict import Run
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode

NAMESPACE = "{http://www.w3.org/2000/svg}"
PLAN = compile_plan(toy_spec("persistent when issued"), CONFIGURATIONS[0], Mode.CRASH)


def failing_run(first_seed: int) -> Run:
    runs = (record_scenario(PLAN, seed) for seed in range(first_seed, first_seed + 500))
    return next(run for run in runs if run.violation is not None)


def failing_run_that_lost_something() -> Run:
    runs = (failing_run(seed) for seed in range(0, 5_000, 50))
    return next(run for run in runs if any(isinstance(each, Lost) and each.losses for each in run.events))


@given(first_seed=st.integers(0, 2_000))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_every_step_has_a_card_and_every_line_fits(first_seed: int) -> None:
    run = failing_run(first_seed)
    root = Xml.fromstring(timeline(run, "a heading"))
    steps = {event.step for event in run.events}
    cards = root.findall(f"{NAMESPACE}rect")
    assert len(cards) == len(steps) + 1
    assert {card.get("class") for card in cards} == {"card", "crash", "broken"}
    lines = [text.text or "" for text in root.findall(f"{NAMESPACE}text") if text.get("class") != "title"]
    assert max(map(len, lines)) <= TEXT_WIDTH
    assert len(lines) <= len(cards) * LINES_MAX
    assert len({card.get("x") for card in cards}) <= CARDS_A_ROW_MAX
    width, height = map(float, (root.get("viewBox") or "").split()[2:])
    for card in cards:
        assert float(card.get("x") or 0) + float(card.get("width") or 0) <= width
        assert float(card.get("y") or 0) + float(card.get("height") or 0) <= height


def test_what_was_lost_and_answered_stands_out() -> None:
    root = Xml.fromstring(timeline(failing_run_that_lost_something(), "a heading"))
    bad = " ".join(text.text or "" for text in root.findall(f"{NAMESPACE}text") if text.get("class") == "bad")
    assert "lost" in bad
    assert "answered" in bad


def test_a_run_that_did_not_fail_has_no_picture() -> None:
    with pytest.raises(ValueError, match="did not fail"):
        timeline(replace(failing_run(0), violation=None), "a heading")
