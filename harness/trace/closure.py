"""Closures: which sets of a trace's writes a crash may leave, namely the downward-closed ones.

A set of writes is a bit mask, by the numbers of their nodes. A write W *needs* others if no crash state has any part of
W without all of these:

    reason                                     W needs
    an edge, of W or of a change it carries    the write at the other end, and all that was ahead of that on its extent
    a barrier before W was asked for           all that the barrier had passed: W may have waited for it
    W is built on another write                all that this one needs, since its content is in W again
    a write ahead of W on its extent           that write, if the device survives in order; else only what that write
                                               needs, since they are issued in order but survive in any

A record counts as asked for when its last change was asked for, be it built much later. Its changes are those that it
carries, and those of the records it was built on. If some edges are left out, more sets are closed: those that a system
without these edges could leave.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.trace.trace import Edge, Node, Trace


class Closure:
    """The writes that each issued write of a trace needs, ``without`` some of the edges.

    ``in_order`` says of each medium whether a crash leaves a prefix of the writes of an extent.
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
        self._up_to: dict[int, int] = {}  # by write: it, all that is ahead of it on its extent, and what these need
        self._passed = _passed_by_barriers(trace)
        ahead: dict[tuple[int, int], tuple[int, int]] = {}  # by extent: needed, and needed by what waits
        self.issued = 0
        for node in in_issue_order(trace):
            self._enter(node, ahead)

    def _between_writes(self, edges: Iterable[Edge]) -> dict[int, list[int]]:
        """By write, those that it waits for, itself or because of a change that it carries."""
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
        # The barrier that passed the other end has passed all that was issued before it on its extent, too.
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
        """The tick and the step at which the system had asked for everything in this write."""
        return self._asked[number]

    def _when_asked(self, node: Node) -> tuple[int, int]:
        carried = [self.trace.nodes[number] for number in self._carried.get(node.number, ())]
        asked = max(((each.asked, each.step) for each in carried), default=(node.asked, node.step))
        return max([asked, *(self._asked[before] for before in self._built_on.get(node.number, ()))])

    def needs(self, number: int) -> int:
        """The set of writes that must be there whole if any part of this write is."""
        return self._needs[number]

    def with_all_ahead(self, number: int) -> int:
        """The set of writes that must be there if a barrier has passed this write."""
        return self._up_to[number]

    def dependents(self, number: int) -> int:
        """The set of the write itself and all writes that need it."""
        bit = 1 << number
        return bit | sum(1 << other for other, needed in self._needs.items() if needed & bit)

    def is_closed(self, whole: int, parts: int = 0) -> bool:
        """Whether a crash may leave these writes whole, of the others ``parts`` in part, and nothing else."""
        return all(not self._needs[number] & ~whole for number in numbers(whole | parts))


def in_issue_order(trace: Trace) -> list[Node]:
    """The writes and resets that reached the device, in the order in which they were issued."""
    issued = [node for node in trace.nodes if node.issued is not None]
    return sorted(issued, key=lambda node: node.issued or 0)


def numbers(mask: int) -> Iterator[int]:
    """The members of a set, in order."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def _passed_by_barriers(trace: Trace) -> tuple[list[int], list[int]]:
    """The ticks of barriers, and for each the set of all writes that had been passed by then."""
    at: dict[int, int] = {}
    for node in trace.nodes:
        if node.passed is not None:
            at[node.passed] = at.get(node.passed, 0) | 1 << node.number
    ticks = sorted(at)
    masks: list[int] = []
    for tick in ticks:
        masks.append((masks[-1] if masks else 0) | at[tick])
    return ticks, masks
