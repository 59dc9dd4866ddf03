"""The audit's pure parts against slow, obvious definitions: hitting sets, and the crash states of a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.audit.crash_sets import crash_states
from harness.audit.device_flags import refuse_unlike
from harness.audit.edges import Kind
from harness.audit.judge import contents
from harness.audit.mend import EDGES_MAX, Candidate, hitting_sets
from harness.audit.schedules import Limits
from harness.choices.program import Program
from harness.choices.replay_policy import replay_tape
from harness.cli.main import main
from harness.spec.device import ChooseSurvivor, DeviceModel, Entry, Loss, MediumShape
from harness.spec.plan import SpecError
from harness.spec.spec import Configuration
from harness.spec.tracing import Origin
from harness.trace.tracer import LifeTracer
from harness.world.devices import ALL, ZONED
from harness.world.devices.block import Block
from harness.world.devices.zoned import Zoned
from harness.world.medium import SimulatedMedium
from harness.world.world import World

# --- hitting sets -----------------------------------------------------------------------------------

KINDS = [Kind(Origin(f"after {letter}", "pages"), Origin("before", "pages")) for letter in "abcdef"]

families = st.lists(st.sets(st.sampled_from(KINDS), min_size=1, max_size=4), min_size=1, max_size=6)
distances = st.tuples(*[st.integers(1, 3) for _ in KINDS])


@given(families, distances)
@settings(deadline=None, derandomize=True, database=None)
def test_the_first_hitting_set_is_a_smallest_one_and_the_nearest_of_these(
    sets: list[set[Kind]], far: tuple[int, ...]
) -> None:
    candidates = {kind: Candidate("", "", distance) for kind, distance in zip(KINDS, far, strict=True)}
    found = hitting_sets([{kind: candidates[kind] for kind in each} for each in sets], candidates)
    hitting = [
        chosen
        for size in range(1, EDGES_MAX + 1)
        for chosen in combinations(KINDS, size)
        if all(any(kind in each for kind in chosen) for each in sets)
    ]
    first = next(found, None)
    assert (first is None) == (not hitting)
    if first is not None:
        smallest = min(len(chosen) for chosen in hitting)
        nearest = min(
            sum(candidates[kind].distance for kind in chosen) for chosen in hitting if len(chosen) == smallest
        )
        assert len(first) == smallest
        assert sum(candidates[kind].distance for kind in first) == nearest
        assert all(any(kind in each for kind in first) for each in sets)


@given(families)
@settings(deadline=None, derandomize=True, database=None)
def test_hitting_sets_do_not_depend_on_the_order_of_the_families(sets: list[set[Kind]]) -> None:
    candidates = {kind: Candidate("", "", 1) for kind in KINDS}
    forth = hitting_sets([{kind: candidates[kind] for kind in sorted(each)} for each in sets], candidates)
    back = hitting_sets(
        [{kind: candidates[kind] for kind in sorted(each, reverse=True)} for each in reversed(sets)], candidates
    )
    assert next(forth, None) == next(back, None)


# --- crash states -----------------------------------------------------------------------------------

PAGE_SIZE_BYTES = 8
EXTENT_SIZE_PAGES = 4


class Doing(NamedTuple):
    """Without an extent a barrier; without pages a reset."""

    extent: int | None = None
    page_count: int = 0


doings = st.one_of(
    st.just(Doing()),
    st.builds(Doing, st.integers(0, 1), st.sampled_from([1, 1, 2])),
    st.builds(Doing, st.just(0), st.just(0)),
)


def _do(medium: SimulatedMedium, history: list[Doing], tracer: LifeTracer | None) -> None:
    pages = {0: 0, 1: 0}
    for number, (extent, page_count) in enumerate(history):
        if extent is None:
            medium.barrier()
            continue
        if page_count and pages[extent] + page_count > EXTENT_SIZE_PAGES:
            continue
        place = (extent, pages[extent] if page_count else 0)
        if tracer is not None:
            tracer.submitted(object(), 0, *place, page_count, Origin("test", "pages"), object())
        if page_count:
            medium.write(*place, bytes([97 + number]) * (page_count * PAGE_SIZE_BYTES))
        else:
            medium.reset(extent)
        pages[extent] = pages[extent] + page_count if page_count else 0


def _images(shape: MediumShape, history: list[Doing]) -> Iterator[tuple[bytes, ...]]:
    """What the medium itself leaves, over all its choices."""
    trail: list[tuple[int, int]] = []
    while True:
        depth = 0

        def choose(_: str, count: int) -> int:
            nonlocal depth
            if depth == len(trail):
                trail.append((0, count))
            depth += 1
            return trail[depth - 1][0]

        medium = SimulatedMedium(shape)
        _do(medium, history, None)
        yield medium.crash_image(choose).contents()
        del trail[depth:]
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return
        trail[-1] = (trail[-1][0] + 1, trail[-1][1])


@pytest.mark.parametrize("device", ALL, ids=lambda device: device.name)
@given(history=st.lists(doings, max_size=4))
@settings(deadline=None, derandomize=True, database=None)
def test_the_crash_states_of_a_trace_are_what_the_medium_may_leave(device: DeviceModel, history: list[Doing]) -> None:
    shape = MediumShape(2, EXTENT_SIZE_PAGES, PAGE_SIZE_BYTES, device)
    world = World(Configuration("only", (shape,)), replay_tape(Program(), strict=False))
    tracer = LifeTracer(world)
    _do(world.media[0], history, tracer)
    trace, limits = tracer.finish(), Limits(1, 1)
    states = {contents(trace, crash.state, [shape])[0] for crash in crash_states(trace, [shape], 0, limits)}
    assert not limits.reached
    assert states == {image for end in range(len(history) + 1) for image in _images(shape, history[:end])}


class _Cached(Zoned):
    """Loses only the last two of an extent's open entries, so that no flag describes it."""

    name = "cached"

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        return super().survivors(entries[-2:], content, shape, choose, losses)


class _TearsAnywhere(Block):
    """Says that it tears in another order than it does."""

    tears_in_order = False


@pytest.mark.parametrize("device", ALL, ids=lambda device: device.name)
def test_the_flags_of_every_model_say_what_it_does(device: DeviceModel) -> None:
    refuse_unlike([MediumShape(2, 4, 8, device)])


@pytest.mark.parametrize("device", [_Cached(), _TearsAnywhere()])
def test_a_model_that_its_flags_do_not_describe_is_not_audited(device: DeviceModel) -> None:
    with pytest.raises(SpecError, match=f"device model {device.name!r} leaves other states"):
        refuse_unlike([MediumShape(2, 4, 8, ZONED), MediumShape(2, 4, 8, device)])


# --- unusable input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.case"], "missing.case"),
        (["missing_spec.py"], "missing_spec.py"),
        (["x.case", "--scenarios", "1", "--seconds", "1"], "not both"),
        (["x.case", "--seconds", "inf"], "a number"),
    ],
)
def test_unusable_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_damaged_case_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.case"
    path.write_text("nonsense\n")
    assert main(["audit", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
