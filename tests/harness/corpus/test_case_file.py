"""Case files round-trip, and reading any text gives a case or a typed error with its line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.choices.program import Program, Step
from harness.corpus.case_file import Case, CaseFileError, file_name, format_case, one_line, parse_case, read_case
from harness.spec.spec import Mode

CASE = Case(
    spec="store/index_spec.py",
    name="index",
    configuration="file",
    mode=Mode.CRASH,
    property="persistence",
    place="put",
    program=Program((Step(1, "put", {"key.0": 1}), Step(4, "crash", {"survivor.1.0": 2}))),
    story="a persistent value is gone",
    seed=7,
    scenario=1234,
)

texts = st.text(max_size=30).map(one_line)
names = st.text("abc_", min_size=1, max_size=6)
choices = st.dictionaries(st.sampled_from(["key.0", "key.1", "device.0", "survivor.3.1"]), st.integers(0, 2**40))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    identities = sorted(draw(st.sets(st.integers(0, 999), max_size=6)))
    return Program(tuple(Step(identity, draw(names), draw(choices)) for identity in identities))


cases = st.builds(
    Case,
    spec=texts.filter(bool),
    name=texts.filter(bool),
    configuration=texts.filter(bool),
    mode=st.sampled_from(Mode),
    property=texts.filter(bool),
    place=texts.filter(bool),
    program=programs(),
    story=texts,
    seed=st.none() | st.integers(-(10**9), 10**12),
    scenario=st.none() | st.integers(0, 10**12),
)


@given(cases, st.dictionaries(st.integers(0, 10), st.text(max_size=20)))
def test_what_is_written_reads_back(case: Case, comments: dict[int, str]) -> None:
    assert parse_case(format_case(case, comments)) == case


@given(st.text() | st.text().map(lambda text: "harness case 1\n" + text))
def test_any_text_gives_a_case_or_the_typed_error(text: str) -> None:
    with suppress(CaseFileError):
        parse_case(text)


@given(st.data())
def test_damage_to_one_character_never_raises_anything_else(data: st.DataObject) -> None:
    text = format_case(CASE)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    with suppress(CaseFileError):
        parse_case(damaged)


def test_comments_say_how_each_step_ran_and_are_not_needed() -> None:
    text = format_case(CASE, {1: "put(key=b'b')\n-> pending", 4: "crash"})
    assert "1 put key.0=1           # put(key=b'b') -> pending\n" in text
    assert parse_case("\n".join(line.split("#")[0] for line in text.splitlines())) == CASE


@pytest.mark.parametrize(
    ("change", "line", "problem"),
    [
        (lambda text: "", 1, "not a case file"),
        (lambda text: text.replace("case 1", "case 2", 1), 1, "version 2 is not known"),
        (lambda text: text.replace("mode: crash", "mode: quantum"), 5, "unknown mode 'quantum'"),
        (lambda text: text.replace("place: put\n", ""), 10, "header lacks place"),
        (lambda text: text.replace("place: put\n", "place: put\nplace: get\n"), 8, "place is given twice"),
        (lambda text: text.replace("seed: 7", "seed: seven"), 9, "seed must be an integer"),
        (lambda text: text.replace("story:", "moral:"), 8, "expected a header line"),
        (lambda text: text.replace("key.0=1", "key.0"), 12, "expected name=value"),
        (lambda text: text.replace("key.0=1", "key.0=1 key.0=1"), 12, "given twice"),
        (lambda text: text.replace("4 crash", "1 crash"), 13, "identities must rise"),
        (lambda text: text.replace("4 crash", f"{'9' * 5000} crash"), 13, "expected '<identity>"),
    ],
)
def test_each_kind_of_damage_is_named_with_its_line(change: object, line: int, problem: str) -> None:
    assert callable(change)
    with pytest.raises(CaseFileError, match=problem) as caught:
        parse_case(change(format_case(CASE)))
    assert caught.value.line == line


@pytest.mark.parametrize("place", ["", " put", "two\nlines", "two  blanks"])
def test_a_header_value_that_would_not_read_back_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="place must be one line"):
        replace(CASE, place=place)


def test_bytes_that_are_no_text_are_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "x.case"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaseFileError, match="not UTF-8"):
        read_case(path)


def test_the_file_name_follows_from_the_signature_alone() -> None:
    assert file_name(CASE) == file_name(replace(CASE, program=Program(), seed=None, configuration="zoned"))
    assert file_name(CASE) != file_name(replace(CASE, place="get"))
    assert file_name(CASE).startswith("index-crash-persistence-")
    assert file_name(CASE, 2).removesuffix("-2.case") == file_name(CASE).removesuffix(".case")
