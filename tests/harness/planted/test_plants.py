"""Planted bugs: read strictly, applied exactly once, to copies only."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.planted.plants import PlantError, copied_packages, find_plants, parse_plant, plant_tree
from harness.spec.spec import Mode

TOML = """
id = "one"
component = "store"
story = "a put is forgotten"
spec = "store/store_spec.py"
mode = "crash"
property = "persistence"
minimum_operations = 2
[[replace]]
file = "store/code.py"
old = '''kept = True'''
new = '''kept = False'''
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for package in ("store", "refmodel", "unrelated"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    (folder / "store" / "store_spec.py").write_text("SPEC = 1\n")
    (folder / "store" / "code.py").write_text("kept = True\n")
    (folder / "store" / "__pycache__").mkdir()
    return folder


def test_a_plant_reads_back_whole() -> None:
    plant = parse_plant(TOML.replace("minimum_operations = 2", "minimum_operations = 2\nseeds = [3, 1]"), "one.toml")
    assert (plant.id, plant.mode, plant.property, plant.minimum_operations) == ("one", Mode.CRASH, "persistence", 2)
    assert plant.seeds == (3, 1)
    assert plant.configuration is None
    assert [(each.file, each.old, each.new) for each in plant.replacements] == [
        ("store/code.py", "kept = True", "kept = False")
    ]


def test_it_is_applied_to_copies_of_the_packages_it_needs(source: Path, tmp_path: Path) -> None:
    plant = parse_plant(TOML, "one.toml")
    target = tmp_path / "target"
    plant_tree(plant, source, target)
    assert copied_packages(plant, source) == ["refmodel", "store"]
    assert sorted(path.name for path in target.iterdir()) == ["refmodel", "store"]
    assert (target / "store" / "code.py").read_text() == "kept = False\n"
    assert (source / "store" / "code.py").read_text() == "kept = True\n"
    assert not (target / "store" / "__pycache__").exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "plant one: its old text occurs 0 times in store/code.py, not exactly once: 'kept = True'"),
        ("kept = True\nkept = True\n", "plant one: its old text occurs 2 times"),
        (None, "plant one: no file store/code.py"),
    ],
)
def test_a_plant_that_no_longer_applies_is_an_error_that_names_it(
    source: Path, tmp_path: Path, code: str | None, problem: str
) -> None:
    path = source / "store" / "code.py"
    path.unlink()
    if code is not None:
        path.write_text(code)
    with pytest.raises(PlantError, match=problem):
        plant_tree(parse_plant(TOML, "one.toml"), source, tmp_path / "target")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('id = "one"', "", "lacks id"),
        ('id = "one"', 'id = "one"\ncolour = "red"', "unknown field colour"),
        ('id = "one"', "id = 1", "id must be of type str"),
        ("minimum_operations = 2", "minimum_operations = true", "minimum_operations must be of type int"),
        ('mode = "crash"', 'mode = "storm"', "unknown mode 'storm'"),
        ('mode = "crash"', "mode = ", "not TOML"),
        ('"store/store_spec.py"', '"../store_spec.py"', "must be a path below a package"),
        ("kept = False", "kept = True", "changes nothing"),
        ("file =", "path =", "lacks file"),
        ("minimum_operations = 2", 'minimum_operations = 2\nseeds = ["a"]', "seeds must hold int values only"),
    ],
)
def test_a_plant_file_that_is_wrong_says_what_and_where(old: str, new: str, problem: str) -> None:
    with pytest.raises(PlantError, match=f"one.toml.*{problem}"):
        parse_plant(TOML.replace(old, new, 1), "one.toml")


def test_a_folder_gives_its_plants_by_id_each_once(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(TOML)
    (tmp_path / "a.toml").write_text(TOML.replace('"one"', '"two"'))
    assert [plant.id for plant in find_plants(tmp_path)] == ["one", "two"]
    (tmp_path / "c.toml").write_text(TOML)
    with pytest.raises(PlantError, match="used twice"):
        find_plants(tmp_path)


def test_a_folder_without_plants_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlantError, match=r"no \*\.toml"):
        find_plants(tmp_path)
    with pytest.raises(PlantError, match="cannot be read"):
        find_plants(tmp_path / "gone.toml")
