"""``harness check``: runs checks, then shrinks, saves and explains each distinct failure once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.choices.program import operation_count
from harness.cli.exit_status import exit_status_of
from harness.cli.reach_table import Reached, print_reached, reached_by
from harness.cli.report import Progress, figures, make_console, print_verdicts, replay_command
from harness.corpus.case_file import Case, file_name, format_case
from harness.corpus.saving import save_case
from harness.fleet.budget import Budget
from harness.scenario.failing_sequence import comments, failing_sequence
from harness.scenario.runner import replay_program
from harness.scenario.verdict import Run, Verdict
from harness.search.campaign import CheckJob, list_checks, run_checks
from harness.search.check import Sample
from harness.search.reach import hold_to_reach
from harness.shrink.shrink import NotReproducedError, ShrinkResult, shrink
from harness.spec.loader import LoadedSpec, find_configuration, find_spec_files, load_spec, load_specs
from harness.spec.plan import compile_plan
from harness.spec.spec import Mode, Spec

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Found:
    """One distinct failure, after shrinking and saving."""

    verdict: Verdict
    case: Case
    path: Path
    shrunk: ShrinkResult | None
    run: Run
    trouble: str = ""  # why it was not shrunk, or not saved


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
    found = [_save(path, verdict, corpus, folder) for path, verdict in distinct(paths, verdicts)]
    print_verdicts(console, verdicts)  # only now: a reader who stops reading must not keep failures from being saved
    print_reached(console, reached)
    for each in found:
        _explain(console, each)
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


def _save(path: str, verdict: Verdict, corpus: Path, folder: Path) -> Found:
    """Shrink one failure and save it. If shrinking does not come to its end, save it as it was found."""
    assert verdict.run is not None
    assert verdict.run.violation is not None
    each = load_spec(path, verdict.spec, folder)
    plan = compile_plan(each.spec, find_configuration(each.spec, verdict.configuration), verdict.mode)
    shrunk, run, trouble = None, verdict.run, ""
    try:
        shrunk = shrink(plan, run.program, verdict.run.violation)
        run = replay_program(plan, shrunk.program, strict=True)
    except NotReproducedError as error:
        trouble = f"not shrunk: {error}; the system is not deterministic"
    except KeyboardInterrupt:
        trouble = "not shrunk: interrupted"
    case = case_of(path, verdict, run)
    try:
        saved = save_case(case, comments(run.events), corpus, folder)
    except OSError as error:
        saved = corpus / file_name(case, 1)
        trouble = f"not saved: {error.filename}: {error.strerror}; the case is\n\n{format_case(case)}"
    return Found(verdict, case, saved, shrunk, run, trouble)


def _explain(console: Console, found: Found) -> None:
    """Print one failure."""
    verdict = found.verdict
    console.print()
    text = failing_sequence(
        found.run,
        spec=f"{verdict.spec} ({found.case.spec})",
        mode=verdict.mode,
        configuration=verdict.configuration,
        one_minimal=found.shrunk.one_minimal if found.shrunk else None,
        command=replay_command(found.path),
    )
    console.print(text, soft_wrap=True)
    if found.trouble:
        console.print(found.trouble, style="yellow", soft_wrap=True)


def case_of(path: str, verdict: Verdict, run: Run) -> Case:
    """The case that saves a failing run."""
    violation = run.violation
    assert violation is not None
    return Case(
        path,
        verdict.spec,
        verdict.configuration,
        verdict.mode,
        violation.property,
        violation.place,
        run.program,
        seed=verdict.seed,
        scenario=verdict.scenario,
    )


def _summary(verdicts: Sequence[Verdict], found: Sequence[Found], sample: Sample, budget: Budget) -> dict[str, Any]:
    return {
        "budget": {**asdict(sample), "seconds": budget.seconds, "jobs": budget.workers},
        "checks": [figures(verdict) for verdict in verdicts],
        "failures": [_figures_of(each) for each in found],
    }


def _figures_of(each: Found) -> dict[str, Any]:
    shrunk = each.shrunk
    return {
        "case": str(each.path),
        "spec": each.case.spec,
        "name": each.case.name,
        "mode": each.case.mode,
        "configuration": each.case.configuration,
        "property": each.case.property,
        "place": each.case.place,
        "operations_found": operation_count(each.verdict.run.program) if each.verdict.run else None,
        "operations": operation_count(each.case.program),
        "one_minimal": shrunk.one_minimal if shrunk else False,
        "shrink_seconds": shrunk.seconds if shrunk else None,
        "shrink_passes": {name: asdict(counters) for name, counters in shrunk.passes.items()} if shrunk else {},
    }
