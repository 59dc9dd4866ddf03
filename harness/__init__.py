"""Check a store against an executable model of itself: random programs, crashes, minimal failures, replay.

The names imported here are the public interface, which is small and stable. Everything else may change.

    from harness import Configuration, Crash, Operation, Spec, check, keys, payloads
"""

from typing import Any
from unittest import TestCase

from harness.corpus.replay import replay
from harness.scenario.verdict import Answer, Verdict
from harness.search.check import check
from harness.spec.device import DeviceMisuseError, DeviceModel, Entry, Loss, MediumShape, whole_loss
from harness.spec.events import Event
from harness.spec.generators import (
    KEY_ALPHABET,
    Choose,
    Generator,
    integers,
    keys,
    keys_from,
    lists_of,
    payloads,
    results_of,
    sampled,
)
from harness.spec.spec import (
    Background,
    Bounds,
    Configuration,
    Crash,
    Durability,
    Fault,
    Interrupts,
    Knob,
    Mode,
    OnFile,
    Operation,
    Overlaps,
    Reboot,
    Spec,
    ViolationError,
    WriteBack,
    make_tests_with,
)
from harness.spec.tracing import Origin, Tracer
from harness.world.devices import BLOCK, FILE, ZONED
from harness.world.medium import SimulatedMedium
from harness.world.world import World


def _as_test(spec: Spec, **options: Any) -> type[TestCase]:
    """Import Hypothesis only for callers who ask for tests: the import takes half a second."""
    from harness.testing.as_test import as_test

    return as_test(spec, **options)


make_tests_with(_as_test)

__all__ = [
    "BLOCK",
    "FILE",
    "KEY_ALPHABET",
    "ZONED",
    "Answer",
    "Background",
    "Bounds",
    "Choose",
    "Configuration",
    "Crash",
    "DeviceMisuseError",
    "DeviceModel",
    "Durability",
    "Entry",
    "Event",
    "Fault",
    "Generator",
    "Interrupts",
    "Knob",
    "Loss",
    "MediumShape",
    "Mode",
    "OnFile",
    "Operation",
    "Origin",
    "Overlaps",
    "Reboot",
    "SimulatedMedium",
    "Spec",
    "Tracer",
    "Verdict",
    "ViolationError",
    "World",
    "WriteBack",
    "check",
    "integers",
    "keys",
    "keys_from",
    "lists_of",
    "payloads",
    "replay",
    "results_of",
    "sampled",
    "whole_loss",
]
