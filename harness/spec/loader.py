"""Finding specs: from the arguments that a person types to the `Spec` values of a file.

The loader imports a spec's file under its full module name. For that it puts the folder above the file's topmost
package first on ``sys.path``. So an import in a spec means the code beside that spec, even if another copy is
installed. A copy that was imported earlier from elsewhere is an error, never used silently.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from harness.spec.spec import BOUNDED, Configuration, Spec

SPEC_FILE_PATTERN = "*_spec.py"
_SKIPPED_FOLDERS = frozenset({"tests", "test", "build", "dist", "node_modules", "__pycache__"})


class SpecLoadError(Exception):
    """A spec cannot be found or imported. The message is one line for people."""


class SpecMissingError(SpecLoadError):
    """A file, spec or configuration does not exist; the rest of the project may still be fine."""


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec and the file it came from. ``path`` is relative where possible, so that it is the same on all machines."""

    path: str
    spec: Spec


def find_spec_files(arguments: Sequence[str], folder: Path) -> list[Path]:
    """The files that the arguments name; without arguments, all spec files of the packages in ``folder``.

    Raises `SpecMissingError` for a name that does not exist, else `SpecLoadError` if there is nothing to load.
    """
    if not arguments:
        found = sorted(_below_packages(folder))
        if not found:
            raise SpecLoadError(f"no {SPEC_FILE_PATTERN} in any package below {folder}")
        return found
    files: dict[Path, None] = {}
    for argument in arguments:
        for path in _named(argument, folder):
            files[path.resolve()] = None
    return list(files)


def _below_packages(folder: Path) -> Iterable[Path]:
    for package in folder.iterdir():
        if not _is_skipped(package.name) and (package / "__init__.py").is_file():
            yield from _spec_files(package)


def _spec_files(folder: Path) -> list[Path]:
    """Spec files below ``folder``. Only folders below it may be skipped: ``folder`` itself was asked for by name."""
    return sorted(
        path
        for path in folder.rglob(SPEC_FILE_PATTERN)
        if not any(map(_is_skipped, path.relative_to(folder).parts[:-1]))
    )


def _is_skipped(name: str) -> bool:
    return name in _SKIPPED_FOLDERS or name.startswith(".")


def _named(argument: str, folder: Path) -> list[Path]:
    path = folder / argument
    if path.is_dir():
        found = _spec_files(path)
        if not found:
            raise SpecLoadError(f"{argument}: no {SPEC_FILE_PATTERN} in this folder")
        return found
    if not path.is_file():
        raise SpecMissingError(f"{argument}: no such file or folder")
    if path.suffix != ".py":
        raise SpecLoadError(f"{argument}: not a Python file")
    return [path]


def load_specs(path: Path, folder: Path) -> list[LoadedSpec]:
    """Import one spec file and give every `Spec` at its module level, in the file's order. Raises `SpecLoadError`."""
    shown = display_path(path, folder)
    module = _import(path.resolve(), shown)
    specs: dict[str, Spec] = {}
    for value in vars(module).values():
        if not isinstance(value, Spec) or specs.get(value.name) is value:  # one spec may have two variables
            continue
        if value.name in specs:
            raise SpecLoadError(f"{shown}: two specs are named {value.name!r}")
        specs[value.name] = value
    if not specs:
        raise SpecLoadError(f"{shown}: no Spec at module level")
    return [LoadedSpec(shown, spec) for spec in specs.values()]


def load_spec(path: str, name: str, folder: Path) -> LoadedSpec:
    """The spec of this name in this file; a bounded spec is made from its plain one. Raises `SpecMissingError`."""
    (file,) = _named(path, folder)[:1]
    loaded = load_specs(file, folder)
    for each in loaded:
        if each.spec.name == name:
            return each
        if each.spec.bounds is not None and each.spec.name + BOUNDED == name:
            return LoadedSpec(each.path, each.spec.bounded())
    raise SpecMissingError(f"{path}: no spec named {name!r}; it has {', '.join(each.spec.name for each in loaded)}")


def file_of(spec: Spec) -> Path | None:
    """The file that has this very spec at its module level, so that `load_spec` finds it; None if none was imported.

    Of several it is the spec file, and then the module of the function that opens the system.
    """
    own = getattr(spec.system, "__module__", None)
    found = [
        (not Path(file).match(SPEC_FILE_PATTERN), name != own, Path(file).resolve())
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None)) and any(value is spec for value in list(vars(module).values()))
    ]
    return min(found)[-1] if found else None


def find_configuration(spec: Spec, name: str) -> Configuration:
    for configuration in spec.configurations:
        if configuration.name == name:
            return configuration
    known = ", ".join(configuration.name for configuration in spec.configurations)
    raise SpecMissingError(f"spec {spec.name}: no configuration named {name!r}; it has {known}")


def display_path(path: Path, folder: Path) -> str:
    resolved, base = path.resolve(), folder.resolve()
    return resolved.relative_to(base).as_posix() if resolved.is_relative_to(base) else resolved.as_posix()


def module_name(path: Path) -> tuple[str, Path]:
    """The dotted name of a file's module, and the folder that must be on ``sys.path`` for it."""
    parts = [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        parts.append(root.name)
        root = root.parent
    return ".".join(reversed(parts)), root


def _import(path: Path, shown: str) -> ModuleType:
    name, root = module_name(path)
    if sys.path[:1] != [str(root)]:  # also when it is on the path already: another copy must not come before it
        sys.path[:] = [str(root), *(entry for entry in sys.path if entry != str(root))]
    importlib.invalidate_caches()  # the file may be newer than Python's listing of its folder
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a spec file may do anything at import, but it does not end the run
        raise SpecLoadError(f"{shown}: {_where(error)}{type(error).__name__}: {_first_line(error)}") from error
    origin = getattr(module, "__file__", None)
    if origin is None or Path(origin).resolve() != path:
        raise SpecLoadError(f"{shown}: module {name} was already imported from {origin}")
    return module


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    if isinstance(error, SyntaxError) or not outside:
        return ""
    return f"line {outside[-1].lineno} of {Path(outside[-1].filename).name}: "


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
