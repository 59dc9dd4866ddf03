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
from typing import NamedTuple

from shardstore import chunk_frame
from shardstore.buffer_cache import BufferCache
from shardstore.buffer_pool import BufferPool
from shardstore.chunk_frame import Frame
from shardstore.dependency import FAILED, PERSISTENT, Dependency, Promise, Waiter
from shardstore.errors import CorruptionError, DiskError, InvariantError, NoSpaceError, StaleLocatorError
from shardstore.extents import Extents
from shardstore.seam import Seam
from shardstore.units import Kind, Locator, StoreConfiguration


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

    __slots__ = ("buffer", "extent", "kind", "page", "promise", "room_bytes")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.extent: int | None = None
        self.page = 0  # where the buffer will go
        self.buffer = bytearray()
        self.promise: Promise | None = None  # of the buffer's flush; None while the buffer is empty
        self.room_bytes = 0  # in the extent, from the place of the buffer on


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
        self._streams = {kind: _Stream(kind) for kind in Kind}
        self._pins: dict[int, int] = {}  # extent -> chunks in it that nobody refers to yet
        self.dead_bytes: dict[int, int] = {}  # extent -> bytes thought to be garbage; steers the choice of victims

    # --- writing ------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Open for each kind of chunk an extent that has room, if there is one. Raises `CorruptionError`."""
        for extent in self._extents.in_use():
            owner = self._extents.owner(extent)
            if owner not in tuple(Kind):
                raise CorruptionError(extent, 0, f"no kind of chunk is {owner}")
            stream = self._streams[Kind(owner)]
            if stream.extent is None and self._room_bytes(extent) > 0:
                self._open(stream, extent)

    def put(self, kind: Kind, key: bytes, payload: bytes) -> PutChunk:
        """Store a chunk and pin its extent. The caller must `unpin` it once something refers to it.

        Raises `NoSpaceError` if an extent is needed and none is free. May wait for a write buffer.
        """
        size = chunk_frame.OVERHEAD_SIZE_BYTES + len(key) + len(payload)
        stream = self._streams[kind]
        extent, dependency = stream.extent, stream.promise
        if extent is None or dependency is None or len(stream.buffer) + size > stream.room_bytes:
            extent, dependency = self._make_ready(stream, size)
        buffer = stream.buffer
        uuid = self._unique_id()
        locator = Locator(extent, stream.page * self._page_size_bytes + len(buffer), size, uuid)
        buffer += chunk_frame.encode(uuid, kind, key, payload)
        self._pins[extent] = self._pins.get(extent, 0) + 1
        if len(buffer) >= self._buffer_size_bytes:
            self._flush(stream)
        return PutChunk(locator, dependency)

    def payload_size_max_bytes(self, key: bytes) -> int:
        """The longest payload that fits an empty extent."""
        return self._extent_size_bytes - chunk_frame.OVERHEAD_SIZE_BYTES - len(key)

    def unpin(self, locator: Locator) -> None:
        """Take back the pin of `put`, because something refers to the chunk now, or nothing ever will."""
        count = self._pins.get(locator.extent, 0)
        if count < 1:
            raise InvariantError("GC-1", f"extent {locator.extent} was unpinned more often than pinned")
        if count == 1:
            del self._pins[locator.extent]
        else:
            self._pins[locator.extent] = count - 1

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
        stream.buffer += bytes(-len(stream.buffer) % self._page_size_bytes)
        appended = self._cache.append(extent, bytes(stream.buffer), PERSISTENT)
        if appended.page != stream.page:
            raise InvariantError("CHUNK-2", f"a flush went to page {appended.page}, its locators name {stream.page}")
        promise.bind(appended.dependency)
        self._open(stream, extent)
        if promise.state is FAILED:
            stream.extent = None  # the device takes nothing more there

    def _make_ready(self, stream: _Stream, size: int) -> tuple[int, Promise]:
        """Give the stream an extent with room for a frame of this size, and a buffer to pack it in."""
        self._pool.take(self._io_step)  # may wait and so let other threads in, so look at the stream only afterwards
        try:
            if stream.extent is None or len(stream.buffer) + size > stream.room_bytes:
                self._flush(stream)
            extent = stream.extent
            if extent is None or size > stream.room_bytes:
                extent = self._extents.allocate(stream.kind)
                self._open(stream, extent)
        except NoSpaceError:
            self._pool.give_back()
            raise
        if stream.promise is None:
            stream.promise = Promise(self._waiter)
        else:  # another thread has begun a buffer meanwhile, and has taken one for it
            self._pool.give_back()
        return extent, stream.promise

    def _open(self, stream: _Stream, extent: int) -> None:
        stream.extent = extent
        stream.page = self._extents.next_page(extent)
        stream.room_bytes = self._room_bytes(extent)
        stream.buffer = bytearray()
        stream.promise = None

    def _room_bytes(self, extent: int) -> int:
        return self._extent_size_bytes - self._extents.next_page(extent) * self._page_size_bytes

    # --- reading ------------------------------------------------------------------------------------

    def get(self, locator: Locator) -> bytes:
        """The payload. Raises the errors of `get_frame`."""
        frame = self.get_frame(locator)
        return frame.payload

    def get_frame(self, locator: Locator) -> Frame:
        """The frame of a locator. Raises `StaleLocatorError` if it is not there, `CorruptionError`, `DiskError`."""
        data, offset = self._read(locator)
        if not chunk_frame.names(data, offset, locator.uuid):
            raise StaleLocatorError(f"no such chunk at extent {locator.extent}, offset {locator.offset_bytes}")
        frame = chunk_frame.decode(data, offset)
        if frame is None or frame.length_bytes != locator.length_bytes:
            raise CorruptionError(locator.extent, locator.offset_bytes, "chunk is damaged")
        return frame

    def _read(self, locator: Locator) -> tuple[bytes, int]:
        """Bytes that contain the frame, and the offset in them at which it starts."""
        extent, start, length, _ = locator
        size = self._page_size_bytes
        for stream in self._streams.values():
            if stream.extent == extent and start >= stream.page * size:
                in_buffer = start - stream.page * size
                return bytes(stream.buffer[in_buffer : in_buffer + length]), 0
        page = start // size
        return self._cache.read(extent, page, (start + length - 1) // size - page + 1), start % size

    # --- walking an extent --------------------------------------------------------------------------

    def scan(self, extent: int) -> Scan:
        """Every whole frame below the soft pointer, in the order of their offsets."""
        size = self._page_size_bytes
        page_count = self._extents.soft_pages(extent)
        found: dict[int, ScannedFrame] = {}
        is_complete = True
        # Garbage may look like a frame, and a real frame may begin within it; but every flush begins on a page.
        for page in range(page_count):  # SCAN-1: each page, also within frames already decoded
            try:
                self._scan_from(extent, page * size, page_count * size, found)
            except DiskError:
                is_complete = False
        frames = [found[offset] for offset in sorted(found)]
        try:
            is_complete = is_complete and self._is_covered(extent, page_count, frames)
        except DiskError:
            is_complete = False
        return Scan(frames, is_complete)

    def _scan_from(self, extent: int, offset: int, end: int, found: dict[int, ScannedFrame]) -> None:
        """Decode one frame after the other, from ``offset`` up to where no whole frame follows."""
        while offset not in found and offset + chunk_frame.OVERHEAD_SIZE_BYTES <= end:
            frame = self._decode_at(extent, offset, end)
            if frame is None:
                return
            found[offset] = ScannedFrame(Locator(extent, offset, frame.length_bytes, frame.uuid), frame)
            offset += frame.length_bytes

    def _decode_at(self, extent: int, offset: int, end: int) -> Frame | None:
        size = self._page_size_bytes
        page = offset // size
        head_end = min(offset + chunk_frame.HEADER_SIZE_BYTES, end)
        data = self._cache.read(extent, page, (head_end - 1) // size - page + 1)
        length = chunk_frame.peek_length(data, offset - page * size)
        if length is None or offset + length > end:
            return None
        last_page = (offset + length - 1) // size
        read_count = len(data) // size
        if last_page - page + 1 > read_count:
            data += self._cache.read(extent, page + read_count, last_page - page + 1 - read_count)
        return chunk_frame.decode(data, offset - page * size)

    def _is_covered(self, extent: int, page_count: int, frames: list[ScannedFrame]) -> bool:
        """Whether every byte is in a frame, or in the zeros between a flush's last frame and the end of its page."""
        size = self._page_size_bytes
        ends = {scanned.locator.offset_bytes: scanned.frame.length_bytes for scanned in frames}
        offset = 0
        while offset < page_count * size:
            length = ends.get(offset)
            if length is not None:
                offset += length
                continue
            page = offset // size
            if any(self._cache.read(extent, page, 1)[offset - page * size :]):
                return False
            offset = (page + 1) * size
        return True

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

    def note_dead(self, locator: Locator) -> None:
        """Note that nothing refers to this chunk any more. This only steers the choice of victims."""
        extent = locator.extent
        self.dead_bytes[extent] = self.dead_bytes.get(extent, 0) + locator.length_bytes

    def has_pins(self, extent: int) -> bool:
        """Whether the extent has a chunk in flight (GC-1)."""
        return extent in self._pins

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
        self.dead_bytes.pop(extent, None)
        return self._cache.reset(extent, after)
