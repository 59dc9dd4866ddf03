"""Two tasks and the monitors that both may want."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from enumerating import simplest_tape
from misuses import MISUSES

from harness.choices.mix import Mix
from harness.world import turns as module
from harness.world.power import DeadMedium, NoProgress
from harness.world.sequential_seam import Deadlock, LockMisuse, Monitor
from harness.world.turns import SharedMonitor, Turns


class Pair:
    """Turns with a monitor, and what the two tasks did, in order."""

    def __init__(self) -> None:
        tape = simplest_tape()
        tape.begin(Mix(["nothing"], [1]))
        self.tape = tape
        self.turns = Turns(tape)
        self.monitor: Monitor = SharedMonitor("store", self.turns)
        self.did: list[str] = []

    def at_first_point(self, call: Callable[[], None]) -> None:
        """Let the other task make this call at the next point of the main one."""

        def begin() -> None:
            self.turns.at_point = None
            self.turns.begin(call, "other.")

        self.turns.at_point = begin

    def enter(self, name: str) -> None:
        with self.monitor:
            self.did.append(name)

    def breathe(self) -> None:
        self.monitor.release()
        self.monitor.acquire()


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_seen(misuse: Callable[[Monitor], object]) -> None:
    with pytest.raises(LockMisuse):
        misuse(Pair().monitor)


def test_what_the_other_task_holds_is_not_this_ones() -> None:
    pair = Pair()
    seen = []

    def release_what_main_holds() -> None:
        try:
            pair.monitor.notify_all()
        except LockMisuse as misuse:
            seen.append(str(misuse))

    pair.monitor.acquire()
    pair.turns.begin(release_what_main_holds, "other.")
    assert seen == ["monitor 'store' notified unheld"]
    pair.monitor.release()


def test_the_other_task_comes_in_where_the_monitor_is_let_go() -> None:
    pair = Pair()
    pair.at_first_point(lambda: pair.enter("other"))
    with pair.monitor:
        pair.did.append("before")
        pair.breathe()
        pair.did.append("after")
    assert pair.did == ["before", "other", "after"]


def test_a_task_waits_for_a_monitor_that_the_other_holds() -> None:
    pair = Pair()
    second = SharedMonitor("node", pair.turns)

    def other() -> None:
        with second:
            pair.did.append("other")

    pair.at_first_point(other)
    with second, pair.monitor:
        pair.breathe()
        pair.did.append("main")
    pair.turns.finish()
    assert pair.did == ["main", "other"]


def test_a_task_that_waits_lets_the_other_one_end_its_wait() -> None:
    pair = Pair()
    pair.at_first_point(lambda: pair.enter("other"))
    with pair.monitor:
        pair.breathe()
        pair.turns.begin(lambda: pair.enter("late"), "other.")
        pair.monitor.wait_until(lambda: "late" in pair.did, lambda: False)
    assert pair.did == ["other", "late"]


def test_two_that_wait_for_each_other_are_a_deadlock() -> None:
    pair = Pair()

    def other() -> None:
        with pair.monitor:
            pair.monitor.wait_until(lambda: False, lambda: False)

    pair.at_first_point(other)

    def main() -> None:
        with pair.monitor:
            pair.breathe()
            pair.monitor.wait_until(lambda: False, lambda: False)

    with pytest.raises(Deadlock):
        main()
    pair.turns.stop(KeyError())


def test_a_wait_without_end_makes_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_STEPS_MAX", 50)
    monitor = Pair().monitor
    with pytest.raises(NoProgress, match="more than 50 steps"), monitor:
        monitor.wait_until(lambda: False, lambda: True)


def test_an_error_of_the_other_task_comes_out_of_the_main_one() -> None:
    pair = Pair()

    def fail() -> None:
        raise KeyError("other")

    pair.at_first_point(fail)
    with pytest.raises(KeyError, match="other"), pair.monitor:
        pair.breathe()
    assert isinstance(pair.turns.take_error(), KeyError)
    assert pair.turns.take_error() is None


def test_a_task_that_was_left_can_be_ended() -> None:
    pair = Pair()

    def other() -> None:
        with pair.monitor:
            try:
                pair.monitor.wait_until(lambda: False, lambda: False)
            finally:
                pair.did.append("ended")

    pair.at_first_point(other)
    with pair.monitor:
        pair.breathe()
    assert pair.turns.is_other_under_way
    assert isinstance(pair.turns.stop(KeyError()), KeyError)
    assert pair.did == ["ended"]
    assert not pair.turns.is_other_under_way


def test_each_task_has_names_of_its_own_for_its_choices() -> None:
    pair = Pair()
    within: list[str] = []

    def other() -> None:
        within.append(pair.tape.within)
        pair.turns.hand_over()
        within.append(pair.tape.within)

    pair.turns.begin(other, "other.")
    within.append(pair.tape.within)
    pair.turns.finish()
    assert within == ["other.", "", "other."]
    assert pair.tape.within == ""


def test_a_monitor_of_a_dead_world_is_refused_to_both() -> None:
    pair = Pair()
    pair.monitor.kill()
    with pytest.raises(DeadMedium):
        pair.monitor.acquire()
    with pytest.raises(DeadMedium):
        pair.turns.begin(lambda: pair.enter("other"), "other.")
