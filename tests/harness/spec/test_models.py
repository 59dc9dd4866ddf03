"""Models are copied without sharing, compared by what they hold, and refused where that cannot be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import pytest

from harness.spec.models import NotCopiableError, copy_of, state_of


class Pair(NamedTuple):
    left: int
    right: list[int]


class Plain:
    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {b"a": b"1"}
        self.out: set[int] = {1}
        self.nested: list[dict[str, int]] = [{"x": 1}]
        self.pair = Pair(1, [2])
        self.steer = len
        self.inner = Inner()


@dataclass
class Inner:
    seen: list[int] = field(default_factory=list)


class Own:
    """Knows better than its attributes."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.cache = count()

    def copy(self) -> Own:
        return Own(self.value)

    def state(self) -> int:
        return self.value


def test_a_copy_shares_nothing_that_may_change() -> None:
    model = Plain()
    copied = copy_of(model)
    assert state_of(copied) == state_of(model)
    changes: list[Any] = [
        lambda: model.entries.update({b"b": b"2"}),
        lambda: model.out.add(2),
        lambda: model.nested[0].update(x=2),
        lambda: model.pair.right.append(3),
        lambda: model.inner.seen.append(1),
    ]
    before = state_of(copied)
    for change in changes:
        told = state_of(model)
        change()
        assert state_of(model) != told
        assert state_of(copied) == before


def test_the_order_of_entries_is_no_state() -> None:
    assert state_of({1: "a", 2: "b"}) == state_of({2: "b", 1: "a"})
    assert state_of([1, 2]) != state_of([2, 1])


def test_a_model_may_say_how_itself() -> None:
    model = Own(3)
    assert copy_of(model) is not model
    assert state_of(copy_of(model)) == state_of(model) == 3


@pytest.mark.parametrize("value", [count(), iter([1]), bytearray(b"x"), {"inner": count()}])
def test_what_may_hold_what_nobody_sees_is_refused(value: Any) -> None:
    with pytest.raises(NotCopiableError, match="copy"):
        copy_of(value) if not isinstance(value, bytearray) else state_of(value)
    with pytest.raises(NotCopiableError, match="state"):
        state_of(value)
