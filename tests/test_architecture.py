"""The rules of the tree: who may import whom, and what comes in through the seam only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent

# Rooms of the harness, top floor first; a room imports from its own floor and those below.
FLOORS = [
    ("cli",),
    ("audit", "planted", "testing"),
    ("shrink", "search"),
    ("trace", "torture", "corpus"),
    ("scenario",),
    ("world",),
    ("spec",),
    ("choices", "fleet"),
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

# Each layer of the store may import those below it, and itself.
STORE_LAYERS = [
    ("node",),
    ("store",),
    ("space", "limits"),
    ("reclamation", "scrub"),
    ("index.index",),
    ("index.compaction", "index.snapshot"),
    ("index.run",),
    ("index.memtable", "index.outlook"),
    ("index.metadata_log",),
    ("index.run_bounds",),
    ("index.run_block",),
    ("chunk_store", "chunk_frame"),
    ("buffer_cache",),
    ("extents",),
    ("superblock",),
    ("twin_log",),
    ("io_scheduler", "buffer_pool"),
    ("observer",),
    ("dependency", "disk", "file_disk", "upkeep"),
    ("seam", "arguments", "system_calls"),
    ("units",),
    ("errors",),
]
LAYER_OF = {module: number for number, layer in enumerate(STORE_LAYERS) for module in layer}


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _name(path: Path) -> str:
    """Dotted, as it is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> list[str]:
    """Modules, and what is taken from them; those inside functions, or for type checkers alone, too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
    return found


def _top(name: str) -> str:
    return name.split(".")[0]


def _production() -> list[Path]:
    return [path for path in _modules("shardstore") if not _is_spec(path.stem)]


def _is_spec(module: str) -> bool:
    return module.endswith("_spec") or module.startswith("spec_")


def _layer(name: str) -> int | None:
    """Of a module of the store, or of what is taken from one."""
    parts = name.split(".")[1:]
    return next((LAYER_OF[each] for n in (2, 1) if (each := ".".join(parts[:n])) in LAYER_OF), None)


@pytest.mark.parametrize("path", _production(), ids=_name)
def test_store_imports_follow_the_layers(path: Path) -> None:
    if path.stem == "__init__":
        assert not _imports(path), "a package of the store takes nothing from its modules"
        return
    own = _layer(_name(path))
    assert own is not None, f"{path.name} has no place among the layers"
    for name in _imports(path):
        assert _top(name) not in {"harness", "refmodel", "tests"}, f"production code imports {name}"
        layer = _layer(name) if _top(name) == "shardstore" else None
        assert layer is None or layer >= own, f"{_name(path)} imports {name}, a layer above it"
        assert not any(map(_is_spec, name.split("."))), f"production code imports the spec {name}"


@pytest.mark.parametrize("path", [path for path in _modules("shardstore") if _is_spec(path.stem)], ids=_name)
def test_specs_know_the_front_of_the_harness_alone(path: Path) -> None:
    taken = {name.removeprefix("harness.") for name in _imports(path) if _top(name) == "harness"}
    assert taken <= {"harness", *harness.__all__}


@pytest.mark.parametrize("path", _modules("harness"), ids=_name)
def test_harness_knows_no_store(path: Path) -> None:
    assert not {_top(name) for name in _imports(path)} & {"shardstore", "refmodel", "tests"}


def _upward(root: Path) -> list[str]:
    """Imports within the harness that go up, or to its front; late ones and those for type checkers count."""
    found = []
    for path in sorted((root / "harness").rglob("*.py")):
        room = path.relative_to(root / "harness").parts[0]
        if room in FLOOR_OF:
            for name in _imports(path):
                parts = name.split(".")
                is_front = parts[0] == "harness" and (len(parts) == 1 or parts[1] not in FLOOR_OF)
                if parts[0] == "harness" and (is_front or FLOOR_OF[parts[1]] < FLOOR_OF[room]):
                    found.append(f"{path.relative_to(root)} imports {name}")
    return found


def test_every_room_of_the_harness_has_its_floor() -> None:
    rooms = {path.parent.relative_to(ROOT / "harness").parts[:1] for path in _modules("harness")} - {()}
    assert {room for (room,) in rooms} == FLOOR_OF.keys()


def test_imports_of_the_harness_run_downward_only() -> None:
    assert _upward(ROOT) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from harness.cli.main import main",
        "def late():\n    import harness.search.check",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from harness.scenario.scenario import Scenario",
        "from harness import Spec",
    ],
)
def test_an_import_that_goes_up_is_seen(planted: str, tmp_path: Path) -> None:
    (tmp_path / "harness" / "world").mkdir(parents=True)
    (tmp_path / "harness" / "world" / "planted.py").write_text(planted)
    assert len({line.split(" imports ")[0] for line in _upward(tmp_path)}) == 1


@pytest.mark.parametrize("path", _modules("refmodel"), ids=lambda path: path.stem)
def test_models_know_units_errors_and_protocols_only(path: Path) -> None:
    for name in _imports(path):
        assert _top(name) not in {"harness", "tests"}
        if _top(name) == "shardstore":
            assert name.split(".")[1] in {"units", "errors"}, name


BANNED = {"time", "datetime", "random", "secrets", "uuid", "threading", "asyncio", "multiprocessing", "queue"}


@pytest.mark.parametrize("path", _production(), ids=lambda path: path.stem)
def test_the_seam_is_the_only_way_out(path: Path) -> None:
    if path.stem == "seam":
        return
    used = {_top(name) for name in _imports(path)} & BANNED
    assert not used, f"{path.name} uses {used}; ask the Seam instead (shardstore/seam.py)"
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "id" not in names, f"{path.name} uses id(); nothing may depend on addresses"
    if path.stem not in {"file_disk", "system_calls"}:
        assert "os" not in {_top(name) for name in _imports(path)}


def _graph(paths: dict[str, Path]) -> dict[str, set[str]]:
    return {name: {each for each in _imports(path) if each in paths} - {name} for name, path in paths.items()}


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle, if there are any."""
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if circle := visit(target, [*above, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


def test_imports_have_no_circle() -> None:
    paths = {_name(path): path for package in ("shardstore", "refmodel", "harness") for path in _modules(package)}
    assert _circle(_graph(paths)) == []


def test_a_circle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def late():\n    import b")
    (tmp_path / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import x")
    assert _circle(_graph({"a": tmp_path / "a.py", "b": tmp_path / "b.py"})) == ["a", "b", "a"]
