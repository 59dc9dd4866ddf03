"""Random runs: a policy that decides everything from a seed.

At the beginning of a scenario the policy picks all steps: their number, a swarm table, where crashes come. It also
picks the chances and the `CrashStyle` that hold for the whole scenario. Every bias is data, next to the reason for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from harness.choices.lanes import (
    FAILING,
    INTERRUPT,
    KNOB,
    MEANWHILE,
    OVERLAP,
    RARE,
    REFUSED,
    SCALED,
    SURVIVOR,
    TURN,
)
from harness.choices.mix import SWARM_TABLE_COUNT, CrashSpan, Mix, place_crashes, place_faults
from harness.choices.tape import Tape, Turn

T = TypeVar("T")

RARE_CHANCE = 1 / 16  # that a choice of a rare lane is not 0
# The same for identifiers, one of these for each scenario: bug 10 needs a collision together with much else.
COLLISION_CHANCES = (0.0, 1 / 16, 0.5, 1.0)
# Chance that a crash leaves an issued write whole without a further draw, one of these for each scenario. With plain
# draws alone, a crash after many writes would hardly ever keep any of them.
SURVIVAL_CHANCES = (0.0, 0.0, 0.5, 0.8, 0.95)
# Chance that the first thing a system may do next is passed over if there is another, one of these for each scenario.
# What waits longest comes first, so one write stays unissued while barrier after barrier passes others.
STARVING_CHANCES = (0.0, 0.0, 0.9)
# Chance that a knob is not at its default, one of these for each scenario. Half know only defaults: what is rare under
# these must not get rarer (10).
KNOB_CHANCES = (0.0, 0.0, 0.1, 0.5)
# Chances that a call is made where another lets its monitor go, and that the turn changes, one pair of these for each
# scenario that may have overlapping calls. A call lets its monitor go a few times, or dozens of times. Three of four
# have none: what is rare without them must not get rarer.
OVERLAP_CHANCES = (*((0.0, 0.0),) * 9, (0.02, 0.1), (0.1, 0.05), (0.3, 0.3))
# Of twelve operations in whose middle something comes, an exception comes in three: at a call in one, at a line in two.
INTERRUPT_DRAWS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2)
# Of a fault: reads, writes, resets, barriers, everything, and seldom the end of all faults; then how many calls fail.
REFUSED_DRAWS = (0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5)
FAILING_DRAWS = (0, 0, 0, 1, 3, 7, 7)
# A scaled choice is drawn below its range, halved so many times: calls of a store have few places, or very many.
SCALE_HALVINGS = (0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 6, 8)
_OVERLAPS: Final = 0x6F7665726C6170  # of a stream of its own, since most specs never ask
EVENLY: Final = -1  # in a table of draws: every value is equally likely, as without a table

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CrashStyle:
    """How a scenario crashes.

    ``draws`` maps a lane to the table that its choices are drawn from; a value that is too large is clamped.
    """

    name: str
    draws: Mapping[str, Sequence[int]]
    last_unit_chance: float  # that a write which is not left whole has survivor choice 1
    span: CrashSpan
    asked_by: str


# One of these for each scenario.
CRASH_STYLES = (
    CrashStyle("any", {}, 0.0, CrashSpan(1 / 3, 1), "everything that needs a long run-up, or one in an even mix"),
    CrashStyle(
        "torn",
        {"flush": (0, 1, 1, 1), "inside": (0, 1, 1, 1, 2), "steps": (0, 0, 0, 1, 1, EVENLY, EVENLY)},
        0.3,
        CrashSpan(1 / 4, 3 / 4),
        "a write is open for few steps, and what its tear has done shows after several more (10)",
    ),
)


def scenario_seed(seed: int, scenario: int) -> int:
    """SplitMix64 of the seed and the scenario's index, so that neighbouring scenarios have unrelated seeds."""
    mixed = (seed * 0xD1342543DE82EF95 + (scenario + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return mixed ^ mixed >> 31


def random_tape(seed: int, *, recording: bool = False) -> Tape:
    """A tape of random choices. The choices depend on the seed alone, not on ``recording``."""
    return Tape(RandomPolicy(seed), recording=recording)


def random_survivors(seed: int) -> Callable[[str, int], int]:
    """Draws survivors like a crash of some random scenario: ``draw(name, count)``."""
    policy = RandomPolicy(seed)
    policy.draw_style()
    return lambda name, count: policy.pick(SURVIVOR, count)


class RandomPolicy:
    """See the module.

    Draws with `Random.random` alone: of all its methods, Python promises only that one's stream between versions.
    """

    __slots__ = ("_last_unit_chance", "_ordinary", "_random", "_seed", "_special", "_survival_chance")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(seed).random
        self._survival_chance = self._last_unit_chance = 0.0
        # The lanes that are not drawn evenly, and how. One dictionary, since `pick` is on the hot path and looks once.
        self._ordinary: dict[str, Callable[[int], int]] = dict.fromkeys(RARE, self._seldom(RARE_CHANCE))
        self._ordinary[INTERRUPT] = self._from_table(INTERRUPT_DRAWS)
        self._ordinary[REFUSED] = self._from_table(REFUSED_DRAWS)
        self._ordinary[FAILING] = self._from_table(FAILING_DRAWS)
        self._ordinary.update(dict.fromkeys(SCALED, self._scaled))
        self._ordinary[SURVIVOR] = self._survivor
        self._ordinary[OVERLAP] = self._overlap
        self._special = self._ordinary  # for whoever picks without a run

    def draw_style(self) -> CrashStyle:
        """Draw the ways in which this scenario draws some lanes."""
        self._survival_chance = self._one_of(SURVIVAL_CHANCES)
        style = self._one_of(CRASH_STYLES)
        self._last_unit_chance = style.last_unit_chance
        self._special = {
            **self._ordinary,
            "entropy": self._seldom(self._one_of(COLLISION_CHANCES)),
            KNOB: self._seldom(self._one_of(KNOB_CHANCES)),
        }
        starving_chance = self._one_of(STARVING_CHANCES)
        if starving_chance:
            self._special["device"] = self._starving(starving_chance)
        for lane, table in style.draws.items():
            self._special[lane] = self._from_table(table)
        return style

    def _one_of(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def begin(self, tape: Tape, mix: Mix) -> Iterator[Turn]:
        random = self._random
        style = self.draw_style()
        table = mix.swarm_table(int(random() * SWARM_TABLE_COUNT))
        size = len(table)
        steps_count = 1 + int(random() * (2 * mix.steps_mean - 1))
        operations = [table[int(random() * size)] for _ in range(steps_count + 1)]  # the first is never reached
        if mix.crashes:
            place_crashes(operations, mix, style.span, random)
        if mix.faults:
            place_faults(operations, mix, random)
        operations.append(-1)
        return enumerate(operations[1:], start=1)

    def pick(self, lane: str, count: int) -> int:
        special = self._special.get(lane)
        if special is not None:
            return special(count)
        random = self._random
        return int(random() * count)

    def _seldom(self, chance: float) -> Callable[[int], int]:
        random = self._random

        def draw(count: int) -> int:
            # One draw decides both: below ``chance`` it is again even, so it also says which value.
            value = random()
            return 1 + int(value / chance * (count - 1)) if value < chance and count > 1 else 0

        return draw

    def _starving(self, chance: float) -> Callable[[int], int]:
        random = self._random

        def draw(count: int) -> int:
            value = random()
            # One draw decides both: below ``chance`` it is again even.
            return 1 + int(value / chance * (count - 1)) if value < chance and count > 1 else int(random() * count)

        return draw

    def _scaled(self, count: int) -> int:
        random = self._random
        return int(random() * max(1, count >> SCALE_HALVINGS[int(random() * len(SCALE_HALVINGS))]))

    def _survivor(self, count: int) -> int:
        random = self._random
        if random() < self._survival_chance:
            return 0
        if random() < self._last_unit_chance:  # 1: only the last unit is lost, or, on a file, all of the write
            return min(1, count - 1)
        return int(random() * count)

    def _overlap(self, count: int) -> int:
        # Not a draw of the scenario's own, so that all others are the same with overlapping calls and without.
        number = scenario_seed(self._seed, _OVERLAPS) % len(OVERLAP_CHANCES)
        self._special[MEANWHILE], self._special[TURN] = map(self._seldom, OVERLAP_CHANCES[number])
        return min(int(any(OVERLAP_CHANCES[number])), count - 1)

    def _from_table(self, table: Sequence[int]) -> Callable[[int], int]:
        random = self._random

        def draw(count: int) -> int:
            value = table[int(random() * len(table))]
            return int(random() * count) if value == EVENLY else min(value, count - 1)

        return draw
