"""Tracing the store: tells a tracer every write, reset and change that the store asks for, each with its label.

The store tells an `Observer`, and this one passes it on. Each waits for what the code has it wait for:

    a write or reset             the dependency that it was submitted with
    a change of an extent        the dependency given with the change; then the superblock's next record may carry it
    an edit of the index         likewise, for the metadata log; but for nothing once a record in doubt carries it
    a record behind one in doubt the appends that that one names (LOG-7)
    a full metadata record       the pointers over what the deltas before it name (LOG-8)
    a record of either log       the record before it (LOG-1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness import Origin, Tracer
from shardstore.dependency import (
    FAILED,
    PENDING,
    PERSISTENT,
    PERSISTENT_STATE,
    AcrossStores,
    Dependency,
    Promise,
    State,
    Write,
)
from shardstore.io_scheduler import IoScheduler
from shardstore.spec_world import SuperblockStack
from shardstore.store import Store
from shardstore.units import RESERVED_EXTENTS_COUNT, UNOWNED, Kind

About = Callable[[int], str]  # extent -> what kind of thing is kept there


def trace_store(store: Store, tracer: Tracer) -> None:
    """Tell the tracer everything that a store asks for."""

    def about(extent: int) -> str:
        owner = UNOWNED if extent < RESERVED_EXTENTS_COUNT else store.extents.owner(extent)
        return "" if owner == UNOWNED else Kind(owner).name.lower()

    trace_scheduler(store.scheduler, tracer, about)


def trace_stack(stack: SuperblockStack, tracer: Tracer) -> None:
    """Tell the tracer everything that a store's lower layers ask for."""
    trace_scheduler(stack.scheduler, tracer)


def trace_scheduler(scheduler: IoScheduler, tracer: Tracer, about: About = lambda _: "") -> None:
    """Tell the tracer all requests of a scheduler, and all changes, including those that opening has left queued."""
    medium: int = scheduler.disk.index  # type: ignore[attr-defined]  # of a simulated medium
    tracer.settled(PERSISTENT)
    tracer.take_apart(AcrossStores, lambda each: each._parts)
    scheduler.observe(_Told(tracer, medium, about))


class _Told:
    """An `Observer`. The origin of a request is where it goes, its label, and the kind of chunk that it is about."""

    def __init__(self, tracer: Tracer, medium: int, about: About) -> None:
        self._tracer = tracer
        self._medium = medium
        self._about = about
        self._records: dict[Dependency, None] = {}

    def submitted(
        self, write: Write, label: str, extent: int, page: int, page_count: int, after: Dependency
    ) -> Dependency:
        origin = Origin("disk", label, self._about(extent))
        self._tracer.submitted(write, self._medium, extent, page, page_count, origin, after)
        return self._as_tried(write, after)

    def promised(self, promise: Promise, label: str, extent: int | None, after: Dependency) -> Dependency:
        if extent is None:
            self._tracer.promised(promise, Origin("metadata log", label), after)
        else:
            origin = Origin("superblock", label, self._about(extent))
            self._tracer.promised(promise, origin, after, f"extent {extent}")
        return self._as_tried(promise, after)

    def hastened(self, promise: Promise, lifted: Sequence[Dependency], after: Dependency, in_doubt: Dependency) -> None:
        self._tracer.hastened(promise, lifted, after, in_doubt)

    def followed(self, record: Write, before: Dependency) -> None:
        if before not in self._records:  # a record from before the tracing began
            self._tracer.settled(before)
        self._records[record] = None
        self._tracer.follows(record, before)

    def _as_tried(self, node: Promise | Write, after: Dependency) -> Dependency:
        return _AsTried(node, after, self._tracer) if self._tracer.is_trial else after


class _AsTried(Dependency):
    """In a trial, has a node wait for what the tracer says, in place of what the store says.

    It asks the tracer at each poll, since the store may ask for a prerequisite only later.
    """

    __slots__ = ("_after", "_node", "_tracer")

    def __init__(self, node: Promise | Write, after: Dependency, tracer: Tracer) -> None:
        super().__init__(None)
        self._node = node
        self._after = after
        self._tracer = tracer

    def poll(self) -> State:
        if self.state is PENDING:
            befores, is_complete = self._tracer.prerequisites(self._node)
            states = [each.poll() for each in befores]
            is_open = not is_complete and self._after.poll() is PENDING
            if FAILED in states:
                self.state = FAILED
            elif PENDING not in states and not is_open:
                self.state = PERSISTENT_STATE
        return self.state

    def parts(self) -> tuple[Dependency, ...]:
        return (self._after,) if self._after.state is PENDING else ()
