"""A block device: its atomic write unit may be smaller than a page, and a reset discards an extent.

A write is a transfer from front to back. When power fails, its first units are there, and the others are as before.
Writes do not wait for one another, so each has its own fate. After a reset the extent reads as zeros. A reset is one
request: a crash leaves it done or not done.

    ``survivor.<step>.<n>``   how many units are lost from the end of that write. Of a reset: 1 if it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from harness.spec.device import ChooseSurvivor, Entry, Loss, MediumShape


class Block:
    name = "block"
    has_write_pointer = False
    survives_in_order = False
    tears_in_order = True
    unit = "unit"

    def unit_size_bytes(self, shape: MediumShape) -> int:
        return shape.sector_size_bytes or shape.page_size_bytes

    def fresh(self, extent_size_bytes: int) -> bytes:
        return bytes(extent_size_bytes)

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        return content[:start] + data + content[start + len(data) :]

    def emptied(self, content: bytes) -> bytes | None:
        return bytes(len(content))

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        size = self.unit_size_bytes(shape)
        left = entries[0].before
        for entry in entries:  # on top of what the entries before have left: they may cover the same pages
            count = 1 if entry.data is None else len(entry.data) // size
            kept_count = count - choose(entry.survivor, count + 1)
            if kept_count < count:
                units = () if entry.data is None else range(kept_count, count)
                losses.append(Loss(entry, units, "" if entry.data is None else self.unit, count))
            if entry.data is not None:
                left = self.written(left, entry.page * shape.page_size_bytes, entry.data[: kept_count * size])
            elif kept_count:
                left = bytes(len(left))
        return left

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        return prod(1 + count for count in unit_counts)


BLOCK: Final = Block()
