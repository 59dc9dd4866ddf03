"""``harness check``: runs checks, then shrinks, saves and explains each distinct failure once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.choices.program import operation_count
from harness.cli.exit_status import exit_status_of
from harness.cli.reach_table import Reached, print_reached, reached_by
from harness.cli.report import Progress, figures, make_console, print_verdicts
from harness.fleet.budget import Budget
from harness.scenario.verdict import Verdict
from harness.search.campaign import CheckJob, list_checks, run_checks
from harness.search.check import Sample
from harness.search.reach import hold_to_reach
from harness.shrink.failure import Failure, case_of, save_failure, shrink_failure
from harness.spec.loader import LoadedSpec, find_configuration, find_spec_files, load_spec, load_specs
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode, Spec

if TYPE_CHECKING:
    from rich.console import Console


class Found(NamedTuple):
    """One distinct failure, and the verdict that it comes from."""

    verdict: Verdict
    failure: Failure


def check_specs(
    arguments: Sequence[str],
    mode: Mode | None,
    configuration: str | None,
    sample: Sample,
    budget: Budget,
    json_path: Path | None,
    corpus: Path,
) -> int:
    """Check the specs that the arguments name, print the outcome, and give the exit status."""
    folder = Path.cwd()
    console = make_console()
    loaded = [each for path in find_spec_files(arguments, folder) for each in load_specs(path, folder)]
    jobs = list_checks(loaded, lambda spec: _modes(spec, mode), configuration)
    with Progress(console, jobs) as progress:
        verdicts = run_checks(jobs, sample, budget, folder, progress)
    verdicts, reached = _reached(loaded, jobs, verdicts)
    paths = [job.path for job in jobs]
    found = [_keep(path, verdict, corpus, folder) for path, verdict in distinct(paths, verdicts)]
    print_verdicts(console, verdicts)  # only now: a reader who stops reading must not keep failures from being saved
    print_reached(console, reached)
    for each in found:
        _explain(console, each.failure)
    if json_path is not None:
        json_path.write_text(json.dumps(_summary(verdicts, found, sample, budget), indent=2) + "\n", encoding="utf-8")
    return exit_status_of([verdict.answer for verdict in verdicts])


def _reached(
    loaded: Sequence[LoadedSpec], jobs: Sequence[CheckJob], verdicts: Sequence[Verdict]
) -> tuple[list[Verdict], list[Reached]]:
    """The verdicts, held to what their specs say should be reached; and by spec what was."""
    held, reached = list(verdicts), []
    for each in loaded:
        places = [at for at, job in enumerate(jobs) if (job.path, job.spec) == (each.path, each.spec.name)]
        for at, verdict in zip(places, hold_to_reach(each.spec, [verdicts[at] for at in places]), strict=True):
            held[at] = verdict
        if places:
            reached.append(reached_by(each.spec, [verdicts[at] for at in places]))
    return held, reached


def _modes(spec: Spec, mode: Mode | None) -> list[Mode]:
    """The mode asked for, or else every mode that the spec has steps for."""
    return spec.modes if mode is None else [mode]


def distinct(paths: Sequence[str], verdicts: Sequence[Verdict]) -> list[tuple[str, Verdict]]:
    """The violated verdicts with the paths of their specs; of each spec and mode, every signature once."""
    found: dict[tuple[object, ...], tuple[str, Verdict]] = {}
    for path, verdict in zip(paths, verdicts, strict=True):
        if verdict.run is not None and verdict.run.violation is not None:
            found.setdefault((path, verdict.spec, verdict.mode, verdict.run.violation.signature), (path, verdict))
    return list(found.values())


def _keep(path: str, verdict: Verdict, corpus: Path, folder: Path) -> Found:
    """Shrink one failure and save it."""
    assert verdict.run is not None
    each = load_spec(path, verdict.spec, folder)
    plan = compile_plan(each.spec, find_configuration(each.spec, verdict.configuration), verdict.mode)
    case = case_of(path, plan, verdict.run, verdict.seed, verdict.scenario)
    return Found(verdict, save_failure(shrink_failure(plan, verdict.run, case), plan, corpus))


def _explain(console: Console, failure: Failure) -> None:
    """Print one failure."""
    console.print()
    console.print(failure.sequence(), soft_wrap=True)
    if failure.trouble:
        console.print(failure.trouble, style="yellow", soft_wrap=True)


def _summary(verdicts: Sequence[Verdict], found: Sequence[Found], sample: Sample, budget: Budget) -> dict[str, Any]:
    return {
        "budget": {**asdict(sample), "seconds": budget.seconds, "jobs": budget.workers},
        "checks": [figures(verdict) for verdict in verdicts],
        "failures": [_figures_of(each) for each in found],
    }


def _figures_of(found: Found) -> dict[str, Any]:
    verdict, failure = found
    shrunk = failure.shrunk
    return {
        "case": str(failure.path),
        "spec": failure.case.spec,
        "name": failure.case.name,
        "mode": failure.case.mode,
        "configuration": failure.case.configuration,
        "property": failure.case.property,
        "place": failure.case.place,
        "operations_found": operation_count(verdict.run.program) if verdict.run else None,
        "operations": operation_count(failure.case.program),
        "one_minimal": shrunk.one_minimal if shrunk else False,
        "shrink_seconds": shrunk.seconds if shrunk else None,
        "shrink_passes": {name: asdict(counters) for name, counters in shrunk.passes.items()} if shrunk else {},
    }
