"""Every spec of the `shardstore` that is imported, found as the command line finds them: none can be forgotten."""

from __future__ import annotations

from pathlib import Path

import shardstore
from harness.spec.loader import find_spec_files, load_specs
from harness.spec.spec import Spec

FOLDER = Path(shardstore.__file__).parent
SPECS: list[Spec] = [
    loaded.spec for path in find_spec_files([FOLDER.name], FOLDER.parent) for loaded in load_specs(path, FOLDER.parent)
]
# Not that of the disk itself, which orders nothing; of damage and geometries, without crashes; of a store, which the
# node's contains.
TRACED: list[Spec] = [spec for spec in SPECS if spec.name not in ("file disk", "damage", "geometry", "store")]
