"""A spec as tests: clean stores pass, planted bugs fail with the failing sequence as the message."""

from __future__ import annotations

import re
import unittest

import pytest
from toy_store import toy_spec

from harness.spec.spec import Mode
from harness.testing.state_machine import as_test

TestToyStore = toy_spec().as_test(max_examples=5, steps_max=15)


def run_tests(tests: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(tests).run(result)
    return result


def names(tests: type[unittest.TestCase]) -> list[str]:
    return list(unittest.defaultTestLoader.getTestCaseNames(tests))


def test_there_is_a_test_for_each_kind_mode_and_configuration() -> None:
    assert names(as_test(toy_spec())) == [
        f"test_{kind}_{mode}_{configuration}"
        for kind in ("machine", "programs")
        for mode in ("conformance", "crash")
        for configuration in ("file", "zoned")
    ]
    assert names(as_test(toy_spec(), modes=[Mode.CRASH], configurations=["file"])) == [
        "test_machine_crash_file",
        "test_programs_crash_file",
    ]
    with pytest.raises(ValueError, match="none of these configurations"):
        as_test(toy_spec(), configurations=["tape"])


@pytest.mark.parametrize(
    ("bug", "mode", "property_name"),
    [
        ("deleted key still there", Mode.CONFORMANCE, "invariant"),
        ("shutdown forgets a write", Mode.CONFORMANCE, "forward progress"),
        ("persistent when issued", Mode.CRASH, "persistence"),
    ],
)
def test_both_kinds_find_a_planted_bug_and_show_its_sequence(bug: str, mode: Mode, property_name: str) -> None:
    tests = as_test(toy_spec(bug), modes=[mode], configurations=["zoned"], max_examples=500, steps_max=12)
    result = run_tests(tests)
    assert result.testsRun == len(result.failures) == 2, [text for _, text in result.errors]
    for _, text in result.failures:
        assert f"{property_name} violated: toy, {mode}, zoned" in text
        assert re.search(r"^ +[0-9]+  put(_group)?\(.*, payload=b'a'\)$", text, re.MULTILINE)


def test_a_machine_prints_its_steps_by_the_operations_names() -> None:
    tests = as_test(toy_spec("deleted key still there"), modes=[Mode.CONFORMANCE], configurations=["file"])
    (machine_failure, _) = run_tests(tests).failures
    assert re.search(r"^state\.put(_group)?\(data=data\(\.\.\.\)\)$", machine_failure[1], re.MULTILINE)
    assert "Draw 5 (key): 0\nstate.delete(data=data(...))" in machine_failure[1]
