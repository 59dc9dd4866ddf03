"""What the store's specs tell a tracer: every write, reset and change that is asked for, and by which code.

Nothing in the store knows of it: the methods by which writes and changes are asked for are wrapped on the instances
that a spec has opened. What each of them waits for is told as the code has it:

    a write or reset             what it was submitted with
    a change of an extent        what it was asked for with; the superblock's next record may carry it then
    an edit of the index         likewise, for the metadata log
    a record of either log       the record before it (LOG-1)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType

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
    Waiter,
    Write,
)
from shardstore.index.metadata_log import Edit, MetadataLog
from shardstore.io_scheduler import IoScheduler, _Request
from shardstore.spec_world import SuperblockStack
from shardstore.store import Store
from shardstore.superblock import ExtentRecord, Superblock
from shardstore.twin_log import TwinLog
from shardstore.units import RESERVED_EXTENTS_COUNT, UNOWNED, Kind

About = Callable[[int], str]  # extent -> what kind of thing is kept there

_ORIGIN_NAMES_MAX = 2
_DRIVER = "IoScheduler.step"  # who made it go on says nothing about who asked
_PLUMBING = ("IoScheduler.", "BufferCache.", "TwinLog._write", "TwinLog.submit")


def trace_store(store: Store, tracer: Tracer) -> None:
    """All that a store asks for."""

    def about(extent: int) -> str:
        owner = UNOWNED if extent < RESERVED_EXTENTS_COUNT else store.extents.owner(extent)
        return "" if owner == UNOWNED else Kind(owner).name.lower()

    trace_scheduler(store.scheduler, tracer, about)
    trace_superblock(store.superblock, tracer, about)
    trace_metadata(store.metadata, tracer)


def trace_stack(stack: SuperblockStack, tracer: Tracer) -> None:
    """All that a store's lower layers ask for."""
    trace_scheduler(stack.scheduler, tracer)
    trace_superblock(stack.superblock, tracer)


def trace_scheduler(scheduler: IoScheduler, tracer: Tracer, about: About = lambda _: "") -> None:
    """Every write and reset, those included that opening has left in the queues."""
    medium: int = scheduler.disk.index  # type: ignore[attr-defined]  # of a simulated medium
    size = scheduler.disk.page_size_bytes
    tracer.settled(PERSISTENT)
    tracer.take_apart(AcrossStores, lambda each: each._parts)

    def tell(request: _Request, origin: Origin) -> None:
        page_count = 0 if request.data is None else len(request.data) // size
        tracer.submitted(request, medium, request.extent, request.page, page_count, origin, request.after)

    for queue in scheduler._queues.values():
        for request in queue:
            tell(request, Origin("opening", "reset" if request.data is None else "pages"))
    submit, waiter = scheduler._submit, scheduler._waiter

    def traced(request: _Request) -> Write:
        origin = _origin("reset" if request.data is None else "pages", about(request.extent))
        tell(request, origin)
        if tracer.is_trial:
            request.after = tried = _AsTried(request.after, waiter, tracer)
            tried.node = request
        return submit(request)

    scheduler._submit = traced  # type: ignore[method-assign]


def trace_superblock(superblock: Superblock, tracer: Tracer, about: About = lambda _: "") -> None:
    """Every change of an extent, and the order of the records."""
    change = superblock.change

    def traced(extent: int, record: ExtentRecord, after: Dependency) -> Promise:
        origin = _origin(_what_changes(record), about(extent))
        tried = _AsTried(after, superblock._waiter, tracer)
        tried.node = promise = change(extent, record, tried if tracer.is_trial else after)
        tracer.promised(promise, origin, after, f"extent {extent}")
        return promise

    superblock.change = traced  # type: ignore[method-assign]
    _trace_log(superblock._log, tracer)


def _what_changes(record: ExtentRecord) -> str:
    if record.owner == UNOWNED:
        return "release"
    if record.soft_pages:
        return "soft pointer"
    return "owner" if "Extents.allocate" in _names(sys._getframe(1)) else "emptied"


def trace_metadata(metadata: MetadataLog, tracer: Tracer) -> None:
    """Every edit, and the order of the records."""
    enqueue = metadata.enqueue

    def traced(edit: Edit, after: Dependency) -> Promise:
        origin = _origin("edit", "")
        tried = _AsTried(after, metadata._waiter, tracer)
        tried.node = promise = enqueue(edit, tried if tracer.is_trial else after)
        tracer.promised(promise, origin, after)
        return promise

    metadata.enqueue = traced  # type: ignore[method-assign]
    _trace_log(metadata._log, tracer)


def _trace_log(log: TwinLog, tracer: Tracer) -> None:
    tracer.settled(log._outstanding)  # of the time before
    submit = log.submit

    def traced(delta: bytes, full: Callable[[], bytes]) -> Write:
        before = log._outstanding
        write = submit(delta, full)
        tracer.follows(write, before)
        return write

    log.submit = traced  # type: ignore[method-assign]


class _AsTried(Dependency):
    """What the tracer has a node wait for in a trial, in place of what the store does.

    Asked for anew at each poll, since what is to be waited for may itself be asked for later.
    """

    __slots__ = ("_after", "_tracer", "node")

    def __init__(self, after: Dependency, waiter: Waiter, tracer: Tracer) -> None:
        super().__init__(waiter)
        self._after = after
        self._tracer = tracer
        self.node: Promise | Write | None = None  # which waits for this

    def poll(self) -> State:
        if self.state is PENDING:
            befores, is_complete = self._tracer.prerequisites(self.node)
            states = [each.poll() for each in befores]
            is_open = not is_complete and self._after.poll() is PENDING
            if FAILED in states:
                self.state = FAILED
            elif PENDING not in states and not is_open:
                self.state = PERSISTENT_STATE
        return self.state

    def parts(self) -> tuple[Dependency, ...]:
        return (self._after,) if self._after.state is PENDING else ()


# --- who asked --------------------------------------------------------------------------------------


def _origin(what: str, about: str) -> Origin:
    return Origin(" < ".join(_names(sys._getframe(1))) or "the spec", what, about)


def _names(frame: FrameType | None) -> list[str]:
    """The functions of the store that lead to this call, the innermost first, without the plumbing."""
    names: list[str] = []
    for name in _functions(frame):
        if name == _DRIVER or len(names) == _ORIGIN_NAMES_MAX:
            break
        if not name.startswith(_PLUMBING):
            names.append(name)
    return names


def _functions(frame: FrameType | None) -> Iterator[str]:
    """Qualified names, from this module's caller outwards, up to the first function that is not the store's."""
    while frame is not None and _is_of_store(frame.f_globals.get("__name__", "")):
        name = frame.f_code.co_qualname
        if frame.f_globals.get("__name__") != __name__ and "<" not in name:
            yield name
        frame = frame.f_back


def _is_of_store(module: str) -> bool:
    """Whether it is production code, or this module, which stands between two functions of it."""
    package, _, name = module.partition(".")
    is_spec = name.endswith("_spec") or name.startswith("spec_")
    return module == __name__ or (package == "shardstore" and not is_spec)
