"""The door: arguments of public methods are checked, or copied to plain ``bytes``, before anything is touched (ARG-1).

A wrong type raises `TypeError`, a number out of range `ValueError`. Sizes depend on the configuration, so `Store`
checks them. What passes here cannot change while the store works on it, and is ``bytes`` to every layer.

Not checked: whose a dependency is. A store can wait only for those that it gave.
"""

from __future__ import annotations

from collections.abc import Sequence

from shardstore.units import Change, Delete, Put


def as_bytes(value: object, what: str) -> bytes:
    """The bytes of a bytes-like value, as an object that nobody else has if it could be changed."""
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(memoryview(value))  # not `bytes(value)`: a class of the caller's would have a say in it
    raise TypeError(f"{what} must be bytes, not {type(value).__name__}")


def as_changes(batch: Sequence[Change]) -> Sequence[Change]:
    """The changes of a batch, each with plain bytes, as a sequence that nobody else can change."""
    batch = tuple(batch)
    for change in batch:
        # Nearly always all are plain, and this is the hot path: then nothing is built.
        if type(change) is not Put and type(change) is not Delete:
            break
        if type(change[0]) is not bytes or type(change[-1]) is not bytes:
            break
    else:
        return batch
    return [_as_change(change) for change in batch]


def _as_change(change: object) -> Change:
    if isinstance(change, Put):
        return Put(as_bytes(change.key, "a key"), as_bytes(change.value, "a value"))
    if isinstance(change, Delete):
        return Delete(as_bytes(change.key, "a key"))
    raise TypeError(f"a change must be a Put or a Delete, not {type(change).__name__}")


def as_pair(item: object) -> tuple[bytes, bytes]:
    """A key and a value."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(f"an item must be a key and a value, not {type(item).__name__}")
    return as_bytes(item[0], "a key"), as_bytes(item[1], "a value")


def as_count(value: object, what: str, *, least: int = 0, below: int | None = None) -> int:
    """An integer from ``least`` on, and less than ``below``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}")
    if value < least or (below is not None and value >= below):
        raise ValueError(f"{what} must be {least} or more{'' if below is None else f', below {below}'}, not {value}")
    return value
