"""The rare events of the store's specs: each has its place in the code, and to see them changes nothing."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from every_spec import SPECS

import shardstore
from harness.choices.random_policy import random_tape
from harness.scenario.runner import run_plan
from harness.scenario.verdict import Counters
from harness.search.reach import misplaced, reach_of
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Mode, Spec

FOLDER = str(Path(shardstore.__file__).parent)
WITH_EVENTS = [pytest.param(spec, id=spec.name) for spec in SPECS if spec.events]


@pytest.mark.parametrize("spec", WITH_EVENTS)
def test_every_event_has_its_place(spec: Spec) -> None:
    assert not misplaced(spec.events)


@pytest.mark.parametrize("spec", WITH_EVENTS)
def test_no_line_of_the_store_comes_more_often(spec: Spec) -> None:
    """Interrupts come at the n-th line: a case must mean the same place where nobody counts events."""
    for configuration in spec.configurations[:1]:
        # Interrupts and overlaps never meet, and a trace function does not follow from one of two calls to the other.
        plan = compile_plan(replace(spec, overlaps=None), configuration, Mode.CRASH)
        for seed in range(2):
            lines_of_run(plan, seed)  # of the first run a plan learns something, such as how knobs are turned
            before = lines_of_run(plan, seed)
            with reach_of(spec):
                assert lines_of_run(plan, seed) == before


def lines_of_run(plan: Plan, seed: int) -> int:
    """A sum over all lines of the store that one scenario runs, in their order."""
    total = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal total
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":  # and not the end of a generator, which comes when memory is collected
            total = hash((total, frame.f_code.co_qualname, frame.f_lineno))
        return trace

    previous = sys.gettrace()
    gc.collect()
    gc.disable()  # as where interrupts are counted: what it finds ends at any place
    sys.settrace(trace)
    try:
        run_plan(plan, random_tape(seed), Counters())
    finally:
        sys.settrace(previous)
        gc.enable()
    return total
