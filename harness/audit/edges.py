"""Kinds of edges, and the crash states that only the absence of an edge makes legal.

kind    edges from one origin to another: the same code asked for their first ends, and for their second ends
extra   a set of writes that is closed without the edges of one kind, but not with them: it has the write that waits,
        or the acknowledgement, but lacks the write that this waits for
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.audit.judge import State, is_there
from harness.spec.device import MediumShape
from harness.spec.tracing import Origin
from harness.trace.closure import Closure, numbers
from harness.trace.trace import Acknowledgement, Edge, Node, Trace


class Kind(NamedTuple):
    """Edges by which ``after`` must wait for ``before``. ``after`` may be an operation that returns a dependency."""

    after: Origin
    before: Origin

    def __str__(self) -> str:
        return f"{self.after} must wait for {self.before}"


class Instance(NamedTuple):
    """One edge of a kind. ``after`` is a node's number or, if ``is_promise``, an acknowledgement's."""

    after: int
    before: int
    is_promise: bool = False


RETURNED = "is called persistent"


def kinds_of(trace: Trace, promises: Sequence[int] = ()) -> dict[Kind, list[Instance]]:
    """The edges of a trace by kind; ``promises`` are the acknowledgements that count."""
    found: dict[Kind, list[Instance]] = {}
    for edge in trace.edges:
        kind = Kind(trace.nodes[edge.after].origin, trace.nodes[edge.before].origin)
        found.setdefault(kind, []).append(Instance(edge.after, edge.before))
    for number in promises:
        acknowledgement = trace.acknowledgements[number]
        for node in acknowledgement.nodes:
            kind = Kind(Origin(acknowledgement.operation, RETURNED), trace.nodes[node].origin)
            found.setdefault(kind, []).append(Instance(number, node, is_promise=True))
    return found


def is_of(trace: Trace, kind: Kind, edge: Edge) -> bool:
    return (trace.nodes[edge.after].origin, trace.nodes[edge.before].origin) == kind


def is_persistent_without(trace: Trace, kind: Kind, acknowledgement: Acknowledgement, whole: int) -> bool:
    """Whether an acknowledgement would be called persistent if it did not wait for nodes of this kind."""
    if not acknowledgement.is_complete:
        return False
    free = kind.before if kind.after == Origin(acknowledgement.operation, RETURNED) else None
    return all(trace.nodes[node].origin == free or is_there(trace, node, whole) for node in acknowledgement.nodes)


def extra_states(
    closure: Closure, kind: Kind, instance: Instance, shapes: Sequence[MediumShape]
) -> Iterator[State] | None:
    """States that have the end of an edge that waits, but not the other end. None if the other edges imply this one.

    ``closure`` must be the one without this kind. There are no states if the end that waits was never issued.
    """
    before = closure.trace.write_of(instance.before)
    least = _least(closure, kind, instance)
    if least is None:
        return iter(())
    if before is None:
        return (State(whole) for whole in dict.fromkeys((least, closure.issued)))
    return None if least >> before & 1 else _states(closure, least, before, shapes)


def _least(closure: Closure, kind: Kind, instance: Instance) -> int | None:
    """The smallest closed set that has the end that waits; None if this end was never issued."""
    trace = closure.trace
    if instance.is_promise:
        acknowledgement = trace.acknowledgements[instance.after]
        others = [node for node in acknowledgement.nodes if trace.nodes[node].origin != kind.before]
        writes = [trace.write_of(node) for node in others]
        if not acknowledgement.is_complete or any(w is None or not closure.issued >> w & 1 for w in writes):
            return None
        least = 0
        for write in writes:
            assert write is not None
            least |= closure.with_all_ahead(write)
        return least
    after = trace.write_of(instance.after)
    if after is None or not closure.issued >> after & 1:
        return None
    return closure.needs(after) | 1 << after


def _states(closure: Closure, least: int, before: int, shapes: Sequence[MediumShape]) -> Iterator[State]:
    """The smallest state, the greatest, and the one at the moment when the smallest was complete; each also torn."""
    trace = closure.trace
    without = closure.issued & ~closure.dependents(before)
    last = max((trace.nodes[number].issued or 0 for number in numbers(least)), default=0)
    by_then = sum(1 << number for number in numbers(without) if (trace.nodes[number].issued or 0) <= last)
    for whole in dict.fromkeys((least, by_then, without)):
        yield State(whole)
        if closure.issued >> before & 1 and closure.is_closed(whole, 1 << before):
            for part in tears(trace.nodes[before], shapes):
                yield State(whole, {before: part})


def tears(node: Node, shapes: Sequence[MediumShape]) -> Iterator[Sequence[int]]:
    """Units of a write that may be left, in a few ways: its first, all but its last, or (out of order) its last."""
    if node.data is None or node.place is None:
        return
    shape = shapes[node.place.medium]
    count = len(node.data) // shape.unit_size_bytes
    options: list[Sequence[int]] = [range(1), range(count - 1)]
    if not shape.device.tears_in_order:
        options.append(range(count - 1, count))
    yield from dict.fromkeys(tuple(option) for option in options if 0 < len(option) < count)
