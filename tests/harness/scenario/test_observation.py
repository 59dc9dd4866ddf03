"""What a recovered system is held against: outcomes first, then whole contents, and no error of ours passed over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toy_store import CONFIGURATIONS, SPEC, ToyModel, read_entry

from harness.scenario.ledger import PENDING, PERSISTENT, Ledger
from harness.scenario.observation import compare_contents, compare_outcomes, model_after_crash
from harness.scenario.verdict import Mode
from harness.spec.plan import compile_plan

PLAN = compile_plan(SPEC, CONFIGURATIONS[0], Mode.CRASH)


def model_of(**entries: bytes) -> ToyModel:
    model = ToyModel()
    model.entries.update({key.encode(): value for key, value in entries.items()})
    return model


def ledger_of_one_put(read: Any = read_entry) -> tuple[Ledger, ToyModel]:
    """``a`` was put, from nothing."""
    model, ledger = model_of(), Ledger(read)
    ledger.expect(model, b"a")
    model.put(b"a", b"new")
    ledger.note(model, b"a", None, 1, "put")
    return ledger, model


def unreadable(error: Exception) -> Any:
    def read(subject: Any, key: bytes) -> Any:
        if isinstance(subject, ToyModel):
            return read_entry(subject, key)
        raise error

    return read


@pytest.mark.parametrize("recovered", [model_of(), model_of(a=b"new")])
def test_the_model_takes_over_what_is_allowed(recovered: ToyModel) -> None:
    ledger, model = ledger_of_one_put()
    settled = model_after_crash(PLAN, model)
    assert compare_outcomes(PLAN, ledger, [PENDING], recovered, settled) is None
    assert settled.entries == recovered.entries
    assert model.entries == {b"a": b"new"}  # was copied
    assert compare_contents(PLAN, recovered.entries, settled) is None
    finding = compare_contents(PLAN, {**recovered.entries, b"z": b""}, settled)
    assert finding is not None
    assert finding[:2] == ("persistence", "contents")


def test_what_was_persistent_must_be_there() -> None:
    ledger, model = ledger_of_one_put()
    finding = compare_outcomes(PLAN, ledger, [PERSISTENT], model_of(), model)
    assert finding is not None
    assert finding[:2] == ("persistence", "outcome")


def test_a_key_that_cannot_be_read_is_a_finding_that_says_what_it_may_read_as() -> None:
    ledger, model = ledger_of_one_put(unreadable(OSError("gone")))
    finding = compare_outcomes(PLAN, ledger, [PERSISTENT], object(), model)
    assert finding is not None
    assert finding[0] == "persistence"
    assert "gone" in finding[2]
    assert "new" in finding[3]


def test_want_of_memory_is_not_the_systems() -> None:
    ledger, model = ledger_of_one_put(unreadable(MemoryError()))
    with pytest.raises(MemoryError):
        compare_outcomes(PLAN, ledger, [PERSISTENT], object(), model)


class ReopeningModel(ToyModel):
    """Forgets what a process knows."""

    def reopened(self) -> None:
        self.entries.clear()


@pytest.mark.parametrize("reopens", [False, True])
def test_a_model_that_can_is_reopened_and_only_its_copy(reopens: bool) -> None:
    model = ReopeningModel()
    model.put(b"a", b"x")
    copy = model_after_crash(replace(PLAN, model_reopens=reopens), model)
    assert copy.entries == ({} if reopens else {b"a": b"x"})
    assert model.entries == {b"a": b"x"}
