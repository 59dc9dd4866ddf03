"""The seam for use: real locks, identifiers that do not repeat."""

from __future__ import annotations

import threading

from shardstore.seam import ThreadSeam


def test_identifiers_do_not_repeat() -> None:
    seam = ThreadSeam()
    found = {seam.unique_id() for _ in range(1_000)}
    assert len(found) == 1_000
    assert {len(each) for each in found} == {16}


def test_the_first_choice_is_taken() -> None:
    assert [ThreadSeam().choose(count) for count in (1, 2, 9)] == [0, 0, 0]


def test_a_waiter_does_the_work_itself_while_there_is_any() -> None:
    monitor = ThreadSeam().monitor("test")
    done: list[int] = []

    def work() -> bool:
        done.append(1)
        return True

    with monitor:
        monitor.wait_until(lambda: len(done) == 3, work)
    assert len(done) == 3


def test_a_waiter_that_can_do_nothing_sleeps_until_another_thread_has_got_somewhere() -> None:
    monitor = ThreadSeam().monitor("test")
    done, asked = [False], threading.Event()

    def no_progress() -> bool:
        asked.set()
        return False

    def helper() -> None:
        asked.wait()
        with monitor:  # held by the waiter until it sleeps
            done[0] = True
            monitor.notify_all()

    thread = threading.Thread(target=helper)
    thread.start()
    with monitor:
        monitor.wait_until(lambda: done[0], no_progress)
    thread.join()


def test_the_monitor_excludes_others() -> None:
    monitor = ThreadSeam().monitor("test")
    total = [0]

    def add() -> None:
        for _ in range(2_000):
            with monitor:
                before = total[0]
                total[0] = before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == [8_000]


def test_a_waiter_looks_again_after_its_last_step_before_it_sleeps() -> None:
    """The step that finds nothing to do may have been the one that found out about a failure."""
    monitor = ThreadSeam().monitor("test")
    done = [False]

    def finds_out() -> bool:
        done[0] = True
        return False

    def would_sleep(timeout: float | None = None) -> bool:
        raise AssertionError("sleeps though it is done, and nobody will wake it")

    monitor.wait = would_sleep  # type: ignore[attr-defined]
    with monitor:
        monitor.wait_until(lambda: done[0], finds_out)
