"""Power cuts: what they may leave of a file.

Every change before the last sync is there. Of the writes since, any subset of their sectors of 512 bytes is there, in
whatever order; a change of size is there or not. Until the folder was synced, the file may be missing.

The subset is drawn such that torn and reordered writes, single losses and single survivors come up, however many
sectors there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from harness.torture.file_log import Entry, Kind, apply_entry, unit_count

ChooseLoss = Callable[[str, int], int]


class Loss(NamedTuple):
    """The units that a power cut took of one entry of the log."""

    entry: int  # its place in the log
    units: tuple[int, ...]  # sectors of a write, counted from its first one; (0,) of anything else
    unit_count: int


@dataclass(frozen=True, slots=True)
class Image:
    """A file as a power cut may leave it."""

    content: bytes | None  # None: there is no file
    losses: tuple[Loss, ...]
    position: int  # how many entries of the log had been done

    @property
    def digest(self) -> bytes:
        return blake2b(b"" if self.content is None else self.content, digest_size=16).digest()


def crash_image(base: bytes | None, entries: Sequence[Entry], position: int, choose: ChooseLoss) -> Image:
    """The file if the power fails once ``position`` entries are done; ``base`` was its content before the first."""
    synced = max((at + 1 for at in range(position) if entries[at].kind is Kind.SYNC), default=0)
    pending = range(synced, position)
    counts = [unit_count(entries[at]) for at in pending]
    content = None if base is None else bytearray(base)
    for entry in entries[:synced]:
        content = apply_entry(bytearray() if content is None else content, entry)
    losses = []
    for at, count, lost in zip(pending, counts, draw_losses(counts, choose), strict=True):
        units = tuple(unit for unit in range(count) if lost >> unit & 1)
        if units:
            losses.append(Loss(at, units, count))
        content = apply_entry(bytearray() if content is None else content, entries[at], units)
    is_named = base is not None or any(entry.kind is Kind.NAME for entry in entries[:position])
    if content is None or (not is_named and not choose("named", 2)):
        created = [at for at in range(position) if entries[at].kind is Kind.CREATE]
        return Image(None, tuple(Loss(at, (0,), 1) for at in created), position)
    return Image(bytes(content), tuple(losses), position)


def draw_losses(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    """For each entry, the set of its lost units, as bits. ``counts`` says how many units each has."""
    return _FATES[choose("fate", len(_FATES))](counts, choose)


def _all(count: int) -> int:
    return (1 << count) - 1


def _some(count: int, choose: ChooseLoss, odds: int = 1, of: int = 2) -> int:
    return sum((choose("unit", of) < odds) << unit for unit in range(count))


def _nothing_lost(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    return [0] * len(counts)


def _everything_lost(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    return [_all(count) for count in counts]


def _prefix_kept(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    """Entries survive in order, and the first that is not kept is torn."""
    kept = choose("kept", len(counts) + 1)
    return [0 if at < kept else _some(count, choose) if at == kept else _all(count) for at, count in enumerate(counts)]


def _whole_entries_lost(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    """Entries survive out of order, each whole or not at all."""
    return [choose("entry", 2) * _all(count) for count in counts]


def _some_units_lost(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    odds = (1, 4, 7)[choose("odds", 3)]
    return [_some(count, choose, odds, 8) for count in counts]


def _one_torn(counts: Sequence[int], choose: ChooseLoss) -> list[int]:
    """All but one are kept, or none but one; that one is torn, lost or kept whole."""
    one = choose("one", max(len(counts), 1))
    others_lost = choose("others", 2)
    shape = choose("shape", 2)
    return [
        (_some(count, choose) if shape else (1 - others_lost) * _all(count)) if at == one else others_lost * _all(count)
        for at, count in enumerate(counts)
    ]


# Those that tear are listed twice, since the others leave few different images.
_FATES = (
    _nothing_lost,
    _everything_lost,
    _prefix_kept,
    _whole_entries_lost,
    _some_units_lost,
    _one_torn,
    _some_units_lost,
    _one_torn,
)


def describe_loss(loss: Loss, entry: Entry) -> str:
    """A loss as one line for people."""
    if entry.kind is not Kind.WRITE:
        return f"entry {loss.entry}, {entry.kind.value}: lost"
    what = "all" if len(loss.units) == loss.unit_count else "sectors " + " ".join(map(str, loss.units))
    return (
        f"entry {loss.entry}, write of {len(entry.data)} bytes at {entry.offset_bytes} "
        f"({loss.unit_count} sector{'s' if loss.unit_count > 1 else ''}): {what} lost"
    )
