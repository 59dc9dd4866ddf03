"""The table of lanes is the whole truth: what is drawn has a row, and every row is drawn."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness
from harness.choices.lanes import LANES, lane_of
from harness.choices.program import RESERVED_NAMES
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Configuration, Mode, Operation, Spec

ROOMS = ("scenario", "world")


def _drawn() -> set[str]:
    """Lanes that scenarios and worlds ask a tape for, as their code names them."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (Path(harness.__file__).parent / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _is_choose(node.func):
                    values = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                    found |= {lane_of(value) for value in values if isinstance(value, str)}
    return found - {""}


def _is_choose(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("choose", "_choose", "choose_at")


def test_every_lane_that_is_drawn_has_a_row_and_every_row_is_drawn() -> None:
    named = {"survivor", "knob"}  # the devices and the scenario ask for them by the entry's or the knob's own name
    assert _drawn() | named == LANES.keys()


def test_every_row_says_what_it_decides_and_what_is_simplest() -> None:
    for name, lane in LANES.items():
        assert name == lane.name
        assert lane.decides
        assert lane.simplest
        assert name not in RESERVED_NAMES


@pytest.mark.parametrize("name", LANES)
def test_no_argument_may_have_the_name_of_a_lane(name: str) -> None:
    operation = Operation("call")
    operation.arguments = {name: lambda choose, argument: 0}
    spec = Spec(
        "taken",
        system=lambda world: None,
        model=object,
        operations=[operation],
        configurations=[Configuration("only", ())],
    )
    with pytest.raises(SpecError, match="like a lane"):
        compile_plan(spec, spec.configurations[0], Mode.CONFORMANCE)
