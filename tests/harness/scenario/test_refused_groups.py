"""A call over several groups that the system refuses, excused: each group is there or not, and never half of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from toy_store import SPEC, FullError, ToyModel, ToyStore

from harness.scenario.verdict import Answer
from harness.search.check import check
from harness.spec.generators import keys, lists_of
from harness.spec.spec import Mode, Operation, Spec

ROOM = 3  # so many keys; a fourth is refused


class Cramped(ToyStore):
    """Has room for few keys. Puts keys two by two, each two as a whole, until it is full."""

    def put_many(self, many: Sequence[bytes]) -> None:
        for at in range(0, len(many), 2):
            pair = many[at : at + 2]
            self._refuse_unless_room(pair)
            self.put_group(pair, b"x")

    def _refuse_unless_room(self, some: Sequence[bytes]) -> None:
        if len({*self.entries, *some}) > ROOM:
            raise FullError


class OneByOne(Cramped):
    """Refuses one key of two, and puts the other."""

    def put_many(self, many: Sequence[bytes]) -> None:
        for key in many:
            self._refuse_unless_room([key])
            self.put_group([key], b"x")


class CrampedModel(ToyModel):
    def put_many(self, many: Sequence[bytes]) -> None:
        self.put_group(many, b"x")


def pairs(arguments: Any, _: object) -> list[tuple[bytes, ...]]:
    many = arguments["many"]
    return [tuple(many[at : at + 2]) for at in range(0, len(many), 2)]


def spec_of(store: type[Cramped]) -> Spec:
    many = Operation("put_many", many=lists_of(keys, 4, size_min=1), weight=6, writes=pairs)
    others = [operation for operation in SPEC.operations if operation.name not in ("put", "put_group")]
    return replace(SPEC, system=store, model=CrampedModel, operations=[many, *others])


def test_groups_before_the_refused_one_may_be_there() -> None:
    for mode in SPEC.modes:
        verdict = check(spec_of(Cramped), mode, scenarios=150)
        assert verdict.answer is Answer.NONE_FOUND, verdict.reason
        assert verdict.counters.excused


def test_half_a_group_is_a_mixture() -> None:
    verdict = check(spec_of(OneByOne), Mode.CONFORMANCE, scenarios=300)
    assert verdict.run is not None
    assert verdict.run.violation is not None
    assert verdict.run.violation.signature in (("persistence", "mixture"), ("conformance", "contents"))
