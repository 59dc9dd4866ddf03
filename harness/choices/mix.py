"""The mix of operations a run may take, and how a random run picks from it.

A pick is a table look-up, so its cost does not depend on the number of operations. Each scenario uses one of a fixed
number of *swarm* tables. A swarm table switches some operations off and changes the weights of the others, so that
scenarios differ in kind and not only in detail. Tables depend on the mix alone.

Crashes are not in the tables: a random run in crash mode places them (`CRASH_COUNTS`). It places them late enough for
something to be persistent by then, and puts operations before them that leave something to lose (`CRASH_LEADS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

SWARM_TABLE_COUNT = 64
SWARM_TABLE_SIZE = 128  # slots; an operation's share of the weights is rounded to one slot
SWARM_OFF_CHANCE = 0.2  # an operation is switched off in one table of five
SWARM_FACTORS = (0.5, 1.0, 1.0, 2.0, 4.0)
PLAIN_TABLE_CHANCE = 0.25  # a table keeps the spec's own weights
CRASH_COUNTS = (0, 1, 1, 1, 1, 1, 1, 2)  # one on average
# Writing steps just before a crash: without them a reboot or a flush often leaves nothing to lose.
CRASH_LEADS = (0, 1, 1, 2, 3)
FAULT_COUNTS = (0, 1, 1, 1, 2, 3)  # few, since many faults hide bugs from one another (TigerBeetle)


class CrashSpan(NamedTuple):
    """Where in a scenario crashes come, as fractions of its steps."""

    earliest: float
    latest: float


class Mix:
    """The operations of one spec that one mode allows.

    ``names`` has all of the spec's operations, in the spec's order; an operation's index is its place in ``names``.
    ``crashes``, ``faults`` and ``ordinary`` are the indices that may be picked; ``writers`` are those that change
    durable state. A random run has ``steps_mean`` steps on average.
    """

    __slots__ = ("_tables", "crashes", "faults", "names", "ordinary", "steps_mean", "weights", "writers")

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[int],
        *,
        crashes: Sequence[int] = (),
        faults: Sequence[int] = (),
        ordinary: Sequence[int] | None = None,
        writers: Sequence[int] = (),
        steps_mean: int = 30,
    ) -> None:
        self.names = tuple(names)
        self.weights = tuple(weights)
        self.crashes = tuple(crashes)
        self.faults = tuple(faults)
        self.ordinary = tuple(range(len(names))) if ordinary is None else tuple(ordinary)
        self.writers = tuple(writers)
        self.steps_mean = steps_mean
        self._tables: list[tuple[int, ...] | None] = [None] * SWARM_TABLE_COUNT

    @property
    def allowed(self) -> tuple[int, ...]:
        """Indices of every operation a run may take, in the spec's order."""
        return tuple(sorted(self.ordinary + self.crashes + self.faults))

    def swarm_table(self, number: int) -> tuple[int, ...]:
        """Operation indices, about `SWARM_TABLE_SIZE` of them, for ``number`` below `SWARM_TABLE_COUNT`."""
        table = self._tables[number]
        if table is None:  # filled on first use: a short check uses few of them
            table = self._tables[number] = _fill_table(self._swarm_weights(Random(number).random))
        return table

    def _swarm_weights(self, random: Callable[[], float]) -> list[tuple[int, float]]:
        plain = [(index, float(self.weights[index])) for index in self.ordinary if self.weights[index]]
        if not plain:  # all weights are 0: rather anything than nothing
            return [(index, 1.0) for index in self.allowed]
        if random() < PLAIN_TABLE_CHANCE:
            return plain
        swarm = [
            (index, weight * SWARM_FACTORS[int(random() * len(SWARM_FACTORS))])
            for index, weight in plain
            if random() >= SWARM_OFF_CHANCE
        ]
        writers = frozenset(self.writers)
        if not swarm or (writers and not any(index in writers for index, _ in swarm)):
            return plain  # without a writer, nothing would happen in the scenario
        return swarm


def _fill_table(weights: Sequence[tuple[int, float]]) -> tuple[int, ...]:
    """A table in which each operation has slots in proportion to its weight, and at least one."""
    total = sum(weight for _, weight in weights)
    table: list[int] = []
    for index, weight in weights:
        table += [index] * max(1, round(weight / total * SWARM_TABLE_SIZE))
    return tuple(table)


def place_crashes(operations: list[int], mix: Mix, span: CrashSpan, random: Callable[[], float]) -> None:
    """Overwrite some of ``operations`` with crashes, each with its lead; the first entry stays as it is."""
    steps_count = len(operations) - 1
    earliest = 1 + int(steps_count * span.earliest)
    latest = max(earliest, int(steps_count * span.latest))
    for _ in range(CRASH_COUNTS[int(random() * len(CRASH_COUNTS))]):
        step = earliest + int(random() * (latest - earliest + 1))
        if mix.writers:
            lead = CRASH_LEADS[int(random() * len(CRASH_LEADS))]
            for at in range(max(1, step - lead), step):
                operations[at] = mix.writers[int(random() * len(mix.writers))]
        operations[step] = mix.crashes[int(random() * len(mix.crashes))]


def place_faults(operations: list[int], mix: Mix, random: Callable[[], float]) -> None:
    """Overwrite some of ``operations`` with faults, anywhere; the first entry stays as it is."""
    steps_count = len(operations) - 1
    for _ in range(FAULT_COUNTS[int(random() * len(FAULT_COUNTS))]):
        operations[1 + int(random() * steps_count)] = mix.faults[int(random() * len(mix.faults))]
