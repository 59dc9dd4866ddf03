"""Legal images: every state that a crash may leave of some media at this moment.

The list is made by asking the device model itself, once for each combination of survivors of an extent. So it cannot
differ from what a crash of a `SimulatedMedium` may leave. Combinations that leave the same bytes are one state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from harness.choices.trail import Trail
from harness.spec.device import Entry
from harness.world.medium import SimulatedMedium

Image = tuple[tuple[bytes, ...], ...]  # the extents of each medium


class Remains(NamedTuple):
    """One content that a crash may leave of an extent, and the survivor choices other than 0 that leave it."""

    content: bytes
    choices: Mapping[str, int]


class LegalImages:
    """Lists images. It remembers what may be left of an extent, since neighbouring moments share most of that."""

    def __init__(self) -> None:
        self._known: dict[tuple[Entry, ...], list[Remains]] = {}

    def count(self, media: Sequence[SimulatedMedium]) -> int:
        return prod(len(remains) for medium in media for _, remains in self._open_extents(medium))

    def of(self, media: Sequence[SimulatedMedium]) -> Iterator[tuple[Image, tuple[Remains, ...]]]:
        """Each legal image once, with the remains of each open extent in it; first the image that lost nothing."""
        held = [list(medium.contents()) for medium in media]
        places: list[tuple[int, int]] = []
        options: list[list[Remains]] = []
        for number, medium in enumerate(media):
            for extent, remains in self._open_extents(medium):
                places.append((number, extent))
                options.append(remains)
        for left in product(*options):
            for (number, extent), each in zip(places, left, strict=True):
                held[number][extent] = each.content  # overwrites the image before; every open extent is set anew
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
