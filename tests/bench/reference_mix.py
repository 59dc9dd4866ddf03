"""Scenarios a second and core on the reference mix, against the same mix as a Hypothesis state machine, in one process.

The mix: 30 operations on average, more than half of them puts and deletes, each of flush, compaction, reclamation and
write-back at least once on average, one crash with recovery, whole contents compared after recovery and at the end.
Prints the rates, their ratio, and where the time of a scenario goes, by module.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from types import CodeType

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from harness.scenario.runner import record_scenario
from harness.scenario.verdict import Answer
from harness.search.check import Sample, check_sample
from harness.spec.generators import integers, keys, payloads
from harness.spec.plan import compile_plan
from harness.spec.spec import Background, Crash, Mode, Operation, Spec, WriteBack
from harness.testing.state_machine import state_machine
from shardstore import node_spec
from shardstore.chunk_frame import MAGIC, OVERHEAD_SIZE_BYTES
from shardstore.spec_world import PAGE_SIZE_BYTES, configurations

GOAL, FLOOR = 4_000, 1_750
GOAL_RATIO, FLOOR_RATIO = 15, 7
MIX_SAMPLE_COUNT = 200

VALUES = payloads(PAGE_SIZE_BYTES, overhead_bytes=OVERHEAD_SIZE_BYTES + 1, fragments=(MAGIC,))
MIX: Spec = replace(
    node_spec.one_disk(),
    name="reference mix",
    configurations=[each.without_knobs() for each in configurations()],
    interrupts=None,
    invariants=(),
    operations=(
        Operation("put", key=keys, value=VALUES, weight=14, writes="key"),
        Operation("delete", key=keys, weight=4, writes="key"),
        Operation("get", key=keys, weight=3),
        Background("flush", weight=2),
        Background("compact", weight=2),
        Background("reclaim", choice=integers(0, 2), weight=2),
        WriteBack(weight=3),
        Crash(flushes=("flush_buffers", "flush")),
        Background("flush_buffers"),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    parser.add_argument("--json", type=Path, help="write every figure")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"mix": describe_mix()}
    for mode in (Mode.CONFORMANCE, Mode.CRASH):
        figures[mode] = measure(mode, arguments.seconds)
    figures["asides"] = measure_asides(arguments.seconds)
    figures["share_of_time"] = profile()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


def describe_mix() -> dict[str, float]:
    """How often each operation comes up in a scenario with crashes; a check that the mix is what it says."""
    found: Counter[str] = Counter()
    for seed in range(MIX_SAMPLE_COUNT):
        run = record_scenario(compile_plan(MIX, MIX.configurations[0], Mode.CRASH), seed)
        found.update(step.operation for step in run.program.steps)
    means = {name: count / MIX_SAMPLE_COUNT for name, count in sorted(found.items())}
    print("mix   ", "  ".join(f"{name} {mean:.1f}" for name, mean in means.items()))
    return means


def measure(mode: Mode, seconds: float) -> dict[str, float]:
    """The runner and the state machine in turn, so that both meet the same noise."""
    runner_rate = machine_rate = 0.0
    for _ in range(2):
        runner_rate = max(runner_rate, measure_runner(mode, seconds / 4))
        machine_rate = max(machine_rate, measure_machine(mode, seconds / 4))
    ratio = runner_rate / machine_rate
    print(
        f"{mode:<12} {runner_rate:>7,.0f} scenarios a second and core (goal {GOAL:,}, floor {FLOOR:,}),"
        f" state machine {machine_rate:,.0f}: {ratio:.1f} times (goal {GOAL_RATIO}, floor {FLOOR_RATIO})"
    )
    return {"scenarios_per_second": runner_rate, "state_machine_per_second": machine_rate, "ratio": ratio}


def measure_runner(mode: Mode, seconds: float) -> float:
    verdict = check_sample(MIX, mode, Sample(seconds=seconds, has_asides=False), "zoned")
    if verdict.answer is Answer.VIOLATED:
        sys.exit(f"violated: {verdict.reason}")
    return verdict.counters.scenarios / verdict.seconds


def measure_asides(seconds: float) -> dict[str, float]:
    """Different crash states judged a second, in runs with asides and in runs without, in turn."""
    rates = {True: 0.0, False: 0.0}
    for _ in range(2):
        for has_asides in rates:
            started = time.process_time()
            verdict = check_sample(MIX, Mode.CRASH, Sample(seconds=seconds / 4, has_asides=has_asides), "zoned")
            rate = verdict.counters.crash_states.estimate() / (time.process_time() - started)
            rates[has_asides] = max(rates[has_asides], rate)
    print(
        f"asides       {rates[True]:>7,.0f} different crash states a second and core,"
        f" without asides {rates[False]:,.0f}: {rates[True] / rates[False]:.1f} times"
    )
    return {"states_per_second": rates[True], "without_asides": rates[False]}


def measure_machine(mode: Mode, seconds: float) -> float:
    machine = state_machine(compile_plan(MIX, MIX.configurations[0], mode))
    examples_count = 20
    while True:
        started = time.perf_counter()
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples_count,
                stateful_step_count=MIX.steps_mean,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
        elapsed = time.perf_counter() - started
        if elapsed >= seconds / 2:
            return examples_count / elapsed
        examples_count *= 2


def _module_of(code: CodeType | str) -> str:
    if isinstance(code, str):
        return f"built in {code}"
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.stem}"


def profile() -> dict[str, float]:
    """Share of the time spent in each module's own code, in crash mode, as the profiler sees it."""
    profiler = cProfile.Profile()
    profiler.runcall(check_sample, MIX, Mode.CRASH, Sample(scenarios=300, has_asides=False), "zoned")
    shares: dict[str, float] = defaultdict(float)
    total = 0.0
    for entry in profiler.getstats():
        shares[_module_of(entry.code)] += entry.inlinetime
        total += entry.inlinetime
    print("where the time goes, by module:")
    ranked = sorted(shares.items(), key=lambda share: -share[1])
    for module, seconds in ranked[:16]:
        print(f"  {100 * seconds / total:4.1f} %  {module}")
    return {module: seconds / total for module, seconds in ranked}


if __name__ == "__main__":
    sys.exit(main())
