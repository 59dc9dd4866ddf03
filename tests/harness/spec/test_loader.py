"""Finding and importing spec files: the right copy is imported, and every way to fail is one clear line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.spec.loader import (
    SpecLoadError,
    SpecMissingError,
    find_configuration,
    find_spec_files,
    load_spec,
    load_specs,
)

SPEC = """
from harness.spec.spec import Configuration, Operation, Spec

def make(name):
    return Spec(name, system=lambda world: None, model=object, operations=[Operation("get")],
                configurations=[Configuration("only", ())])
"""


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    """Loading puts folders on the path and modules into the table; neither may outlive a test."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "loaded_store" / "__init__.py")
    write(tmp_path / "loaded_store" / "inner" / "__init__.py")
    write(tmp_path / "loaded_store" / "b_spec.py", SPEC + "B = make('b')\nALIAS = B\n")
    write(tmp_path / "loaded_store" / "inner" / "a_spec.py", SPEC + "SECOND = make('second')\nFIRST = make('first')\n")
    write(tmp_path / "tests" / "__init__.py")
    write(tmp_path / "tests" / "c_spec.py", SPEC)
    write(tmp_path / ".venv" / "__init__.py")
    write(tmp_path / ".venv" / "d_spec.py", SPEC)
    write(tmp_path / "scripts" / "e_spec.py", SPEC)
    return tmp_path


def shown(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_nothing_named_means_every_spec_file_of_the_packages_here(project: Path) -> None:
    assert shown(find_spec_files([], project), project) == ["loaded_store/b_spec.py", "loaded_store/inner/a_spec.py"]


def test_files_and_folders_can_be_named_and_count_once(project: Path) -> None:
    files = find_spec_files(["loaded_store/inner", "loaded_store/inner/a_spec.py", "scripts/e_spec.py"], project)
    assert shown(files, project) == ["loaded_store/inner/a_spec.py", "scripts/e_spec.py"]


def test_a_file_is_imported_as_the_module_it_is_and_gives_its_specs_in_order(project: Path) -> None:
    loaded = load_specs(project / "loaded_store" / "inner" / "a_spec.py", project)
    assert [each.spec.name for each in loaded] == ["second", "first"]
    assert {each.path for each in loaded} == {"loaded_store/inner/a_spec.py"}
    assert "loaded_store.inner.a_spec" in sys.modules
    assert sys.path[0] == str(project)


def test_a_spec_with_two_names_in_its_file_counts_once(project: Path) -> None:
    assert [each.spec.name for each in load_specs(project / "loaded_store" / "b_spec.py", project)] == ["b"]


def test_another_copy_that_is_already_imported_is_never_used(project: Path, tmp_path: Path) -> None:
    load_specs(project / "loaded_store" / "b_spec.py", project)
    copy = tmp_path / "copy" / "loaded_store"
    write(copy / "__init__.py")
    write(copy / "b_spec.py", SPEC + "B = make('b')\n")
    with pytest.raises(SpecLoadError, match="already imported from"):
        load_specs(copy / "b_spec.py", tmp_path / "copy")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import no_such_module_here\n", "line 1 of broken_spec.py: ModuleNotFoundError: No module named"),
        ("def (\n", "SyntaxError"),
        ("x = 1\n\nraise RuntimeError('two\\nlines')\n", "line 3 of broken_spec.py: RuntimeError: two lines$"),
        ("X = 1\n", "no Spec at module level"),
        (SPEC + "A = make('same')\nB = make('same')\n", "two specs are named 'same'"),
    ],
)
def test_a_file_without_usable_specs_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SpecLoadError, match=problem) as caught:
        load_specs(write(tmp_path / "broken_spec.py", text), tmp_path)
    assert "\n" not in str(caught.value)


def test_names_that_are_nowhere_are_one_line(project: Path) -> None:
    with pytest.raises(SpecMissingError, match="nowhere: no such file or folder"):
        find_spec_files(["nowhere"], project)
    with pytest.raises(SpecLoadError, match=r"no \*_spec.py in this folder"):
        find_spec_files([".."], write(project / "empty" / "deep" / "x").parent)
    with pytest.raises(SpecLoadError, match="not a Python file"):
        find_spec_files([str(write(project / "x.txt"))], project)
    with pytest.raises(SpecMissingError, match="no spec named 'third'; it has second, first"):
        load_spec("loaded_store/inner/a_spec.py", "third", project)
    with pytest.raises(SpecMissingError, match="no configuration named 'tape'; it has only"):
        find_configuration(load_spec("loaded_store/b_spec.py", "b", project).spec, "tape")
