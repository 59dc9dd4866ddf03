"""Generators: zero is simplest, values are immutable, and each bias rule does what it is kept for."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec.generators import (
    KEY_ALPHABET,
    PAYLOAD_VARIETY,
    SIZE_RULES,
    Generator,
    integers,
    keys,
    keys_from,
    lists_of,
    payload_sizes,
    payloads,
    sampled,
)


def zero(name: str, count: int) -> int:
    return 0


@pytest.mark.parametrize(
    ("generator", "simplest"),
    [
        (keys, b"a"),
        (payloads(64), b"a"),
        (integers(-3, 5), -3),
        (sampled(["x", "y"]), "x"),
        (lists_of(keys, 3), ()),
        (lists_of(keys, 3, size_min=2), (b"a", b"a")),
    ],
)
def test_zero_is_the_simplest(generator: Generator, simplest: object) -> None:
    assert generator(zero, "argument") == simplest


def drawn(generator: Generator, count: int = 2_000) -> Counter[Any]:
    random = Random(0).random
    return Counter(generator(lambda name, below: int(random() * below), "argument") for _ in range(count))


def test_few_keys_and_the_same_ones_again() -> None:
    seen = drawn(keys)
    assert set(seen) == set(KEY_ALPHABET)
    assert seen[b"a"] > 4 * seen[b"d"] > 0


def test_each_distinct_key_has_a_small_number() -> None:
    def numbered(number: int) -> bytes:
        key: bytes = keys(lambda name, count: number, "key")
        return key

    assert [numbered(number) for number in range(len(KEY_ALPHABET))] == list(KEY_ALPHABET)


@settings(deadline=None, derandomize=True, database=None)
@given(page_size=st.integers(16, 512), overhead=st.integers(0, 40), pages_max=st.integers(1, 4))
def test_every_size_rule_gives_sizes_within_bounds(page_size: int, overhead: int, pages_max: int) -> None:
    sizes = payload_sizes(page_size, pages_max=pages_max, overhead_bytes=overhead)
    distinct = len(set(sizes))
    assert len(set(sizes[:distinct])) == distinct  # what comes up more often is repeated behind
    assert all(0 <= size <= pages_max * page_size for size in sizes)
    assert {page_size - 1, page_size} <= set(sizes)
    spilled = page_size - overhead + 2  # the frame's last two bytes fall onto the next page
    assert spilled in sizes or not 0 <= spilled <= pages_max * page_size


def test_sizes_at_which_a_frame_spills_a_magic_come_up_most() -> None:
    counts = Counter(payload_sizes(128, pages_max=3, overhead_bytes=48))
    assert {size for size, count in counts.items() if count == max(counts.values())} == {82, 210, 338}


def test_every_rule_says_what_asked_for_it() -> None:
    assert all(rule.asked_by for rule in SIZE_RULES)
    assert len({rule.name for rule in SIZE_RULES}) == len(SIZE_RULES)


def test_payloads_differ_in_every_byte_and_show_shifts() -> None:
    generator, sizes = payloads(64), payload_sizes(64)
    largest = len(sizes) - 1

    def row(content: int) -> bytes:
        draws = iter([largest, content])
        payload: bytes = generator(lambda name, count: next(draws), "payload")
        return payload

    rows = [row(content) for content in range(PAYLOAD_VARIETY)]
    for one in rows:
        assert all(a != b for other in rows if other is not one for a, b in zip(one, other, strict=True))
        assert one[1:] != one[:-1]


def test_fragments_make_whole_payloads() -> None:
    seen = drawn(payloads(64, fragments=(b"\xa5\x5a",)))
    assert any(payload.startswith(b"\xa5\x5a\xa5\x5a") for payload in seen)


def test_lists_are_bounded_and_immutable() -> None:
    seen = drawn(lists_of(integers(0, 1), 3, size_min=1))
    assert {len(each) for each in seen} == {1, 2, 3}
    assert all(type(each) is tuple for each in seen)


def test_repeats_are_in_proportion() -> None:
    seen = drawn(keys_from([b"x", b"y"], [3]))
    assert 3 < seen[b"x"] / seen[b"y"] < 5


@pytest.mark.parametrize("broken", [lambda: sampled([]), lambda: integers(3, 2)])
def test_nothing_to_choose_from_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"nothing|no integer"):
        broken()
