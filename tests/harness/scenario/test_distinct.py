"""Counting different things without keeping them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scenario.distinct import DistinctCount


def counted(numbers: range) -> DistinctCount:
    count = DistinctCount()
    for number in numbers:
        count.add(number.to_bytes(8, "little"))
    return count


@pytest.mark.parametrize("size", [0, 1, 10, 100, 1_000, 10_000, 100_000])
def test_the_estimate_is_within_its_error(size: int) -> None:
    assert counted(range(size)).estimate() == pytest.approx(size, rel=0.05, abs=1)


def test_the_same_thing_counts_once() -> None:
    count = DistinctCount()
    for _ in range(1_000):
        count.add(b"ab", b"")
    assert count.estimate() == 1
    count.add(b"a", b"b")
    assert count.estimate() == 2


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_merging_is_counting_both(first: int, second: int, size: int) -> None:
    merged = counted(range(first, first + size))
    merged.merge(counted(range(second, second + size)))
    together = counted(range(first, first + size))
    for number in range(second, second + size):
        together.add(number.to_bytes(8, "little"))
    assert merged == together
