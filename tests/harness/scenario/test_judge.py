"""What a recovered system is held against: outcomes first, then whole contents, and no error of ours passed over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from toy_store import CONFIGURATIONS, SPEC, ToyModel, read_entry

from harness.scenario.judge import Judge, model_after_crash
from harness.scenario.ledger import PENDING, PERSISTENT, Ledger
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode

PLAN = compile_plan(SPEC, CONFIGURATIONS[0], Mode.CRASH)
JUDGE = Judge(PLAN)


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
    assert JUDGE.outcomes(ledger, [PENDING], JUDGE.read_of(recovered), settled).violation is None
    assert settled.entries == recovered.entries
    assert model.entries == {b"a": b"new"}  # was copied
    assert JUDGE.observed_contents(recovered.entries, settled) is None
    violation = JUDGE.observed_contents({**recovered.entries, b"z": b""}, settled)
    assert violation is not None
    assert violation.signature == ("persistence", "contents")


def test_what_was_persistent_must_be_there() -> None:
    ledger, model = ledger_of_one_put()
    violation = JUDGE.outcomes(ledger, [PERSISTENT], JUDGE.read_of(model_of()), model).violation
    assert violation is not None
    assert violation.signature == ("persistence", "outcome")


def test_a_key_that_cannot_be_read_is_a_violation_that_says_what_it_may_read_as() -> None:
    read = unreadable(OSError("gone"))
    ledger, model = ledger_of_one_put(read)
    violation = JUDGE.outcomes(ledger, [PERSISTENT], partial(read, object()), model).violation
    assert violation is not None
    assert violation.property == "persistence"
    assert "gone" in violation.answered
    assert "new" in violation.allowed


def test_want_of_memory_is_not_the_systems() -> None:
    read = unreadable(MemoryError())
    ledger, model = ledger_of_one_put(read)
    with pytest.raises(MemoryError):
        JUDGE.outcomes(ledger, [PERSISTENT], partial(read, object()), model)


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
