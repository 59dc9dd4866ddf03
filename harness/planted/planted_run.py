"""The inside of a planted run: a fresh process whose current folder holds the copies to be checked.

It takes a request, a JSON object in the file named first, and writes the answer to the file named second. The request
*find* searches the planted tree for the bug, shrinks the failure and replays it. The request *replay* replays a case on
the tree in the folder. Answers do not go to standard output, since the code under test may write there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.choices.program import operation_count
from harness.corpus.case_file import Case, format_case, parse_case
from harness.corpus.replay import ReplayAnswer, replay
from harness.fleet.worker import end_with_parent
from harness.scenario.verdict import Answer, Verdict
from harness.scenario.violation import Violation
from harness.search.check import Sample, check_sample
from harness.search.reach import Reach
from harness.shrink.confirm import confirm
from harness.shrink.shrink import NotReproducedError, shrink
from harness.spec.loader import LoadedSpec, SpecLoadError, find_configuration, load_specs, module_name
from harness.spec.plan import Plan, compile_plan
from harness.spec.spec import Configuration, Mode
from harness.world.probes import Probe

_FIRST_SLICE = 100  # scenarios; slices double, so that every combination has its turn early
_SLICE_MAX = 20_000
_CHANGED = "changed"


def main() -> None:
    request_path, answer_path = map(Path, sys.argv[1:3])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    end_with_parent(request["parent_pid"])
    try:
        answer = find(request) if request["action"] == "find" else _replay(request)
    except SpecLoadError as error:
        answer = {"error": str(error)}
    answer_path.write_text(json.dumps(answer), encoding="utf-8")


def _replay(request: dict[str, Any]) -> dict[str, Any]:
    replayed = replay(parse_case(request["case"]))
    return {"answer": replayed.answer, "detail": replayed.detail}


def find(request: dict[str, Any]) -> dict[str, Any]:
    """Search until the property asked for is violated, or the seconds are over."""
    folder = Path.cwd()
    loaded = load_specs(folder / request["spec"], folder)
    foreign = _not_imported(request["replaced"], folder)
    if foreign:
        return {"error": foreign}
    started = time.perf_counter()
    probes = _probes(request["replaced"], folder)
    counts: dict[str, Any] = {"scenarios": 0, "reached": 0 if probes else None}  # None: nobody can see it
    other: list[str] = []
    for each, verdict in _violations(loaded, request, probes, counts):
        assert verdict.run is not None
        assert verdict.run.violation is not None
        if _is_wanted(verdict.run.violation, request):
            seconds = time.perf_counter() - started
            return {"found": True, "seconds": seconds, **counts, "other": other, **_minimal(each, verdict, request)}
        described = _describe(verdict.run.violation, request)
        if described not in other:
            other.append(described)
    return {"found": False, "seconds": time.perf_counter() - started, **counts, "other": other}


def _is_wanted(violation: Violation, request: dict[str, Any]) -> bool:
    return violation.property == request["property"] and request["place"] in (None, violation.place)


def _describe(violation: Violation, request: dict[str, Any]) -> str:
    return violation.property if request["place"] is None else f"{violation.property} at {violation.place}"


def _probes(replaced: dict[str, list[int]], folder: Path) -> list[Probe]:
    """A probe at each statement that the plant has changed."""
    return [
        Probe(_CHANGED, vars(sys.modules[module_name((folder / file).resolve())[0]]), line)
        for file, lines in replaced.items()
        for line in lines
    ]


def _not_imported(replaced: Iterable[str], folder: Path) -> str:
    """The reason why the planted copies are not what was imported; empty if they are."""
    for file in replaced:
        path = (folder / file).resolve()
        module = sys.modules.get(module_name(path)[0])
        origin = getattr(module, "__file__", None)
        if origin is None:
            return f"{file} was not imported by the spec"
        if Path(origin).resolve() != path:
            return f"{file} was imported from elsewhere: {origin}"
    return ""


def _violations(
    loaded: list[LoadedSpec], request: dict[str, Any], probes: list[Probe], counts: dict[str, Any]
) -> Iterator[tuple[LoadedSpec, Verdict]]:
    """Every violation, as specs and configurations take turns in slices of scenarios."""
    deadline = time.perf_counter() + request["seconds"]
    mode = Mode(request["mode"])
    turns = [(each, configuration) for each in loaded for configuration in _configurations(each, request)]
    first = dict.fromkeys(range(len(turns)), 0)
    slice_size = _FIRST_SLICE
    while time.perf_counter() < deadline:
        for turn, (each, configuration) in enumerate(turns):
            remaining = deadline - time.perf_counter()
            if remaining <= 0:
                return
            sample = Sample(request["seed"], first[turn], slice_size, remaining)
            verdict = check_sample(each.spec, mode, sample, configuration.name, reach=Reach(probes))
            counts["scenarios"] += verdict.counters.scenarios
            if probes:
                counts["reached"] += verdict.counters.events.get(_CHANGED, 0)
            first[turn] += verdict.counters.scenarios
            if verdict.answer is Answer.VIOLATED:
                yield each, verdict
        slice_size = min(2 * slice_size, _SLICE_MAX)


def _configurations(each: LoadedSpec, request: dict[str, Any]) -> list[Configuration]:
    name = request["configuration"]
    return [find_configuration(each.spec, name)] if name else list(each.spec.configurations)


def _minimal(each: LoadedSpec, verdict: Verdict, request: dict[str, Any]) -> dict[str, Any]:
    """Shrink the failure, make a case of it, and replay that on this tree."""
    assert verdict.run is not None
    assert verdict.run.violation is not None
    violation, program = verdict.run.violation, verdict.run.program
    plan = compile_plan(each.spec, find_configuration(each.spec, verdict.configuration), verdict.mode)
    operations_found = operation_count(program)
    one_minimal, shrink_seconds = False, 0.0
    try:
        result = shrink(plan, program, violation)
        violation, program = result.violation, result.program
        one_minimal, shrink_seconds = result.one_minimal, result.seconds
    except NotReproducedError:
        pass  # the replay below shows it, too
    case = Case(
        each.path,
        each.spec.name,
        plan.configuration.name,
        verdict.mode,
        violation.property,
        violation.place,
        program,
        story=f"planted bug {request['plant']}",
        seed=verdict.seed,
        scenario=verdict.scenario,
    )
    return {
        "property": violation.property,
        "operations_found": operations_found,
        "operations": operation_count(program),
        "one_minimal": one_minimal,
        "shrink_seconds": shrink_seconds,
        "still_fails": replay(case).answer is ReplayAnswer.STILL_FAILS,
        "case": format_case(case),
        **_confirmed(plan, case, request["confirm_seconds"]),
    }


def _confirmed(plan: Plan, case: Case, seconds: float) -> dict[str, Any]:
    if not seconds:
        return {"confirmed_operations": None, "shorter_fails": False}
    confirmation = confirm(plan, case.program, case.property, seconds=seconds)
    shorter_fails = confirmation.violation is not None
    return {"confirmed_operations": confirmation.operations_tried, "shorter_fails": shorter_fails}


if __name__ == "__main__":
    main()
