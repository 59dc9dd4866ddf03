"""The seam of the sequential checks and the world that renews it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from enumerating import simplest_tape
from misuses import MISUSES

from harness.choices.mix import Mix
from harness.choices.program import Program, Step
from harness.choices.random_policy import random_tape
from harness.choices.replay_policy import replay_tape
from harness.choices.tape import Tape
from harness.spec.device import MediumShape
from harness.spec.spec import Configuration
from harness.world import sequential_seam
from harness.world.devices import ZONED
from harness.world.power import DeadMedium, NoProgress
from harness.world.sequential_seam import Deadlock, LockMisuse, Monitor, SequentialSeam
from harness.world.world import World

COLLISIONS = (b"\x00\x00", b"\xff\xff\xff")
CONFIGURATION = Configuration("one", (MediumShape(2, 2, 4, device=ZONED),))


def begun(tape: Tape) -> Tape:
    tape.begin(Mix(["nothing"], [1]))
    return tape


def new_seam(tape: Tape | None = None) -> SequentialSeam:
    return SequentialSeam(tape or begun(simplest_tape()), count(1), COLLISIONS)


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_seen(misuse: Callable[[Monitor], object]) -> None:
    with pytest.raises(LockMisuse):
        misuse(new_seam().monitor("store"))


def test_a_monitor_can_be_taken_again_and_let_go_within() -> None:
    monitor = new_seam().monitor("store")
    for _ in range(2):
        with monitor:
            monitor.notify_all()
            monitor.release()
            monitor.acquire()


def test_the_first_trouble_gets_through() -> None:
    monitor = new_seam().monitor("store")

    def stumble() -> None:
        with monitor:
            monitor.release()
            raise KeyError

    with pytest.raises(KeyError):
        stumble()


def test_a_wait_does_the_work_with_the_monitor_held() -> None:
    monitor = new_seam().monitor("store")
    steps: list[int] = []

    def progress() -> bool:
        monitor.release()
        monitor.acquire()
        steps.append(1)
        return True

    with monitor:
        monitor.wait_until(lambda: len(steps) == 3, progress)
    assert len(steps) == 3


def test_a_last_step_that_finds_nothing_to_do_may_still_end_the_wait() -> None:
    monitor = new_seam().monitor("store")
    state: list[int] = []

    def last_step() -> bool:
        state.append(1)
        return False

    with monitor:
        monitor.wait_until(lambda: bool(state), last_step)


def test_a_wait_that_nothing_ends_is_a_deadlock() -> None:
    monitor = new_seam().monitor("store")
    with pytest.raises(Deadlock, match="nothing can end"), monitor:
        monitor.wait_until(lambda: False, lambda: False)


def test_a_wait_without_end_makes_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential_seam, "WAIT_STEPS_MAX", 50)
    monitor = new_seam().monitor("store")
    with pytest.raises(NoProgress, match="more than 50 steps"), monitor:
        monitor.wait_until(lambda: False, lambda: True)


def test_identifiers_never_repeat_whatever_their_endings() -> None:
    shares = set()
    for seed in range(40):
        seam = new_seam(begun(random_tape(seed)))
        identifiers = [seam.unique_id() for _ in range(300)]
        assert len(set(identifiers)) == len(identifiers)
        assert {len(identifier) for identifier in identifiers} == {16}
        shares.add(round(sum(identifier.endswith(COLLISIONS) for identifier in identifiers) / 300, 1))
    assert shares >= {0.0, 0.1, 0.5, 1.0}  # a scenario has one of these chances


def test_plain_identifiers_look_like_noise() -> None:
    seam = new_seam()
    assert not any(b"\x00\x00\x00" in seam.unique_id() for _ in range(500))


def test_the_entropy_lane_names_the_ending() -> None:
    program = Program((Step(0, "open", {"entropy.1": 1, "entropy.2": 2}),))
    seam = new_seam(begun(replay_tape(program, strict=True)))
    plain, zeros, ones = (seam.unique_id() for _ in range(3))
    assert not plain.endswith(COLLISIONS)
    assert zeros.endswith(COLLISIONS[0])
    assert ones.endswith(COLLISIONS[1])


def test_an_ending_must_leave_room_for_the_serial() -> None:
    with pytest.raises(ValueError, match="half"):
        SequentialSeam(simplest_tape(), count(1), [b"123456789"])


def test_the_device_lane_is_asked_for_open_decisions() -> None:
    program = Program((Step(0, "open", {"device.1": 2}),))
    seam = new_seam(begun(replay_tape(program, strict=True)))
    assert [seam.choose(3) for _ in range(3)] == [0, 2, 0]


@pytest.mark.parametrize("end", [World.crash, World.reboot])
def test_a_world_left_behind_is_dead(end: Callable[[World], object]) -> None:
    world = World(CONFIGURATION, begun(simplest_tape()))
    seam, medium = world.seam, world.media[0]
    free, held = seam.monitor("free"), seam.monitor("held")
    held.acquire()
    end(world)
    uses: list[Callable[[], object]] = [
        seam.unique_id,
        lambda: seam.choose(2),
        lambda: seam.monitor("new"),
        free.acquire,
        free.__enter__,
        held.release,
        held.notify_all,
        lambda: medium.read(0, 0, 1),
    ]
    for use in uses:
        with pytest.raises(DeadMedium):
            use()


def test_identifiers_go_on_over_a_crash() -> None:
    world = World(CONFIGURATION, begun(simplest_tape()))
    before = world.seam.unique_id()
    world.crash()
    assert world.seam.unique_id() != before


def test_entries_are_counted_over_all_media_of_a_step() -> None:
    shape = MediumShape(2, 2, 4, device=ZONED)
    world = World(Configuration("two", (shape, shape)), begun(simplest_tape()))
    world.position.step, world.position.issued_count = 7, 0
    for medium in world.media:
        medium.write(0, 0, b"page")
    world.position.step, world.position.issued_count = 8, 0
    world.media[1].write(0, 1, b"page")
    named = [(entry.step, entry.number, entry.medium) for medium in world.media for entry in medium.log]
    assert named == [(7, 0, 0), (7, 1, 1), (8, 0, 1)]
    assert world.step == 8
