"""A file: takes writes anywhere, and a crash leaves any subset of the sectors written, in whatever order.

A reset does nothing: the file keeps its bytes until other bytes are written over them.

    ``survivor.<step>.<n>``          1: all lost; 2: torn (only if the write has more than one sector). If torn, also
    ``survivor.<step>.<n>.<group>``  a bit mask of the sectors lost in that group of eight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.spec.device import ChooseSurvivor, Entry, Loss, MediumShape, lost_units


class File:
    name = "file"
    has_write_pointer = False
    survives_in_order = False
    tears_in_order = False
    unit = "sector"

    def unit_size_bytes(self, shape: MediumShape) -> int:
        return shape.sector_size_bytes or shape.page_size_bytes

    def fresh(self, extent_size_bytes: int) -> bytes:
        return bytes(extent_size_bytes)

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        return content[:start] + data + content[start + len(data) :]

    def emptied(self, content: bytes) -> bytes | None:
        return None

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        size = self.unit_size_bytes(shape)
        left = entries[0].before
        for entry in entries:
            data = entry.data or b""
            start = entry.page * shape.page_size_bytes
            lost = lost_units(entry.survivor, len(data) // size, choose)
            if lost:
                losses.append(Loss(entry, lost, self.unit, len(data) // size))
            for sector in lost:  # a lost sector reads as the writes before this one left it
                at = sector * size
                data = data[:at] + left[start + at : start + at + size] + data[at + size :]
            left = left[:start] + data + left[start + len(data) :]
        return left

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        return 1 << sum(unit_counts)


FILE: Final = File()
