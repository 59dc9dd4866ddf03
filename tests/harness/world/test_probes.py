"""Probes: they see what is reached, change nothing of what a function does, and are seen by nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import pytest

from harness.spec.events import Event
from harness.world.probes import Probe, ProbeError, Probes, probe_of


def halved(number: int) -> int:
    """Documentation never runs."""
    if number % 2:
        number -= 1
    for _ in range(number // 2):
        number -= 1
    return number


def doubled(function: Callable[[int], int]) -> Callable[[int], int]:
    @wraps(function)
    def call(number: int) -> int:
        result = function(number)
        return 2 * result

    return call


class Counter:
    step = 3

    @staticmethod
    @doubled
    def nothing_like_it(number: int) -> int:
        return number + 1

    @property
    def value(self) -> int:
        return self.step

    @staticmethod
    @contextmanager
    def open(number: int) -> Iterator[int]:
        try:
            yield number
        finally:
            number += 1


def evens(limit: int) -> Iterator[int]:
    at = 0
    while at < limit:
        yield at
        at += 2


def adder(more: int) -> Callable[[int], int]:
    def add(number: int) -> int:
        return number + more

    return add


def reached(event: Event, call: Callable[[], Any]) -> bool:
    with Probes([probe_of(event)]) as probes:
        call()
    return probes.reached == {0}


@pytest.mark.parametrize(
    ("event", "call", "is_reached"),
    [
        (Event("", halved), lambda: halved(4), True),
        (Event("", halved, "number -= 1\n"), lambda: halved(4), None),
        (Event("", halved, "if number % 2"), lambda: halved(4), True),
        (Event("", halved, "for _"), lambda: halved(1), True),
        (Event("", halved, "return"), lambda: halved(4), True),
        (Event("", halved, "return", "number == 2"), lambda: halved(4), True),
        (Event("", halved, "return", "number == 3"), lambda: halved(4), False),
        (Event("", Counter.nothing_like_it), lambda: Counter.nothing_like_it(1), True),
        (Event("", Counter.open, "number += 1"), lambda: Counter.open(1), False),
        (Event("", Counter.open, "yield", "number > 0"), lambda: Counter.open(1).__enter__(), True),
        (Event("", evens, "at += 2", "at"), lambda: list(evens(2)), False),
        (Event("", evens, "at += 2", "at"), lambda: list(evens(3)), True),
        (Event("", adder, "return number", "more > 1"), lambda: adder(1)(1), False),
        (Event("", adder, "return number", "more > 1"), lambda: adder(2)(1), True),
    ],
)
def test_a_probe_sees_its_place_and_nothing_else(
    event: Event, call: Callable[[], Any], is_reached: bool | None
) -> None:
    if is_reached is None:
        with pytest.raises(ProbeError, match="0 statements"):
            probe_of(event)
        return
    assert reached(event, call) is is_reached
    assert not reached(event, lambda: None)


def test_what_a_function_gives_stays_as_it_was() -> None:
    code = halved.__code__
    assert (halved(5), Counter.nothing_like_it(1), list(evens(5))) == (2, 4, [0, 2, 4])
    events = [Event("", halved, "for _"), Event("", Counter.nothing_like_it), Event("", evens, "at = 0")]
    with Probes([probe_of(each) for each in events]) as probes:
        assert halved.__code__ is not code
        assert (halved(5), Counter.nothing_like_it(1), list(evens(5))) == (2, 4, [0, 2, 4])
    assert probes.reached == {0, 1, 2}
    assert halved.__code__ is code
    assert "__reached__" not in globals()


def test_the_code_is_as_it_was_after_an_error_too() -> None:
    code = halved.__code__
    with pytest.raises(ZeroDivisionError), Probes([probe_of(Event("", halved))]):
        raise ZeroDivisionError
    assert halved.__code__ is code


def test_what_a_decorator_made_has_one_function_for_each_use() -> None:
    line = probe_of(Event("", doubled, "return 2")).line
    with Probes([Probe("", globals(), line)]) as probes:
        assert Counter.nothing_like_it(1) == 4
    assert probes.reached == {0}


def lines_of(call: Callable[[], Any]) -> list[tuple[str, str, int]]:
    """Every event of a trace function in this file."""
    seen = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != __file__:
            return None
        seen.append((frame.f_code.co_qualname, event, frame.f_lineno))
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(previous)
    return seen


def test_no_trace_function_sees_a_probe() -> None:
    """Else an exception from outside, which comes at the n-th line, would come elsewhere when a case is replayed."""

    def call() -> None:
        halved(5)
        list(evens(5))
        with Counter.open(1):
            adder(2)(1)

    places: list[tuple[Callable[..., Any], str]] = [(halved, at) for at in ("if number", "for _", "return")]
    places += [(evens, at) for at in ("at = 0", "while", "yield", "at += 2")]
    places += [(Counter.open, at) for at in ("try:", "yield", "number += 1")]
    events = [Event("", function, at, when) for function, at in places for when in ("", "1 > 0")]
    events.append(Event("", adder, "return number", "more > len((1,))"))
    before = lines_of(call)
    with Probes([probe_of(event) for event in events]) as probes:
        assert lines_of(call) == before
    assert probes.reached == set(range(len(events)))


@pytest.mark.parametrize(
    "when", ["[each for each in ()]", "halved(2)", "(lambda: 1)()", "a b", "(number := 1)", "''.x()"]
)
def test_a_condition_that_others_could_see_is_refused(when: str) -> None:
    with pytest.raises(ProbeError, match="condition"), Probes([probe_of(Event("", halved, "return", when))]):
        pass


def test_a_condition_has_only_names_that_are_known_there() -> None:
    with pytest.raises(ProbeError, match="halved knows no nobody"):
        probe_of(Event("", halved, "return", "nobody.knows"))


def test_what_is_not_written_in_python_has_no_place() -> None:
    with pytest.raises(ProbeError, match="not written in Python"):
        probe_of(Event("", len))
