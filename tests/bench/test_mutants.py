"""Mutants are changes of behaviour, samples are stable, and a mutant's run says what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mutants_print import ROOT, Limits, Results, copied, run_changed, shares

FILE = "shardstore/buffer_pool.py"
LIMITS = Limits(scenarios=10, cpu_seconds=20, specs=("shardstore/superblock_spec.py",))
SOURCE = '''\
"""Numbers such as 1 + 2 in here are no behaviour."""

class Face(Protocol):
    def asked(self, count: int = 3) -> int | None: ...

Alias = Put | Delete

def added(first: int | None, *, second: int = 4) -> int | str:
    assert first > 5
    if first is None:
        raise ValueError(f"{first + 6}")
    return first + second
'''


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with copied() as tree:
        yield tree


def source() -> str:
    return (ROOT / FILE).read_text(encoding="utf-8")


def outcome(tree: Path, old: str, new: str, limits: Limits = LIMITS) -> dict[str, Any]:
    assert source().count(old) == 1
    return run_changed(tree, FILE, source().replace(old, new), limits)


def test_only_behaviour_is_changed() -> None:
    mutants = pytest.importorskip("mutants", exc_type=ImportError)
    lines = {mutant.line for mutant in mutants.list_mutants("a.py", SOURCE)}
    assert lines == {8, 10, 12}
    assert all(mutant.apply(SOURCE) != SOURCE for mutant in mutants.list_mutants("a.py", SOURCE))


def test_a_sample_takes_files_in_turn_and_begins_with_a_smaller_one() -> None:
    mutants = pytest.importorskip("mutants", exc_type=ImportError)
    listed = [each for file in ("a.py", "b.py") for each in mutants.list_mutants(file, SOURCE)]
    sampled = mutants.sample(listed, 1)
    assert [each.file for each in sampled[:4]] == ["a.py", "b.py", "a.py", "b.py"]
    assert mutants.sample(listed, 1) == sampled
    assert len({(each.file, each.line, each.column) for each in sampled}) == len(sampled)


def test_a_mutant_that_breaks_a_spec_is_seen(tree: Path) -> None:
    found = outcome(tree, "if self.free_count < 1:", "if self.free_count < 100:")
    assert found["answer"] == "violated"


def test_the_store_itself_survives_and_the_copy_is_as_it_was(tree: Path) -> None:
    assert run_changed(tree, FILE, source(), LIMITS)["answer"] == "survived"
    assert (tree / FILE).read_text(encoding="utf-8") == source()


def test_what_cannot_be_imported_or_does_not_end_is_told_apart(tree: Path) -> None:
    assert run_changed(tree, FILE, source() + "\nraise ImportError\n", LIMITS)["answer"] == "not imported"
    hung = Limits(scenarios=10, cpu_seconds=0.0, specs=LIMITS.specs, hang_cpu_seconds=1)
    assert run_changed(tree, FILE, source() + "\nwhile True:\n    pass\n", hung)["answer"] == "hung"


def test_results_are_kept_and_refused_for_other_source(tmp_path: Path) -> None:
    path = tmp_path / "some" / "results.json"
    Results(path, "digest").add("a", {"answer": "survived"})
    assert Results(path, "digest").by_name == {"a": {"answer": "survived"}}
    assert json.loads(path.read_text(encoding="utf-8"))["source"] == "digest"
    with pytest.raises(SystemExit):
        Results(path, "other")


def test_shares_count_each_module_and_all() -> None:
    lines = shares([("a.py", {"answer": "violated"}), ("a.py", {"answer": "survived"}), ("b.py", {"answer": "hung"})])
    assert [line.split()[0] for line in lines] == ["module", "a.py", "b.py", "all"]
    assert lines[1].endswith("50 %")
    assert lines[2].endswith("100 %")
