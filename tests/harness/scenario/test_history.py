"""Texts of a history: short, stable, and without addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scenario.describe import describe, describe_difference
from harness.scenario.history import describe_loss
from harness.spec.device import Entry, Loss


@dataclass(frozen=True)
class Place:
    extent: int
    tags: frozenset[str]


class Plain:
    pass


class Pair(NamedTuple):
    left: object
    right: object


class Own(NamedTuple):
    number: int

    def __repr__(self) -> str:
        return f"own {self.number}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (b"short", "b'short'"),
        (b"x" * 130, "<130 bytes b'xxxxxxxx'...>"),
        (bytearray(b"short"), "b'short'"),
        ((b"a",), "(b'a',)"),
        ([1, b"a"], "[1, b'a']"),
        ({b"k": b"v" * 40}, "{b'k': <40 bytes b'vvvvvvvv'...>}"),
        ({"b", "a", "c"}, "{'a', 'b', 'c'}"),
        (KeyError("gone"), "KeyError('gone')"),
        (Place(3, frozenset("ab")), "Place(extent=3, tags={'a', 'b'})"),
        (Plain(), "<Plain>"),
        (list(range(30)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... 18 more]"),
        (Pair(memoryview(b"a"), [bytearray(b"b")]), "Pair(left=b'a', right=[b'b'])"),  # no addresses
        (Own(1), "own 1"),
    ],
)
def test_texts(value: object, text: str) -> None:
    assert describe(value) == text


@settings(deadline=None, derandomize=True, database=None)
@given(st.recursive(st.binary(max_size=200) | st.integers() | st.text(), st.lists, max_leaves=30))
def test_texts_are_short(value: object) -> None:
    assert len(describe(value)) <= 200


def test_of_two_mappings_only_the_difference_is_shown() -> None:
    answered = {b"a": 1, b"b": 2, b"d": 4}
    allowed = {b"a": 1, b"b": 3, b"c": 3}
    assert describe_difference(answered, allowed) == (
        "b'b': 2, b'c': (not there), b'd': 4",
        "b'b': 3, b'c': 3, b'd': (not there)",
    )
    assert describe_difference(1, {}) == ("1", "{}")


def test_losses() -> None:
    write = Entry(step=5, number=1, medium=0, extent=3, page=2, data=b"xxx", before=b"")
    reset = write._replace(data=None)
    assert describe_loss(Loss(write, range(2, 3), "page", 3)) == (
        "entry 1 of step 5 (write of 3 pages to medium 0, extent 3 from page 2): pages 2 of it"
    )
    assert describe_loss(Loss(write, range(3), "page", 3)).endswith(": all of it")
    assert describe_loss(Loss(reset, (), "", 1)) == "entry 1 of step 5 (reset of medium 0, extent 3)"
