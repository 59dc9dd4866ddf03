"""Sources of choices: where a run gets its steps and everything else that is left open.

    RandomSource        a fast generator; writes nothing down
    RecordingSource     any other source, with what it answered kept as a program
    ReplaySource        the choices of a recorded program; what is missing reads 0
    EnumeratingSource   depth first through every combination of choices

A recorded run takes the very stream of the unrecorded one, so a seed that failed is simply run again, recording.

Protocol of a run: ``begin``; choices of step 0, the opening; then ``next_step`` until it answers -1, with the choices
of each step after its ``next_step``; then the choices of the run's end, which has an identity of its own; ``close``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from harness.choices.mix import SWARM_TABLE_COUNT, CrashSpan, Menu, place_crashes
from harness.choices.program import Program, Step
from harness.choices.trail import Trail

OPENING = "open"  # operation of step 0, in a program only where it has choices other than 0
ENDING = "end"  # the same for the last step: clean shutdown and reopening
RESERVED_NAMES = (OPENING, ENDING)
INTERRUPTS: Final = "inside.0"  # a crash with this choice comes in the middle of one more operation

RARE_CHANCE = 1 / 16  # of a `choose_rare` that is not 0, in random runs
# The same for identifiers, one of these for each scenario: a collision takes part in bug 10 together with much else.
COLLISION_CHANCES = (0.0, 1 / 16, 0.5, 1.0)
# Chance that an issued write is left whole without a further draw, one of these for each scenario. With plain draws
# alone, a crash after many writes would hardly ever keep any.
SURVIVAL_CHANCES = (0.0, 0.0, 0.5, 0.8, 0.95)
EVENLY: Final = -1  # in a table of draws: any value, as without a table


@dataclass(frozen=True, slots=True)
class CrashStyle:
    """How a scenario crashes. ``draws`` are tables to draw the choices of these names from, their excess clamped."""

    name: str
    draws: Mapping[str, Sequence[int]]
    last_unit_chance: float  # that of a write that does not survive whole its last unit is lost, no more
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

REDRAW_CHANCE: Final = 0.5

# How likely a choice of a crash, and any other, is drawn anew, by turns.
VARIATIONS: Final = ((1.0, 0.0), (0.25, 0.0), (0.25, 0.25))

# Lanes of choices that the system's surroundings make, not whoever calls it.
ENVIRONMENT_LANES: Final = frozenset(
    {"again", "cut", "death", "device", "entropy", "far", "flush", "recovery", "strike", "survivor"}
)


class NoLongerApplies(BaseException):
    """A recorded program asks for what the code no longer offers, at this step.

    ``choice`` is the name of the choice that has no place any more; empty if it is the step itself.
    """

    def __init__(self, step: int, reason: str, choice: str = "") -> None:
        super().__init__(f"no longer applies at step {step}: {reason}")
        self.step = step
        self.reason = reason
        self.choice = choice

    def is_environment(self) -> bool:
        """Whether what has changed is only what the surroundings may choose from."""
        return lane_of(self.choice) in ENVIRONMENT_LANES


def lane_of(choice: str) -> str:
    return choice.split(".", 1)[0]


class Source(Protocol):
    """Answers every choice of one run at a time."""

    @property
    def step(self) -> int:
        """The identity of the step under way."""

    def begin(self, menu: Menu) -> None:
        """A run begins; step 0 is its opening."""

    def next_step(self) -> int:
        """Go to the next step; answers its operation's index in the menu, or -1 if the run's end is next."""

    def choose(self, name: str, count: int) -> int:
        """In ``range(count)``; recorded as ``<name>.<n>`` for the n-th draw of this name in this step."""

    def choose_at(self, full_name: str, count: int) -> int:
        """In ``range(count)``, recorded under exactly this name, asked for once a step. Made for survivors."""

    def choose_rare(self, name: str, count: int) -> int:
        """As `choose`, but a random source mostly answers 0."""

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        """One of these identities of earlier steps, or 0 if there is none to be had."""

    def close(self) -> None:
        """The run is over and nothing failed."""


class RandomSource:
    """Choices from a seed. All steps are picked at the beginning: their number, a swarm table, where crashes come.

    So are the chances and the `CrashStyle` that hold for the whole scenario.
    """

    __slots__ = (
        "_collision_chance",
        "_draws",
        "_last_unit_chance",
        "_operations",
        "_random",
        "_survival_chance",
        "step",
    )

    def __init__(self, seed: int) -> None:
        self.step = 0
        self._random = Random(seed).random
        self._draws: Mapping[str, Sequence[int]] = {}  # of a scenario, and so are the chances
        self._survival_chance = self._last_unit_chance = 0.0
        self._collision_chance = RARE_CHANCE

    def begin(self, menu: Menu) -> None:
        random = self._random
        self.step = 0
        self._survival_chance = SURVIVAL_CHANCES[int(random() * len(SURVIVAL_CHANCES))]
        self._collision_chance = COLLISION_CHANCES[int(random() * len(COLLISION_CHANCES))]
        style = CRASH_STYLES[int(random() * len(CRASH_STYLES))]
        self._draws = style.draws
        self._last_unit_chance = style.last_unit_chance
        table = menu.swarm_table(int(random() * SWARM_TABLE_COUNT))
        size = len(table)
        steps_count = 1 + int(random() * (2 * menu.steps_mean - 1))
        operations = [table[int(random() * size)] for _ in range(steps_count + 1)]  # the first is never reached
        if menu.crashes:
            place_crashes(operations, menu, style.span, random)
        operations.append(-1)
        self._operations = operations

    def next_step(self) -> int:
        self.step = step = self.step + 1
        return self._operations[step]

    def choose(self, name: str, count: int) -> int:
        table = self._draws.get(name)
        if table is not None:
            value = table[int(self._random() * len(table))]
            if value != EVENLY:
                return min(value, count - 1)
        return int(self._random() * count)

    def choose_at(self, full_name: str, count: int) -> int:
        random = self._random
        if random() < self._survival_chance:
            return 0
        if random() < self._last_unit_chance:
            return min(1, count - 1)
        return int(random() * count)

    def choose_rare(self, name: str, count: int) -> int:
        draw = self._random()
        chance = self._collision_chance if name == "entropy" else RARE_CHANCE
        return 1 + int(draw / chance * (count - 1)) if draw < chance and count > 1 else 0

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return identities[int(self._random() * len(identities))] if identities else 0

    def close(self) -> None:
        """Nothing is left to check."""


class RecordingSource:
    """Passes another source's answers on and keeps those that are not 0, by name."""

    __slots__ = ("_choices", "_drawn", "_inner", "_menu", "_operation", "_steps", "step")

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self._reset()

    def _reset(self) -> None:
        self.step = 0
        self._steps: list[Step] = []
        self._operation = OPENING
        self._choices: dict[str, int] = {}
        self._drawn: dict[str, int] = {}

    def begin(self, menu: Menu) -> None:
        self._menu = menu
        self._reset()
        self._inner.begin(menu)

    def next_step(self) -> int:
        self._keep_step()
        index = self._inner.next_step()
        self.step = self._inner.step
        self._operation = self._menu.names[index] if index >= 0 else ENDING
        self._choices = {}
        self._drawn = {}
        return index

    def _keep_step(self) -> None:
        if self._choices or self._operation not in RESERVED_NAMES:
            self._steps.append(Step(self.step, self._operation, self._choices))

    def program(self) -> Program:
        """The run so far, the step under way included."""
        self._keep_step()
        program = Program(tuple(self._steps))
        if program.steps and program.steps[-1].identity == self.step:
            self._steps.pop()
        return program

    def choose(self, name: str, count: int) -> int:
        return self._keep(name, self._inner.choose(name, count))

    def choose_rare(self, name: str, count: int) -> int:
        return self._keep(name, self._inner.choose_rare(name, count))

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return self._keep(name, self._inner.choose_step(name, identities))

    def choose_at(self, full_name: str, count: int) -> int:
        value = self._inner.choose_at(full_name, count)
        if value:
            self._choices[full_name] = value
        return value

    def _keep(self, name: str, value: int) -> int:
        number = self._drawn.get(name, 0)
        self._drawn[name] = number + 1
        if value:
            self._choices[f"{name}.{number}"] = value
        return value

    def close(self) -> None:
        self._inner.close()


class ReplaySource:
    """The steps and choices of a program; a choice it does not have reads 0.

    ``strict`` raises `NoLongerApplies` for an unknown operation, a value out of range, and a choice that was not
    asked for by the end of its step. Otherwise these are skipped, clamped and ignored: made for shrinking.

    What a crash was to take of a write is not asked for if a barrier has passed that write meanwhile. That is how a
    mended store looks, so such a choice has no place but does not make the program inapplicable. Choices of
    ``lenient_lanes`` are never held to.
    """

    __slots__ = ("_asked", "_choices", "_drawn", "_indices", "_lenient_lanes", "_next", "_steps", "_strict", "step")

    def __init__(
        self, program: Program, *, strict: bool, lenient_lanes: frozenset[str] = frozenset({"survivor"})
    ) -> None:
        self._steps = program.steps
        self._strict = strict
        self._lenient_lanes = lenient_lanes
        self._enter_step(Step(0, OPENING))

    def _enter_step(self, step: Step) -> None:
        self.step = step.identity
        self._choices = step.choices
        self._drawn: dict[str, int] = {}
        self._asked = 0

    def begin(self, menu: Menu) -> None:
        self._indices = {menu.names[index]: index for index in menu.allowed}
        self._next = 0
        self._enter_step(Step(0, OPENING))
        if self._steps and self._steps[0].operation == OPENING:
            self._next = 1
            self._enter_step(self._steps[0])

    def next_step(self) -> int:
        self._check_all_asked()
        while self._next < len(self._steps):
            step = self._steps[self._next]
            self._next += 1
            self._enter_step(step)
            index = self._indices.get(step.operation, -1)
            if index >= 0 or (step.operation == ENDING and self._next == len(self._steps)):
                return index
            if self._strict:
                raise NoLongerApplies(step.identity, f"there is no operation {step.operation!r} here")
        self._enter_step(Step(self.step + 1, ENDING))
        return -1

    def _check_all_asked(self) -> None:
        if self._strict and self._asked != len(self._choices):
            names = sorted(name for name in self._choices if name not in self._drawn)
            wanted = [name for name in names if lane_of(name) not in self._lenient_lanes]
            if wanted:
                raise NoLongerApplies(self.step, f"choice {wanted[0]!r} was never asked for", wanted[0])

    def choose(self, name: str, count: int) -> int:
        number = self._drawn.get(name, 0)
        self._drawn[name] = number + 1
        return self.choose_at(f"{name}.{number}", count)

    choose_rare = choose

    def choose_at(self, full_name: str, count: int) -> int:
        value = self._ask(full_name)
        if value < count or not value:
            return value
        if self._strict and lane_of(full_name) not in self._lenient_lanes:
            raise NoLongerApplies(self.step, f"choice {full_name}={value}, but there are only {count}", full_name)
        return max(count - 1, 0)

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        number = self._drawn.get(name, 0)
        self._drawn[name] = number + 1
        value = self._ask(f"{name}.{number}")
        return value if value in identities else 0

    def _ask(self, full_name: str) -> int:
        value = self._choices.get(full_name)
        if value is None:
            return 0
        if full_name not in self._drawn:
            self._drawn[full_name] = 1
            self._asked += 1
        return value

    def close(self) -> None:
        self._check_all_asked()


class RedrawingSource(ReplaySource):
    """A program with other choices of ``lanes``: each is kept or drawn anew, a function of ``seed`` alone.

    The other choices are held to strictly.
    """

    __slots__ = ("_lanes", "_random")

    def __init__(self, program: Program, seed: int, lanes: frozenset[str]) -> None:
        self._random = Random(seed).random
        self._lanes = lanes
        super().__init__(program, strict=True, lenient_lanes=lanes)

    def choose_at(self, full_name: str, count: int) -> int:
        if lane_of(full_name) in self._lanes and self._random() < REDRAW_CHANCE:
            return int(self._random() * count)
        return super().choose_at(full_name, count)


class VaryingSource(ReplaySource):
    """The steps of a program with some choices drawn anew, as random runs draw them; a function of ``seed`` alone.

    By turns all choices of its crashes, some of these, or some of all.
    """

    __slots__ = ("_chance", "_chances", "_crashes", "_fresh", "_random", "_seed")

    def __init__(self, program: Program, seed: int) -> None:
        self._seed = seed
        self._random = Random(seed).random
        self._fresh = RandomSource(seed)
        self._crashes: frozenset[str] = frozenset()
        self._chances = VARIATIONS[seed % len(VARIATIONS)]
        super().__init__(program, strict=False)

    def begin(self, menu: Menu) -> None:
        self._fresh.begin(menu)
        self._crashes = frozenset(menu.names[index] for index in menu.crashes)
        if not any(step.operation in self._crashes for step in self._steps):
            self._chances = VARIATIONS[-1]
        super().begin(menu)

    def _enter_step(self, step: Step) -> None:
        super()._enter_step(step)
        self._chance = self._chances[step.operation not in self._crashes]

    def choose(self, name: str, count: int) -> int:
        value = self._recorded(name, count)
        return self._fresh.choose(name, count) if self._is_varied() else value

    def choose_rare(self, name: str, count: int) -> int:
        value = self._recorded(name, count)
        return self._fresh.choose_rare(name, count) if self._is_varied() else value

    def choose_at(self, full_name: str, count: int) -> int:
        value = super().choose_at(full_name, count)
        return self._fresh.choose_at(full_name, count) if self._is_varied() else value

    def _recorded(self, name: str, count: int) -> int:
        number = self._drawn.get(name, 0)
        self._drawn[name] = number + 1
        return super().choose_at(f"{name}.{number}", count)

    def _is_varied(self) -> bool:
        return self._random() < self._chance


class EnumeratingSource:
    """Every program of exactly ``steps_count`` steps and every choice in it, depth first, simplest first.

    Run, then `advance`, until that answers False. Names in ``pinned`` always read 0.
    """

    __slots__ = ("_menu", "_pinned", "_steps_count", "_trail", "step")

    def __init__(self, steps_count: int, *, pinned: Collection[str] = ("entropy",)) -> None:
        self.step = 0
        self._steps_count = steps_count
        self._pinned = frozenset(pinned)
        self._trail = Trail()

    def begin(self, menu: Menu) -> None:
        self._menu = menu
        self._trail.rewind()
        self.step = 0

    def advance(self) -> bool:
        """Go to the next combination; False when all were had."""
        return self._trail.advance()

    def next_step(self) -> int:
        self.step += 1
        if self.step > self._steps_count:
            return -1
        allowed = self._menu.allowed
        return allowed[self._trail.pick(len(allowed))]

    def choose(self, name: str, count: int) -> int:
        return 0 if name in self._pinned else self._trail.pick(count)

    choose_at = choose
    choose_rare = choose

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return identities[self.choose(name, len(identities))] if identities else 0

    def close(self) -> None:
        """Nothing is left to check."""
