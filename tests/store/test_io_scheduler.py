"""The IO scheduler, seen from the device: what it was given, in which order, and where the barriers were."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FIRST, PAGE, Choose, Event, Stack, examples, first_choice, new_medium, page_of

from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise, Write
from shardstore.errors import DiskError, InvariantError


def new_scheduler(choose: Choose = first_choice, *, zoned: bool = True) -> Stack:
    return Stack(new_medium(zoned=zoned), choose)


def submit(stack: Stack, extent: int, page: int, letter: str = "x", after: Dependency = PERSISTENT) -> Write:
    stack.pool.take(stack.scheduler.step)
    return stack.scheduler.submit_write(extent, page, page_of(letter), after, "test")


@dataclass
class Submitted:
    write: Write
    after: Dependency
    event: Event
    issued_at: int | None = None  # barriers that had begun when the device got it


class Run:
    """Submits writes and resets that depend on earlier ones, and checks each rule at each step."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = iter(choices)
        self.stack = new_scheduler(lambda count: next(self.choices, 0) % count)
        self.pages = dict.fromkeys(range(FIRST, FIRST + 3), 0)
        self.all: list[Submitted] = []
        self.seen_count = 0
        self.barriers_count = 0
        medium = self.stack.medium
        medium.in_barrier = self.on_barrier
        self.trace: list[Event] = medium.trace

    def on_barrier(self) -> None:
        self.note_issued()
        self.barriers_count += 1

    def submit(self, extent: int, after: Dependency, *, is_reset: bool) -> None:
        scheduler = self.stack.scheduler
        if is_reset:
            write = scheduler.submit_reset(extent, after, "test")
            self.pages[extent] = 0
            event = Event("reset", extent)
        else:
            if self.pages[extent] == 16 or not self.stack.pool.can_take():
                return
            page = self.pages[extent]
            data = page_of(chr(ord("a") + len(self.all) % 26))
            self.stack.pool.take(scheduler.step)
            write = scheduler.submit_write(extent, page, data, after, "test")
            self.pages[extent] += 1
            event = Event("write", extent, page, data, 1)
        self.all.append(Submitted(write, after, event))

    def note_issued(self) -> None:
        for event in self.trace[self.seen_count :]:
            self.seen_count += 1
            if event.kind == "barrier":
                continue
            waiting = [each for each in self.all if each.event.extent == event.extent and each.issued_at is None]
            assert waiting[0].event == event  # IO-2: the extent's next one
            assert waiting[0].after.poll() == PERSISTENT_STATE  # IO-1
            waiting[0].issued_at = self.barriers_count

    def check(self) -> None:
        self.note_issued()
        for each in self.all:  # IO-3: persistent is what a barrier that began later has passed
            passed = each.issued_at is not None and self.barriers_count > each.issued_at
            assert each.write.poll() == (PERSISTENT_STATE if passed else PENDING)


@examples(150)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 20), st.booleans()),
        max_size=40,
    ),
    st.lists(st.integers(0, 60), max_size=60),
)
def test_order_and_persistence_are_as_the_device_saw_them(
    sequence: list[tuple[int, int, int, bool]], choices: list[int]
) -> None:
    """IO-1, IO-2 and IO-3, for any dependencies between writes and any choice of what goes next."""
    run = Run(choices)
    for what, extent, earlier, is_reset in sequence:
        if what <= 2:
            after = run.all[earlier % len(run.all)].write if run.all and what else PERSISTENT
            run.submit(FIRST + extent, after, is_reset=is_reset and what == 2)
        else:
            run.stack.scheduler.step()
        run.check()
    run.stack.drain()
    run.check()
    assert all(each.write.poll() == PERSISTENT_STATE for each in run.all)
    assert not run.stack.scheduler.step()
    assert run.stack.pool.free_count == run.stack.pool.buffer_count


def test_io_1_is_asserted() -> None:
    stack = new_scheduler()
    submit(stack, FIRST, 0, after=Promise(stack))
    with pytest.raises(InvariantError, match="IO-1"):
        stack.scheduler._issue(FIRST)


def test_io_2_a_ready_write_does_not_overtake_a_waiting_one_on_its_extent() -> None:
    stack = new_scheduler()
    promise = Promise(stack)
    submit(stack, FIRST, 0, after=promise)
    submit(stack, FIRST, 1)
    assert not stack.scheduler.step()
    promise.bind(PERSISTENT)
    stack.drain()
    assert [event.page for event in stack.medium.changes() if event.kind == "write"] == [0, 1]


def test_io_3_what_is_issued_during_a_barrier_waits_for_the_next() -> None:
    stack = new_scheduler()
    first = submit(stack, FIRST, 0)
    later: list[Write] = []

    def another_thread() -> None:
        """The monitor is free while the device is busy."""
        if not later:
            with stack.monitor:
                later.append(submit(stack, FIRST + 1, 0))
                assert stack.scheduler.step()  # issues it
                assert not stack.scheduler.step()  # one barrier at a time

    stack.medium.in_barrier = another_thread
    assert stack.scheduler.step()
    assert stack.scheduler.step()
    assert first.poll() == PERSISTENT_STATE
    assert later[0].poll() == PENDING
    stack.drain()
    assert later[0].poll() == PERSISTENT_STATE


def test_many_writes_share_one_barrier() -> None:
    stack = new_scheduler()
    writes = [submit(stack, FIRST + number, 0) for number in range(5)]
    stack.drain()
    assert stack.scheduler.barriers_count == 1
    assert all(write.poll() == PERSISTENT_STATE for write in writes)


def test_a_chain_of_writes_is_forgotten_link_by_link_as_it_becomes_persistent() -> None:
    """DEP-1's other half: the newest of many writes holds on to none of the others."""
    stack = new_scheduler()
    newest: Dependency = PERSISTENT
    for number in range(200):
        newest = submit(stack, FIRST + number % 16, number // 16, after=newest)
    stack.drain()
    assert newest.poll() == PERSISTENT_STATE
    gc.collect()
    assert sum(isinstance(each, Write) for each in gc.get_referents(newest)) == 0


def test_io_4_a_refused_write_fails_all_behind_it_until_the_extent_is_reset() -> None:
    stack = new_scheduler()
    stack.medium.fails = lambda event: event.kind == "write" and event.page == 1
    kept, refused, behind = (submit(stack, FIRST, page) for page in range(3))
    elsewhere = submit(stack, FIRST + 1, 0)
    dependent = submit(stack, FIRST + 2, 0, after=behind)
    stack.drain()
    late = submit(stack, FIRST, 3)
    assert [each.poll() for each in (kept, elsewhere)] == [PERSISTENT_STATE] * 2
    assert [each.poll() for each in (refused, behind, dependent, late)] == [FAILED] * 4
    assert [event.page for event in stack.medium.changes() if event.extent == FIRST] == [0]
    reset = stack.scheduler.submit_reset(FIRST, PERSISTENT, "test")
    again = submit(stack, FIRST, 0)
    stack.drain()
    assert reset.poll() == again.poll() == PERSISTENT_STATE
    assert stack.pool.free_count == stack.pool.buffer_count


def test_a_failed_barrier_fails_what_it_should_have_covered_and_what_is_queued_behind() -> None:
    stack = new_scheduler()
    covered = submit(stack, FIRST, 0)
    assert stack.scheduler.step()
    queued = submit(stack, FIRST, 1, after=covered)
    stack.medium.fails = lambda event: event.kind == "barrier"
    assert stack.scheduler.step()
    stack.medium.fails = lambda event: False
    stack.drain()
    assert covered.poll() == queued.poll() == FAILED
    assert stack.pool.free_count == stack.pool.buffer_count


def test_io_4_what_was_issued_while_a_refused_barrier_ran_fails_with_it() -> None:
    stack = new_scheduler()
    covered = submit(stack, FIRST, 0)
    assert stack.scheduler.step()
    behind: list[Write] = []

    def another_thread() -> None:
        if not behind:
            with stack.monitor:
                behind.extend((submit(stack, FIRST, 1), submit(stack, FIRST + 1, 0)))
                assert stack.scheduler.step()
                assert stack.scheduler.step()

    stack.medium.in_barrier = another_thread
    stack.medium.fails = lambda event: event.kind == "barrier"
    assert stack.scheduler.step()
    stack.medium.fails = lambda event: False
    stack.drain()
    assert [covered.poll(), *(each.poll() for each in behind)] == [FAILED, FAILED, PERSISTENT_STATE]
    assert stack.pool.free_count == stack.pool.buffer_count


def test_a_failed_reset_fails_what_is_queued_behind_it() -> None:
    stack = new_scheduler()
    stack.medium.fails = lambda event: event.kind == "reset"
    reset, behind = stack.scheduler.submit_reset(FIRST, PERSISTENT, "test"), submit(stack, FIRST, 0)
    stack.drain()
    assert reset.poll() == behind.poll() == FAILED


@examples(80)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.integers(0, 12),
    st.integers(0, 14),
    st.integers(1, 6),
    st.booleans(),
)
def test_reads_see_what_was_written_whether_or_not_it_was_issued(
    sizes: list[int], steps: int, page: int, page_count: int, is_zoned: bool
) -> None:
    stack = new_scheduler(zoned=is_zoned)
    content = b""
    for number, size in enumerate(sizes):
        if len(content) // PAGE + size > 16:
            break
        data = page_of(chr(ord("a") + number), size)
        stack.pool.take(stack.scheduler.step)
        stack.scheduler.submit_write(FIRST, len(content) // PAGE, data, PERSISTENT, "test")
        content += data
    for _ in range(steps):
        stack.scheduler.step()
    end = min(page + page_count, len(content) // PAGE)
    if page < end:
        assert stack.scheduler.read(FIRST, page, end - page) == content[page * PAGE : end * PAGE]


def test_a_read_that_the_device_refuses_is_a_disk_error() -> None:
    stack = new_scheduler()
    submit(stack, FIRST, 0)
    stack.drain()
    stack.medium.fails = lambda event: event.kind == "read"
    with pytest.raises(DiskError, match=f"extent {FIRST}, page 0"):
        stack.scheduler.read(FIRST, 0, 1)
