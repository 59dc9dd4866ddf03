"""Programs: the steps a run took, with every choice that was made in them, by name.

A program is the whole truth about a run: replaying it against the same code gives the same history, byte for byte.

A choice is an integer in ``range(count)``. Zero is always the simplest: nothing lost, the smallest argument. A choice
that is not recorded reads as zero, so a step lists only its choices other than zero. Removing a step removes its own
choices and renames no others.

    name                  what it decides
    ``key.0``             first draw for the argument ``key``
    ``device.2``          third decision the system left open in this step: issue order, barriers
    ``survivor.3.1``      at a crash: what is lost of the second write of step 3, on any medium
    ``meanwhile.4``       whether another call is made at the fifth point where this one lets its monitor go, and which
    ``meanwhile.4.key.0`` first draw for the argument ``key`` of that call

The word before the first dot is the *lane*, see `harness.choices.lanes`.

Names use the step's identity, never its position in the program. Step 0, ``open``, is the opening of the system. The
last step, ``end``, is its clean shutdown and reopening. Every run has both steps; a program lists them only where they
have choices other than 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from harness.choices.lanes import FOLLOWS, INTERRUPTS, begins_call_between

OPENING: Final = "open"  # operation of step 0
ENDING: Final = "end"  # operation of the last step: clean shutdown and reopening
RESERVED_NAMES: Final = (OPENING, ENDING)

DIGITS_MAX = 18  # of a number in a program's text: a longer number is damage, not a choice


@dataclass(frozen=True, slots=True)
class Step:
    """One operation with its recorded choices.

    ``identity`` is the position at which the step was first generated. It is unique in its program, and the step keeps
    it when others are removed.
    """

    identity: int
    operation: str
    choices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in the order they run. Raises `ValueError` unless their identities are strictly increasing."""

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        identities = [step.identity for step in self.steps]
        if any(later <= earlier for earlier, later in pairwise(identities)):
            raise ValueError("step identities must be strictly increasing")

    def without(self, identities: Iterable[int]) -> Program:
        """The same program without the steps of these identities; the choices of the others stay."""
        gone = frozenset(identities)
        return Program(tuple(step for step in self.steps if step.identity not in gone))

    def with_choice(self, identity: int, name: str, value: int) -> Program:
        """The same program with one choice set; zero removes it from the record."""
        return Program(
            tuple(_set_choice(step, name, value) if step.identity == identity else step for step in self.steps)
        )


def operation_count(program: Program) -> int:
    """The number of operations, counting those within others and crashes; the opening and the end do not count."""
    return sum(
        1 + bool(step.choices.get(INTERRUPTS)) + step.choices.get(FOLLOWS, 0) + _calls_between_count(step)
        for step in program.steps
        if step.operation not in RESERVED_NAMES
    )


def _calls_between_count(step: Step) -> int:
    return sum(1 for name, value in step.choices.items() if value and begins_call_between(name))


def cost(program: Program) -> tuple[int, int, int]:
    """How complex a program is, for comparing: its operations, its choices that are not zero, the sum of these."""
    values = [value for step in program.steps for value in step.choices.values() if value]
    return (operation_count(program), len(values), sum(values))


def _set_choice(step: Step, name: str, value: int) -> Step:
    choices = {key: old for key, old in step.choices.items() if key != name}
    if value:
        choices[name] = value
    return Step(step.identity, step.operation, choices)


class ProgramSyntaxError(ValueError):
    """A program's text does not parse; ``line`` counts from one and ``expected`` says what belongs there."""

    def __init__(self, line: int, expected: str) -> None:
        super().__init__(f"line {line}: {expected}")
        self.line = line
        self.expected = expected


def format_program(program: Program) -> str:
    """One line a step: ``<identity> <operation> <name>=<value> ...``. `parse_program` reads it back."""
    return "".join(
        " ".join(
            [str(step.identity), step.operation, *(f"{name}={step.choices[name]}" for name in sorted(step.choices))]
        )
        + "\n"
        for step in program.steps
    )


def parse_program(text: str) -> Program:
    """Read what `format_program` wrote, skipping blank lines and ``#`` comments. Raises `ProgramSyntaxError`."""
    steps: list[Step] = []
    for line, content in enumerate(text.splitlines(), start=1):
        words = content.split("#", 1)[0].split()
        if not words:
            continue
        step = _parse_step(words, line)
        if steps and step.identity <= steps[-1].identity:
            follows = f"step {step.identity} follows step {steps[-1].identity}"
            raise ProgramSyntaxError(line, f"{follows}: identities must rise")
        steps.append(step)
    return Program(tuple(steps))


def _parse_step(words: list[str], line: int) -> Step:
    if len(words) < 2 or not _is_number(words[0]):
        raise ProgramSyntaxError(line, "expected '<identity> <operation> [name=value ...]'")
    choices: dict[str, int] = {}
    for word in words[2:]:
        name, separator, value = word.partition("=")
        if not separator or not name or not _is_number(value):
            raise ProgramSyntaxError(line, f"expected name=value, found {word[:40]!r}")
        if name in choices:
            raise ProgramSyntaxError(line, f"choice {name} is given twice")
        choices[name] = int(value)
    return Step(int(words[0]), words[1], choices)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= DIGITS_MAX
