"""Programs: text form, removal of steps, single choices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.choices.program import Program, ProgramSyntaxError, Step, format_program, parse_program

names = st.text("abc_", min_size=1, max_size=6)
choices = st.dictionaries(st.sampled_from(["key.0", "key.1", "device.0", "survivor.3.1"]), st.integers(0, 2**40))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    identities = sorted(draw(st.sets(st.integers(0, 999), max_size=6)))
    return Program(tuple(Step(identity, draw(names), draw(choices)) for identity in identities))


@given(programs())
def test_text_form_reads_back(program: Program) -> None:
    assert parse_program(format_program(program)) == program


@given(programs(), st.data())
def test_removing_steps_touches_no_other_step(program: Program, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from([step.identity for step in program.steps]))) if program.steps else set()
    assert program.without(gone).steps == tuple(step for step in program.steps if step.identity not in gone)


@given(programs(), st.integers(0, 5))
def test_setting_a_choice_to_zero_removes_it_from_the_record(program: Program, value: int) -> None:
    for step in program.steps:
        changed = program.with_choice(step.identity, "key.0", value)
        (after,) = [other for other in changed.steps if other.identity == step.identity]
        assert after.choices.get("key.0", 0) == value
        assert ("key.0" in after.choices) == bool(value)


def test_identities_must_rise() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        Program((Step(1, "get"), Step(1, "get")))


def test_a_syntax_error_knows_its_line() -> None:
    with pytest.raises(ProgramSyntaxError) as caught:
        parse_program("1 put\n\n# nothing\ntwo put\n")
    assert caught.value.line == 4
