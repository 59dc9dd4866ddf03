"""The chunk store: takes a payload and gives a locator; also walks an extent frame by frame.

    extent  | frame | frame | pad | frame ......... | frame | pad | write buffer: frame | frame |
            ^ page: flush began   ^ page: flush began           ^ page: the next flush begins here

Each kind of chunk has an open extent with a write buffer. A frame gets its locator when it enters the buffer. A flush
pads the buffer to whole pages and appends it in one write. So all frames of a buffer share one dependency, and are
persistent together with the page on which the flush began. Locators are unique for good (CHUNK-1).

Guarantees. `get` gives exactly the bytes that were put, or raises, whatever is on the disk. `scan` gives every
persistent frame of an extent (SCAN-1), possibly together with garbage that looks like one. The chunk store does not
know which chunks are live; the holder of the locators does. A chunk that nobody refers to yet must be pinned (GC-1).

The caller holds the store's monitor.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from shardstore import chunk_frame
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.chunk_frame import Frame
from shardstore.dependency import FAILED, PERSISTENT, Dependency, Waiter
from shardstore.errors import CorruptionError, DiskError, InvariantError, NoSpaceError, StaleLocatorError
from shardstore.extents import AppendPromise, Extents
from shardstore.seam import Seam
from shardstore.units import Kind, Locator, Owner, StoreConfiguration, new_tuple

_OVERHEAD_SIZE_BYTES = chunk_frame.OVERHEAD_SIZE_BYTES


class PutChunk(NamedTuple):
    """A chunk that was put, and the dependency of its bytes and of the pointer that covers them."""

    locator: Locator
    dependency: Dependency


class ScannedFrame(NamedTuple):
    """A frame that a scan found, and the locator that names it."""

    locator: Locator
    frame: Frame


class Scan(NamedTuple):
    """The frames of an extent. It is complete if every page could be read, and all bytes are frames or padding."""

    frames: list[ScannedFrame]
    is_complete: bool


class _Stream:
    """The open extent of one kind of chunk, and its write buffer."""

    __slots__ = ("buffer", "dead_bytes", "extent", "kind", "promise", "room_bytes", "start_bytes")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.extent: int | None = None
        self.start_bytes = 0  # of the buffer, within the extent
        self.buffer = bytearray()
        self.dead_bytes = 0  # of the buffer's frames that nothing refers to any more
        self.promise: AppendPromise | None = None  # of the buffer's flush; None while the buffer is empty
        self.room_bytes = 0  # in the extent, from the place of the buffer on


class _Slab:
    """The pages of an extent that a scan holds. It asks for one place after the other, and never goes back.

    They are not read through the cache, which keeps what is read often: a scan reads everything, and once.
    """

    __slots__ = (
        "_breathe",
        "_data",
        "_end_page",
        "_extent",
        "_extents",
        "_first_page",
        "_page_size_bytes",
        "_seed",
        "_size_pages",
        "end",
    )

    def __init__(self, extents: Extents, extent: int, size_pages: int, seed: int, breathe: Callable[[], None]) -> None:
        self._breathe = breathe
        self._seed = seed
        self._extents = extents
        self._extent = extent
        self._size_pages = size_pages
        self._page_size_bytes = extents.page_size_bytes
        self._data = b""
        self._first_page = self._end_page = 0
        self.end = extents.soft_pages(extent) * extents.page_size_bytes  # of what may be read

    def frame_at(self, start: int) -> Frame | None:
        """The whole frame that begins at this offset, or None. Raises `DiskError`."""
        if start + _OVERHEAD_SIZE_BYTES > self.end:
            return None
        at = self._hold(start, chunk_frame.HEADER_SIZE_BYTES)
        length = chunk_frame.peek_length(self._data, at)
        if length is None or start + length > self.end:
            return None
        at = self._hold(start, length)
        return chunk_frame.decode(self._data, at, self._seed)

    def padding_bytes(self, start: int) -> int:
        """How many bytes there are from this offset to the end of its page, if all are zeros; else 0."""
        at = self._hold(start, 1)
        size = -start % self._page_size_bytes or self._page_size_bytes
        return 0 if any(self._data[at : at + size]) else size

    def _hold(self, start: int, length: int) -> int:
        """Hold the pages of these bytes. Gives the place of the first byte in what is held."""
        size = self._page_size_bytes
        last_page = (start + length - 1) // size
        if last_page >= self._end_page:
            self._read(start // size, last_page + 1)
        return start - self._first_page * size

    def _read(self, first_page: int, end_page: int) -> None:
        self._breathe()
        slab_end_page = min(first_page + self._size_pages, self.end // self._page_size_bytes)
        try:
            self._read_up_to(first_page, max(slab_end_page, end_page))
        except DiskError:  # perhaps of a page that was not asked for
            self._read_up_to(first_page, end_page)

    def _read_up_to(self, first_page: int, end_page: int) -> None:
        self._data = self._extents.read(self._extent, first_page, end_page - first_page)
        self._first_page, self._end_page = first_page, end_page


class ChunkStore:
    """See the module."""

    def __init__(
        self,
        cache: BufferCache,
        extents: Extents,
        pool: BufferPool,
        io_step: Callable[[], bool],
        seam: Seam,
        waiter: Waiter,
        configuration: StoreConfiguration,
    ) -> None:
        self._cache = cache
        self._extents = extents
        self._pool = pool
        self._io_step = io_step
        self._unique_id = seam.unique_id
        self._waiter = waiter
        self._page_size_bytes = extents.page_size_bytes
        self._extent_size_bytes = extents.page_size_bytes * extents.extent_size_pages
        self._buffer_size_bytes = configuration.write_buffer_size_bytes
        self._scan_slab_size_pages = configuration.scan_slab_size_pages
        self.breathe_at_count = configuration.breathe_at_count
        self._streams: dict[Owner, _Stream] = {kind: _Stream(kind) for kind in Kind}
        self._seed = 0  # of the frames' checksums
        self._pins: dict[int, int] = {}  # extent -> chunks in it that nobody refers to yet
        # These steer the choice of victims. Of an extent that was not scanned since opening only what died is known.
        self._live_bytes: dict[int, int] = {}  # extent -> bytes of frames that are thought to be live
        self._dead_bytes: dict[int, int] = {}  # extent -> bytes of frames that are thought to be garbage

    # --- writing ------------------------------------------------------------------------------------

    def format(self, secret: bytes) -> None:
        """Write and believe only frames that are sealed with this secret of the disk (CHUNK-3)."""
        self._seed = chunk_frame.seed_of(secret)

    def recover(self, secret: bytes) -> None:
        """Open for each kind of chunk the extent that has most room, if any has. Raises `CorruptionError`."""
        self._seed = chunk_frame.seed_of(secret)
        for extent in self._extents.in_use():
            owner = self._extents.owner(extent)
            stream = self._streams.get(owner)
            if stream is None:
                raise CorruptionError(extent, 0, f"no kind of chunk is {owner}")
            if self._room_bytes(extent) > stream.room_bytes:
                self._open(stream, extent)

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk:
        """Store a chunk and pin its extent. The caller must `unpin` it once something refers to it.

        Raises `NoSpaceError` if an extent is needed and none is free. May wait for a write buffer.
        """
        size = _OVERHEAD_SIZE_BYTES + len(key) + len(payload)
        stream = self._streams[kind]
        extent, dependency, buffer = stream.extent, stream.promise, stream.buffer
        if extent is None or dependency is None or len(buffer) + size > stream.room_bytes:
            extent, dependency = self._make_ready(stream, size)
            buffer = stream.buffer
        uuid = self._unique_id()
        locator = new_tuple(Locator, (extent, stream.start_bytes + len(buffer), size, uuid))
        buffer += chunk_frame.encode(uuid, kind, key, payload, self._seed)
        pins = self._pins
        pins[extent] = pins.get(extent, 0) + 1
        if len(buffer) >= self._buffer_size_bytes:
            self._flush(stream)
        return new_tuple(PutChunk, (locator, dependency))

    def payload_size_max_bytes(self, key: bytes) -> int:
        """The longest payload that fits an empty extent."""
        return self._extent_size_bytes - chunk_frame.OVERHEAD_SIZE_BYTES - len(key)

    def unpin(self, locator: Locator) -> None:
        """Take back the pin of `put`, because something refers to the chunk now, or nothing ever will."""
        extent, pins = locator.extent, self._pins
        count = pins.get(extent, 0)
        if count < 1:
            raise InvariantError("GC-1", f"extent {extent} was unpinned more often than pinned")
        if count == 1:
            del pins[extent]
        else:
            pins[extent] = count - 1

    def excess_pages_count(self) -> int:
        """How many pages the cache keeps beyond its capacity, for checks: none."""
        return self._cache.excess_count()

    def flush(self) -> bool:
        """Hand all buffered frames to the IO scheduler. False if there were none."""
        flushed = False
        for stream in self._streams.values():
            if stream.promise is not None:
                self._flush(stream)
                flushed = True
        return flushed

    def _flush(self, stream: _Stream) -> None:
        promise, extent = stream.promise, stream.extent
        if promise is None or extent is None:
            return
        if extent in self._live_bytes:
            self._live_bytes[extent] += len(stream.buffer)
        self._note_dead(extent, stream.dead_bytes)
        stream.buffer += bytes(-len(stream.buffer) % self._page_size_bytes)
        appended, written = self._cache.append(extent, bytes(stream.buffer), PERSISTENT)
        start_bytes = appended.page * self._page_size_bytes
        if start_bytes != stream.start_bytes:
            raise InvariantError("CHUNK-2", f"a flush went to {start_bytes}, its locators name {stream.start_bytes}")
        promise.appended = appended
        promise.bind(written)
        self._open(stream, extent)
        if promise.state is FAILED:
            stream.extent = None  # the device takes nothing more there

    def _make_ready(self, stream: _Stream, size: int) -> tuple[int, AppendPromise]:
        """Give the stream an extent with room for a frame of this size, and a buffer to pack it in."""
        self._pool.take(self._io_step)  # may wait and so let other threads in, so look at the stream only afterwards
        try:
            if stream.extent is None or len(stream.buffer) + size > stream.room_bytes:
                self._flush(stream)
            extent = stream.extent
            if extent is None or size > stream.room_bytes:
                extent = self._extents.allocate(stream.kind)
                self._live_bytes[extent] = 0
                self._open(stream, extent)
        except NoSpaceError:
            self._pool.give_back()
            raise
        if stream.promise is None:
            stream.promise = AppendPromise(self._waiter)
        else:  # another thread has begun a buffer meanwhile, and has taken one for it
            self._pool.give_back()
        return extent, stream.promise

    def _open(self, stream: _Stream, extent: int) -> None:
        stream.extent = extent
        stream.start_bytes = self._extents.next_page(extent) * self._page_size_bytes
        stream.room_bytes = self._extent_size_bytes - stream.start_bytes
        stream.buffer = bytearray()
        stream.dead_bytes = 0
        stream.promise = None

    def _room_bytes(self, extent: int) -> int:
        return self._extent_size_bytes - self._extents.next_page(extent) * self._page_size_bytes

    # --- reading ------------------------------------------------------------------------------------

    def get(self, locator: Locator) -> bytes:
        """The payload. Raises the errors of `get_frame`."""
        frame = self.get_frame(locator)
        return frame.payload

    def get_frame(self, locator: Locator, *, past_cache: bool = False) -> Frame:
        """The frame of a locator, perhaps read past the cache: what the device has, or is about to get.

        Raises `StaleLocatorError` if it is not there, `CorruptionError`, `DiskError`.
        """
        data, offset = self._read(locator, self._extents if past_cache else self._cache)
        if not chunk_frame.names(data, offset, locator.uuid):
            raise StaleLocatorError(f"no such chunk at extent {locator.extent}, offset {locator.offset_bytes}")
        frame = chunk_frame.decode(data, offset, self._seed)
        if frame is None or frame.length_bytes != locator.length_bytes:
            raise CorruptionError(locator.extent, locator.offset_bytes, "chunk is damaged")
        return frame

    def _read(self, locator: Locator, pages: BufferCache | Extents) -> tuple[bytes, int]:
        """Bytes that contain the frame, and the offset in them at which it starts."""
        extent, start, length, _ = locator
        size = self._page_size_bytes
        for stream in self._streams.values():
            if stream.extent == extent and start >= stream.start_bytes:
                in_buffer = start - stream.start_bytes
                return bytes(stream.buffer[in_buffer : in_buffer + length]), 0
        page = start // size
        return pages.read(extent, page, (start + length - 1) // size - page + 1), start % size

    # --- walking an extent --------------------------------------------------------------------------

    def scan(self, extent: int, breathe: Callable[[], None]) -> Scan:
        """Every whole frame below the soft pointer, in the order of their offsets.

        Calls ``breathe`` before each slab and after many frames, to let other threads in. None may reset the extent.
        """
        slab = _Slab(self._extents, extent, self._scan_slab_size_pages, self._seed, breathe)
        frames: list[ScannedFrame] = []
        is_readable = True
        covered_bytes = 0  # from the start of the extent, by frames and padding
        # Garbage may look like a frame, and a real frame may begin within it; but every flush begins on a page.
        starts = list(range(0, slab.end, self._page_size_bytes))  # SCAN-1: each page, also within frames; a heap
        start = -1
        while starts and starts[0] < slab.end:
            before, start = start, heappop(starts)
            if start == before:
                continue
            try:
                frame = slab.frame_at(start)
                if frame is not None:
                    locator = new_tuple(Locator, (extent, start, frame.length_bytes, frame.uuid))
                    frames.append(new_tuple(ScannedFrame, (locator, frame)))
                    heappush(starts, start + frame.length_bytes)
                    if not len(frames) % self.breathe_at_count:
                        breathe()
                if start == covered_bytes:
                    covered_bytes += slab.padding_bytes(start) if frame is None else frame.length_bytes
            except DiskError:
                is_readable = False
        return Scan(frames, is_readable and covered_bytes == slab.end)

    # --- space --------------------------------------------------------------------------------------

    def extents_needed(self, kind: Kind, sizes: list[int]) -> int:
        """How many more extents frames of these sizes may take, if each is padded to whole pages."""
        stream = self._streams[kind]
        size = self._page_size_bytes
        room = stream.room_bytes - len(stream.buffer)
        count = 0
        for frame_size in sizes:
            padded = -(-frame_size // size) * size
            if frame_size > room:
                count += 1
                room = self._extent_size_bytes
            room -= padded
        return count

    def gain_bytes(self, extent: int) -> int:
        """How many bytes an evacuation of the extent is thought to gain: what is neither live nor padding of copies."""
        used_bytes = self._extents.soft_pages(extent) * self._page_size_bytes
        if not self.is_open(extent):
            used_bytes = self._extent_size_bytes if used_bytes else 0  # nothing more goes there
        live_bytes = self._live_bytes.get(extent)
        if live_bytes is None:  # all that is not known to be dead
            unused_bytes = used_bytes - self._extents.soft_pages(extent) * self._page_size_bytes
            return unused_bytes + self._dead_bytes.get(extent, 0)
        flushes_count = -(-max(0, live_bytes) // self._buffer_size_bytes)
        return max(0, used_bytes - live_bytes - flushes_count * self._page_size_bytes)

    def is_known_dead(self, extent: int) -> bool:
        """Whether nothing in the extent is thought to be live, so that giving it back costs no copies."""
        return self._live_bytes.get(extent, 1) <= 0

    def note_live(self, extent: int, size_bytes: int) -> None:
        """Note how much in the extent is live, after a scan."""
        self._live_bytes[extent] = size_bytes

    def note_dead(self, locator: Locator) -> None:
        """Note that nothing refers to this chunk any more. This only steers the choice of victims."""
        for stream in self._streams.values():
            if stream.extent == locator.extent and locator.offset_bytes >= stream.start_bytes:
                # It counts once it is there: a scan may come first. Beyond the buffer it was of an earlier life.
                if locator.offset_bytes < stream.start_bytes + len(stream.buffer):
                    stream.dead_bytes += locator.length_bytes
                return
        self._note_dead(locator.extent, locator.length_bytes)

    def _note_dead(self, extent: int, size_bytes: int) -> None:
        if extent in self._live_bytes:
            self._live_bytes[extent] -= size_bytes
        elif size_bytes:
            self._dead_bytes[extent] = self._dead_bytes.get(extent, 0) + size_bytes

    def has_pins(self, extent: int) -> bool:
        """Whether the extent has a chunk in flight (GC-1)."""
        return extent in self._pins

    def pinned_count(self) -> int:
        """The number of extents with chunks that nobody refers to yet."""
        return len(self._pins)

    def buffered_count(self) -> int:
        """The number of write buffers that are being filled."""
        return sum([stream.promise is not None for stream in self._streams.values()])

    def is_open(self, extent: int) -> bool:
        """Whether new chunks may still go to the extent."""
        return any(stream.extent == extent for stream in self._streams.values())

    def close_extent(self, extent: int) -> None:
        """Flush the buffer of an open extent and put nothing more there, so that it can be reclaimed."""
        for stream in self._streams.values():
            if stream.extent == extent:
                self._flush(stream)
                stream.extent = None
                stream.room_bytes = 0

    def reset(self, extent: int, after: Dependency) -> Dependency:
        """Give the extent back once ``after`` is persistent. The dependency is that of the reset."""
        if self.is_open(extent) or self.has_pins(extent):
            raise InvariantError("GC-1", f"extent {extent} is open or has chunks in flight")
        self._dead_bytes.pop(extent, None)
        self._live_bytes.pop(extent, None)
        return self._cache.reset(extent, after)
