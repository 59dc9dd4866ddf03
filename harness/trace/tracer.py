"""The tracer: makes a `Trace` of one life, from what a spec tells of its system and from what the device does.

A spec's ``trace(system, tracer)`` is called once the system is open. From then on the tracer must be told of

    `submitted`     each write and reset, before the device can have it
    `promised`      each change that some later write will carry
    `follows`       the earlier write that a write was built on
    `hastened`      a change that does not wait after all, and what it is worth nothing without
    `settled`       an object that stands for no write, for writes that wait for nothing
    `take_apart`    how to see what objects of a type stand for; other types are asked for ``parts()``

The tracer looks at an object that stands for writes when it first sees it. An object that shows nothing, such as a
promise that is not bound yet, it looks at again before each event of the device. Persistent writes drop out of such
objects. But only a barrier makes writes persistent, so none drops out before the tracer has seen it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.spec.tracing import Origin, Parts
from harness.trace.trace import Acknowledgement, Edge, Event, Node, Place, Stray, Trace
from harness.world.medium import SimulatedMedium
from harness.world.power import Strike
from harness.world.world import World


class _Growing:
    """A node while its life lasts; its fields are filled in as things happen."""

    __slots__ = (
        "asked",
        "beside",
        "built_on",
        "data",
        "dependency",
        "issued",
        "lifted",
        "number",
        "origin",
        "passed",
        "place",
        "step",
        "subject",
        "waits_for",
    )

    def __init__(
        self, number: int, step: int, origin: Origin, asked: int, place: Place | None, dependency: Any
    ) -> None:
        self.number = number
        self.step = step
        self.origin = origin
        self.asked = asked
        self.place = place
        self.dependency = dependency
        self.subject = ""
        self.waits_for: list[Any] = []
        self.built_on: list[Any] = []
        self.beside: list[Any] = []
        self.lifted: dict[Any, None] = {}
        self.data: bytes | None = None
        self.issued: int | None = None
        self.passed: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """Edges to try a system with, or without: pairs of (after, before). Added edges disregard ``Origin.about``."""

    added: frozenset[tuple[Origin, Origin]] = frozenset()
    removed: frozenset[tuple[Origin, Origin]] = frozenset()

    def adds(self, after: Origin, before: Origin) -> bool:
        return (after.plain(), before.plain()) in self.added

    def removes(self, after: Origin, before: Origin) -> bool:
        return (after, before) in self.removed


NO_TRIAL = Trial()


class _Promised(NamedTuple):
    """A dependency that an operation returned."""

    dependency: Any
    step: int
    operation: str
    key: Any
    noted: int


class LifeTracer:
    """The tracer of one life: a `harness.spec.tracing.Tracer` that watches the world's media too."""

    def __init__(self, world: World, trial: Trial = NO_TRIAL) -> None:
        self._position = world.position
        self._base = tuple(medium.contents() for medium in world.media)
        self._trial = trial
        self._tick = 0
        self._nodes: dict[Any, _Growing] = {}
        self._numbered: list[_Growing] = []
        self._parts: dict[Any, tuple[Any, ...]] = {}  # of objects that are no nodes; empty as long as one shows none
        self._settled: dict[Any, None] = {}  # objects that stand for no write
        self._take_apart: dict[type, Parts] = {}
        self._queues: dict[tuple[int, int], deque[_Growing]] = {}
        self._acknowledged: list[_Promised] = []
        self._called_persistent: list[tuple[int, int]] = []
        self._events: list[Event] = []
        self._strays: list[Stray] = []
        for medium in world.media:
            medium.observe(self)

    # -- for specs

    def settled(self, dependency: Any) -> None:
        """``dependency`` stands for no write: a write that waits for it waits for nothing."""
        self._settled[dependency] = None

    def take_apart(self, kind: type, parts: Parts) -> None:
        """``parts(object)`` gives the objects that one of type ``kind`` stands for; other types have ``parts()``."""
        self._take_apart[kind] = parts

    def submitted(
        self, node: Any, medium: int, extent: int, page: int, page_count: int, origin: Origin, after: Any
    ) -> None:
        """The system asked for a write, or for a reset if ``page_count`` is 0. ``node`` waits for ``after``."""
        growing = self._new(node, origin, Place(medium, extent, page, page_count), after)
        self._queues.setdefault((medium, extent), deque()).append(growing)

    def promised(self, node: Any, origin: Origin, after: Any, subject: str = "") -> None:
        """The system asked for a change. A later write will carry it, and ``node`` is bound to that write then."""
        self._new(node, origin, None, after).subject = subject

    def hastened(self, node: Any, lifted: Iterable[Any], after: Any, beside: Any) -> None:
        """Of what ``node`` waits for, ``lifted`` counts no more, but ``after`` does. It stands for ``beside``, too."""
        growing = self._nodes.get(node)
        if growing is not None:
            growing.lifted |= dict.fromkeys(lifted)
            growing.waits_for.append(after)
            growing.beside.append(beside)
            self.look_at(after)
            self.look_at(beside)

    def follows(self, node: Any, before: Any) -> None:
        """``node`` also waits for ``before``, on which it was built: a log record follows the one before it."""
        growing = self._nodes.get(node)
        if growing is not None:
            growing.waits_for.append(before)
            growing.built_on.append(before)
            self.look_at(before)

    @property
    def is_trial(self) -> bool:
        """Whether the nodes of this run wait for `prerequisites` instead of what the system has them wait for."""
        return self._trial != NO_TRIAL

    def prerequisites(self, node: Any) -> tuple[list[Any], bool]:
        """In a trial: what ``node`` shall wait for, and whether that is all, with nothing still to be asked for.

        It leaves out an added edge to something that waits for the node itself: neither could ever be issued.
        """
        growing = self._nodes[node]
        befores, is_complete = self._waits_for(growing)
        waits_for = [self._numbered[number] for number in befores]
        found = [each for each in waits_for if not self._trial.removes(growing.origin, each.origin)]
        if self._trial.added:
            added = [each for each in self._numbered if self._trial.adds(growing.origin, each.origin)]
            found += [each for each in added if each not in found and not self._reaches(each, growing)]
        return [each.dependency for each in found], is_complete

    def _reaches(self, start: _Growing, goal: _Growing) -> bool:
        """Whether ``start`` is ``goal``, or waits for it, directly or not."""
        seen: dict[int, None] = {}
        stack = [start]
        while stack:
            each = stack.pop()
            if each is goal:
                return True
            if each.number not in seen:
                seen[each.number] = None
                stack += [self._numbered[number] for number in self._waits_for(each)[0]]
        return False

    def _new(self, node: Any, origin: Origin, place: Place | None, after: Any) -> _Growing:
        growing = _Growing(len(self._nodes), self._position.step, origin, self._next_tick(), place, node)
        self._nodes[node] = growing
        self._numbered.append(growing)
        growing.waits_for.append(after)
        self.look_at(after)
        return growing

    @property
    def tick(self) -> int:
        return self._tick

    def _next_tick(self) -> int:
        self._tick += 1
        return self._tick

    # -- for the run

    def acknowledged(self, dependency: Any, step: int, operation: str, key: Any = None) -> int:
        """Note that an operation returned this dependency. Gives the number of the acknowledgement."""
        self._acknowledged.append(_Promised(dependency, step, operation, key, self._next_tick()))
        if dependency is not None:
            self.look_at(dependency)
        return len(self._acknowledged) - 1

    def called_persistent(self, number: int) -> None:
        """Note that this acknowledgement was polled just now, and called persistent."""
        self._called_persistent.append((self._tick, number))

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None:
        """Note an event that a medium is about to do."""
        self._look_again()  # before a barrier makes writes persistent, and they drop out of their objects
        tick = self._next_tick()
        number = None
        if kind == Strike.BARRIER:
            self._pass_all(medium.index, tick)
        else:
            place = Place(medium.index, extent, page, len(data) // medium.page_size_bytes)
            growing = self._take_from_queue(place)
            if growing is None:  # a store that goes past its own scheduler
                self._strays.append(Stray(tick, place))
                return
            growing.issued = tick
            growing.data = None if kind == Strike.RESET else bytes(data)
            number = growing.number
        self._events.append(Event(tick, self._position.step, medium.index, number))

    def _pass_all(self, medium: int, tick: int) -> None:
        for each in self._nodes.values():
            is_there = each.issued is not None and each.place is not None and each.place.medium == medium
            if is_there and each.passed is None:
                each.passed = tick

    def _take_from_queue(self, place: Place) -> _Growing | None:
        queue = self._queues.get((place.medium, place.extent), deque())
        for growing in queue:
            if growing.place == place:
                queue.remove(growing)
                return growing
        return None

    def outlook(self) -> tuple[object, ...]:
        """A value that decides, together with the media, how the life can go on. The order of events is not in it."""
        self._look_again()
        waiting = sorted(
            (each.step, each.origin, each.place or ())
            for each in self._nodes.values()
            if (each.issued is None if each.place is not None else not self._parts.get(each.dependency))
        )
        return (self._tick, *waiting)

    # -- taking dependencies apart

    def look_at(self, dependency: Any) -> None:
        """Keep the parts that an object shows now, since it may show fewer later."""
        stack = [dependency]
        while stack:
            each = stack.pop()
            if each in self._nodes or each in self._settled or self._parts.get(each):
                continue
            parts = self._parts[each] = self._parts_of(each)
            stack += reversed(parts)

    def _look_again(self) -> None:
        for each in [each for each, parts in self._parts.items() if not parts]:
            self.look_at(each)
        for growing in self._nodes.values():
            if growing.place is None and not self._parts.get(growing.dependency):
                parts = self._parts[growing.dependency] = self._parts_of(growing.dependency)
                for part in parts:
                    self.look_at(part)

    def _parts_of(self, dependency: Any) -> tuple[Any, ...]:
        take_apart = self._take_apart.get(type(dependency))
        if take_apart is not None:
            return tuple(take_apart(dependency))
        return tuple(dependency.parts()) if hasattr(dependency, "parts") else ()

    def _waits_for(self, growing: _Growing) -> tuple[dict[int, None], bool]:
        """The numbers of the nodes that one waits for, and whether that is all."""
        return self._stands_for(growing.waits_for, growing.lifted)

    def _stands_for(self, dependencies: Iterable[Any], without: Iterable[Any] = ()) -> tuple[dict[int, None], bool]:
        """The numbers of the nodes that these stand for, and whether that is all: none may still show more."""
        found: dict[int, None] = {}
        is_complete = True
        seen: dict[Any, None] = dict.fromkeys(without)
        stack = list(dependencies)
        while stack:
            each = stack.pop()
            if each in seen or each in self._settled:
                continue
            seen[each] = None
            growing = self._nodes.get(each)
            if growing is not None:
                found[growing.number] = None
                stack += growing.beside
            elif self._parts.get(each):
                stack += reversed(self._parts[each])
            else:
                is_complete = False
        return found, is_complete

    def stands_for(self, dependency: Any) -> tuple[Sequence[int], bool]:
        """The numbers of the nodes that a dependency stands for, and whether that is all."""
        found, is_complete = self._stands_for([dependency])
        return tuple(found), is_complete

    # -- the trace

    def finish(self) -> Trace:
        """The trace of the life, which is over."""
        self._look_again()
        edges: list[Edge] = []
        built_on: list[Edge] = []
        unbound: list[int] = []
        for growing in self._nodes.values():
            befores, is_complete = self._waits_for(growing)
            edges += [Edge(before, growing.number) for before in befores]
            built_on += [Edge(before, growing.number) for before in self._stands_for(growing.built_on)[0]]
            if not is_complete:
                unbound.append(growing.number)
        return Trace(
            self._base,
            tuple(self._node(growing) for growing in self._nodes.values()),
            tuple(edges),
            tuple(built_on),
            frozenset(unbound),
            tuple(self._acknowledgement(each) for each in self._acknowledged),
            tuple(self._events),
            tuple(self._strays),
            tuple(self._called_persistent),
        )

    def _node(self, growing: _Growing) -> Node:
        carrier = None
        if growing.place is None:
            carriers, _ = self._stands_for(self._parts.get(growing.dependency, ()))
            beside, _ = self._stands_for(growing.beside)
            carrier = next((number for number in carriers if number not in beside), None)
        return Node(
            growing.number,
            growing.step,
            growing.origin,
            growing.asked,
            growing.place,
            growing.data,
            growing.issued,
            growing.passed,
            carrier,
            growing.subject,
        )

    def _acknowledgement(self, each: _Promised) -> Acknowledgement:
        if each.dependency is None:
            return Acknowledgement(each.step, each.operation, each.key, (), is_complete=False, noted=each.noted)
        nodes, is_complete = self._stands_for([each.dependency])
        return Acknowledgement(each.step, each.operation, each.key, tuple(nodes), is_complete, each.noted)
