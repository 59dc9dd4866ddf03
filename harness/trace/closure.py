"""Which sets of a trace's writes a crash may leave: the downward-closed ones.

Sets of writes are bit masks by the number of their node. A write *needs* another if no crash state has any part of it
without all of that other one:

    an edge, its own or of a change it carries      what it waits for, and all that was ahead of that on its extent
    passed by a barrier before it was asked for     as much: nothing shows that the system did not wait for it
    built on another                                what that one needs, for what went into it is there again
    ahead of it on its extent                       where these survive in order, the write itself; else what that one
                                                    needs, for they are issued in order but survive in any

A record is asked for when the last change is that it, or one it was built on, carries, whenever it was built. With
some edges left out, more sets are closed: those that a system without these edges could leave.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.trace.trace import Edge, Node, Trace


class Closure:
    """What each issued write of a trace needs, ``without`` some of the edges.

    ``in_order`` says of each medium whether what an extent was given survives as a prefix.
    """

    def __init__(
        self, trace: Trace, in_order: Sequence[bool], without: Callable[[Edge], bool] = lambda _: False
    ) -> None:
        self.trace = trace
        self._in_order = in_order
        self._carried = trace.carried_by()
        self._waits_for = self._between_writes(edge for edge in trace.edges if not without(edge))
        self._built_on = self._between_writes(trace.built_on)
        self._asked: dict[int, tuple[int, int]] = {}
        self._needs: dict[int, int] = {}
        self._up_to: dict[int, int] = {}  # a write, all that is ahead of it on its extent, and what these need
        self._passed = _passed_by_barriers(trace)
        ahead: dict[tuple[int, int], tuple[int, int]] = {}  # by extent: needed, and needed by what waits
        self.issued = 0
        for node in in_issue_order(trace):
            self._enter(node, ahead)

    def _between_writes(self, edges: Iterable[Edge]) -> dict[int, list[int]]:
        """By the write that waits, those that it waits for, of itself or of a change that it carries."""
        found: dict[int, list[int]] = {}
        for edge in edges:
            after, before = self.trace.write_of(edge.after), self.trace.write_of(edge.before)
            if after is not None and before is not None and after != before:
                found.setdefault(after, []).append(before)
        return found

    def _enter(self, node: Node, ahead: dict[tuple[int, int], tuple[int, int]]) -> None:
        assert node.place is not None
        place = (node.place.medium, node.place.extent)
        needed, up_to = ahead.get(place, (0, 0))
        self._asked[node.number] = self._when_asked(node)
        for before in self._waits_for.get(node.number, ()):
            needed |= self._up_to.get(before, 1 << before)
        for before in self._built_on.get(node.number, ()):
            needed |= self._needs.get(before, 0)
        needed |= self._implied(node)
        bit = 1 << node.number
        up_to |= needed | bit
        self.issued |= bit
        self._needs[node.number] = needed
        self._up_to[node.number] = up_to
        ahead[place] = (up_to if self._in_order[node.place.medium] else needed, up_to)

    def _implied(self, node: Node) -> int:
        ticks, masks = self._passed
        at = bisect_left(ticks, self._asked[node.number][0])
        return masks[at - 1] if at else 0

    def asked(self, number: int) -> tuple[int, int]:
        """Moment and step at which the system had asked for all that is in this write."""
        return self._asked[number]

    def _when_asked(self, node: Node) -> tuple[int, int]:
        carried = [self.trace.nodes[number] for number in self._carried.get(node.number, ())]
        asked = max(((each.asked, each.step) for each in carried), default=(node.asked, node.step))
        return max([asked, *(self._asked[before] for before in self._built_on.get(node.number, ()))])

    def needs(self, number: int) -> int:
        """All that must be there whole where any part of this write is."""
        return self._needs[number]

    def with_all_ahead(self, number: int) -> int:
        """What is there where a barrier has passed this write."""
        return self._up_to[number]

    def dependents(self, number: int) -> int:
        """The write itself and all that need it."""
        bit = 1 << number
        return bit | sum(1 << other for other, needed in self._needs.items() if needed & bit)

    def is_closed(self, whole: int, parts: int = 0) -> bool:
        """Whether these writes may be there, ``parts`` of some others besides, and nothing else."""
        return all(not self._needs[number] & ~whole for number in numbers(whole | parts))


def in_issue_order(trace: Trace) -> list[Node]:
    """The writes and resets that reached the device."""
    issued = [node for node in trace.nodes if node.issued is not None]
    return sorted(issued, key=lambda node: node.issued or 0)


def numbers(mask: int) -> Iterator[int]:
    """The members of a set, in order."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def _passed_by_barriers(trace: Trace) -> tuple[list[int], list[int]]:
    """Ticks at which barriers were passed, and all that had been passed by then."""
    at: dict[int, int] = {}
    for node in trace.nodes:
        if node.passed is not None:
            at[node.passed] = at.get(node.passed, 0) | 1 << node.number
    ticks = sorted(at)
    masks: list[int] = []
    for tick in ticks:
        masks.append((masks[-1] if masks else 0) | at[tick])
    return ticks, masks
