"""``harness bugs``: runs planted bugs and prints which were caught."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cli.exit_status import EXIT_OK, EXIT_UNKNOWN, EXIT_VIOLATED
from harness.cli.report import make_console, print_plants
from harness.planted.bugs import PlantResult, run_plants
from harness.planted.plants import find_plants


def run_bugs(path: Path, seeds: int, seconds: float, confirm_seconds: float, jobs: int, json_path: Path | None) -> int:
    """Run the plants on the code in the current folder. Exit status 3 if any is unknown, else 0 if all are caught."""
    console = make_console()

    def report(result: PlantResult) -> None:
        said = "caught" if result.is_caught else "; ".join(result.problems())
        console.print(f"{result.plant.id}: {said}", soft_wrap=True)

    results = run_plants(
        find_plants(path),
        Path.cwd(),
        seeds=seeds,
        seconds=seconds,
        confirm_seconds=confirm_seconds,
        jobs=jobs,
        report=report,
    )
    console.print()
    print_plants(console, results)
    if json_path is not None:
        summary = {"seeds": seeds, "seconds": seconds, "plants": [_figures(result) for result in results]}
        json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if any(result.is_unknown for result in results):
        return EXIT_UNKNOWN
    return EXIT_OK if all(result.is_caught for result in results) else EXIT_VIOLATED


def _figures(result: PlantResult) -> dict[str, Any]:
    return {
        "id": result.plant.id,
        "component": result.plant.component,
        "spec": result.plant.spec,
        "mode": result.plant.mode,
        "property": result.plant.property,
        "minimum_operations": result.plant.minimum_operations,
        "caught": result.is_caught,
        "problems": result.problems(),
        "reached_share": result.reached_share(),
        "scenarios_median": result.scenarios_median(),
        "seconds_median": result.seconds_median(),
        "seconds_worst": result.seconds_worst(),
        "operations": result.operations(),
        "confirmed": result.confirmed(),
        "seeds": [asdict(seed) for seed in result.seeds],
    }
