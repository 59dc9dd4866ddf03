"""Generators of arguments: small, biased, simplest first.

A generator draws choices and turns them into a value. ``choose(name, count)`` gives an integer in
``range(count)``; ``name`` is the argument's name, so that the record of a run names its choices. Zero must
map to the simplest value. Generators hold no state: what they give depends on the choices alone. Values are
immutable.

Bias is data: `KEY_ALPHABET` and `KEY_REPEATS`, and the `SIZE_RULES`, each with the bug that asked for it. The first
entries of every table are the distinct values, simplest first; bias only repeats them behind, so that whatever was
drawn also has a small number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Choose = Callable[[str, int], int]
Generator = Callable[[Choose, str], Any]

# Prefixes of one another, and the ends of the byte range, for whatever sorts keys; few, so that they collide.
KEY_ALPHABET = (b"a", b"b", b"c", b"aa", b"\xff", b"\x00", b"ab", b"d")
KEY_REPEATS = (8, 5, 3, 1, 0, 0, 0, 0)  # the same keys come back, so that puts overwrite and gets find something

PAYLOAD_VARIETY = 26
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Payload sizes of interest: ``offsets_bytes`` from each multiple of a page, 0 included if ``from_zero``.

    Each comes up ``1 + repeats`` times as often as one without repeats.
    """

    name: str
    offsets_bytes: tuple[int, ...]
    from_zero: bool
    framed: bool  # borders are where the payload with its frame, not the payload alone, fills pages
    asked_by: str
    repeats: int = 0


SIZE_RULES = (
    SizeRule("tiny", (1, 0, 2, 3, 8), True, False, "minimal cases read best with one byte; empty is a border"),
    SizeRule("page border", (-1, 0, 1), False, False, "off by one for chunks of nearly a page (1)"),
    SizeRule("frame at a page border", (-2, -1, 0, 1, 2), False, True, "off by one for chunks of nearly a page (1)"),
    SizeRule("frame spills", (2,), False, True, "closing identifier spills two bytes, as many as a magic (10)", 3),
)


def keys_from(options: Sequence[bytes], repeats: Sequence[int] = ()) -> Generator:
    """One of ``options``; the n-th comes up ``1 + repeats[n]`` times as often as one without repeats."""
    table = list(options)
    for option, count in zip(options, repeats, strict=False):
        table += [option] * count
    return sampled(table)


def sampled(options: Sequence[Any]) -> Generator:
    """One of ``options``, the simplest first."""
    table = tuple(options)
    size = len(table)
    if not size:
        raise ValueError("nothing to choose from")

    def draw(choose: Choose, name: str) -> Any:
        return table[choose(name, size)]

    return draw


keys: Generator = keys_from(KEY_ALPHABET, KEY_REPEATS)


def integers(lowest: int, highest: int) -> Generator:
    """Both ends included; the lowest is the simplest."""
    if highest < lowest:
        raise ValueError("no integer between the ends")
    count = highest - lowest + 1

    def draw(choose: Choose, name: str) -> int:
        return lowest + choose(name, count)

    return draw


def payload_sizes(page_size_bytes: int, *, pages_max: int = 3, overhead_bytes: int = 0) -> tuple[int, ...]:
    """The distinct sizes that `SIZE_RULES` give, in the order of the rules; behind them those that are repeated."""
    limit_bytes = pages_max * page_size_bytes
    sizes: dict[int, None] = {}
    repeated: list[int] = []
    for rule in SIZE_RULES:
        overhead = overhead_bytes if rule.framed else 0
        for page_count in (0,) if rule.from_zero else range(1, pages_max + 1):
            for offset in rule.offsets_bytes:
                size = page_count * page_size_bytes + offset - overhead
                if 0 <= size <= limit_bytes:
                    sizes[size] = None
                    repeated += [size] * rule.repeats
    return (*sizes, *repeated)


def payloads(
    page_size_bytes: int, *, pages_max: int = 3, overhead_bytes: int = 0, fragments: Sequence[bytes] = ()
) -> Generator:
    """Immutable bytes of sizes around page borders; the simplest is one letter.

    ``overhead_bytes`` is what the system's frame adds. ``fragments`` are byte strings that the system's own decoder
    looks for: some payloads are made of nothing else.
    """
    sizes = payload_sizes(page_size_bytes, pages_max=pages_max, overhead_bytes=overhead_bytes)
    size_max = max(sizes)
    contents = [_letters(start, size_max) for start in range(PAYLOAD_VARIETY)]
    contents += [fragment * (size_max // len(fragment) + 1) for fragment in fragments]
    size_count = len(sizes)
    content_count = len(contents)

    def draw(choose: Choose, name: str) -> bytes:
        size = sizes[choose(name, size_count)]
        return contents[choose(name, content_count)][:size]

    return draw


def _letters(start: int, size_bytes: int) -> bytes:
    """Letters that do not repeat at any small distance, so that shifted bytes show; rows differ in every byte."""
    return bytes(_LETTERS[(start + at * 7 + at // 26 * 3) % 26] for at in range(size_bytes))


def lists_of(generator: Generator, size_max: int, *, size_min: int = 0) -> Generator:
    """A tuple; before each optional element a *more* flag is drawn, which shrinks better than a count in front."""

    def draw(choose: Choose, name: str) -> tuple[Any, ...]:
        more = name + ".more"
        values = [generator(choose, name) for _ in range(size_min)]
        while len(values) < size_max and choose(more, 2):
            values.append(generator(choose, name))
        return tuple(values)

    return draw


@dataclass(frozen=True, slots=True)
class ResultsOf:
    """An argument that is what an earlier step returned. Drawn by the runner, which knows the results."""

    operation: str


def results_of(operation: str) -> ResultsOf:
    """A result that an earlier ``operation`` returned, addressed by that step's identity.

    Only plain results count, errors and voided steps do not. Where the step is gone, or nothing was returned yet, the
    step that wanted it is skipped, and counted as skipped.
    """
    return ResultsOf(operation)
