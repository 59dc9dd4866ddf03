"""A long life on a real file: puts, gets and deletes with upkeep running, then reopening and verifying every key.

Prints rates, write amplification and peak memory. Run with ``--operations 4000000`` to see that memory does not
grow with the number of keys; ``--superblock`` counts a commit's superblock bytes on disks of very different
size instead.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from array import array
from pathlib import Path

from shardstore.errors import NotFoundError
from shardstore.file_disk import FileDisk
from shardstore.seam import ThreadSeam
from shardstore.store import Store, format_store, open_store
from shardstore.units import StoreConfiguration

PAGE_SIZE_BYTES = 4096
EXTENT_SIZE_PAGES = 512
VALUE_SIZE_BYTES = 1024
KEY_SIZE_BYTES = 16
OVERWRITES_A_KEY = 3
SYNC_EVERY = 5_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to put the file; else a temporary folder")
    parser.add_argument("--superblock", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.superblock:
            return count_superblock_bytes(Path(folder))
        return endure(Path(folder) / "disk", arguments.operations)


def endure(path: Path, operation_count: int) -> int:
    """One in eight operations is a get, one in 32 a delete, the rest are puts of random keys."""
    key_count = max(1, operation_count // (1 + OVERWRITES_A_KEY))
    live_bytes = key_count * (VALUE_SIZE_BYTES + KEY_SIZE_BYTES + 64)
    extent_count = 24 + 2 * live_bytes // (EXTENT_SIZE_PAGES * PAGE_SIZE_BYTES)  # half full at most
    disk = FileDisk.create(
        path, extent_count=extent_count, extent_size_pages=EXTENT_SIZE_PAGES, page_size_bytes=PAGE_SIZE_BYTES
    )
    configuration = StoreConfiguration()
    store = format_store(disk, ThreadSeam(), configuration)
    versions = array("I", bytes(4 * key_count))  # 0: absent; else the serial of the put
    started = time.perf_counter()
    put_bytes = drive(store, versions, operation_count)
    store.sync()
    seconds = time.perf_counter() - started
    written = store.scheduler.bytes_written
    print(f"operations           {operation_count:>14,}   on {extent_count:,} extents of 2 MiB, {key_count:,} keys")
    print(f"rate                 {operation_count / seconds:>14,.0f}   operations a second, {seconds:,.0f} s")
    print(f"put                  {put_bytes / 1e6:>14,.0f}   MB of keys and values")
    print(f"written              {written / 1e6:>14,.0f}   MB, write amplification {written / put_bytes:.2f}")
    print(f"barriers             {store.scheduler.barriers_count:>14,}")
    store.shutdown()
    disk.close()
    verified = verify(path, configuration, versions)
    print(f"verified             {verified:>14,}   keys after reopening")
    print(f"peak resident memory {peak_memory_bytes() / 1e6:>14,.0f}   MB")
    print(f"  of it to check by  {4 * key_count / 1e6:>14,.1f}   MB")
    return 0


def drive(store: Store, versions: array[int], operation_count: int) -> int:
    choose = random.Random(1).random
    key_count = len(versions)
    put_bytes = 0
    for serial in range(1, operation_count + 1):
        number = int(choose() * key_count)
        kind = choose()
        if kind < 0.84375:
            store.put(key_of(number), value_of(number, serial))
            versions[number] = serial
            put_bytes += KEY_SIZE_BYTES + VALUE_SIZE_BYTES
        elif kind < 0.96875:
            check(store, number, versions[number])
        else:
            store.delete(key_of(number))
            versions[number] = 0
        if serial % SYNC_EVERY == 0:
            store.sync()
    return put_bytes


def verify(path: Path, configuration: StoreConfiguration, versions: array[int]) -> int:
    with FileDisk.open(path) as disk:
        store = open_store(disk, ThreadSeam(), configuration)
        for number in range(len(versions)):
            check(store, number, versions[number])
        store.shutdown()
    return len(versions)


def check(store: Store, number: int, serial: int) -> None:
    try:
        value = store.get(key_of(number))
    except NotFoundError:
        value = None
    expected = value_of(number, serial) if serial else None
    if value != expected:
        sys.exit(f"key {number}: found {value!r:.60}, expected {expected!r:.60}")


def key_of(number: int) -> bytes:
    return number.to_bytes(KEY_SIZE_BYTES, "big")


def value_of(number: int, serial: int) -> bytes:
    return (serial * 2_654_435_761 + number).to_bytes(16, "little") * (VALUE_SIZE_BYTES // 16)


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count_superblock_bytes(folder: Path) -> int:
    """What one put, made persistent, writes on a small and on a very large disk."""
    for extent_count in (100, 50_000):
        path = folder / str(extent_count)
        disk = FileDisk.create(path, extent_count=extent_count, extent_size_pages=512, preallocate=False)
        store = format_store(disk, ThreadSeam(), StoreConfiguration())
        store.put(b"first", b"")
        store.sync()
        before = store.superblock.bytes_recorded, store.scheduler.bytes_written
        started = time.perf_counter()
        store.put(b"second", bytes(VALUE_SIZE_BYTES))
        store.sync()
        superblock, total = store.superblock.bytes_recorded - before[0], store.scheduler.bytes_written - before[1]
        milliseconds = 1e3 * (time.perf_counter() - started)
        print(f"{extent_count:>6,} extents: {superblock:,} bytes of superblock in {total:,}, {milliseconds:.1f} ms")
        disk.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
