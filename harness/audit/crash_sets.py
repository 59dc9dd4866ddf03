"""The crash states of one life: the states that the device may leave at each tick, by its own model.

At a tick, every write is there that a barrier has passed. Of the writes that were issued since, a crash leaves

    survives in order   of each extent a prefix of its writes and resets; if not in order, any of them
    tears in order      of a torn write its first units; if not in order, any subset of its units. Of more than
                        `SUBSETS_OF_UNITS_MAX` units, only some subsets are tried
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Final, NamedTuple

from harness.audit.edges import tears
from harness.audit.judge import State
from harness.audit.schedules import Limits
from harness.spec.device import MediumShape
from harness.trace.trace import Node, Trace

STATES_A_TICK_MAX: Final = 512
SUBSETS_OF_UNITS_MAX: Final = 4  # of more units, not every subset is tried

_Part = Sequence[int] | None  # the units of a write that are there; None: all of them


class CrashState(NamedTuple):
    tick: int
    state: State


def crash_states(trace: Trace, shapes: Sequence[MediumShape], since: int, limits: Limits) -> Iterator[CrashState]:
    """The states that become legal at each tick after ``since``: those that have at least a part of the newest write.

    Sets ``limits.reached`` if there are too many.
    """
    for event in trace.events:
        if event.tick > since and event.node is not None:
            newest = trace.nodes[event.node]
            states = _states_with(trace, shapes, newest, event.tick, limits)
            for state in islice(states, STATES_A_TICK_MAX):
                yield CrashState(event.tick, state)
            if next(states, None) is not None:
                limits.reached = True
    if not since:
        yield CrashState(0, State(0))


def _states_with(
    trace: Trace, shapes: Sequence[MediumShape], newest: Node, tick: int, limits: Limits
) -> Iterator[State]:
    passed = 0
    open_writes: list[Node] = []
    for node in trace.nodes:
        if node.passed is not None and node.passed < tick:
            passed |= 1 << node.number
        elif node.issued is not None and node.issued <= tick:
            open_writes.append(node)
    open_writes.sort(key=lambda node: node.issued or 0)
    places: dict[tuple[int, int], list[Node]] = {}
    for node in open_writes:
        assert node.place is not None
        in_order = shapes[node.place.medium].device.survives_in_order
        # A negative number, unlike any extent's, puts a write in a group of its own.
        places.setdefault((node.place.medium, node.place.extent if in_order else -1 - node.number), []).append(node)
    options = [_fates(nodes, shapes, newest, limits) for nodes in places.values()]
    for fates in product(*options):
        yield _state(passed, [fate for group in fates for fate in group])


def _fates(
    nodes: Sequence[Node], shapes: Sequence[MediumShape], newest: Node, limits: Limits
) -> list[list[tuple[int, _Part]]]:
    """The prefixes of these writes that may be there, the longest first; the last write of each may be torn."""
    fates: list[list[tuple[int, _Part]]] = []
    for count in range(len(nodes), 0, -1):
        before: list[tuple[int, _Part]] = [(node.number, None) for node in nodes[: count - 1]]
        last = nodes[count - 1]
        if newest in nodes and newest not in nodes[:count]:
            break
        fates += [[*before, (last.number, part)] for part in _parts(last, shapes, limits)]
    if newest not in nodes:
        fates.append([])
    return fates


def _parts(node: Node, shapes: Sequence[MediumShape], limits: Limits) -> list[_Part]:
    if node.data is None or node.place is None:
        return [None]
    shape = shapes[node.place.medium]
    count = len(node.data) // shape.unit_size_bytes
    if shape.device.tears_in_order:
        return [None, *(range(kept) for kept in range(count - 1, 0, -1))]
    if count > SUBSETS_OF_UNITS_MAX:
        limits.reached = True
        return [None, *tears(node, shapes)]
    subsets = range((1 << count) - 2, 0, -1)
    return [None, *([unit for unit in range(count) if mask >> unit & 1] for mask in subsets)]


def _state(passed: int, fates: Sequence[tuple[int, _Part]]) -> State:
    whole = passed
    parts: dict[int, Sequence[int]] = {}
    for number, part in fates:
        if part is None:
            whole |= 1 << number
        else:
            parts[number] = part
    return State(whole, parts)
