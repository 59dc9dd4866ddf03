"""Generators of arguments: small, biased, simplest first.

A generator draws choices and turns them into a value. ``choose(name, count)`` gives an integer in ``range(count)``;
``name`` is the argument's name, so that the record of a run names its choices. Zero must map to the simplest value.
Generators hold no state: the value depends on the choices alone. Values are immutable.

    def pairs(choose, name):
        return choose(name, 10), choose(name, 10)

Bias is data: `KEY_ALPHABET` and `KEY_REPEATS`, and the `SIZE_RULES`, each with the bug that asked for it. Every table
begins with the distinct values, simplest first, and repeats some of them behind. So every value that can be drawn also
has a small number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Choose = Callable[[str, int], int]
Generator = Callable[[Choose, str], Any]

# Prefixes of one another and the ends of the byte range, for code that sorts keys; few, so that operations meet.
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
    framed: bool  # the payload together with its frame, not the payload alone, fills the pages
    asked_by: str
    repeats: int = 0


SIZE_RULES = (
    SizeRule("tiny", (1, 0, 2, 3, 8), True, False, "minimal cases read best with one byte; empty is a border"),
    SizeRule("page border", (-1, 0, 1), False, False, "off by one for chunks of nearly a page (1)"),
    SizeRule("frame at a page border", (-2, -1, 0, 1, 2), False, True, "off by one for chunks of nearly a page (1)"),
    SizeRule("frame spills", (2,), False, True, "closing identifier spills two bytes, as many as a magic (10)", 3),
)


def keys_from(options: Sequence[Any], repeats: Sequence[int] = ()) -> Generator:
    """One of ``options``, some of them more often.

        keys_from((b"a", b"b", b"zz"), (2, 1))  # draws a, b and zz in the proportion 3 : 2 : 1

    The n-th option comes up ``1 + repeats[n]`` times as often as one without repeats.
    """
    table = list(options)
    for option, count in zip(options, repeats, strict=False):  # ``repeats`` may be shorter: no bias for the rest
        table += [option] * count
    return sampled(table)


def sampled(options: Sequence[Any]) -> Generator:
    """One of ``options``.

        Operation("open", mode=sampled(("read", "write")))

    The first option must be the simplest. Raises `ValueError` if there are none.
    """
    table = tuple(options)
    size = len(table)
    if not size:
        raise ValueError("nothing to choose from")

    def draw(choose: Choose, name: str) -> Any:
        return table[choose(name, size)]

    return draw


keys: Generator = keys_from(KEY_ALPHABET, KEY_REPEATS)


def integers(lowest: int, highest: int) -> Generator:
    """An integer from ``lowest`` to ``highest``, both included. Raises `ValueError` if there is none."""
    if highest < lowest:
        raise ValueError("no integer between the ends")
    count = highest - lowest + 1

    def draw(choose: Choose, name: str) -> int:
        return lowest + choose(name, count)

    return draw


def payload_sizes(page_size_bytes: int, *, pages_max: int = 3, overhead_bytes: int = 0) -> tuple[int, ...]:
    """Sizes in bytes that `SIZE_RULES` give: each once, in the order of the rules, then again those with repeats."""
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
    page_size_bytes: int,
    *,
    pages_max: int = 3,
    overhead_bytes: int = 0,
    fragments: Sequence[bytes] = (),
    sizes_bytes: Sequence[int] = (),
) -> Generator:
    """Bytes of sizes around page borders, up to ``pages_max`` pages; the simplest is one letter.

        payloads(4096, overhead_bytes=38, fragments=(b"HEAD", b"TAIL"), sizes_bytes=(65535, 65536, 65537))

    ``overhead_bytes`` is how much the system's frame adds to a payload. ``fragments`` are byte strings that the
    system's own decoder looks for; some payloads repeat one of them and have nothing else. ``sizes_bytes`` are further
    sizes at which something changes.
    """
    sizes = (*payload_sizes(page_size_bytes, pages_max=pages_max, overhead_bytes=overhead_bytes), *sizes_bytes)
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
    """Letters without a short period, so that a shift of the bytes shows; two starts differ in every byte."""
    return bytes(_LETTERS[(start + at * 7 + at // 26 * 3) % 26] for at in range(size_bytes))


def lists_of(generator: Generator, size_max: int, *, size_min: int = 0) -> Generator:
    """A tuple of values that ``generator`` draws.

        lists_of(keys, 3, size_min=1)  # (b"a",) is the simplest

    It has ``size_min`` to ``size_max`` values.
    """

    def draw(choose: Choose, name: str) -> tuple[Any, ...]:
        # A flag before each optional element, not a count in front: so shrinking can drop the last element alone.
        more = name + ".more"
        values = [generator(choose, name) for _ in range(size_min)]
        while len(values) < size_max and choose(more, 2):
            values.append(generator(choose, name))
        return tuple(values)

    return draw


@dataclass(frozen=True, slots=True)
class ResultsOf:
    """An argument that is the result of an earlier step. The scenario draws it, since it knows the results."""

    operation: str


def results_of(operation: str) -> ResultsOf:
    """A result that an earlier ``operation`` returned, addressed by that step's identity.

        Operation("write", payload=payloads(128))
        Operation("read", locator=results_of("write"))

    Errors and void steps give no result. If there is no result yet, or the step that gave it is gone, the step that
    wants it is skipped, and counted as skipped.
    """
    return ResultsOf(operation)
