"""The seam for use: real locks, identifiers that do not repeat."""

from __future__ import annotations

import os
import threading

from shardstore.seam import ThreadSeam, _HandoverLock


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


def test_read_1_who_waits_gets_the_monitor_before_the_thread_that_lets_it_go() -> None:
    """A merge lets the monitor go between blocks and wants it back at once; a reader must get in."""
    monitor = ThreadSeam().monitor("test")
    entered: list[int] = []

    def reader() -> None:
        with monitor:
            entered.append(1)

    for number in range(200):
        thread = threading.Thread(target=reader, daemon=True)
        with monitor:
            thread.start()
            while not monitor.lock.is_waited_for():  # type: ignore[attr-defined]
                os.sched_yield()
            monitor.release()
            monitor.acquire()
            assert len(entered) == number + 1
        thread.join()


def test_a_lock_is_let_go_by_its_owner_alone_however_far_it_got() -> None:
    lock = _HandoverLock()
    tried: list[bool] = []

    def other() -> None:
        lock.abandon()
        tried.append(lock.acquire(blocking=False))
        if tried[-1]:
            lock.release()

    def others_turn() -> bool:
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        thread.join()
        return tried[-1]

    with lock:
        assert not others_turn()
    assert others_turn()
    assert lock._gate.acquire()  # an interrupt came here
    assert not others_turn()
    lock.abandon()
    assert others_turn()
    assert lock.acquire()
    lock.abandon()
    lock.abandon()
    assert others_turn()


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
