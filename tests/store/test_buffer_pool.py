"""The bounded pool of buffers."""

from __future__ import annotations

import pytest

from harness.world.sequential_seam import Deadlock, Monitor
from shardstore.buffer_pool import BufferPool
from shardstore.errors import InvariantError


def new_pool(buffer_count: int) -> BufferPool:
    monitor = Monitor("pool")
    monitor.acquire()
    return BufferPool(buffer_count, monitor)


def never() -> bool:
    raise AssertionError("nothing had to be waited for")


def test_pool_1_the_last_buffer_is_for_the_superblock() -> None:
    pool = new_pool(3)
    pool.take(never)
    pool.take(never)
    assert not pool.can_take()
    with pytest.raises(Deadlock):
        pool.take(lambda: False)
    pool.take_reserved()
    with pytest.raises(InvariantError, match="POOL-1"):
        pool.take_reserved()


def test_a_writer_waits_until_a_buffer_comes_back() -> None:
    pool = new_pool(2)
    pool.take(never)
    pool.take_reserved()
    steps = []

    def progress() -> bool:
        steps.append(pool.free_count)
        pool.give_back()
        return True

    pool.take(progress)
    assert steps == [0, 1]
    assert pool.free_count == 1


def test_pool_2_a_buffer_comes_back_once() -> None:
    pool = new_pool(2)
    with pytest.raises(InvariantError, match="POOL-2"):
        pool.give_back()
    pool.take(never)
    pool.give_back()
    with pytest.raises(InvariantError, match="POOL-2"):
        pool.give_back()
