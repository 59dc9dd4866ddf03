"""The spec of costs: what calls read and write, and how many barriers they pass, is bounded by the structure.

Results say nothing of this. A store that gives up group commit, or that writes all it knows into each record, answers
as before. Here it runs on a disk that counts, with plenty of room and a large cache, and the seam makes the simplest
choice each time: all that is ready shares a barrier. The bounds are of calls, pages and bytes, never of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from harness import (
    FILE,
    ZONED,
    Background,
    Configuration,
    DeviceModel,
    MediumShape,
    Operation,
    Reboot,
    SimulatedMedium,
    ViolationError,
    World,
    integers,
)
from shardstore import chunk_frame, node_spec
from shardstore.dependency import Dependency
from shardstore.index.metadata_log import run_size_max_bytes
from shardstore.index.run_block import entry_size_bytes
from shardstore.index.run_bounds import BLOCK_KEY_SIZE_BYTES
from shardstore.node_spec import CheckedNode
from shardstore.seam import Seam
from shardstore.spec_world import COLLISIONS, STORE, keys, shape, values
from shardstore.store import Store, format_store, open_store
from shardstore.superblock import ExtentRecord, superblock_full_size_bytes
from shardstore.twin_log import RECORD_HEADER_SIZE_BYTES
from shardstore.units import METADATA_EXTENTS, RESERVED_EXTENTS_COUNT, SUPERBLOCK_EXTENTS, Locator

EXTENT_COUNT = 60  # never scarce, so that nothing is reclaimed or merged for want of room
_CACHED = replace(STORE, cache_size_pages=10_000, block_cache_count=1_000, buffer_count=64)
MERGING = _CACHED
UNMERGED = replace(_CACHED, automatic=False)

# A value's extent and its run's get their owners: one barrier. Values, run and the record that names them: another. If
# the metadata log turns: one for the soft pointers, and one for its full record.
SYNC_BARRIERS_MAX = 4
ENTRY_SIZE_BYTES = superblock_full_size_bytes(2, 1) - superblock_full_size_bytes(1, 1)  # of an extent in a record
BLOCK_OVERHEAD_BYTES = chunk_frame.frame_size_bytes(bytes(BLOCK_KEY_SIZE_BYTES), 4)
PLACE_SIZE_MAX_BYTES = 48  # of an append that a record is in doubt of
_LOCATOR = Locator(0, 0, 0, b"")  # any: an entry's size depends on how many there are


class QuietSeam:
    """A seam that chooses the first way each time."""

    def __init__(self, seam: Seam) -> None:
        self.monitor = seam.monitor
        self.unique_id = seam.unique_id

    def choose(self, count: int) -> int:
        return 0


@dataclass(slots=True)
class Spent:
    """What was asked of a disk."""

    pages_read: int = 0
    writes: int = 0  # resets included
    resets: int = 0
    barriers: int = 0
    data_writes: int = 0
    data_pages: int = 0  # written
    edit_records: int = 0  # of the metadata, those that are not full
    edit_pages: int = 0


class CountingDisk:
    """A disk that counts what it is asked, and shows each write before it comes."""

    def __init__(self, disk: SimulatedMedium) -> None:
        self._disk = disk
        self.holder: object = None
        self.extent_count = disk.extent_count
        self.extent_size_pages = disk.extent_size_pages
        self.page_size_bytes = disk.page_size_bytes
        self.zoned = disk.zoned
        self.write_pointer = disk.write_pointer
        self.index = disk.index  # for tracers
        self.spent = Spent()
        self.watch: Callable[[int, int, int], None] = lambda extent, page, page_count: None

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        self.spent.pages_read += page_count
        return self._disk.read(extent, page, page_count)

    def write(self, extent: int, page: int, data: bytes) -> None:
        page_count = len(data) // self.page_size_bytes
        self.spent.writes += 1
        if extent >= RESERVED_EXTENTS_COUNT:
            self.spent.data_writes += 1
            self.spent.data_pages += page_count
        self.watch(extent, page, page_count)
        self._disk.write(extent, page, data)

    def reset(self, extent: int) -> None:
        self.spent.writes += 1
        self.spent.resets += 1
        self._disk.reset(extent)

    def barrier(self) -> None:
        self.spent.barriers += 1
        self._disk.barrier()


class Budget:
    """What may be written from one sync to the next. Merges and evacuations are not foreseen: they void it."""

    def __init__(self, spent: Spent) -> None:
        self.before = replace(spent)
        self.size_bytes = 0  # of frames: those of values, and a block for each entry
        self.flushes_count = 2  # of write buffers, beside those that are full
        self.entries_count = 0
        self.is_void = False

    def take(self, key: bytes, value: bytes | None) -> None:
        """Count a change: the frames of its value, and a block of its own for its entry."""
        size_max = STORE.chunk_payload_max_bytes
        pieces = [] if value is None else [value[at : at + size_max] for at in range(0, len(value) or 1, size_max)]
        self.size_bytes += sum(chunk_frame.frame_size_bytes(key, len(piece)) for piece in pieces)
        self.size_bytes += BLOCK_OVERHEAD_BYTES + entry_size_bytes(key, tuple(_LOCATOR for _ in pieces))
        self.entries_count += 1

    def named_bytes(self) -> int:
        """What naming all these runs takes, with a block for each entry."""
        runs_count = self.flushes_count + self.entries_count // STORE.memtable_entries_max
        blocks = run_size_max_bytes(self.entries_count, STORE.key_size_max_bytes)
        return blocks + runs_count * run_size_max_bytes(0, 0)


class CostedNode(CheckedNode):
    """A node of one disk that is held to what its calls may cost."""

    def __init__(self, disk: CountingDisk, store: Store, seam: Seam, *, is_merging: bool) -> None:
        super().__init__([disk], [store], seam)
        self._disk = disk
        self._costed = store
        self._is_merging = is_merging
        self._recorded = self._extents_recorded()
        self._unchanged = 0  # extents that records have named as they were
        self._budget = Budget(disk.spent)
        disk.watch = self._look_at

    # --- reading costs no writes, and is done once ----------------------------------------------------

    def get(self, key: bytes) -> bytes:
        with self._at_most("a get", writes=0, barriers=0):
            value = super().get(key)
        with self._at_most("a second get", pages_read=0, writes=0, barriers=0):
            super().get(key)
        return value

    def list_keys(self) -> tuple[bytes, ...]:
        with self._at_most("a listing", writes=0, barriers=0):
            return super().list_keys()

    # --- writing ----------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> Dependency:
        self._budget.take(key, value)
        return super().put(key, value)

    def delete(self, key: bytes) -> Dependency:
        self._budget.take(key, None)
        return super().delete(key)

    def bulk_create(self, items: Sequence[tuple[bytes, bytes]]) -> Dependency:
        for key, value in items:
            self._budget.take(key, value)
        return super().bulk_create(items)

    def flush(self) -> None:
        self._budget.flushes_count += 2
        super().flush()

    def compact(self) -> None:
        self._budget.is_void = True
        super().compact()

    def reclaim(self, choice: int = 0) -> None:
        self._budget.is_void = True
        super().reclaim(choice)

    def sync(self) -> None:
        with self._at_most("a sync", barriers=SYNC_BARRIERS_MAX):
            super().sync()
        self._check_budget()
        super().sync()  # of merges that the first has made due
        self._budget = Budget(self._disk.spent)
        with self._at_most("a sync after a sync", pages_read=0, writes=0, barriers=0):
            super().sync()

    @contextmanager
    def _at_most(self, what: str, **most: int) -> Iterator[None]:
        before = replace(self._disk.spent)
        yield
        for name, count_max in most.items():
            count = getattr(self._disk.spent, name) - getattr(before, name)
            if count > count_max:
                raise ViolationError("COST-1", f"{what} took {count} {name}", f"at most {count_max}")

    def _check_budget(self) -> None:
        """Frames are packed: each write adds at most a page of padding, and is of a full buffer or of a flush."""
        budget, spent = self._budget, self._disk.spent
        if budget.is_void or self._is_merging:
            return
        writes = spent.data_writes - budget.before.data_writes
        pages = spent.data_pages - budget.before.data_pages
        if pages > budget.size_bytes // self._disk.page_size_bytes + writes:
            answered = f"{pages} pages in {writes} writes, for {budget.size_bytes} bytes of frames"
            raise ViolationError("COST-4", answered, "the frames, and a page of padding each write")
        writes_max = budget.size_bytes // STORE.write_buffer_size_bytes + budget.flushes_count
        if writes > writes_max:
            raise ViolationError("COST-4", f"{writes} writes for {budget.size_bytes} bytes", writes_max)
        named_bytes = budget.named_bytes() + PLACE_SIZE_MAX_BYTES * writes
        records = spent.edit_records - budget.before.edit_records
        record_pages = spent.edit_pages - budget.before.edit_pages
        record_pages_max = 2 * (records * self._record_pages(0) + -(-named_bytes // self._disk.page_size_bytes))
        if record_pages > record_pages_max:
            raise ViolationError("COST-2", f"{record_pages} pages of edits in {records} records", record_pages_max)

    # --- records ----------------------------------------------------------------------------------

    def _extents_recorded(self) -> dict[int, ExtentRecord]:
        recorded = self._costed.superblock.recorded
        return {extent: recorded(extent) for extent in range(RESERVED_EXTENTS_COUNT, EXTENT_COUNT)}

    def _look_at(self, extent: int, page: int, page_count: int) -> None:
        """See a record of the superblock come: the record before is persistent, and nothing newer is built."""
        if extent in METADATA_EXTENTS and page:
            self._disk.spent.edit_records += 1
            self._disk.spent.edit_pages += page_count
        if extent not in SUPERBLOCK_EXTENTS:
            return
        before, self._recorded = self._recorded, self._extents_recorded()
        if not page:
            return  # a full record
        changed = sum(self._recorded[each] != before[each] for each in before)
        while page_count > self._record_pages(changed):
            changed += 1
            self._unchanged += 1  # released and owned again, so it was reset before
        if self._unchanged > self._disk.spent.resets:
            raise ViolationError("COST-2", f"records have named {self._unchanged} extents as they were", "only changes")

    def _record_pages(self, changed: int) -> int:
        size_bytes = RECORD_HEADER_SIZE_BYTES + changed * ENTRY_SIZE_BYTES
        return 2 * -(-size_bytes // self._disk.page_size_bytes)


def open_system(world: World) -> CheckedNode:
    disk = CountingDisk(world.media[0])
    seam = QuietSeam(world.seam)
    opening = open_store if "formatted" in world.kept else format_store
    store = opening(disk, seam, world.configuration.parameters)
    if "formatted" in world.kept and disk.spent.writes:
        raise ViolationError("COST-1", f"opening took {disk.spent.writes} writes", "none after a clean shutdown")
    world.kept["formatted"] = True
    return CostedNode(disk, store, seam, is_merging=world.configuration.parameters is MERGING)


def _shape(device: DeviceModel) -> MediumShape:
    """With pages so small that a record of two changes takes more than one of a single change."""
    made = shape(device, extent_count=EXTENT_COUNT, extent_size_pages=256)
    return replace(made, page_size_bytes=64)


SPEC = replace(
    node_spec.one_disk(),
    name="costs",
    overlaps=None,  # the costs of two calls at once would be those of both
    system=open_system,
    operations=[
        Operation("get", key=keys, weight=4),
        Operation("put", key=keys, value=values, weight=8, writes="key"),
        Operation("delete", key=keys, weight=3, writes="key"),
        Operation("list_keys"),
        Operation(
            "bulk_create", items=node_spec.some_pairs, writes=lambda args, _: [[key for key, _ in args["items"]]]
        ),
        Background("flush", weight=2),
        Background("compact"),
        Background("reclaim", choice=integers(0, 2)),
        Background("sync", weight=4, promises="everything"),
        Reboot(),
    ],
    configurations=[
        Configuration("merging", (_shape(ZONED),), MERGING, COLLISIONS),
        Configuration("unmerged", (_shape(FILE),), UNMERGED, COLLISIONS),
    ],
    share=1,
    events=(),
    interrupts=None,
)
