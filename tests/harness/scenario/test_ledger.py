"""The persistence property, against a definition by exhaustion, and against planted violations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scenario import ledger as ledger_module
from harness.scenario.ledger import FAILED, PENDING, PERSISTENT, Ledger, Reading


@dataclass
class FakeDependency:
    state: str

    def is_persistent(self) -> bool:
        return self.state == PERSISTENT

    def is_failed(self) -> bool:
        return self.state == FAILED


Contents = dict[str, Any]


def read(subject: Contents, key: str) -> Any:
    return subject.get(key)


@dataclass(frozen=True)
class Put:
    """Keys set to one outcome each (absence included), in one operation, that ended in this state."""

    outcomes: tuple[tuple[str, Any], ...]
    state: str


def put(state: str, **outcomes: Any) -> Put:
    return Put(tuple(outcomes.items()), state)


def run(base: Contents, puts: Sequence[Put], observed: Contents) -> Reading:
    ledger = Ledger(read)
    model = dict(base)
    for step, each in enumerate(puts, start=1):
        keys = [key for key, _ in each.outcomes]
        for key in keys:
            ledger.expect(model, key)
        model.update(each.outcomes)
        if len(keys) == 1:
            ledger.note(model, keys[0], FakeDependency(each.state), step, "put")
        else:
            ledger.note_group(model, keys, FakeDependency(each.state), step, "put_all")
    return ledger.judge(reading(observed), ledger.poll())


def reading(contents: Contents) -> Callable[[Any], Any]:
    return lambda key: read(contents, key)


BASE = {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("puts", "observed"),
    [
        ([put(PERSISTENT, a=1)], {"a": 1}),
        ([put(PENDING, a=1)], {"a": 0}),
        ([put(PENDING, a=1)], {"a": 1}),
        ([put(PERSISTENT, a=1), put(PENDING, a=2)], {"a": 1}),
        ([put(PERSISTENT, a=1), put(PENDING, a=2)], {"a": 2}),
        ([put(PENDING, a=1), put(PERSISTENT, a=2)], {"a": 2}),
        ([put(PERSISTENT, a=None)], {"a": None}),
        ([put(FAILED, a=1)], {"a": 0}),
        ([put(FAILED, a=1)], {"a": 1}),
        ([put(PERSISTENT, a=1), put(FAILED, a=2)], {"a": 1}),
        ([put(PENDING, a=1, b=1)], {"a": 1, "b": 1}),
        ([put(PENDING, a=1, b=1)], {"a": 0, "b": 0}),
        ([put(PENDING, a=1, b=1), put(PENDING, a=2)], {"a": 2, "b": 0}),  # a says nothing of the group
        ([put(PENDING, a=1, b=0)], {"a": 1, "b": 0}),  # b reads the same either way
    ],
)
def test_allowed(puts: list[Put], observed: Contents) -> None:
    assert run(BASE, puts, observed).disallowed is None


@pytest.mark.parametrize(
    ("what", "puts", "observed", "place"),
    [
        ("lost persistent write", [put(PERSISTENT, a=1)], {"a": 0}, "outcome"),
        ("resurrected delete", [put(PERSISTENT, a=1), put(PERSISTENT, a=None)], {"a": 1}, "outcome"),
        ("older value where a newer is persistent", [put(PENDING, a=1), put(PERSISTENT, a=2)], {"a": 1}, "outcome"),
        ("absence where an older is persistent", [put(PERSISTENT, a=1), put(PENDING, a=2)], {"a": None}, "outcome"),
        ("the base where a failed one follows", [put(PERSISTENT, a=1), put(FAILED, a=2)], {"a": 0}, "outcome"),
        ("a value never written", [put(PENDING, a=1)], {"a": 7}, "outcome"),
        ("half of a group", [put(PENDING, a=1, b=1)], {"a": 1, "b": 0}, "mixture"),
        ("half of a persistent group", [put(PERSISTENT, a=1, b=1)], {"a": 1, "b": 0}, "outcome"),
        ("half of a second group", [put(PERSISTENT, a=1, b=1), put(PENDING, a=2, b=2)], {"a": 1, "b": 2}, "mixture"),
    ],
)
def test_violated(what: str, puts: list[Put], observed: Contents, place: str) -> None:
    mismatch = run(BASE, puts, observed).disallowed
    assert mismatch is not None, what
    assert mismatch.place == place


KEYS = ("a", "b")
states = st.sampled_from([PENDING, PERSISTENT, FAILED])
groups = st.sets(st.sampled_from(KEYS), min_size=1)


def exhaustive(base: Contents, puts: Sequence[Put], observed: Contents) -> bool:
    """Is there a survivor for each key, in one piece with every group, that explains what was observed?"""
    written = {key: [at for at, each in enumerate(puts) if key in dict(each.outcomes)] for key in KEYS}
    options = {}
    for key in KEYS:
        needed = max((at for at in written[key] if puts[at].state == PERSISTENT), default=-1)
        candidates = [at for at in [-1, *written[key]] if at >= needed]
        value = {at: base.get(key) if at < 0 else dict(puts[at].outcomes)[key] for at in candidates}
        options[key] = [at for at in candidates if value[at] == observed.get(key)]
    for survivor in itertools.product(*(options[key] for key in KEYS)):
        chosen = dict(zip(KEYS, survivor, strict=True))
        if all(_in_one_piece(at, each, chosen) for at, each in enumerate(puts)):
            return True
    return False


def _in_one_piece(at: int, each: Put, chosen: dict[str, int]) -> bool:
    keys = [key for key, _ in each.outcomes]
    return not (any(chosen[key] == at for key in keys) and any(chosen[key] < at for key in keys))


@given(plan=st.lists(st.tuples(groups, states), max_size=5), observed=st.tuples(st.integers(-1, 4), st.integers(-1, 4)))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_judges_as_exhaustion_does_where_outcomes_differ(
    plan: list[tuple[set[str], str]], observed: tuple[int, int]
) -> None:
    puts = [Put(tuple((key, at) for key in sorted(keys)), state) for at, (keys, state) in enumerate(plan)]
    base = {"a": -1, "b": -1}
    seen = dict(zip(KEYS, observed, strict=True))
    touched = {key for each in puts for key, _ in each.outcomes}
    seen = {key: seen[key] if key in touched else base[key] for key in KEYS}
    assert (run(base, puts, seen).disallowed is None) == exhaustive(base, puts, seen)


outcomes = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 1), min_size=1)


@given(plan=st.lists(st.tuples(outcomes, states), max_size=5), observed=st.tuples(st.integers(0, 1), st.integers(0, 1)))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_never_accuses_where_exhaustion_finds_an_explanation(
    plan: list[tuple[dict[str, int], str]], observed: tuple[int, int]
) -> None:
    puts = [Put(tuple(sorted(each.items())), state) for each, state in plan]
    seen = dict(zip(KEYS, observed, strict=True))
    if exhaustive(BASE, puts, seen):
        assert run(BASE, puts, seen).disallowed is None


def test_what_makes_a_crash_interesting() -> None:
    kept = run(BASE, [put(PERSISTENT, a=1)], {"a": 1, "b": 0})
    assert (kept.any_persistent, kept.any_lost) == (True, False)
    superseded = run(BASE, [put(PERSISTENT, a=1), put(PENDING, a=2)], {"a": 1, "b": 0})
    assert (superseded.any_persistent, superseded.any_lost) == (False, True)
    both = run(BASE, [put(PERSISTENT, a=1), put(PENDING, b=2)], {"a": 1, "b": 0})
    assert (both.any_persistent, both.any_lost) == (True, True)


def test_a_write_without_a_dependency_is_never_required() -> None:
    ledger = Ledger(read)
    model: Contents = {}
    ledger.expect(model, "a")
    model["a"] = 1
    ledger.note(model, "a", None, 1, "put")
    assert ledger.first_unfinished() is None
    assert ledger.judge(reading({}), ledger.poll()).disallowed is None


def test_unfinished_names_the_operation() -> None:
    ledger = Ledger(None)
    ledger.note_other(FakeDependency(FAILED), 1, "flush")
    ledger.note_other(FakeDependency(PERSISTENT), 2, "flush")
    assert ledger.first_unfinished() is None
    ledger.note_other(FakeDependency(PENDING), 3, "compact")
    assert ledger.first_unfinished() == (3, "compact")
    ledger.note({}, "a", FakeDependency(PENDING), 4, "put")
    assert ledger.first_unfinished() == (4, "put")
    ledger.clear()
    assert ledger.first_unfinished() is None


def test_memory_is_bounded_and_forgets_nothing_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PRUNE_AT_COUNT", 8)
    ledger = Ledger(read)
    model: Contents = {}
    for step in range(500):
        key = KEYS[step % 2]
        ledger.expect(model, key)
        model[key] = step
        ledger.note(model, key, FakeDependency(PERSISTENT if step % 4 < 2 else PENDING), step, "put")
        ledger.note_other(FakeDependency(PERSISTENT), step, "flush")
        assert len(ledger.writes) <= 16
    states_now = ledger.poll()
    assert ledger.judge(reading({"a": 498, "b": 497}), states_now).disallowed is None
    assert ledger.judge(reading({"a": 494, "b": 497}), states_now).disallowed is not None
    assert ledger.judge(reading({"a": 498, "b": None}), states_now).disallowed is not None


def test_at_a_power_cut_each_write_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PRUNE_AT_COUNT", 4)
    ledger = Ledger(read)
    model: Contents = {}

    def put(key: str, value: int, state: str) -> None:
        ledger.expect(model, key)
        model[key] = value
        ledger.note(model, key, FakeDependency(state), value, "put")

    for value in range(3):
        put("a", value, PERSISTENT)
    states = ledger.poll_at_cut()
    put("b", 3, PENDING)  # the call that the power has cut off
    assert len(ledger.writes) == 4
    assert ledger.judge(reading({"a": 1, "b": None}), [*states, PENDING]).disallowed is not None
    assert ledger.judge(reading({"a": 2, "b": None}), [*states, PENDING]).disallowed is None
