"""The budget of a run, and how its jobs share it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds for all jobs of a run together (None: as long as they take), and the number of workers side by side."""

    seconds: float | None = None
    workers: int = 1

    def seconds_each(self, job_count: int) -> float | None:
        """The seconds for each of so many jobs, if the workers are busy to the end; None: no bound."""
        return None if self.seconds is None else self.seconds * self.workers / job_count


def deal(count: int, parts: int) -> list[range]:
    """Split ``range(count)`` into ranges of nearly the same length; some are empty if there are too few numbers."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [range(first, end) for first, end in pairwise(edges)]
