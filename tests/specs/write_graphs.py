"""An IO scheduler that is given a graph of writes, drawn at random."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from harness.world.world import World
from shardstore.dependency import Dependency, join
from shardstore.spec_world import SmallStack

PAGE_SIZE_BYTES = 16
EXTENT_COUNT = 3


class Asked(NamedTuple):
    """One write of a graph, or, without pages, a reset."""

    extent: int
    page_count: int
    after: tuple[int, ...]  # earlier ones


class Submitting(SmallStack):
    """The graph is that of the configuration."""

    def __init__(self, world: World) -> None:
        super().__init__(world.media[0], world.seam)
        self._graph: tuple[Asked, ...] = world.configuration.parameters
        self._writes: list[Dependency] = []
        self._pages = dict.fromkeys(range(EXTENT_COUNT), 0)

    def submit(self) -> None:
        """All of the graph."""
        for _ in self._graph:
            self.submit_next()

    def submit_next(self) -> Dependency:
        """The first write of the graph that was not submitted yet."""
        number = len(self._writes)
        asked = self._graph[number]
        with self.monitor:
            after = join([self._writes[each] for each in asked.after], self)
            self._writes.append(self._submit(asked, number, after))
        return self._writes[-1]

    def _submit(self, asked: Asked, number: int, after: Dependency) -> Dependency:
        extent, pages = asked.extent, self._pages
        page = pages[extent]
        if not asked.page_count:
            pages[extent] = 0
            return self.scheduler.submit_reset(extent, after, "test")
        pages[extent] += asked.page_count
        self.pool.take(self.scheduler.step)
        data = bytes([ord("a") + number]) * (asked.page_count * PAGE_SIZE_BYTES)
        return self.scheduler.submit_write(extent, page, data, after, "test")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Asked, ...]:
    count = draw(st.integers(1, 4))
    graph: list[Asked] = []
    for number in range(count):
        after = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        graph.append(Asked(draw(st.integers(0, 1)), draw(st.sampled_from([1, 1, 2, 0])), tuple(sorted(after))))
    return tuple(graph)
