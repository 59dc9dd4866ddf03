"""Check a store against an executable model of itself: random programs, crashes, minimal failures, replay.

What is imported here is the public interface, small and stable; everything else may change.

    from harness import Configuration, Crash, Operation, Spec, check, keys, payloads
"""

from harness.corpus.replay import replay
from harness.scenario.verdict import Answer, Mode, Verdict
from harness.search.check import check
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
    MediumShape,
    OnFile,
    Operation,
    Reboot,
    Spec,
    ViolationError,
    WriteBack,
)
from harness.trace.trace import Origin
from harness.trace.tracer import Tracer
from harness.world.medium import SimulatedMedium
from harness.world.world import World

__all__ = [
    "KEY_ALPHABET",
    "Answer",
    "Background",
    "Bounds",
    "Choose",
    "Configuration",
    "Crash",
    "Durability",
    "Generator",
    "MediumShape",
    "Mode",
    "OnFile",
    "Operation",
    "Origin",
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
]
