"""The reference model of the chunk store: payloads under locators that are never used twice.

Reclamation moves the chunks of an extent that are referred to, and drops the others. The model takes over from the real
store where the moved chunks went, and refuses moves and drops that it may not have made. A crash within reclamation
leaves each chunk in its old place or in its new one: `settle` says which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shardstore.errors import InvariantError, StaleLocatorError
from shardstore.units import UUID_SIZE_BYTES, Kind, Locator


class ChunkStoreModel:
    """Also serves as a fake, which gives its own locators (`put`)."""

    def __init__(self) -> None:
        self._payloads: dict[Locator, bytes] = {}
        self._used: set[Locator] = set()  # kept for good, also of chunks that a crash took
        self._serial = 0

    def put(self, kind: Kind, key: bytes, payload: bytes, *, overhead_bytes: int) -> Locator:
        """Keep a payload, as if its frame had so many bytes more."""
        self._serial += 1
        uuid = self._serial.to_bytes(UUID_SIZE_BYTES, "big")
        locator = Locator(0, self._serial, len(payload) + overhead_bytes, uuid)
        self.adopt(locator, payload)
        return locator

    def adopt(self, locator: Locator, payload: bytes) -> None:
        """Note that the real store has put this payload under this locator. Raises `InvariantError` if it was used."""
        if locator in self._used:
            raise InvariantError("CHUNK-1", f"locator used twice: {locator}")
        self._used.add(locator)
        self._payloads[locator] = payload

    def get(self, locator: Locator) -> bytes:
        try:
            return self._payloads[locator]
        except KeyError:
            raise StaleLocatorError(str(locator)) from None

    def reclaim(self, extent: int, moved: Mapping[Locator, Locator], referred: Collection[Locator]) -> None:
        """Note that the real store has emptied this extent; ``referred`` are the locators that were referred to before.

        Raises `InvariantError` if it dropped a chunk that was referred to.
        """
        for locator in [locator for locator in self._payloads if locator.extent == extent]:
            payload = self._payloads.pop(locator)
            if locator in moved:
                self.adopt(moved[locator], payload)
            elif locator in referred:
                raise InvariantError("GC-2", f"dropped a chunk that is referred to: {locator}")

    def settle(self, locator: Locator, payload: bytes) -> None:
        """Note that a crash has left this chunk in this place."""
        self._payloads[locator] = payload
