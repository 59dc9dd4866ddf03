r"""Dependencies: say whether something is persistent, and what must be persistent before it.

    pending --> persistent      a barrier has passed every write that it stands for
            \-> failed          one of these writes was refused; nothing leaves these two states

Kinds:

    Write     a write or reset; the IO scheduler settles it
    Promise   a write that is not built yet; it is bound once, to that write
    Join      persistent once all of its parts are

The graph has no cycles (DEP-1, asserted where a promise is bound). It forgets nodes that have become persistent, so a
store that runs for ever does not grow.

Modelled on soft updates (Ganger et al., 2000) and on ShardStore's dependencies (SOSP 2021, section 2.2). Unlike there,
a caller sees a join of at most a few parts, since the entries of one memtable share one promise. Joins are flat, so
any number of dependencies may be joined one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, Protocol

from shardstore.errors import InvariantError


class State(IntEnum):
    """The state of a dependency."""

    PENDING = 0
    PERSISTENT = 1
    FAILED = 2


# Names of the module, since the states are compared millions of times: looking up a member takes much longer.
PENDING: Final = State.PENDING
PERSISTENT_STATE: Final = State.PERSISTENT
FAILED: Final = State.FAILED


class Waiter(Protocol):
    """Makes pending dependencies persistent: the store that they belong to."""

    def poll(self, dependency: Dependency) -> State: ...
    def wait(self, dependency: Dependency) -> None: ...


class Dependency:
    """Pending, persistent or failed. The public methods may be called from any thread.

    `poll` is for the store itself: the caller holds the store's monitor.
    """

    __slots__ = ("_waiter", "state")

    def __init__(self, waiter: Waiter | None, state: State = PENDING) -> None:
        self._waiter = waiter
        self.state = state

    def is_persistent(self) -> bool:
        return self._public_state() is PERSISTENT_STATE

    def is_failed(self) -> bool:
        return self._public_state() is FAILED

    def wait(self) -> None:
        """Return once it is persistent. Raises `DiskError` if it failed, `OutOfServiceError` after a shutdown."""
        if self._waiter is not None:
            self._waiter.wait(self)

    def _public_state(self) -> State:
        # Without the monitor if possible: a settled state never changes.
        if self.state is not PENDING or self._waiter is None:
            return self.state
        return self._waiter.poll(self)

    def poll(self) -> State:
        """The state now. The caller holds the store's monitor."""
        return self.state

    def parts(self) -> tuple[Dependency, ...]:
        """The pending dependencies that it directly waits for."""
        return ()

    def __and__(self, other: Dependency) -> Dependency:
        """The dependency that is persistent once both are. It is flat, so any number may be joined one by one."""
        if self.state is PERSISTENT_STATE or self is other:
            return other
        if other.state is PERSISTENT_STATE:
            return self
        # The parts before the states: a join that fails lets go of its parts only once its state says so.
        parts, others = self.joined(), other.joined()
        if self.state is FAILED:
            return self
        if other.state is FAILED:
            return other
        if self._waiter is None or self._waiter is not other._waiter:
            return _across(self, other)
        if len(others) == 1:
            # Nearly always of two that are no joins.
            return Join(self._waiter, [*parts, *others]) if len(parts) == 1 else _with_one(self, parts, others[0])
        if len(parts) == 1:
            return _with_one(other, others, parts[0])
        return Join(self._waiter, list(dict.fromkeys((*parts, *others))))

    def joined(self) -> Sequence[Dependency]:
        """The dependencies that it is a join of, itself if it is none."""
        return (self,)


PERSISTENT: Final = Dependency(None, PERSISTENT_STATE)


class Write(Dependency):
    """A write or reset that was handed to the IO scheduler. Only the scheduler settles it."""

    __slots__ = ("after",)

    def __init__(self, waiter: Waiter, after: Dependency) -> None:
        self._waiter = waiter
        self.state = PENDING
        self.after: Dependency = after

    def settle(self, state: State) -> None:
        self.state = state
        self.after = PERSISTENT  # forget the past, so that the graph does not grow

    def parts(self) -> tuple[Dependency, ...]:
        return (self.after,) if self.after.state is PENDING else ()


class Promise(Dependency):
    """Stands for a write that is not built yet: pending until it is bound, and then in the state of its target."""

    __slots__ = ("_target",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.state = PENDING
        self._target: Dependency | None = None

    def bind(self, target: Dependency) -> None:
        """Stand for ``target`` from here on. Raises `InvariantError` if it is bound already, or closes a cycle."""
        if self._target is not None or self.state is not PENDING:
            raise InvariantError("DEP-2", "a promise is bound once")
        if target.state is PENDING and reaches(target, self):
            raise InvariantError("DEP-1", "binding this promise would close a cycle")
        self._target = target
        if target.poll() is not PENDING:
            self.poll()

    def fail(self) -> None:
        """Fail the promise, since no write will ever fulfil it."""
        if self._target is not None:
            raise InvariantError("DEP-2", "a bound promise fails with its target only")
        self.state = FAILED

    def poll(self) -> State:
        target = self._target
        if target is not None:
            state = target.poll()
            if state is not PENDING:
                self.state = state
                self._target = None  # so that the graph does not grow
            return state
        return self.state

    def parts(self) -> tuple[Dependency, ...]:
        return () if self._target is None else (self._target,)


class Join(Dependency):
    """Persistent once all parts are, failed as soon as one is."""

    __slots__ = ("_parts",)

    def __init__(self, waiter: Waiter | None, parts: list[Dependency]) -> None:
        self._waiter = waiter
        self.state = PENDING
        self._parts = parts

    def poll(self) -> State:
        if self.state is not PENDING:
            return self.state
        parts = self._parts
        pending_count = 0
        for part in parts:
            state = part.poll()
            if state is PENDING:
                pending_count += 1
            elif state is FAILED:
                self.state = FAILED
                self._parts = []
                return FAILED
        if pending_count < len(parts):
            self._parts = [part for part in parts if part.state is PENDING]
            if not pending_count:
                self.state = PERSISTENT_STATE
        return self.state

    def parts(self) -> tuple[Dependency, ...]:
        return tuple(self._parts)

    def joined(self) -> Sequence[Dependency]:
        return self._parts


class AcrossStores(Dependency):
    """The join of dependencies of different stores, each polled under its own monitor."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Dependency]) -> None:
        super().__init__(None)
        self._parts = tuple(parts)

    def wait(self) -> None:
        for part in self._parts:
            part.wait()

    def _public_state(self) -> State:
        states = [part._public_state() for part in self._parts]
        if FAILED in states:
            return FAILED
        return PENDING if PENDING in states else PERSISTENT_STATE

    def joined(self) -> Sequence[Dependency]:
        return self._parts


def _with_one(joined: Dependency, parts: Sequence[Dependency], part: Dependency) -> Dependency:
    """``joined``, whose parts these are, together with one more."""
    # The latest first: the entries of one memtable share a promise.
    if (parts and part is parts[-1]) or part in parts:
        return joined
    # What has become persistent is let go, so that what is joined for ever does not grow.
    return Join(part._waiter, [*(each for each in parts if each.state is not PERSISTENT_STATE), part])


def _across(*joined: Dependency) -> Dependency:
    """The join of dependencies of several stores, with one part a store, and each part that has none by itself."""
    by_store: dict[object, Dependency] = {}
    for each in joined:
        for part in each.joined() if isinstance(each, AcrossStores) else (each,):
            store = part if part._waiter is None else part._waiter
            before = by_store.get(store)
            by_store[store] = part if before is None else before & part
    return AcrossStores(tuple(by_store.values()))


def join(parts: Iterable[Dependency], waiter: Waiter | None) -> Dependency:
    """The dependency that is persistent once all ``parts`` are. The caller holds the monitor of their store."""
    pending = []
    for part in dict.fromkeys(parts):
        state = part.poll()
        if state is FAILED:
            return part
        if state is PENDING:
            pending.append(part)
    if not pending:
        return PERSISTENT
    return pending[0] if len(pending) == 1 else Join(waiter, pending)


def reaches(start: Dependency, goal: Dependency) -> bool:
    """Whether ``start`` is ``goal``, or waits for it, directly or not."""
    if start is goal:
        return True
    stack = list(start.parts())
    if not stack:  # nearly always: a record's write waits for nothing
        return False
    seen: set[Dependency] = set()
    while stack:
        part = stack.pop()
        if part is goal:
            return True
        if part.state is PENDING and part not in seen:
            seen.add(part)
            stack += part.parts()
    return False
