"""Promises: what a call says is persistent is so when it returns, and after a crash, whatever its dependency says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from toy_store import SPEC, ToyDependency, ToyModel, ToyStore

from harness.search.check import check
from harness.spec.generators import keys, payloads
from harness.spec.spec import Background, Mode, Operation, Spec


class Durable(ToyStore):
    """Can put durably."""

    def put_durably(self, key: bytes, payload: bytes) -> ToyDependency:
        dependency = self.put(key, payload)
        self.flush()
        return dependency


class EarlyFlush(Durable):
    def flush(self) -> None:
        self.issue()


class EarlyPut(Durable):
    def put_durably(self, key: bytes, payload: bytes) -> ToyDependency:
        return self.put(key, payload)


class Liar(Durable):
    """Calls a change persistent, loses it at a crash, and calls it pending from the next call on."""

    last: ToyDependency | None = None

    def put_durably(self, key: bytes, payload: bytes) -> ToyDependency:
        super().put(key, payload)
        self.last = ToyDependency()
        self.last.persistent = True
        return self.last

    def put(self, key: bytes, payload: bytes) -> ToyDependency:
        if self.last is not None:
            self.last.persistent = False
        return super().put(key, payload)


class DurableModel(ToyModel):
    put_durably = ToyModel.put


def spec_of(store: Callable[..., ToyStore]) -> Spec:
    durable = Operation("put_durably", key=keys, payload=payloads(16), writes="key", promises="itself")
    others = [operation for operation in SPEC.operations if operation.name not in ("flush", "reboot")]
    operations = [*others, durable, Background("flush", weight=2, promises="everything")]
    return replace(SPEC, system=store, model=DurableModel, operations=operations)


@pytest.mark.parametrize("mode", SPEC.modes)
def test_promises_that_are_kept_are_no_violations(mode: Mode) -> None:
    assert check(spec_of(Durable), mode, scenarios=150).run is None


@pytest.mark.parametrize(("store", "operation"), [(EarlyFlush, "flush"), (EarlyPut, "put_durably")])
def test_a_call_that_returns_too_early_breaks_its_promise(store: type[Durable], operation: str) -> None:
    verdict = check(spec_of(store), Mode.CONFORMANCE, scenarios=150)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    assert verdict.run.violation.signature == ("promise", operation)


def test_what_was_promised_must_survive_even_if_its_dependency_is_pending_again() -> None:
    verdict = check(spec_of(Liar), Mode.CRASH, scenarios=150)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    assert verdict.run.violation.property == "persistence"
