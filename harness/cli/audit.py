"""``harness audit``: finds the edge that a saved failure lacks, or the edges that a spec's system could do without."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.audit.device_flags import refuse_unlike
from harness.audit.edges import Kind
from harness.audit.mend import Mend, Tried, find_mend
from harness.audit.needless import Audit, Budget, EdgeCount, Need, audit_plan
from harness.audit.schedules import Limits
from harness.choices.lanes import KNOB
from harness.choices.program import OPENING, Program
from harness.cli.exit_status import EXIT_OK, EXIT_UNKNOWN, Unusable
from harness.cli.report import make_console
from harness.corpus.case_file import SUFFIX, Case, CaseFileError, read_case
from harness.corpus.replay import ReplayAnswer, replay
from harness.spec.loader import LoadedSpec, find_configuration, find_spec_files, load_spec, load_specs
from harness.spec.plan import Plan, SpecError, compile_plan
from harness.spec.spec import Configuration, Mode, Spec

if TYPE_CHECKING:
    from rich.console import Console

SCHEDULES_MAX = 20_000
_HEADINGS = {
    Need.NEEDED: "needed: some crash state fails without them",
    Need.NEEDLESS: "possibly needless: no crash state that was tried fails without them",
    Need.IMPLIED: "implied, each by all the others, so they cost nothing",
    Need.NEVER_TRIED: "never tried: no trace has a crash state that could tell",
}


def audit_target(
    target: str,
    configuration: str | None,
    scenarios: int | None,
    seconds: float,
    seed: int,
    json_path: Path | None,
) -> int:
    """Audit a case or a spec, told apart by the name of the file, and give the exit status."""
    if target.endswith(SUFFIX):
        return audit_case(target, seconds, json_path)
    return audit_specs(target, configuration, scenarios, seconds, seed, json_path)


# --- what a failure lacks ---------------------------------------------------------------------------


def audit_case(name: str, seconds: float, json_path: Path | None) -> int:
    """Find the likely mend of a case and print it. Exit status 0 if there is one, else 3."""
    case = _read(name)
    console = make_console()
    spec = load_spec(case.spec, case.name, Path.cwd()).spec
    if spec.trace is None:
        raise Unusable(f"{name}: spec {spec.name!r} offers no trace")
    replayed = replay(case)
    if replayed.answer is not ReplayAnswer.STILL_FAILS or replayed.step is None:
        mend = Mend(reason=f"the case does not fail: {replayed.answer}")
    else:
        plan = compile_plan(spec, _as_turned(find_configuration(spec, case.configuration), case.program), case.mode)
        refuse_unlike(plan.configuration.media)
        mend = find_mend(plan, case.program, replayed.step, Limits(SCHEDULES_MAX, seconds))
    _print_mend(console, name, mend)
    if json_path is not None:
        json_path.write_text(json.dumps(_mend_figures(name, mend), indent=2) + "\n", encoding="utf-8")
    return EXIT_OK if mend.edges else EXIT_UNKNOWN


def _read(name: str) -> Case:
    try:
        return read_case(Path(name))
    except CaseFileError as error:
        raise Unusable(f"{name}: {error}") from error


def _as_turned(configuration: Configuration, program: Program) -> Configuration:
    """The configuration with its knobs as the program turns them."""
    turns = {name: value for step in program.steps if step.operation == OPENING for name, value in step.choices.items()}
    places = [min(turns.get(f"{KNOB}.{knob.name}", 0), len(knob.values) - 1) for knob in configuration.knobs]
    return configuration.turned(places) if places else configuration


def _print_mend(console: Console, name: str, mend: Mend) -> None:
    count = len(mend.edges)
    if not count:
        console.print(f"{name}: no mend found: {mend.reason}", soft_wrap=True)
    else:
        console.print(f"{name}: likely mend: {count} edge{'s' if count > 1 else ''}", soft_wrap=True)
    for kind, example in mend.edges:
        console.print(f"  {kind.after}  must wait for\n  {kind.before}", soft_wrap=True)
        console.print(f"    as: {example.after}\n    for: {example.before}", soft_wrap=True)
    for violation in mend.order_violations[:1]:
        console.print(f"  {violation.place}: {violation.answered}", soft_wrap=True)
    for said, tried in (("as it is", mend.before), ("with the mend", mend.after)):
        if tried is not None:
            console.print(f"  {said}: {_tried(tried)}", soft_wrap=True)


def _tried(tried: Tried) -> str:
    whole = "all" if tried.is_complete else "not all"
    return f"{len(tried.failing):,} of {tried.states:,} crash states fail ({tried.schedules:,} schedules, {whole})"


def _mend_figures(name: str, mend: Mend) -> dict[str, Any]:
    return {
        "case": name,
        "reason": mend.reason,
        "edges": [{**_names(kind), "example": asdict(example)} for kind, example in mend.edges],
        "sets_tried": mend.sets_tried,
        "order_violations": [asdict(violation) for violation in mend.order_violations],
        **{said: _tried_figures(tried) for said, tried in (("before", mend.before), ("after", mend.after))},
    }


def _tried_figures(tried: Tried | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    counts = {"schedules": tried.schedules, "states": tried.states, "failing": len(tried.failing)}
    return {**counts, "complete": tried.is_complete}


# --- what a spec could do without -------------------------------------------------------------------


def audit_specs(
    target: str, configuration: str | None, scenarios: int | None, seconds: float, seed: int, json_path: Path | None
) -> int:
    """Audit each spec of a file and print what each edge is needed for. Exit status 3 if an audit is worth nothing."""
    folder = Path.cwd()
    loaded = [each for path in find_spec_files([target], folder) for each in load_specs(path, folder)]
    plans = [(each, plan) for each in loaded for plan in _plans(each.spec, configuration)]
    if not plans:
        under = f", under a configuration named {configuration}" if configuration else ""
        raise Unusable(f"{target}: no spec with a trace and a crash{under}")
    console = make_console()
    rows: list[dict[str, Any]] = []
    audits: dict[str, list[Audit]] = {}
    for each, plan in plans:
        budget = Budget(scenarios, None if scenarios else seconds / len(plans), seed)
        refuse_unlike(plan.configuration.media)
        audit = audit_plan(plan, budget)
        _print_audit(console, each, plan, audit)
        rows.append(_audit_figures(each, plan, audit))
        audits.setdefault(each.spec.name, []).append(audit)
    needless = {name: needless_everywhere(of_spec) for name, of_spec in audits.items() if len(of_spec) > 1}
    _print_needless(console, needless)
    if json_path is not None:
        everywhere = {name: [_names(kind) for kind in kinds] for name, kinds in needless.items()}
        summary = {"seed": seed, "audits": rows, "needless_everywhere": everywhere}
        json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return EXIT_UNKNOWN if any(audit.wrong for of_spec in audits.values() for audit in of_spec) else EXIT_OK


def needless_everywhere(audits: Sequence[Audit]) -> list[Kind]:
    """Kinds of edges that no configuration was seen to need, and at least one seems to do without."""
    if any(audit.wrong for audit in audits):
        return []
    needs: dict[Kind, set[Need]] = {}
    for audit in audits:
        for kind, count in audit.kinds.items():
            needs.setdefault(kind, set()).add(count.need)
    return sorted(kind for kind, found in needs.items() if Need.NEEDLESS in found and Need.NEEDED not in found)


def _print_needless(console: Console, needless: Mapping[str, Sequence[Kind]]) -> None:
    for name, kinds in needless.items():
        if kinds:
            console.print(f"{name}: no configuration was seen to need ({len(kinds)})", soft_wrap=True)
        for kind in kinds:
            console.print(f"    {kind.after}  must wait for  {kind.before}", soft_wrap=True)


def _plans(spec: Spec, configuration: str | None) -> list[Plan]:
    if spec.trace is None or not spec.can_crash:
        return []
    wanted = [each for each in spec.configurations if configuration in (None, each.name)]
    try:
        return [compile_plan(spec, each.without_knobs(), Mode.CRASH) for each in wanted]
    except SpecError as error:
        raise Unusable(str(error)) from error


def _print_audit(console: Console, each: LoadedSpec, plan: Plan, audit: Audit) -> None:
    console.print(
        f"{each.spec.name} ({each.path}), {plan.configuration.name}: {audit.scenarios:,} scenarios, "
        f"{audit.lives:,} lives, {audit.states:,} states that some edge keeps out, "
        f"{audit.legal_states:,} legal ones, {audit.seconds:.1f} s",
        soft_wrap=True,
    )
    if audit.wrong:
        console.print(f"  nothing can be said of its edges: {audit.wrong}", soft_wrap=True)
        return
    for need, heading in _HEADINGS.items():
        counts = [count for kind, count in sorted(audit.kinds.items()) if count.need is need]
        if counts:
            console.print(f"  {heading} ({len(counts)})")
        for count in counts:
            console.print(f"    {count.kind.after}  must wait for  {count.kind.before}", soft_wrap=True)
            console.print(f"        {_evidence(count)}", soft_wrap=True)


def _evidence(count: EdgeCount) -> str:
    example = count.example
    edges = f"{count.edges:,} edge{'s' if count.edges > 1 else ''}"
    if example is None:
        passed = f"{count.trials:,} scenarios without them, {count.trials_effective:,} of which go otherwise"
        trials = f"; so do {passed}, and {count.trial_states:,} states of those" if count.trials else ""
        return f"{edges}, {count.states:,} states pass{trials}"
    failed = f"{example.property} at {example.place} (scenario {example.scenario}, step {example.step})"
    if count.trials:
        return f"{edges}, {count.states:,} states pass; without them scenario {count.trials:,} fails: {failed}"
    return f"{edges}, state {count.states:,} fails: {failed}"


def _audit_figures(each: LoadedSpec, plan: Plan, audit: Audit) -> dict[str, Any]:
    return {
        "spec": each.path,
        "name": each.spec.name,
        "configuration": plan.configuration.name,
        "scenarios": audit.scenarios,
        "lives": audit.lives,
        "states": audit.states,
        "legal_states": audit.legal_states,
        "seconds": audit.seconds,
        "wrong": audit.wrong,
        "kinds": [_count_figures(count) for _, count in sorted(audit.kinds.items())],
    }


def _count_figures(count: EdgeCount) -> dict[str, Any]:
    return {
        **_names(count.kind),
        "need": count.need,
        "edges": count.edges,
        "implied": count.implied,
        "states": count.states,
        "trials": count.trials,
        "trials_effective": count.trials_effective,
        "trial_states": count.trial_states,
        "example": None if count.example is None else asdict(count.example),
    }


def _names(kind: Sequence[object]) -> dict[str, str]:
    after, before = kind
    return {"after": str(after), "before": str(before)}
