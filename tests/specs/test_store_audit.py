"""The audit of the store: it names the edge that a plant has removed, and knows needed edges from a needless one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from every_spec import TRACED

from harness.choices.program import Program
from harness.choices.random_policy import random_tape
from harness.planted.plants import Plant, parse_plant, plant_tree, read_plant
from harness.scenario.runner import run_plan
from harness.scenario.verdict import Counters
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode, Spec
from harness.trace.traced_run import run_traced
from harness.world.interruption import Where

ROOT = Path(__file__).parent.parent.parent
PLANTED = ROOT / "tests" / "planted"

PAGES, RUN_PAGES, VALUE_PAGES = "disk (pages)", "disk (run pages)", "disk (value pages)"
POINTER, RUN_POINTER, VALUE_POINTER = [f"superblock ({about}soft pointer)" for about in ("", "run ", "value ")]
EDIT = "metadata log (flush edit)"


def _planted(plant: Plant, folder: Path) -> Path:
    folder.mkdir()
    plant_tree(plant, ROOT, folder)
    return folder


def _audit(folder: Path, *arguments: str, status: int = 0, hash_seed: int = 0) -> tuple[dict[str, Any], str]:
    """Figures and output of the command, run in a fresh process on the packages in the folder."""
    path = ["PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)])]
    environment = {**os.environ, path[0]: path[1], "PYTHONHASHSEED": str(hash_seed)}
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "harness", "audit", *arguments, "--json", str(figures)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(figures.read_text()), done.stdout


# --- what a failure lacks ---------------------------------------------------------------------------


class Lacking(NamedTuple):
    """The minimal case of a plant, as ``harness bugs`` records it, and the edge that the plant removed."""

    spec: str
    program: str
    after: str
    before: str

    def case(self) -> str:
        header = ["harness case 1", f"spec: shardstore/{self.spec}_spec.py", f"name: {self.spec}"]
        header += ["configuration: zoned", "mode: crash", *self.breaks()]
        return "\n".join([*header, "", *self.program.split("; ")]) + "\n"

    def breaks(self) -> tuple[str, str]:
        if not self.after:
            return "property: persistence", "place: outcome"
        if self.spec == "node":
            return "property: persistence", "place: CorruptionError in RunReader._block"
        where = "SuperblockStack._recover" if "superblock reset" in self.after else "Extents._recover_zoned"
        return "property: recovery", f"place: CorruptionError in {where}"


LACKING = {
    "fig5-06": Lacking(
        "extents",
        "1 reboot; 11 append; 12 write_back; 19 crash",
        PAGES,
        "superblock (owner)",
    ),
    "fig5-07": Lacking(
        "extents",
        "1 append; 2 sync; 3 reset; 4 write_back; 5 crash",
        "disk (reset)",
        "superblock (emptied)",
    ),
    "fig5-08": Lacking(
        "node",
        "5 delete; 7 sync device.1=1; 10 crash",
        EDIT,
        POINTER,
    ),
    "log-turn-early": Lacking(
        "extents",
        "10 reboot; 13 append; 14 write_back device.0=1 steps.0=1; 18 crash",
        "disk (superblock reset)",
        "disk (superblock full record)",
    ),
    "pointer-early": Lacking(
        "extents",
        "19 append; 20 write_back steps.0=1; 23 crash",
        POINTER,
        PAGES,
    ),
    "scheduler-no-barrier": Lacking("extents", "1 append; 2 sync; 4 crash survivor.2.2=2", "", ""),
}


def _planted_with_case(plant_id: str, folder: Path) -> Path:
    tree = _planted(read_plant(PLANTED / f"{plant_id}.toml"), folder / plant_id)
    (tree / "found.case").write_text(LACKING[plant_id].case())
    return tree


@pytest.mark.parametrize("plant_id", [name for name, lacking in LACKING.items() if lacking.after])
def test_the_mend_is_the_edge_that_the_plant_removed(plant_id: str, tmp_path: Path) -> None:
    figures, said = _audit(_planted_with_case(plant_id, tmp_path), "found.case")
    _, _, after, before = LACKING[plant_id]
    assert [(edge["after"], edge["before"]) for edge in figures["edges"]] == [(after, before)]
    assert f"{after}  must wait for\n  {before}\n" in said
    assert figures["before"]["failing"] > 0
    assert (figures["after"]["failing"], figures["after"]["complete"]) == (0, True)


def test_where_the_scheduler_is_wrong_no_edge_is_lacking(tmp_path: Path) -> None:
    figures, said = _audit(_planted_with_case("scheduler-no-barrier", tmp_path), "found.case", status=3)
    assert not figures["edges"]
    assert figures["order_violations"][0]["place"] == "issued early"
    assert "issued early" in said


def test_of_a_case_that_is_fixed_nothing_is_said(tmp_path: Path) -> None:
    case = ROOT / "fuzz_corpus" / "node-crash-persistence-22f1b6af.case"
    figures, _ = _audit(_planted(read_plant(PLANTED / "fig5-07.toml"), tmp_path / "tree"), str(case), status=3)
    assert "does not fail" in figures["reason"]


# --- what could go ----------------------------------------------------------------------------------

EMPTIED = "superblock (value emptied)"

# What a plant takes away, of the clean store, on a zoned disk.
NEEDED = {
    "fig5-06, of values": (VALUE_PAGES, "superblock (value owner)"),
    "fig5-06, of runs": (RUN_PAGES, "superblock (run owner)"),
    "fig5-07": ("disk (value reset)", EMPTIED),
    "fig5-08": (EDIT, RUN_POINTER),
    "pointer-early": (RUN_POINTER, RUN_PAGES),
    "run-before-values": (EDIT, VALUE_POINTER),
    "reset-unsettled": (EMPTIED, EDIT),
    "put": ("put (is called persistent)", EDIT),
}


def _needs(figures: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    (audit,) = figures["audits"]
    assert not audit["wrong"]
    return {(kind["after"], kind["before"]): kind for kind in audit["kinds"]}


def test_the_edges_that_plants_remove_are_needed_on_the_clean_store(tmp_path: Path) -> None:
    figures, said = _audit(tmp_path, str(ROOT / "shardstore/node_spec.py"), "--config", "zoned", "--scenarios", "60")
    kinds = _needs(figures)
    assert {name: kinds[kind]["need"] for name, kind in NEEDED.items()} == dict.fromkeys(NEEDED, "needed")
    assert all(kinds[kind]["example"]["property"] in {"persistence", "recovery"} for kind in NEEDED.values())
    assert kinds["disk (metadata full record)", RUN_PAGES]["need"] == "implied"
    assert "needed: some crash state fails" in said


NEEDLESS = """
id = "needless"
component = "extents"
story = "an append waits for the pages of the append before it, whatever extent that went to"
spec = "shardstore/node_spec.py"
mode = "crash"
property = "none"
minimum_operations = 1

[[replace]]
file = "shardstore/extents.py"
old = 'after & extent.ownership, "pages")  # EXT-1'
new = 'after & extent.ownership & self._before, "pages")'

[[replace]]
file = "shardstore/extents.py"
old = '''        extent.next_page = extent.soft_pages = end
'''
new = '''        extent.next_page = extent.soft_pages = end
        self._before = write
'''

[[replace]]
file = "shardstore/extents.py"
old = '''        self._free: SortedList[int] = SortedList()'''
new = '''        self._before: Dependency = PERSISTENT
        self._free: SortedList[int] = SortedList()'''
"""


def test_an_edge_that_nothing_needs_is_reported(tmp_path: Path) -> None:
    tree = _planted(parse_plant(NEEDLESS, "needless"), tmp_path / "tree")
    figures, _ = _audit(tree, "shardstore/node_spec.py", "--config", "zoned", "--scenarios", "40")
    kinds = _needs(figures)
    planted = kinds[RUN_PAGES, VALUE_PAGES]
    assert planted["need"] == "possibly needless"
    assert planted["states"] > 0
    assert planted["trials"] == 40
    assert planted["trials_effective"] > 0
    assert {name: kinds[kind]["need"] for name, kind in NEEDED.items()} == dict.fromkeys(NEEDED, "needed")


@pytest.mark.nightly
def test_what_only_a_run_without_the_edge_shows_is_needed(tmp_path: Path) -> None:
    """On a file an extent's reset does nothing to its bytes; but an extent that is free too soon is used too soon."""
    figures, said = _audit(tmp_path, str(ROOT / "shardstore/node_spec.py"), "--config", "file", "--scenarios", "60")
    kind = _needs(figures)[NEEDED["fig5-07"]]
    assert kind["need"] == "needed"
    assert kind["states"] > 0
    assert 0 < kind["trials"] <= 60
    assert "without them scenario" in said


def test_an_audit_is_the_same_whatever_the_hash_seed(tmp_path: Path) -> None:
    arguments = (str(ROOT / "shardstore/extents_spec.py"), "--scenarios", "6")
    answers = []
    for hash_seed in (1, 2):
        figures, _ = _audit(tmp_path, *arguments, hash_seed=hash_seed)
        for audit in figures["audits"]:
            del audit["seconds"]
        answers.append(figures)
    assert answers[0] == answers[1]


# --- tracing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", TRACED, ids=lambda spec: spec.name)
def test_a_traced_run_is_the_run_without_a_tracer(spec: Spec) -> None:
    plan = compile_plan(spec, spec.configurations[0], Mode.CRASH)
    compared_count = 0
    for seed in range(20):
        plain, traced = random_tape(seed, recording=True), random_tape(seed, recording=True)
        assert run_plan(plan, plain, Counters()) is None
        _, failure = run_traced(plan, traced)
        assert failure is None
        if not _is_interrupted_at_a_line(plain.program()):  # of lines, the observer's count too
            assert traced.program() == plain.program()
            compared_count += 1
    assert compared_count >= 8


def _is_interrupted_at_a_line(program: Program) -> bool:
    return any(step.choices.get("interrupt.0") == Where.LINE for step in program.steps)


def test_a_spec_without_a_trace_can_not_be_audited(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "audit", "tests/toys/sample/samplestore"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
