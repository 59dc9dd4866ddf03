"""Asides: they find what crashes find, their program leaves the image that was judged, and the run is not changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from toy_store import CRASH_BUGS, SPEC, ToyStore

from harness.choices.random_policy import random_tape
from harness.scenario.runner import record_scenario, replay_program, run_plan
from harness.scenario.verdict import Answer, Counters
from harness.scenario.violation import Violation
from harness.search import asides as asides_module
from harness.search.asides import Asides, Place, crashed_at
from harness.search.check import check
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec
from harness.world.legal_images import Image


def plan_of(spec: Spec, configuration: int = 0) -> Plan:
    return compile_plan(spec, spec.configurations[configuration], Mode.CRASH)


class Judged(Asides):
    """Keeps the image of each aside, with its place."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.images: list[tuple[Place, Image]] = []
        self._survivors: dict[str, int] = {}
        self._within: int | None = None

    def _look(self, events_count: int | None) -> None:
        self._within = events_count
        super()._look(events_count)

    def _image(self) -> tuple[Image, dict[str, int]]:
        image, self._survivors = super()._image()
        return image, self._survivors

    def _judge(self, image: Image, states: Sequence[str]) -> Violation | None:
        self.images.append((Place(self._scenario.position.step, self._within, self._survivors), image))
        return None


@pytest.mark.parametrize("configuration", range(len(SPEC.configurations)))
def test_the_program_of_an_aside_leaves_the_image_that_was_judged(configuration: int) -> None:
    opened: list[Image] = []

    def open_and_note(world: Any) -> ToyStore:
        opened.append(tuple(medium.contents() for medium in world.media))
        return ToyStore(world)

    plan = plan_of(replace(SPEC, system=open_and_note), configuration)
    within_count = 0
    for seed in range(25):
        judged = Judged(seed)
        run_plan(plan, random_tape(seed), Counters(), watch=judged.watch)
        recorded = record_scenario(plan, seed).program
        for place, image in judged.images:
            opened.clear()
            replay_program(plan, crashed_at(plan, recorded, place), strict=False)
            assert image in opened
            within_count += place.events_count is not None
    assert within_count > 20


def test_the_run_is_the_same_with_asides_as_without() -> None:
    plan = plan_of(SPEC)
    for seed in range(40):
        alone, watched = Counters(), Counters()
        run_plan(plan, random_tape(seed), alone)
        run_plan(plan, random_tape(seed), watched, watch=Asides(seed).watch)
        ignored = ("asides", "crash_states", "cuts", "cuts_telling")
        assert {k: v for k, v in alone.figures().items() if k not in ignored} == {
            k: v for k, v in watched.figures().items() if k not in ignored
        }


@pytest.mark.parametrize("bug", CRASH_BUGS)
def test_asides_alone_find_each_planted_bug(bug: str) -> None:
    """Without the crashes of the runs themselves."""
    plan = plan_of(replace(SPEC, system=lambda world: ToyStore(world, bug)))
    crashless = replace(plan, mix=compile_plan(plan.spec, plan.configuration, Mode.CONFORMANCE).mix)
    for seed in range(600):
        asides = Asides(seed)
        broken_without = run_plan(crashless, random_tape(seed), Counters(), watch=asides.watch)
        if broken_without is None and asides.found is not None:
            program = crashed_at(plan, record_scenario(crashless, seed).program, asides.found)
            violation = replay_program(plan, program, strict=False).violation
            assert violation is not None
            assert violation.property == CRASH_BUGS[bug]
            return
    pytest.fail("no aside found it")


def test_what_only_an_aside_finds_is_a_violation_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPEC, system=lambda world: ToyStore(world, "persistent when issued"))
    monkeypatch.setattr(asides_module, "END_CHANCE", 1.0)
    verdict = check(spec, Mode.CRASH, scenarios=50)
    assert verdict.answer is Answer.VIOLATED
    assert verdict.run is not None
    assert verdict.run.program.steps[-1].operation == "crash"
    assert verdict.counters.asides


class Keeping(ToyStore):
    """Keeps something in the world that may change."""

    def __init__(self, world: Any) -> None:
        world.kept.setdefault("list", []).append(1)
        super().__init__(world)


def test_a_system_whose_kept_values_may_change_has_no_asides() -> None:
    verdict = check(replace(SPEC, system=Keeping), Mode.CRASH, scenarios=30)
    assert verdict.answer is Answer.NONE_FOUND
    assert not verdict.counters.asides


def test_an_aside_that_its_program_does_not_confirm_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Violation("persistence", "outcome", "wrong", "right")
    monkeypatch.setattr(Asides, "_judge", lambda self, image, states: wrong)
    verdict = check(SPEC, Mode.CRASH, scenarios=30)
    assert verdict.answer is Answer.UNKNOWN
    assert "aside" in verdict.reason
