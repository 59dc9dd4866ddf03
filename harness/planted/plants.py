"""Planted bugs: small replacements of source that the checks must find.

A planted bug is one TOML file. It is applied to *copies* of the packages it touches, in a folder of their own. A fresh
process runs these copies; the code itself has no switches. If the ``old`` text of a replacement does not occur exactly
once, that is an error that names the plant: the code has moved on and the plant must follow. The process also checks
that it imported every replaced file, so a plant can never pass by running the clean code.

    id = "fig5-08"
    component = "buffer cache"
    story = "a write's dependency does not include the soft-pointer update that covers it; minimum: ..."
    spec = "shardstore/node_spec.py"       # where it must be caught
    mode = "crash"
    property = "persistence"
    minimum_operations = 3
    configuration = "zoned"                # optional: where it must be caught; else any of the spec's
    place = "CorruptionError in recover"   # optional: where the property must break, if it could elsewhere
    seeds = [0, 1]                         # optional: to search with; else what the run asks for
    copies = ["shardstore", "refmodel"]    # optional: packages copied, besides those of the files named
    [[replace]]
    file = "shardstore/buffer_cache.py"
    old = '''...'''                        # must occur exactly once
    new = '''...'''
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.spec.spec import Mode

DEFAULT_COPIES = ("shardstore", "refmodel")


class PlantError(Exception):
    """A planted bug cannot be read, applied or run. The message names it in one line."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Source text that occurs exactly once in ``file``, and the text that replaces it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted bug and where it must be caught."""

    id: str
    component: str
    story: str
    spec: str
    mode: Mode
    property: str
    minimum_operations: int
    replacements: tuple[Replacement, ...]
    configuration: str | None = None
    place: str | None = None
    seeds: tuple[int, ...] = ()
    copies: tuple[str, ...] = DEFAULT_COPIES


_FIELDS: Mapping[str, type] = {
    "id": str,
    "component": str,
    "story": str,
    "spec": str,
    "mode": str,
    "property": str,
    "minimum_operations": int,
    "replace": list,
}
_OPTIONAL_FIELDS: Mapping[str, type] = {"configuration": str, "place": str, "seeds": list, "copies": list}


def find_plants(path: Path) -> list[Plant]:
    """Every plant of a folder, or the one of a file, ordered by id. Raises `PlantError`."""
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise PlantError(f"{path}: no *.toml in this folder")
    plants: dict[str, Plant] = {}
    for file in files:
        plant = read_plant(file)
        if plant.id in plants:
            raise PlantError(f"{file}: plant id {plant.id!r} is used twice")
        plants[plant.id] = plant
    return [plants[each] for each in sorted(plants)]


def read_plant(path: Path) -> Plant:
    try:
        return parse_plant(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PlantError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def parse_plant(text: str, source: str) -> Plant:
    """Read a plant's TOML. Raises `PlantError`, whose message begins with ``source``."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlantError(f"{source}: not TOML: {error}") from None
    _check_fields(table, _FIELDS, _OPTIONAL_FIELDS, source)
    if table["mode"] not in tuple(Mode):
        raise PlantError(f"{source}: unknown mode {table['mode']!r}: one of {', '.join(Mode)}")
    if not table["replace"]:
        raise PlantError(f"{source}: nothing to replace")
    return Plant(
        id=table["id"],
        component=table["component"],
        story=table["story"],
        spec=_inner_path(table["spec"], source),
        mode=Mode(table["mode"]),
        property=table["property"],
        minimum_operations=table["minimum_operations"],
        replacements=tuple(_replacement(each, source) for each in table["replace"]),
        configuration=table.get("configuration"),
        place=table.get("place"),
        seeds=tuple(_all_of(int, table.get("seeds", []), "seeds", source)),
        copies=tuple(_all_of(str, table.get("copies", DEFAULT_COPIES), "copies", source)),
    )


def _check_fields(
    table: Mapping[str, Any], required: Mapping[str, type], optional: Mapping[str, type], source: str
) -> None:
    for name in required:
        if name not in table:
            raise PlantError(f"{source}: lacks {name}")
    for name, value in table.items():
        expected = required.get(name) or optional.get(name)
        if expected is None:
            raise PlantError(f"{source}: unknown field {name}")
        if type(value) is not expected:
            raise PlantError(f"{source}: {name} must be of type {expected.__name__}")


def _replacement(table: object, source: str) -> Replacement:
    if not isinstance(table, dict):
        raise PlantError(f"{source}: replace must be a table, written [[replace]]")
    _check_fields(table, {"file": str, "old": str, "new": str}, {}, f"{source}: replace")
    if not table["old"] or table["old"] == table["new"]:
        raise PlantError(f"{source}: the replacement in {table['file']} changes nothing")
    return Replacement(_inner_path(table["file"], source), table["old"], table["new"])


def _inner_path(text: str, source: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise PlantError(f"{source}: {text!r} must be a path below a package, such as package/module.py")
    return path.as_posix()


def _all_of(kind: type, values: Iterable[object], name: str, source: str) -> list[Any]:
    listed = list(values)
    if any(type(value) is not kind for value in listed):
        raise PlantError(f"{source}: {name} must hold {kind.__name__} values only")
    return listed


def copied_packages(plant: Plant, source: Path) -> list[str]:
    """The top-level packages in a planted tree: those of its files, and those of ``plant.copies`` that exist."""
    named = [plant.spec, *(replacement.file for replacement in plant.replacements)]
    needed = {PurePosixPath(path).parts[0] for path in named}
    present = {name for name in plant.copies if (source / name).is_dir()}
    return sorted(needed | present)


def plant_tree(plant: Plant, source: Path, target: Path) -> None:
    """Copy the packages from ``source`` to ``target`` and apply the replacements there. Raises `PlantError`."""
    for package in copied_packages(plant, source):
        if not (source / package).is_dir():
            raise PlantError(f"plant {plant.id}: no package {package} in {source}")
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(source / package, target / package, ignore=ignored)
    if not (target / plant.spec).is_file():
        raise PlantError(f"plant {plant.id}: no spec {plant.spec}")
    for replacement in plant.replacements:
        _apply(plant, replacement, target / replacement.file)


def _apply(plant: Plant, replacement: Replacement, path: Path) -> None:
    if not path.is_file():
        raise PlantError(f"plant {plant.id}: no file {replacement.file}")
    text = path.read_text(encoding="utf-8")
    occurrences = text.count(replacement.old)
    if occurrences != 1:
        first_line = replacement.old.strip().splitlines()[0] if replacement.old.strip() else replacement.old
        raise PlantError(
            f"plant {plant.id}: its old text occurs {occurrences} times in {replacement.file}, "
            f"not exactly once: {first_line.strip()[:60]!r}"
        )
    path.write_text(text.replace(replacement.old, replacement.new), encoding="utf-8")
