"""The memtable: the entries that no run has yet, sorted by key only when they are listed.

All its entries share one promise: it is persistent once a metadata record names the run that they are flushed into. So
an entry that is superseded here becomes persistent together with its successor, never before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from shardstore.dependency import PERSISTENT, PERSISTENT_STATE, Dependency, Promise
from shardstore.index.run_block import LOCATOR_SIZE_BYTES, Entry, Item, entry_size_bytes


class Memtable:
    """See the module. Whoever reads many keys asks ``entries``; `set` alone changes them."""

    __slots__ = (
        "_prune_at_count",
        "_prune_from_count",
        "_value_dependencies",
        "entries",
        "entry_size_max_bytes",
        "promise",
        "surplus_size_bytes",
    )

    def __init__(self, promise: Promise, prune_at_count: int) -> None:
        """The first ``prune_at_count`` dependencies of values are kept without a look at whether they are settled."""
        self.promise = promise
        self.entries: dict[bytes, Entry] = {}
        self.entry_size_max_bytes = 0  # of those that are no deletions
        self.surplus_size_bytes = 0  # of all locators but the first of each entry
        self._value_dependencies: list[Dependency] = []
        self._prune_at_count = self._prune_from_count = prune_at_count

    def set(self, key: bytes, entry: Entry, value_dependency: Dependency) -> None:
        """Enter a key. ``value_dependency`` is that of the chunks that the entry names."""
        self.wait_for(value_dependency)
        self.entries[key] = entry

    def wait_for(self, value_dependency: Dependency) -> None:
        """Be flushed into a record only once this is persistent."""
        dependencies = self._value_dependencies
        # Values that share a write buffer share its dependency, so comparing with the last one keeps the list short.
        is_last = bool(dependencies) and dependencies[-1] is value_dependency
        if not is_last and value_dependency.state is not PERSISTENT_STATE:
            dependencies.append(value_dependency)
            if len(dependencies) >= self._prune_at_count:
                dependencies[:] = [each for each in dependencies if each.poll() is not PERSISTENT_STATE]
                self._prune_at_count = max(self._prune_from_count, 2 * len(dependencies))

    def items(self, start: bytes = b"") -> Iterator[Item]:
        """Entries in order of their keys, from ``start`` on."""
        items = self.entries.items()
        # Keys differ, so that entries are never compared.
        return iter(sorted([item for item in items if item[0] >= start] if start else items))

    def put_under(self, newer: Memtable) -> None:
        """Enter into ``newer`` all entries of which it has none of the same key, and be persistent when it is."""
        for key, entry in self.entries.items():
            if key not in newer.entries:
                newer.set(key, entry, PERSISTENT)
                newer.surplus_size_bytes += surplus_size_bytes(entry)
        newer._value_dependencies[:0] = self._value_dependencies
        newer.entry_size_max_bytes = max(newer.entry_size_max_bytes, self.entry_size_max_bytes)
        self.promise.bind(newer.promise)

    def is_undercounted(self) -> bool:
        """Whether some entry is longer, or has more surplus, than is known: then too little room is kept (COUNT-1)."""
        surplus = sum([surplus_size_bytes(entry) for entry in self.entries.values()])
        longest = max([entry_size_bytes(*item) for item in self.entries.items() if item[1] is not None], default=0)
        return surplus > self.surplus_size_bytes or longest > self.entry_size_max_bytes

    def value_dependencies(self) -> list[Dependency]:
        """The dependencies, each once, that must be persistent before a record may name these entries (IDX-1)."""
        return list(dict.fromkeys(self._value_dependencies))


def surplus_size_bytes(entry: Entry) -> int:
    """The size of all locators of an entry but the first."""
    return LOCATOR_SIZE_BYTES * (len(entry) - 1) if entry else 0
