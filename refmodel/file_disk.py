"""The reference model of a disk in a file: bytes, and for each what it may be once the disk is opened again."""

from __future__ import annotations

from shardstore.errors import InvariantError

REFUSED = "refused"


class FileDiskModel:
    """Bytes are numbered from the start of extent 0. A new disk holds zeros."""

    def __init__(self, size_bytes: int) -> None:
        self._held = bytearray(size_bytes)
        self._since_barrier: dict[int, set[int]] = {}  # what else a byte may be if a barrier fails
        self._has_failed = False

    def read(self, start: int, size: int) -> bytes:
        return bytes(self._held[start : start + size])

    def write(self, start: int, data: bytes, done_bytes: int) -> str | None:
        """Write so many bytes of the data; refused unless that is all."""
        if self._has_failed:
            return REFUSED
        for at, byte in enumerate(data[:done_bytes], start):
            self._since_barrier.setdefault(at, set()).add(self._held[at])
            self._held[at] = byte
        return None if done_bytes >= len(data) else REFUSED

    def barrier(self, fails: bool) -> str | None:
        if fails or self._has_failed:
            self._has_failed = True  # DISK-2
            return REFUSED
        self._since_barrier.clear()
        return None

    def reopen(self, held: bytes) -> None:
        """Take over what the disk holds now that it was closed and opened, if it may."""
        for at, byte in enumerate(held):
            may_be = {self._held[at], *(self._since_barrier.get(at, ()) if self._has_failed else ())}
            if byte not in may_be:
                raise InvariantError("DISK-3", f"byte {at} is {byte}, not one of {sorted(may_be)}")
        self._held[:] = held
        self.reopened()

    def reopened(self) -> None:
        """A new process has opened the disk, and a barrier has passed."""
        self._since_barrier.clear()
        self._has_failed = False

    def byte(self, at: int) -> int:
        return self._held[at]

    def settle(self, at: int, byte: int) -> None:
        """Make a byte read as a crash has left it."""
        self._held[at] = byte
