"""Who asked for each write, and nothing else: a tracer that costs little."""

from __future__ import annotations

from typing import Any

from harness.trace.trace import Origin
from harness.trace.tracer import NO_TRIAL, Parts, Tracer
from harness.world.medium import Entry


class Origins(Tracer):
    """Give it to a spec's ``trace`` in a tracer's place. It watches no medium and keeps no graph."""

    def __init__(self) -> None:
        self._trial = NO_TRIAL
        self._origins: dict[tuple[int, int, int, bool], Origin] = {}  # of the latest that was asked for there

    def settled(self, dependency: Any) -> None: ...

    def take_apart(self, kind: type, parts: Parts) -> None: ...

    def submitted(
        self, node: Any, medium: int, extent: int, page: int, page_count: int, origin: Origin, after: Any
    ) -> None:
        self._origins[medium, extent, page, page_count == 0] = origin

    def promised(self, node: Any, origin: Origin, after: Any, subject: str = "") -> None: ...

    def follows(self, node: Any, before: Any) -> None: ...

    def of(self, entry: Entry) -> Origin | None:
        """None: nobody was seen to ask for it."""
        return self._origins.get((entry.medium, entry.extent, entry.page, entry.data is None))
