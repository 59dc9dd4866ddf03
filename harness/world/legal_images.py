"""Every legal crash state of media, from what they hold and what is not yet past a barrier.

The device model itself is asked, once for each combination of survivors of an extent: what `SimulatedMedium` may leave
after a crash and what is listed here cannot differ. Combinations that leave the same bytes are one state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from harness.choices.trail import Trail
from harness.spec.device import Entry
from harness.world.medium import SimulatedMedium

Image = tuple[tuple[bytes, ...], ...]  # of each medium its extents


class Remains(NamedTuple):
    """What may be left of one extent, and the survivor choices, those other than 0, that leave it."""

    content: bytes
    choices: Mapping[str, int]


class LegalImages:
    """Lists images; remembers what may be left of an extent, since neighbouring moments share most of it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Entry, ...], list[Remains]] = {}

    def count(self, media: Sequence[SimulatedMedium]) -> int:
        return prod(len(remains) for medium in media for _, remains in self._open_extents(medium))

    def of(self, media: Sequence[SimulatedMedium]) -> Iterator[tuple[Image, tuple[Remains, ...]]]:
        """Each legal image once, with what is left of each open extent in it; the complete one comes first."""
        held = [list(medium.contents()) for medium in media]
        places: list[tuple[int, int]] = []
        options: list[list[Remains]] = []
        for number, medium in enumerate(media):
            for extent, remains in self._open_extents(medium):
                places.append((number, extent))
                options.append(remains)
        for left in product(*options):
            for (number, extent), each in zip(places, left, strict=True):
                held[number][extent] = each.content
            yield tuple(map(tuple, held)), left

    def _open_extents(self, medium: SimulatedMedium) -> list[tuple[int, list[Remains]]]:
        return [(extent, self._remains(medium, entries)) for extent, entries in medium.open_entries().items()]

    def _remains(self, medium: SimulatedMedium, entries: list[Entry]) -> list[Remains]:
        key = tuple(entries)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _remains(medium, entries)
        return known


def _remains(medium: SimulatedMedium, entries: list[Entry]) -> list[Remains]:
    found: dict[bytes, Remains] = {}
    trail = Trail()
    while True:
        trail.rewind()
        choices: dict[str, int] = {}

        def choose(name: str, count: int, choices: dict[str, int] = choices) -> int:
            value = trail.pick(count)
            if value:
                choices[name] = value
            return value

        content = medium.survivors(entries, choose, [])
        found.setdefault(content, Remains(content, choices))
        if not trail.advance():
            return list(found.values())
