"""A zoned device: each extent takes writes at its write pointer, and a crash leaves a prefix of them.

Pages are atomic. A reset moves the pointer back to the start. It is part of the extent's order: if a crash takes the
reset, it takes everything after it too.

    ``survivor.<step>.<n>``   how many pages are lost from the end of that write. If any are, all later entries of the
                              extent are lost too, and nothing is chosen for them. Of a reset: 1 if it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.spec.device import ChooseSurvivor, DeviceMisuseError, Entry, Loss, MediumShape, whole_loss


class Zoned:
    name = "zoned"
    has_write_pointer = True
    survives_in_order = True
    tears_in_order = True
    unit = "page"

    def unit_size_bytes(self, shape: MediumShape) -> int:
        return shape.page_size_bytes

    def fresh(self, extent_size_bytes: int) -> bytes:
        return b""

    def written(self, content: bytes, start: int, data: bytes) -> bytes:
        if start != len(content):
            raise DeviceMisuseError("write off the pointer", f"byte {start}, the write pointer is at {len(content)}")
        return content + data

    def emptied(self, content: bytes) -> bytes | None:
        return b""

    def survivors(
        self, entries: Sequence[Entry], content: bytes, shape: MediumShape, choose: ChooseSurvivor, losses: list[Loss]
    ) -> bytes:
        size = shape.page_size_bytes
        for index, entry in enumerate(entries):
            data = entry.data
            page_count = 1 if data is None else len(data) // size
            lost_count = choose(entry.survivor, page_count + 1)
            if lost_count:
                kept_count = page_count - lost_count
                units = () if data is None else range(kept_count, page_count)
                losses.append(Loss(entry, units, "" if data is None else self.unit, page_count))
                losses += [whole_loss(later, self.unit, size) for later in entries[index + 1 :]]
                return entry.before + (b"" if data is None else data[: kept_count * size])
        return content

    def legal_states_count(self, unit_counts: Sequence[int]) -> int:
        return 1 + sum(unit_counts)


ZONED: Final = Zoned()
