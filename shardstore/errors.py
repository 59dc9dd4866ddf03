"""Typed errors of the store.

There are two families, which never mix. A `StoreError` can happen to a correct store: a full disk, a failing device,
damaged bytes. An `InvariantError` means that the store itself is wrong. It names the broken rule of
``docs/INVARIANTS.md``, and is never caught inside the store.
"""

from __future__ import annotations


class StoreError(Exception):
    """An error that a caller of a correct store may have to handle."""


class NotFoundError(StoreError):
    """No shard has this id."""


class OutOfServiceError(StoreError):
    """The disk is out of service: it was taken out, or its store was shut down."""


class InterruptedStoreError(StoreError):
    """An exception from outside, such as `KeyboardInterrupt`, has cut a change short, and no more are taken.

    Reads go on. The store must be shut down and opened again; all that was persistent is there then.
    """


class NoSpaceError(StoreError):
    """There is no room for the request, and the disk has done nothing of it. Only puts need room (SPACE-1)."""


class TooLargeError(StoreError):
    """A key, value or bulk request is larger than this configuration can ever take, or a key is empty."""


class DiskError(StoreError):
    """The device refused a read, or refused a write that something depends on."""


class StaleLocatorError(StoreError):
    """The locator's chunk is not there: it was moved or dropped."""


class CorruptionError(StoreError):
    """Bytes on the disk are not what the store wrote."""

    def __init__(self, extent: int, offset_bytes: int, detail: str) -> None:
        super().__init__(f"extent {extent}, offset {offset_bytes}: {detail}")
        self.extent = extent
        self.offset_bytes = offset_bytes
        self.detail = detail


class FormatVersionError(StoreError):
    """The disk was written in a format that this code does not open."""

    def __init__(self, version: int) -> None:
        super().__init__(f"disk format version {version} is not supported")
        self.version = version


class InUseError(StoreError):
    """A store is open on this disk already."""


class WrongDisksError(StoreError):
    """These are not the disks of one node, all of them, in their order."""


class ConfigurationError(StoreError):
    """The configuration contradicts itself or the disk's geometry."""


class InvariantError(Exception):
    """The store broke one of its own rules; ``rule`` is an id of ``docs/INVARIANTS.md``."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
