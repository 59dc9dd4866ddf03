"""The second witness of the crash model: what the device may hold after a crash, seen from the graph alone.

Over all schedules of the IO scheduler the device states that can be reached equal the downward-closed sets of the
graph, times tears; and in every traced run no write is issued before a barrier has passed what it waits for. A
difference is a scheduler's bug: three are planted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from every_spec import TRACED
from hypothesis import given, settings
from write_graphs import EXTENT_COUNT, PAGE_SIZE_BYTES, Asked, Submitting, graphs

from harness.audit.crash_sets import crash_states
from harness.audit.judge import State, contents
from harness.audit.schedules import Limits, Span, explore
from harness.choices.program import Program, Step
from harness.choices.random_policy import random_tape
from harness.planted.plants import plant_tree, read_plant
from harness.spec.device import DeviceModel, MediumShape
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Background, Configuration, Crash, Durability, Mode, Spec, WriteBack
from harness.trace.closure import Closure, in_issue_order
from harness.trace.trace import Node, Trace
from harness.trace.traced_run import run_traced
from harness.trace.witness import order_violations
from harness.world.devices import ALL, ZONED
from shardstore import extents_spec
from shardstore.spec_trace import trace_scheduler

ROOT = Path(__file__).parent.parent.parent
STEPS_MAX = 12


class Nothing:
    """A model of nothing."""


def _plan(graph: tuple[Asked, ...], *, device: DeviceModel) -> Plan:
    shape = MediumShape(EXTENT_COUNT, 8, PAGE_SIZE_BYTES, device)
    spec = Spec(
        "submitting",
        system=Submitting,
        model=Nothing,
        operations=[Background("submit"), WriteBack(steps_max=STEPS_MAX), Crash()],
        configurations=[Configuration("only", (shape,), graph)],
        durability=Durability(read=lambda subject, key: None, settle=lambda model, key, outcome: None),
        trace=lambda stack, tracer: trace_scheduler(stack.scheduler, tracer),
    )
    return compile_plan(spec, spec.configurations[0], Mode.CRASH)


PROGRAM = Program((Step(1, "submit"), Step(2, "write_back", {"steps.0": STEPS_MAX - 1}), Step(3, "crash")))

Contents = tuple[tuple[bytes, ...], ...]


def _reached(plan: Plan) -> tuple[set[Contents], Trace]:
    """All device states of all schedules, and the trace of the first, in which everything is issued and persistent."""
    limits = Limits(100_000, 60)
    states: set[Contents] = set()
    first: Trace | None = None
    for explored in explore(plan, PROGRAM, Span(0, 3), limits):
        trace = explored.life.trace
        first = first or trace
        for crash in crash_states(trace, plan.configuration.media, explored.known, limits):
            states.add(contents(trace, crash.state, plan.configuration.media))
    assert not limits.reached
    assert first is not None
    return states, first


def _closed(trace: Trace, shape: MediumShape) -> set[Contents]:
    """All downward-closed sets, by trying every set there is, with every part of every write."""
    closure = Closure(trace, [shape.device.survives_in_order])
    nodes = in_issue_order(trace)
    found: set[Contents] = set()
    for fates in product(*[_fates(node, shape) for node in nodes]):
        whole = sum(1 << node.number for node, fate in zip(nodes, fates, strict=True) if fate is True)
        parts = {node.number: fate for node, fate in zip(nodes, fates, strict=True) if not isinstance(fate, bool)}
        state = State(whole, parts)
        if closure.is_closed(whole, state.torn):
            found.add(contents(trace, state, [shape]))
    return found


def _fates(node: Node, shape: MediumShape) -> Iterator[bool | tuple[int, ...]]:
    yield from (True, False)
    count = len(node.data or b"") // shape.unit_size_bytes
    for mask in range(1, (1 << count) - 1):
        units = tuple(unit for unit in range(count) if mask >> unit & 1)
        if not shape.device.tears_in_order or units == tuple(range(len(units))):
            yield units


@pytest.mark.parametrize("device", ALL, ids=lambda device: device.name)
@given(graph=graphs())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_what_can_be_reached_is_what_is_closed(device: DeviceModel, graph: tuple[Asked, ...]) -> None:
    plan = _plan(graph, device=device)
    reached, trace = _reached(plan)
    assert all(node.passed is not None for node in trace.nodes)
    assert reached == _closed(trace, plan.configuration.media[0])


def test_a_graph_without_edges_has_more_states_than_one_with() -> None:
    """The comparison can see an edge."""
    loose = (Asked(0, 1, ()), Asked(1, 1, ()))
    bound = (Asked(0, 1, ()), Asked(1, 1, (0,)))
    assert len(_reached(_plan(loose, device=ZONED))[0]) == 4
    assert len(_reached(_plan(bound, device=ZONED))[0]) == 3


# --- whole specs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", TRACED, ids=lambda spec: spec.name)
def test_in_no_traced_run_does_the_device_see_a_breach(spec: Spec) -> None:
    for configuration in spec.configurations:
        plan = compile_plan(spec, configuration, Mode.CRASH)
        edges_count = 0
        for seed in range(60):
            lives, failure = run_traced(plan, random_tape(seed))
            assert failure is None
            for life in lives:
                assert order_violations(life.trace) == []
                edges_count += len(life.trace.edges)
        assert edges_count > 100


# --- red --------------------------------------------------------------------------------------------

IN_PLANTED_TREE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import shardstore.io_scheduler
import test_crash_model as here
print(json.dumps({"file": shardstore.io_scheduler.__file__, **here.what_a_plant_shows()}))
"""


def what_a_plant_shows() -> dict[str, object]:
    """Run in a fresh process whose packages are the planted ones."""
    plan = compile_plan(extents_spec.SPEC, extents_spec.SPEC.configurations[0], Mode.CRASH)
    lives = [life for seed in range(80) for life in run_traced(plan, random_tape(seed))[0]]
    bound = _plan((Asked(0, 1, ()), Asked(1, 1, (0,))), device=ZONED)
    reached, trace = _reached(bound)
    return {
        "rules": sorted({violation.place for life in lives for violation in order_violations(life.trace)}),
        "equal": reached == _closed(trace, bound.configuration.media[0]),
    }


@pytest.mark.parametrize("plant_id", ["scheduler-early", "scheduler-issued", "scheduler-no-barrier"])
def test_a_planted_scheduler_bug_is_seen_from_the_graph(plant_id: str, tmp_path: Path) -> None:
    plant_tree(read_plant(ROOT / "tests" / "planted" / f"{plant_id}.toml"), ROOT, tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-c", IN_PLANTED_TREE, str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert Path(shown["file"]).is_relative_to(tmp_path)
    assert "issued early" in shown["rules"]
    assert not shown["equal"]
    if plant_id != "scheduler-early":
        assert "called persistent early" in shown["rules"]
