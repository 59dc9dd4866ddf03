"""Snapshots: the keys of an index as they were at one moment, read page by page while the index changes.

A snapshot copies the memtables and holds its runs, so that these stay readable until it is closed (LIST-1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardstore.index.run import Run, RunReader, newest
from shardstore.index.run_block import Item


class Snapshot:
    """An unchanging view of the keys. Until it is closed, the runs that it reads are not reclaimed."""

    def __init__(
        self, memtable: Sequence[Item], runs: Sequence[Run], reader: RunReader, let_go: Callable[[Run], None]
    ) -> None:
        self._memtable = memtable
        self._runs = runs
        self._reader = reader
        self._let_go = let_go
        for run in runs:
            run.holders_count += 1

    def keys_after(self, start: bytes, limit_count: int) -> list[bytes]:
        """Up to ``limit_count`` live keys from ``start`` on, in order. The caller holds the monitor."""
        keys: list[bytes] = []
        recent = ((key, entry) for key, entry in self._memtable if key >= start)
        for key, entry in newest([recent, *(self._reader.items(run, start) for run in self._runs)]):
            if entry is not None:
                keys.append(key)
                if len(keys) == limit_count:
                    break
        return keys

    def close(self) -> None:
        """Let go of the runs. A second call does nothing."""
        runs, self._runs = self._runs, ()
        for run in runs:
            self._let_go(run)
