"""An observer hears of all that is asked for, each with its label, and may have it wait for something else."""

from __future__ import annotations

from collections.abc import Sequence

from test_dependency import new_write
from worlds import FIRST, Stack, new_stack, page_of, reopened

from shardstore.dependency import PENDING, PERSISTENT, PERSISTENT_STATE, Dependency, Promise, Write
from shardstore.units import Kind


class Listening:
    """Notes what it hears; has what bears one of the labels wait for something else."""

    def __init__(self, instead: dict[str, Dependency] | None = None) -> None:
        self.heard: list[tuple[str, int | None]] = []
        self.followed_count = 0
        self._instead = instead or {}

    def submitted(
        self, write: Write, label: str, extent: int, page: int, page_count: int, after: Dependency
    ) -> Dependency:
        assert write.state is PENDING
        self.heard.append((label, extent))
        return self._instead.get(label, after)

    def promised(self, promise: Promise, label: str, extent: int | None, after: Dependency) -> Dependency:
        self.heard.append((label, extent))
        return self._instead.get(label, after)

    def hastened(self, promise: Promise, lifted: Sequence[Dependency], after: Dependency, in_doubt: Dependency) -> None:
        """Only edits are."""

    def followed(self, record: Write, before: Dependency) -> None:
        self.followed_count += 1


def life(stack: Stack) -> None:
    """An extent's, from its owner to its release."""
    extent = stack.extents.allocate(Kind.VALUE)
    stack.pool.take(stack.scheduler.step)
    stack.cache.append(extent, page_of("x"), PERSISTENT)
    stack.drain()
    stack.cache.reset(extent, PERSISTENT)
    stack.drain()


def test_all_that_is_asked_for_is_heard_of_in_order() -> None:
    stack, listening = new_stack(), Listening()
    stack.scheduler.observe(listening)
    life(stack)
    labels = [(label, extent) for label, extent in listening.heard if not label.startswith("superblock")]
    named = ["owner", "pages", "soft pointer", "emptied", "reset", "release"]
    assert labels == [(label, FIRST) for label in named]
    assert listening.followed_count == len([label for label, _ in listening.heard if label.endswith("record")]) > 0


def test_what_opening_has_left_in_the_queues_is_heard_of() -> None:
    stack = new_stack()
    extent = stack.extents.allocate(Kind.VALUE)
    stack.pool.take(stack.scheduler.step)
    stack.extents.append(extent, page_of("x"), PERSISTENT)
    while not stack.medium.write_pointer(extent):
        stack.scheduler.step()  # the page, and not yet the record of the pointer
    again, listening = Stack(reopened(stack.medium)).recover(), Listening()
    again.scheduler.observe(listening)
    assert ("opening", extent) in listening.heard


def test_what_is_asked_for_waits_for_what_the_observer_gives_back() -> None:
    stack, held = new_stack(), new_write()
    stack.scheduler.observe(Listening({"soft pointer": held}))
    extent = stack.extents.allocate(Kind.VALUE)
    stack.pool.take(stack.scheduler.step)
    appended = stack.extents.append(extent, page_of("x"), PERSISTENT)
    stack.drain()
    assert (appended.data.poll(), appended.pointer.poll()) == (PERSISTENT_STATE, PENDING)
    held.settle(PERSISTENT_STATE)
    stack.drain()
    assert appended.pointer.poll() is PERSISTENT_STATE
