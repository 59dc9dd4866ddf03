"""Traces: the writes that a system asked for, what each had to wait for, and what the device did with them.

A spec that offers ``trace`` tells a `Tracer` of every write or reset that its system *asks for*. It names the object
that stands for the write, and the object that the write waits for. The device shows when each was issued, and which
barrier passed it. One trace is one *life* of a system, from its opening to a crash or a shutdown.

A *node* is something asked for:

    node      is there once                                asked for
    write     the device has it (a reset: has done it)     when it was submitted
    change    the write that carries it is there whole     when the change was requested; the write that carries it may
                                                           be submitted much later, when changes make up a record

An edge A -> B says that B must not be issued before A is persistent. A node has an *origin*, a short stable text that
names the code that asked. So edges of many traces can be counted as one kind: from origin to origin.

Guarantees. Tracing asks the system nothing that could change what it does, and believes nothing that it says other than
what it asks for. It costs nothing where there is no tracer. Not promised: a trace has no edge to a write that was
persistent when the edge was asked for, since no crash state could tell that edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.spec.tracing import Origin


class Place(NamedTuple):
    """Where a write goes on the media."""

    medium: int
    extent: int
    page: int
    page_count: int  # 0: a reset


@dataclass(frozen=True, slots=True)
class Node:
    """Something that was asked for. ``asked``, ``issued`` and ``passed`` are ticks: the trace counts each event."""

    number: int
    step: int
    origin: Origin
    asked: int
    place: Place | None  # None: a change
    data: bytes | None = None  # None: a reset, a change, or not issued
    issued: int | None = None  # to the device
    passed: int | None = None  # by a barrier
    carrier: int | None = None  # of a change: the number of the write that carries it
    subject: str = ""  # of a change, for people: the thing that it changes

    def describe(self) -> str:
        if self.place is None:
            return f"{self.origin}{f' of {self.subject}' if self.subject else ''}, asked for in step {self.step}"
        medium, extent, page, count = self.place
        where = f"medium {medium}, extent {extent}"
        what = f"pages {page}..{page + count} of {where}" if count else f"reset of {where}"
        return f"{self.origin}, {what}, asked for in step {self.step}"


class Edge(NamedTuple):
    """``after`` waits for ``before``; both are numbers of nodes."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A dependency that an operation returned, and the nodes it stands for."""

    step: int
    operation: str
    key: Any  # None: it changes no key
    nodes: tuple[int, ...]
    is_complete: bool  # nothing it stands for is still to be asked for
    noted: int


class Event(NamedTuple):
    """An event of a device: it was issued a node or, if ``node`` is None, passed a barrier."""

    tick: int
    step: int
    medium: int
    node: int | None


class Stray(NamedTuple):
    """A write or reset at the device that nobody asked for."""

    tick: int
    place: Place


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of one life. ``base`` are the extents of each medium when it began."""

    base: tuple[tuple[bytes, ...], ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    built_on: tuple[Edge, ...]  # some of ``edges``: the content of ``before`` is in ``after`` too
    unbound: frozenset[int]  # nodes that wait for something that was never asked for
    acknowledgements: tuple[Acknowledgement, ...]
    events: tuple[Event, ...]
    strays: tuple[Stray, ...]
    called_persistent: tuple[tuple[int, int], ...]  # (tick of the poll, index of an acknowledgement)

    def write_of(self, number: int) -> int | None:
        """The number of the write that a node is, or that carries it; None if no write does."""
        node = self.nodes[number]
        return node.carrier if node.place is None else number

    def carried_by(self) -> Mapping[int, Sequence[int]]:
        """The changes that each write carries."""
        carried: dict[int, list[int]] = {}
        for node in self.nodes:
            if node.carrier is not None:
                carried.setdefault(node.carrier, []).append(node.number)
        return carried
