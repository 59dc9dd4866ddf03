"""The store's rules, checked on nothing but what the device was asked to do.

`audit` replays the trace of a medium from the moment it was formatted, or opened with `contents`, and raises `Broken`
at the first event that a rule forbids. What the bytes mean is taken from the documented layout; only blocks, frames and
edits are decoded by the store's own code, which has tests of its own.

    REC-1   opening: a barrier comes before the first read
    LOG-1   a record is issued when the one before it is persistent
    LOG-7   a metadata record is issued when all is persistent that the one before it was in doubt of
    LOG-8   a full metadata record is issued when superblock records cover all that the deltas before it named
    LOG-2   a log's extent is reset when the newest full record is persistent in the other
    EXT-1   a chunk's page is written when a persistent record says that its extent has an owner
    EXT-2   a superblock record covers pages that are persistent
    EXT-5   an extent is reset when a persistent record says that it is empty; its owner is released after that
    IDX-1   a metadata record names blocks, and these values, that are persistent and below a persistent soft pointer,
            or in places that it or a delta before it gives; those in doubt hold their digest once they are there
    GC-3    no record empties an extent that the persistent metadata still names
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from worlds import EXTENT, PAGE, Event

from shardstore import chunk_frame
from shardstore.extents import Place
from shardstore.index import run_block
from shardstore.index.metadata_log import Edit, RunRecord, decode, decode_delta
from shardstore.units import Locator

_HEADER = struct.Struct("<4sHBQII")
_SECRET_SIZE = 16
_IDENTITY_SIZE = struct.calcsize("<IIIBHH16s")  # geometry, and the membership of the only disk of a node
_ENTRY = struct.Struct("<IIIB")
_LOGS = {0: 0, 1: 0, 2: 2, 3: 2}  # extent -> its log


class Broken(AssertionError):  # noqa: N818 - what happened to a rule, not an error's name
    """``rule`` is the id of the rule that the event breaks."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


class Pointer(NamedTuple):
    epoch: int = 0
    soft_pages: int = 0
    owner: int = 0


class _Log:
    """One twin log: its state at each record that could be the one recovered."""

    def __init__(self) -> None:
        self.in_flight = False
        self.full_extent: int | None = None  # of the newest full record
        self.is_full_persistent = False


class Audit:
    def __init__(self, *, extent_count: int) -> None:
        self.contents = [bytearray(EXTENT) for _ in range(extent_count)]
        self.persistent_pages: list[set[int]] = [set() for _ in range(extent_count)]
        self.issued: list[Event] = []
        self.secret = b""  # as of the newest record
        self.logs = {0: _Log(), 2: _Log()}
        self.newest_pointers: dict[int, Pointer] = {}
        self.persistent_pointers: dict[int, Pointer] = {}
        self.newest_runs: dict[int, RunRecord] = {}
        self.persistent_runs: dict[int, RunRecord] = {}
        self.places: list[Place] = []  # of the deltas behind the newest full record
        self.in_doubt: list[Place] = []  # of the newest

    # --- events -------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        if event.kind == "barrier":
            self._barrier()
        elif event.kind == "reset":
            self._reset(event)
        elif event.kind == "write":
            self._write(event)

    def _barrier(self) -> None:
        for event in self.issued:
            if event.kind == "reset":
                self.persistent_pages[event.extent].clear()
            else:
                self.persistent_pages[event.extent] |= set(range(event.page, event.page + event.page_count))
        self.issued.clear()
        for log in self.logs.values():
            log.in_flight = False
            log.is_full_persistent = True
        self.persistent_pointers = dict(self.newest_pointers)
        self.in_doubt = [place for place in self.in_doubt if not self._is_there(place)]
        if not self.in_doubt and self.newest_runs != self.persistent_runs:
            for locator in self._named(self.newest_runs.values()):
                self._check_persistent(locator)
            self.persistent_runs = dict(self.newest_runs)

    def _is_there(self, place: Place) -> bool:
        pages = range(place.first_page, place.end_page)
        if not set(pages) <= self.persistent_pages[place.extent]:
            return False
        held = bytes(self.contents[place.extent][pages.start * PAGE : pages.stop * PAGE])
        if place.digest != hashlib.sha256(self.secret + held.rstrip(b"\0")).digest()[:16]:
            raise Broken("IDX-1", f"{place} is not what was written there")
        return True

    def _write(self, event: Event) -> None:
        start = event.page * PAGE
        self.persistent_pages[event.extent] -= set(range(event.page, event.page + event.page_count))
        if event.extent in _LOGS:
            self._record(event)
        elif not self.persistent_pointers.get(event.extent, Pointer()).owner:
            raise Broken("EXT-1", f"page {event.page} of extent {event.extent} is written, which nobody owns")
        self.contents[event.extent][start : start + len(event.data)] = event.data
        self.issued.append(event)

    def _reset(self, event: Event) -> None:
        if event.extent in _LOGS:
            log = self.logs[_LOGS[event.extent]]
            if log.full_extent == event.extent or (log.full_extent is not None and not log.is_full_persistent):
                raise Broken("LOG-2", f"extent {event.extent} is reset while it holds the newest persistent record")
        elif self.persistent_pointers.get(event.extent, Pointer()).soft_pages:
            raise Broken("EXT-5", f"extent {event.extent} is reset while a record says that it has pages")
        self.issued.append(event)

    # --- records ------------------------------------------------------------------------------------

    def _record(self, event: Event) -> None:
        if not any(event.data):
            return  # formatting erases what was there
        log = self.logs[_LOGS[event.extent]]
        if log.in_flight:
            raise Broken("LOG-1", f"a record in extent {event.extent} follows one that is not persistent")
        _, _, is_full, _, length, _ = _HEADER.unpack_from(event.data)
        sealed = event.data[_HEADER.size : _HEADER.size + length]
        self.secret, payload = sealed[:_SECRET_SIZE], sealed[_SECRET_SIZE:]
        log.in_flight = True
        if is_full:
            log.full_extent, log.is_full_persistent = event.extent, False
        if _LOGS[event.extent]:
            self._metadata(payload, is_full=bool(is_full))
        else:
            self._superblock(payload, is_full=bool(is_full))

    def _superblock(self, payload: bytes, *, is_full: bool) -> None:
        for extent, epoch, soft_pages, owner in _ENTRY.iter_unpack(payload[_IDENTITY_SIZE if is_full else 0 :]):
            new, old = Pointer(epoch, soft_pages, owner), self.newest_pointers.get(extent, Pointer())
            missing = set(range(soft_pages)) - self.persistent_pages[extent]
            if missing:
                raise Broken("EXT-2", f"a record covers pages {sorted(missing)} of extent {extent}: not persistent")
            if old.owner and not owner and not self._is_reset_persistent(extent):
                raise Broken("EXT-5", f"extent {extent} is released before its reset is persistent")
            if old.soft_pages and not soft_pages:
                self._check_dead(extent)
            self.newest_pointers[extent] = new

    def _is_reset_persistent(self, extent: int) -> bool:
        return not self.persistent_pages[extent] and not any(event.extent == extent for event in self.issued)

    def _metadata(self, payload: bytes, *, is_full: bool) -> None:
        if self.in_doubt:
            raise Broken("LOG-7", f"a record follows one that is in doubt of {self.in_doubt}")
        places, edits = ([], decode(payload)) if is_full else decode_delta(payload)
        if is_full:
            self._check_covered()
            self.newest_runs = {}
            self.places = []
        self.places += places
        self.in_doubt = [place for place in places if place.first_page < place.end_page]
        self._apply(edits)
        if not self.in_doubt:
            for locator in self._named(self.newest_runs.values()):
                self._check_persistent(locator)

    def _check_covered(self) -> None:
        for place in self.places:
            pointer = self.persistent_pointers.get(place.extent, Pointer())
            if (pointer.epoch, pointer.soft_pages) < (place.epoch, place.end_page):
                raise Broken("LOG-8", f"a full record follows a delta that names {place}, which nothing covers")

    def _apply(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            for run_id in edit.dropped:
                del self.newest_runs[run_id]
            self.newest_runs |= {run.run_id: run for run in edit.added}
            for run_id, number, locator in edit.moved:
                blocks = list(self.newest_runs[run_id].blocks)
                blocks[number] = blocks[number]._replace(locator=locator)
                self.newest_runs[run_id] = self.newest_runs[run_id]._replace(blocks=tuple(blocks))

    def _named(self, runs: Iterable[RunRecord]) -> list[Locator]:
        """Every block of these runs, and the values that the newest entry of each key names."""
        blocks = [block.locator for run in runs for block in run.blocks]
        newest: dict[bytes, Sequence[Locator]] = {}
        for run in sorted(runs, key=lambda run: (-run.level, run.run_id)):
            for block in run.blocks:
                for key, entry in run_block.decode(self._payload(block.locator)):
                    newest[key] = entry or ()
        return blocks + [locator for entry in newest.values() for locator in entry]

    def _payload(self, locator: Locator) -> bytes:
        seed = chunk_frame.seed_of(self.secret)
        frame = chunk_frame.decode(bytes(self.contents[locator.extent]), locator.offset_bytes, seed)
        if frame is None or frame.uuid != locator.uuid or frame.length_bytes != locator.length_bytes:
            raise Broken("IDX-1", f"{locator} is named and not there")
        return frame.payload

    def _check_persistent(self, locator: Locator) -> None:
        self._payload(locator)
        end = locator.offset_bytes + locator.length_bytes
        pages = set(range(locator.offset_bytes // PAGE, -(-end // PAGE)))
        pointer = self.persistent_pointers.get(locator.extent, Pointer())
        ends = [each.end_page for each in self.places if (each.extent, each.epoch) == (locator.extent, pointer.epoch)]
        if not pages <= self.persistent_pages[locator.extent] or end > max([pointer.soft_pages, *ends]) * PAGE:
            raise Broken("IDX-1", f"{locator} is named before it is persistent")

    def _check_dead(self, extent: int) -> None:
        if any(locator.extent == extent for locator in self._named(self.persistent_runs.values())):
            raise Broken("GC-3", f"extent {extent} is emptied while the persistent index names a chunk in it")


def audit(trace: Sequence[Event], *, extent_count: int = 20) -> Audit:
    """Replay the trace of a medium that was formatted at its start."""
    audited = Audit(extent_count=extent_count)
    for event in trace:
        audited.take(event)
    return audited


def check_opening(trace: Sequence[Event]) -> None:
    """REC-1, on the trace of an opening."""
    kinds = [event.kind for event in trace]
    if "read" in kinds and "barrier" not in kinds[: kinds.index("read")]:
        raise Broken("REC-1", "the disk is read before a barrier")
