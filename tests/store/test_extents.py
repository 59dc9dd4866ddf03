"""Extents: append, read, reset, allocate; and each row of the table of recovery."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from device_audit import audit
from hypothesis import given
from hypothesis import strategies as st
from test_superblock import ENTRY, geometry, superblock_medium
from worlds import EXTENT_PAGES, FIRST, PAGE, Medium, Stack, examples, new_stack, page_of, random_choices, reopened

from refmodel.extents import ExtentsModel
from shardstore.buffer_cache import CachedAppend
from shardstore.dependency import FAILED, PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise
from shardstore.errors import CorruptionError, InvariantError, NoSpaceError, StaleLocatorError


def append(stack: Stack, extent: int, letter: str = "x", pages: int = 1, after: Dependency = PERSISTENT) -> Dependency:
    return append_at(stack, extent, letter, pages, after).dependency


def append_at(
    stack: Stack, extent: int, letter: str = "x", pages: int = 1, after: Dependency = PERSISTENT
) -> CachedAppend:
    stack.pool.take(stack.scheduler.step)
    return stack.cache.append(extent, page_of(letter, pages), after)


def opened_with(*, epoch: int = 0, soft: int = 0, owner: int = 0, hard: int | None) -> Stack:
    """A disk whose first extent is recorded like this, and, where ``hard`` is given, zoned with so many pages."""
    zoned = hard is not None
    medium = superblock_medium(geometry(zoned=zoned) + ENTRY.pack(FIRST, epoch, soft, owner), zoned=zoned)
    if hard is not None:
        medium._extents[FIRST] = page_of("d", hard)
    return Stack(medium).recover()


# --- the table of recovery ------------------------------------------------------------------------------


def test_a_soft_pointer_past_the_hard_one_is_corruption() -> None:
    """EXT-2 says that this is never an accident."""
    with pytest.raises(CorruptionError, match="past the 2 pages") as caught:
        opened_with(soft=3, owner=1, hard=2)
    assert (caught.value.extent, caught.value.offset_bytes) == (FIRST, 2 * PAGE)


def test_ext_1_pages_without_an_owner_are_corruption() -> None:
    with pytest.raises(CorruptionError, match="without an owner holds 2 pages"):
        opened_with(owner=0, hard=2)


def test_an_owned_extent_of_uncovered_pages_is_reset_and_free_once_that_is_persistent() -> None:
    stack = opened_with(epoch=3, owner=1, hard=2)
    assert (stack.extents.free_count(), stack.extents.resetting_count()) == (15, 1)
    stack.drain()
    assert (stack.extents.free_count(), stack.extents.resetting_count()) == (16, 0)
    assert stack.medium.write_pointer(FIRST) == 0


@pytest.mark.parametrize("hard", [0, None])
def test_an_empty_owned_extent_needs_no_record_for_the_same_owner(hard: int | None) -> None:
    stack = opened_with(epoch=3, owner=1, hard=hard)
    assert stack.extents.allocate(1) == FIRST
    assert not stack.superblock.has_pending()
    assert append(stack, FIRST).poll() == PENDING
    stack.drain()
    assert stack.extents.read(FIRST, 0, 1) == page_of("x")


@pytest.mark.parametrize("hard", [0, None])
def test_ext_1_another_owner_is_recorded_before_the_first_append(hard: int | None) -> None:
    stack = opened_with(epoch=3, owner=2, hard=hard)
    assert stack.extents.allocate(1) == FIRST
    append(stack, FIRST)
    stack.drain()
    written = [event.extent for event in stack.medium.changes() if event.kind in ("write", "barrier")]
    assert written[:4] == [-1, 1, -1, FIRST]  # opening, the record, its barrier, the page


def test_a_dead_tail_is_stepped_over_by_the_next_append() -> None:
    stack = opened_with(soft=1, owner=1, hard=3)
    with pytest.raises(StaleLocatorError):
        stack.extents.read(FIRST, 1, 1)
    assert append_at(stack, FIRST, "n").appended.page == 3
    stack.drain()
    assert stack.extents.read(FIRST, 0, 4) == page_of("d", 3) + page_of("n")


def test_appending_goes_on_at_the_pointers_that_agree() -> None:
    stack = opened_with(soft=3, owner=1, hard=3)
    assert append_at(stack, FIRST, "n").appended.page == 3


def test_a_file_goes_on_at_the_soft_pointer() -> None:
    stack = opened_with(soft=3, owner=1, hard=None)
    assert append_at(stack, FIRST, "n").appended.page == 3


@pytest.mark.parametrize("recorded", [(3, 0, 1, 2), (0, 0, 0, 0), (0, 1, 1, 3), (2, 3, 2, 3)])
def test_recovery_writes_nothing_but_resets_and_can_be_repeated(recorded: tuple[int, int, int, int]) -> None:
    epoch, soft, owner, hard = recorded
    stack = opened_with(epoch=epoch, soft=soft, owner=owner, hard=hard)
    before = stack.extents.in_use()
    stack.drain()
    assert {event.kind for event in stack.medium.changes()} <= {"reset", "barrier"}
    again = Stack(reopened(stack.medium)).recover()
    assert again.extents.in_use() == before
    assert again.extents.next_page(FIRST) == stack.extents.next_page(FIRST)


# --- one rule at a time ---------------------------------------------------------------------------------


def test_ext_1_the_first_append_waits_for_the_record_of_the_owner() -> None:
    stack = new_stack()
    before = len(stack.medium.trace)
    extent = stack.extents.allocate(1)
    append(stack, extent)
    stack.drain()
    kinds = [(event.kind, event.extent) for event in stack.medium.trace[before:]]
    page = kinds.index(("write", extent))
    assert [kind for kind, _ in kinds[:page]] == ["write", "barrier"]


def test_ext_2_and_3_an_append_is_persistent_when_a_record_over_its_pages_is() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    stack.drain()
    stack.pool.take(stack.scheduler.step)
    appended = stack.extents.append(extent, page_of("x"), PERSISTENT)
    whole = appended.data & appended.pointer
    seen = []
    while stack.scheduler.step():
        seen.append((appended.data.poll(), appended.pointer.poll(), whole.poll()))
    assert (PERSISTENT_STATE, PENDING, PENDING) in seen
    assert (PENDING, PERSISTENT_STATE, PENDING) not in seen
    assert seen[-1] == (PERSISTENT_STATE,) * 3


def test_ext_3_the_record_of_the_pointer_is_part_of_what_the_caller_waits_for() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    dependency = append(stack, extent)
    while dependency.poll() == PENDING:
        assert reopened_soft(stack.medium, extent) == 0
        assert stack.scheduler.step()
    assert reopened_soft(stack.medium, extent) == 1


def reopened_soft(medium: Medium, extent: int) -> int:
    """The soft pointer that a crash right now, losing all that no barrier has passed, would leave."""
    image = Medium(medium.shape)
    before = {entry.extent: entry.before for entry in reversed(medium.log)}
    image._extents = [before.get(number, data) for number, data in enumerate(medium._extents)]
    stack = Stack(image)
    return stack.superblock.recorded(extent).soft_pages if stack.superblock.recover() else 0


def test_ext_4_and_5_a_reset_has_three_steps_each_after_the_one_before() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    append(stack, extent, "x", 3)
    stack.drain()
    before = len(stack.medium.trace)
    late = Promise(stack)
    done = stack.cache.reset(extent, late)
    stack.drain()
    assert len(stack.medium.trace) == before  # EXT-4
    late.bind(PERSISTENT)
    stack.drain()
    assert done.poll() == PERSISTENT_STATE
    kinds = [(event.kind, event.extent) for event in stack.medium.trace[before:]]
    assert kinds == [("write", 1), ("barrier", -1), ("reset", extent), ("barrier", -1), ("write", 1), ("barrier", -1)]


def test_an_extent_is_free_again_once_its_reset_is_persistent_not_before() -> None:
    stack = new_stack(extent_count=FIRST + 1)
    extent = stack.extents.allocate(1)
    append(stack, extent)
    stack.drain()
    done = stack.cache.reset(extent, PERSISTENT)
    while done.poll() == PENDING:
        assert stack.extents.free_count() == 0
        with pytest.raises(NoSpaceError):
            stack.extents.allocate(1)
        assert stack.scheduler.step()
    assert stack.extents.allocate(2) == extent
    stack.drain()
    assert stack.superblock.recorded(extent).owner == 2


def test_a_reset_whose_prerequisite_failed_is_not_done() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    append(stack, extent)
    stack.drain()
    broken = Promise(stack)
    broken.fail()
    done = stack.cache.reset(extent, broken)
    stack.drain()
    assert done.poll() == FAILED
    assert stack.medium.write_pointer(extent) == 1
    assert Stack(reopened(stack.medium)).recover().extents.read(extent, 0, 1) == page_of("x")


@pytest.mark.parametrize(
    ("owner", "data"), [(0, page_of("x")), (1, page_of("x", EXTENT_PAGES + 1)), (1, page_of("x") + b"y")]
)
def test_ext_6_an_append_is_whole_pages_that_fit_an_owned_extent(owner: int, data: bytes) -> None:
    stack = new_stack()
    if owner:
        assert stack.extents.allocate(owner) == FIRST
    stack.pool.take(stack.scheduler.step)
    with pytest.raises(InvariantError, match="EXT-6"):
        stack.extents.append(FIRST, data, PERSISTENT)


def test_reading_past_the_soft_pointer_is_refused() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(1)
    append(stack, extent, "x", 2)
    assert stack.extents.read(extent, 0, 2) == page_of("x", 2)
    for number, page, count in ((extent, 1, 2), (extent + 1, 0, 1), (0, 0, 1), (999, 0, 1)):
        with pytest.raises(StaleLocatorError):
            stack.extents.read(number, page, count)


def test_the_lowest_free_extent_is_taken_until_there_is_none() -> None:
    stack = new_stack()
    assert [stack.extents.allocate(1) for _ in range(16)] == list(range(FIRST, 20))
    with pytest.raises(NoSpaceError):
        stack.extents.allocate(1)


# --- all together ---------------------------------------------------------------------------------------


@dataclass
class Slots:
    """Three named sequences of pages, each in one extent at a time, next to their model."""

    stack: Stack
    model: ExtentsModel = field(default_factory=ExtentsModel)
    extents: dict[int, int] = field(default_factory=dict)

    def append(self, slot: int, pages: int) -> None:
        if slot not in self.extents:
            self.extents[slot] = self.stack.extents.allocate(1 + slot % 2)
        extent = self.extents[slot]
        if self.stack.extents.next_page(extent) + pages <= EXTENT_PAGES:
            letter = chr(ord("a") + self.stack.extents.next_page(extent))
            append(self.stack, extent, letter, pages)
            self.model.append(slot, page_of(letter, pages))

    def reset(self, slot: int, _: int) -> None:
        if slot in self.extents:
            self.stack.cache.reset(self.extents.pop(slot), PERSISTENT)
            self.model.reset(slot)

    def step(self, slot: int, count: int) -> None:
        for _ in range(count):
            self.stack.scheduler.step()

    def read(self, slot: int, pages: int) -> None:
        content = self.model.read(slot)
        for page in range(len(content) // PAGE):
            count = min(pages, len(content) // PAGE - page)
            found = self.stack.cache.read(self.extents[slot], page, count)
            assert found == content[page * PAGE : (page + count) * PAGE]


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "reset", "step", "step", "read"]),
            st.integers(0, 2),
            st.integers(1, 4),
        ),
        max_size=40,
    ),
    st.integers(0, 99),
    st.booleans(),
)
def test_slots_are_as_their_model_and_the_device_saw_no_rule_broken(
    sequence: list[tuple[str, int, int]], seed: int, is_zoned: bool
) -> None:
    """CACHE-1, EXT-1, EXT-2, EXT-5, LOG-1 and LOG-2, for any order of calls and any choice of what is written first."""
    slots = Slots(new_stack(zoned=is_zoned, choose=random_choices(seed)))
    for name, slot, count in sequence:
        getattr(slots, name)(slot, count)
    for slot in range(3):
        slots.read(slot, 2)
    slots.stack.drain()
    audit(slots.stack.medium.trace)
    again = Slots(Stack(reopened(slots.stack.medium)).recover(), slots.model, slots.extents)
    for slot in range(3):
        again.read(slot, 3)
