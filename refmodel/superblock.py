"""The reference model of the superblock: a dictionary from extent to record, and a number for every change."""

from __future__ import annotations

from collections.abc import Sequence

Record = tuple[int, int, int]  # epoch, soft pointer in pages, owner

PRISTINE: Record = (0, 0, 0)


class SuperblockModel:
    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._epoch = 0

    def change(self, extents: Sequence[int], state: tuple[int, int], after: object) -> None:
        """Change some extents, under an epoch of their own. The model needs no ``after``: it records at once."""
        self._epoch += 1
        self._records.update(dict.fromkeys(extents, (self._epoch, *state)))

    def recorded(self, extent: int) -> Record:
        return self._records.get(extent, PRISTINE)

    def settle(self, extent: int, record: Record) -> None:
        """Make the extent read as a crash has left it."""
        self._records[extent] = record
