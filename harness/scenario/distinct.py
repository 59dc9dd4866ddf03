"""Counting distinct things in four kilobytes, however many there are.

HyperLogLog (Flajolet et al., 2007) with 2**12 registers: the estimate's standard error is 1.6 %. Two counts can be
merged; a thing that both have seen counts once. Small numbers are estimated from the empty registers, and nearly exact.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from math import log
from typing import Final

_INDEX_BITS: Final = 12
_REGISTER_COUNT: Final = 1 << _INDEX_BITS
_HASH_BITS: Final = 64
_ALPHA: Final = 0.7213 / (1 + 1.079 / _REGISTER_COUNT)


class DistinctCount:
    """An estimate of how many different things were added."""

    __slots__ = ("_registers",)

    def __init__(self) -> None:
        self._registers = bytearray(_REGISTER_COUNT)

    def add(self, *pieces: bytes) -> None:
        """Count one thing, which consists of these pieces in this order."""
        lengths = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))  # else (ab, c) and (a, bc) would be the same
        digest = blake2b(lengths + b"".join(pieces), digest_size=_HASH_BITS // 8).digest()
        value = int.from_bytes(digest, "little")
        index = value & (_REGISTER_COUNT - 1)
        rest = value >> _INDEX_BITS
        rank = _HASH_BITS - _INDEX_BITS + 1 - rest.bit_length()
        if rank > self._registers[index]:
            self._registers[index] = rank

    def merge(self, other: DistinctCount) -> None:
        """Add everything that the other has counted."""
        self._registers = bytearray(map(max, self._registers, other._registers))

    def estimate(self) -> int:
        empty = self._registers.count(0)
        raw = _ALPHA * _REGISTER_COUNT**2 / sum(2.0**-rank for rank in self._registers)
        if empty and raw <= 2.5 * _REGISTER_COUNT:
            return round(_REGISTER_COUNT * log(_REGISTER_COUNT / empty))
        return round(raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistinctCount) and self._registers == other._registers

    def __repr__(self) -> str:
        return f"about {self.estimate()}"

    __hash__ = None  # type: ignore[assignment]  # it changes
