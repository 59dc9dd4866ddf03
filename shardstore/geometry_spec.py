"""The spec of geometries: a disk that is refused was not touched, and one that is taken works to its last limit.

Each step makes disks that have just what a configuration needs, one page or extent less, or more. So a limit that
promises too much shows as a store which cannot keep what it has taken.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count

from harness import (
    FILE,
    ZONED,
    Choose,
    Configuration,
    MediumShape,
    Operation,
    SimulatedMedium,
    Spec,
    ViolationError,
    World,
    sampled,
)
from shardstore.errors import ConfigurationError, NoSpaceError, TooLargeError
from shardstore.limits import value_size_max_bytes
from shardstore.node import Node, format_stores, open_stores
from shardstore.spec_world import COLLISIONS, STORE, shape
from shardstore.units import StoreConfiguration

_EDGE_MAX = 400  # extents or pages; of more than this nothing is asked
_FILLING_MAX = 30  # puts after which a disk that is not full yet is filled no further


def _shapes(choose: Choose, name: str) -> tuple[MediumShape, ...]:
    """One to three disks alike, at an edge of what the chosen configuration needs, or near it."""
    device = (ZONED, FILE)[choose(name + ".device", 2)]
    made = MediumShape(
        extent_count=(20, 9, 40, 150)[choose(name + ".extents", 4)],
        extent_size_pages=(16, 8, 64)[choose(name + ".pages", 3)],
        page_size_bytes=(128, 64, 256)[choose(name + ".page", 3)],
        device=device,
        sector_size_bytes=64,
    )
    return (made,) * (1 + choose(name + ".disks", 3))


def _configuration(choose: Choose, name: str) -> StoreConfiguration:
    return replace(
        STORE,
        key_size_max_bytes=(16, 1, 40)[choose(name + ".key", 3)],
        chunk_payload_max_bytes=(300, 16, 700)[choose(name + ".payload", 3)],
        memtable_entries_max=(6, 1, 13)[choose(name + ".entries", 3)],
        run_block_size_bytes=(120, 1, 600)[choose(name + ".block", 3)],
        reserve_extents_count=(3, 2)[choose(name + ".reserve", 2)],
    )


def _limit(shapes: tuple[MediumShape, ...], configuration: StoreConfiguration) -> int | None:
    """The size of the longest value, or None if disks and configuration do not go together."""
    try:
        return value_size_max_bytes(SimulatedMedium(shapes[0]), configuration, len(shapes))
    except ConfigurationError:
        return None


Change = Callable[[MediumShape, int], MediumShape]


def _at_edge(shapes: tuple[MediumShape, ...], configuration: StoreConfiguration, change: Change) -> int:
    """The least number that such a change may give the disks."""
    for number in count(1):
        if number > _EDGE_MAX or _limit(tuple(change(each, number) for each in shapes), configuration) is not None:
            return number
    raise AssertionError("counting never ends")


def _of_pages(made: MediumShape, number: int) -> MediumShape:
    return replace(made, extent_size_pages=number)


def _of_extents(made: MediumShape, number: int) -> MediumShape:
    return replace(made, extent_count=number)


class Maker:
    """Makes nodes of any geometry, and uses them to their limits."""

    def __init__(self, world: World) -> None:
        self._seam = world.seam

    def make(self, shapes: tuple[MediumShape, ...], configuration: StoreConfiguration, edge: str, beyond: int) -> None:
        change = {"pages": _of_pages, "extents": _of_extents}.get(edge)
        if change is not None:
            number = max(1, _at_edge(shapes, configuration, change) + beyond)
            shapes = tuple(change(each, number) for each in shapes)
        media = [SimulatedMedium(each, index) for index, each in enumerate(shapes)]
        limit = _limit(shapes, configuration)
        before = [medium.contents() for medium in media]
        try:
            stores = format_stores(media, self._seam, configuration)
        except ConfigurationError as error:
            if limit is not None or [medium.contents() for medium in media] != before:
                raise ViolationError("GEOM-1", f"refused: {error}", "refused before, if at all") from None
            return
        if limit is None:
            raise ViolationError("GEOM-1", f"{shapes} were formatted", "refused, as too small")
        try:
            node = self._used(Node(media, stores, self._seam), limit, configuration)
            self._reopened(node, media, configuration)
        except NoSpaceError as error:
            raise ViolationError("GEOM-1", f"refused: {error}", "room for a value of one chunk") from None

    def _used(self, node: Node, limit: int, configuration: StoreConfiguration) -> Node:
        """Keep the longest values, all kinds of keys, and a full disk; then delete it all."""
        keys = [bytes((number,)) * configuration.key_size_max_bytes for number in range(1, 1 + _FILLING_MAX)]
        one_chunk = min(limit, configuration.chunk_payload_max_bytes)
        for key in keys[:4]:
            self._keep(node, key, b"c" * one_chunk)
            with suppress(NoSpaceError):  # it may be longer than the disk
                self._keep(node, key, b"v" * limit)
        try:
            node.put(keys[0], b"v" * (limit + 1))
        except TooLargeError:
            pass
        else:
            raise ViolationError("GEOM-1", f"a value of {limit + 1} bytes was taken", "TooLargeError")
        kept = []
        for key in keys:
            try:
                node.put(key, b"w" * one_chunk)
            except NoSpaceError:
                break
            kept.append(key)
        node.sync()
        if list(node.contents()) != [(key, b"w" * one_chunk) for key in kept]:
            raise ViolationError("GEOM-1", "a full disk has lost keys", f"{len(kept)} keys")
        for key in kept:
            node.delete(key)
        node.sync()
        return node

    def _keep(self, node: Node, key: bytes, value: bytes) -> None:
        node.put(key, value)
        node.sync()
        if node.get(key) != value:
            raise ViolationError("GEOM-1", "the longest value reads otherwise", "as it was put")
        node.delete(key)
        node.sync()

    def _reopened(self, node: Node, media: list[SimulatedMedium], configuration: StoreConfiguration) -> None:
        node.shutdown()
        reopened = Node(media, open_stores(media, self._seam, configuration), self._seam)
        if list(reopened.contents()):
            raise ViolationError("GEOM-1", "deleted keys are back", "none")
        reopened.shutdown()


class MakerModel:
    """All geometries answer alike."""

    def make(self, **_: object) -> None:
        return None


SPEC = Spec(
    "geometry",
    system=Maker,
    model=MakerModel,
    operations=[
        Operation(
            "make",
            shapes=_shapes,
            configuration=_configuration,
            edge=sampled(("pages", "extents", "none")),
            beyond=sampled((0, -1, 1, 2)),
        )
    ],
    configurations=[Configuration("any", (shape(FILE),), STORE, COLLISIONS)],
    steps_mean=3,
)
