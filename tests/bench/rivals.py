"""The stores that the comparison measures, each behind the same few methods.

Each is as its maker ships it, but for durability: a put is on the device when it returns. What a group of puts gives
beyond that, or does not give, is said in its `notes`. A store whose package is not installed can still be named here:
nothing of it is imported before it is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from shardstore.file_disk import FileDisk
from shardstore.seam import ThreadSeam
from shardstore.store import format_store, open_store
from shardstore.units import StoreConfiguration

Item = tuple[bytes, bytes]

EXTENT_SIZE_PAGES = 512  # of 4 KiB
LIST_PAGE_SIZE_KEYS = 1000
SMALL_VALUE_BYTES = 512  # up to here a value is kept within a row or a node of a tree; where a store leaves the choice
SQLITE_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Workload:
    """What a store may know beforehand: how large its values are, and how many bytes it will be given at most."""

    value_size_bytes: int
    room_bytes: int


class Rival(Protocol):
    """An open store."""

    def put(self, items: Sequence[Item]) -> None:
        """Store a group. When this returns, all of it is on the device."""

    def get(self, key: bytes) -> bytes: ...

    def keys(self) -> list[bytes]:
        """All of them, in the store's own order."""

    def session(self) -> Rival:
        """The store as another thread may use it. Called by that thread, and closed by it."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """How to make or reopen one kind of store in a folder, and what to know of it."""

    title: str
    open: Callable[[Path, Workload], Rival]
    package: str = ""  # what has to be installed, if anything
    module: str = ""
    threads: bool = False  # whether threads may put at once
    notes: str = ""

    def is_installed(self) -> bool:
        return not self.module or find_spec(self.module) is not None

    def version(self) -> str:
        """Of the package, which need not be that of the store within; empty if there is none."""
        if not self.package:
            return sqlite3.sqlite_version if self.open is SqliteRival else ""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return ""


class ShardStoreRival:
    """This store, on a disk in a file with twice the room that it needs."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        path = folder / "disk"
        if path.exists():
            self._disk = FileDisk.open(path)
            self.store = open_store(self._disk, ThreadSeam(), StoreConfiguration())
            return
        extent_size_bytes = EXTENT_SIZE_PAGES * 4096
        extent_count = 32 + 2 * workload.room_bytes // extent_size_bytes
        self._disk = FileDisk.create(path, extent_count=extent_count, extent_size_pages=EXTENT_SIZE_PAGES)
        self.store = format_store(self._disk, ThreadSeam(), StoreConfiguration())

    def put(self, items: Sequence[Item]) -> None:
        if len(items) == 1:
            self.store.put(*items[0]).wait()
        else:
            self.store.bulk_put(items).wait()

    def get(self, key: bytes) -> bytes:
        return self.store.get(key)

    def keys(self) -> list[bytes]:
        snapshot = self.store.snapshot()
        try:
            found: list[bytes] = []
            while page := snapshot.keys_after(found[-1] + b"\0" if found else b"", LIST_PAGE_SIZE_KEYS):
                found += page
            return found
        finally:
            snapshot.close()

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self.store.shutdown()
        self._disk.close()

    def bytes_in_use(self) -> int:
        """The extents that are not free. The file is preallocated, so that its size says nothing."""
        with self.store.monitor:
            free_count = self.store.extents.free_count()
        return (self._disk.extent_count - free_count) * EXTENT_SIZE_PAGES * 4096


class SqliteRival:
    """A table of keys and values; without row ids where values are small, as its manual advises."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._folder = folder
        self._workload = workload
        self._connection = sqlite3.connect(folder / "sqlite", isolation_level=None, timeout=SQLITE_WAIT_SECONDS)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        ending = "WITHOUT ROWID" if workload.value_size_bytes <= SMALL_VALUE_BYTES else ""
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY, value BLOB) {ending}")

    def put(self, items: Sequence[Item]) -> None:
        statement = "INSERT OR REPLACE INTO pairs VALUES (?, ?)"
        if len(items) == 1:
            self._connection.execute(statement, items[0])
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(statement, items)
        self._connection.execute("COMMIT")

    def get(self, key: bytes) -> bytes:
        value: bytes
        (value,) = self._connection.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return value

    def keys(self) -> list[bytes]:
        return [key for (key,) in self._connection.execute("SELECT key FROM pairs ORDER BY key")]

    def session(self) -> Rival:
        return SqliteRival(self._folder, self._workload)

    def close(self) -> None:
        self._connection.close()


class LmdbRival:
    """One write transaction a group."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        room_bytes = (64 << 20) + 4 * workload.room_bytes
        self._environment: Any = import_module("lmdb").open(str(folder / "lmdb"), map_size=room_bytes)

    def put(self, items: Sequence[Item]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in items:
                transaction.put(key, value)

    def get(self, key: bytes) -> bytes:
        with self._environment.begin() as transaction:
            value: bytes = transaction.get(key)
        return value

    def keys(self) -> list[bytes]:
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return list(cursor.iternext(keys=True, values=False))

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self._environment.close()


class LevelDbRival:
    """One synchronous batch a group."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._database: Any = import_module("plyvel").DB(str(folder / "leveldb"), create_if_missing=True)

    def put(self, items: Sequence[Item]) -> None:
        with self._database.write_batch(sync=True) as batch:
            for key, value in items:
                batch.put(key, value)

    def get(self, key: bytes) -> bytes:
        value: bytes = self._database.get(key)
        return value

    def keys(self) -> list[bytes]:
        return list(self._database.iterator(include_value=False))

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self._database.close()


class RocksDbRival:
    """One synchronous batch a group."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._module: Any = import_module("rocksdict")
        self._database: Any = self._module.Rdict(str(folder / "rocksdb"), self._module.Options(raw_mode=True))
        self._synchronous: Any = self._module.WriteOptions()
        self._synchronous.sync = True

    def put(self, items: Sequence[Item]) -> None:
        batch = self._module.WriteBatch(raw_mode=True)
        for key, value in items:
            batch.put(key, value)
        self._database.write(batch, self._synchronous)

    def get(self, key: bytes) -> bytes:
        value: bytes = self._database[key]
        return value

    def keys(self) -> list[bytes]:
        return list(self._database.keys())

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self._database.close()


class SemidbmRival:
    """Written in Python; a group is its puts, one by one, and a sync."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._database: Any = import_module("semidbm").open(str(folder / "semidbm"), "c")

    def put(self, items: Sequence[Item]) -> None:
        for key, value in items:
            self._database[key] = value
        self._database.sync()

    def get(self, key: bytes) -> bytes:
        value: bytes = self._database[key]
        return value

    def keys(self) -> list[bytes]:
        return list(self._database.keys())

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self._database.close()


class ZodbRival:
    """A B-tree in a FileStorage. Values that are not small are objects of their own, beside the tree."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._is_small = workload.value_size_bytes <= SMALL_VALUE_BYTES
        self._holder: Callable[[list[bytes]], Any] = import_module("persistent.list").PersistentList
        self._manager: Any = import_module("transaction").TransactionManager()
        storage = import_module("ZODB.FileStorage").FileStorage(str(folder / "zodb"))
        self._database: Any = import_module("ZODB").DB(storage)
        self._connection: Any = self._database.open(self._manager)
        root = self._connection.root()
        if "pairs" not in root:
            root["pairs"] = import_module("BTrees.OOBTree").OOBTree()
            self._manager.commit()
        self._pairs: Any = root["pairs"]

    def put(self, items: Sequence[Item]) -> None:
        for key, value in items:
            self._pairs[key] = value if self._is_small else self._holder([value])
        self._manager.commit()

    def get(self, key: bytes) -> bytes:
        found = self._pairs[key]
        value: bytes = found if self._is_small else found[0]
        return value

    def keys(self) -> list[bytes]:
        return list(self._pairs.keys())

    def session(self) -> Rival:
        return _Shared(self)

    def close(self) -> None:
        self._connection.close()
        self._database.close()


class _Shared:
    """A store that its threads share as it is: closing one thread's view leaves it open."""

    def __init__(self, rival: Rival) -> None:
        self._rival = rival
        self.put = rival.put
        self.get = rival.get
        self.keys = rival.keys

    def session(self) -> Rival:
        return self._rival.session()

    def close(self) -> None:
        pass


OURS = "shardstore"
YARDSTICK = "sqlite3"

RIVALS: dict[str, Entry] = {
    OURS: Entry(
        "this store",
        ShardStoreRival,
        threads=True,
        notes="A disk in a file, preallocated; bulk puts, all or none. Checks every value's checksum as it reads.",
    ),
    YARDSTICK: Entry(
        "sqlite3",
        SqliteRival,
        threads=True,
        notes="WAL, synchronous=FULL; a transaction a group, a connection a thread.",
    ),
    "lmdb": Entry(
        "LMDB",
        LmdbRival,
        package="lmdb",
        module="lmdb",
        threads=True,
        notes="A transaction a group. Memory counts what it has mapped of its file.",
    ),
    "leveldb": Entry(
        "LevelDB", LevelDbRival, package="plyvel", module="plyvel", threads=True, notes="Batches with sync=True."
    ),
    "rocksdb": Entry(
        "RocksDB", RocksDbRival, package="rocksdict", module="rocksdict", threads=True, notes="Batches with sync=True."
    ),
    "semidbm": Entry(
        "semidbm",
        SemidbmRival,
        package="semidbm",
        module="semidbm",
        notes=(
            "Its sync() is an fsync. A crash may leave part of a group. All keys are in memory, listed unordered;"
            " checksums are not checked as it reads."
        ),
    ),
    "zodb": Entry("ZODB", ZodbRival, package="ZODB", module="ZODB", notes="FileStorage; a transaction a group."),
}


@contextmanager
def opened(name: str, folder: Path, workload: Workload) -> Iterator[Rival]:
    """The store in a folder, made there if the folder is empty; closed at the end."""
    rival = RIVALS[name].open(folder, workload)
    try:
        yield rival
    finally:
        rival.close()
