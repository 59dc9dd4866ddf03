"""Mends: the smallest set of edges that, if added, makes every crash state of a failing case pass.

An edge says that one thing must not be issued before another is persistent. Its name is the code that asked for either.
The search explores every schedule of the life that the case's crash ended, and judges every crash state of each. Some
edges would have kept a failing state out: those from something that is not wholly there to something that is there, at
least in part, or to an acknowledgement. An edge that closes a cycle with those of the trace is no candidate: with it,
some writes could never become persistent.

The smallest set of kinds of edges that keeps out all failing states is then tried: the system runs again with these
edges added to those it asks for. It must still come to its end, and every crash state must pass. Among sets of equal
size, those come first whose two ends were asked for at the nearest moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Final

from harness.audit.crash_sets import crash_states
from harness.audit.edges import RETURNED, Kind
from harness.audit.judge import State, StateJudge, is_there
from harness.audit.schedules import Limits, Span, explore, last_life, makes_progress
from harness.choices.program import Program
from harness.scenario.violation import Violated, Violation
from harness.spec.plan import Plan
from harness.spec.tracing import Origin
from harness.trace.closure import Closure, numbers
from harness.trace.trace import Acknowledgement, Trace
from harness.trace.traced_run import Life
from harness.trace.tracer import Trial
from harness.trace.witness import order_violations

SETS_TRIED_MAX: Final = 20
EDGES_MAX: Final = 4
LATER_DISTANCE: Final = 1_000  # code can wait only for what it knows: an edge to a later request is less likely


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edge that would have kept a failing state out, with its two ends in words."""

    after: str
    before: str
    distance: int  # in ticks


Candidates = Mapping[Kind, Candidate]


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of trying all crash states of all schedules, with or without added edges."""

    schedules: int
    states: int
    failing: Sequence[tuple[Violation, Candidates]]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Mend:
    """The result of a search for a mend. If it found none, ``edges`` is empty and ``reason`` says why."""

    edges: tuple[tuple[Kind, Candidate], ...] = ()
    reason: str = ""
    before: Tried | None = None
    after: Tried | None = None
    sets_tried: int = 0
    order_violations: Sequence[Violation] = field(default=())


def find_mend(plan: Plan, program: Program, failed_step: int, limits: Limits) -> Mend:
    """Search for a mend of a program that fails at ``failed_step``. See the module."""
    span = last_life(plan, program, failed_step)
    if span is None:
        return Mend(reason="the case fails before any crash")
    broken: list[Violation] = []
    try:
        tried = _try(plan, program, span, limits, (), broken)
    except Violated as stop:
        return Mend(reason=f"with another schedule it fails before the crash: {stop.violation.property}")
    if broken:
        return Mend(
            reason="the device saw writes out of order: no edge is lacking", before=tried, order_violations=broken
        )
    if not tried.failing:
        return Mend(reason="no crash state of the case fails by the edges that the system asks for", before=tried)
    loose = [violation for violation, candidates in tried.failing if not candidates]
    if loose:
        return Mend(
            reason=f"no edge would keep out all that fails: {loose[0].property} at {loose[0].place}", before=tried
        )
    return _first_that_holds(plan, program, span, limits, tried)


def _first_that_holds(plan: Plan, program: Program, span: Span, limits: Limits, tried: Tried) -> Mend:
    count = 0
    examples = _nearest(candidates for _, candidates in tried.failing)
    for kinds in hitting_sets([candidates for _, candidates in tried.failing], examples):
        if count == SETS_TRIED_MAX:
            break
        count += 1
        again = Limits(limits.schedules, limits.seconds)
        try:
            after = _try(plan, program, span, again, kinds, [])
        except Violated:
            continue
        # The steps without the crash must still end: edges can also block a store for good.
        without_crash = program.without(step.identity for step in program.steps if step.identity >= span.last)
        if not after.failing and makes_progress(plan, without_crash, Trial(added=frozenset(kinds))):
            return Mend(tuple((kind, examples[kind]) for kind in kinds), "", tried, after, count)
    return Mend(reason=f"none of {count} sets of edges makes every crash state pass", before=tried, sets_tried=count)


# --- trying -----------------------------------------------------------------------------------------


def _try(
    plan: Plan, program: Program, span: Span, limits: Limits, added: Sequence[Kind], broken: list[Violation]
) -> Tried:
    shapes = plan.configuration.media
    schedules = states = 0
    failing: list[tuple[Violation, Candidates]] = []
    for explored in explore(plan, program, span, limits, Trial(added=frozenset(added))):
        life = explored.life
        schedules += 1
        broken += [] if broken else order_violations(life.trace)
        closure = Closure(life.trace, [shape.device.survives_in_order for shape in shapes])
        judge = StateJudge(plan, life, closure)
        is_persistent = partial(_is_persistent, life.trace, added)
        for _, state in crash_states(life.trace, shapes, explored.known, limits):
            judged = judge.judge(state, is_persistent)
            states += 1
            if judged.violation is not None:
                failing.append((judged.violation, candidates_of(life, closure, state, judged.step)))
    return Tried(schedules, states, failing, not limits.reached)


def _is_persistent(trace: Trace, added: Sequence[Kind], given: Acknowledgement, whole: int) -> bool:
    """Whether an acknowledgement would be persistent, given the edges that were added to acknowledgements."""
    if not given.is_complete or not all(is_there(trace, number, whole) for number in given.nodes):
        return False
    returned = Origin(given.operation, RETURNED)
    befores = [kind.before for kind in added if kind.after == returned]
    return all(is_there(trace, node.number, whole) for node in trace.nodes if node.origin.plain() in befores)


# --- candidates -------------------------------------------------------------------------------------


def candidates_of(life: Life, closure: Closure, state: State, step: int) -> Candidates:
    """By kind, the nearest edge that would have kept this state out."""
    trace = life.trace
    lacking = [node for node in trace.nodes if node.step <= step and not is_there(trace, node.number, state.whole)]
    carried = trace.carried_by()  # not the records, for each change in one has its own reason to wait
    there = [
        node
        for node in trace.nodes
        if node.number not in carried and is_there(trace, node.number, state.whole | state.torn)
    ]
    found: dict[Kind, Candidate] = {}
    for before in lacking:
        above = _waits_for(trace, closure, before.number)
        for after in there:
            if after.number not in above:
                distance = after.asked - before.asked
                distance = distance if distance > 0 else LATER_DISTANCE - distance
                candidate = Candidate(after.describe(), before.describe(), distance)
                _keep_nearest(found, Kind(after.origin.plain(), before.origin.plain()), candidate)
        for number in life.acknowledgements:
            given = trace.acknowledgements[number]
            if given.step <= step and _is_persistent(trace, (), given, state.whole):
                said = f"{given.operation} of step {given.step} is called persistent"
                candidate = Candidate(said, before.describe(), abs(given.noted - before.asked))
                _keep_nearest(found, Kind(Origin(given.operation, RETURNED), before.origin.plain()), candidate)
    return found


def _keep_nearest(found: dict[Kind, Candidate], kind: Kind, candidate: Candidate) -> None:
    if kind not in found or candidate.distance < found[kind].distance:
        found[kind] = candidate


def _waits_for(trace: Trace, closure: Closure, start: int) -> dict[int, None]:
    """Every node that a node waits for, directly or not, by the edges of the trace."""
    befores: dict[int, list[int]] = {}
    for edge in trace.edges:
        befores.setdefault(edge.after, []).append(edge.before)
    found: dict[int, None] = {}
    asked = trace.nodes[start].asked
    stack = [start, *(node.number for node in trace.nodes if node.passed is not None and node.passed < asked)]
    while stack:
        number = stack.pop()
        if number in found:
            continue
        found[number] = None
        stack += befores.get(number, ())
        write = trace.write_of(number)
        if write is not None and closure.issued >> write & 1:
            stack += numbers(closure.needs(write))
            stack.append(write)
    return found


# --- hitting sets -----------------------------------------------------------------------------------


def _nearest(all_candidates: Iterable[Candidates]) -> dict[Kind, Candidate]:
    found: dict[Kind, Candidate] = {}
    for candidates in all_candidates:
        for kind, candidate in candidates.items():
            _keep_nearest(found, kind, candidate)
    return found


def hitting_sets(families: Sequence[Candidates], nearest: Candidates) -> Iterator[tuple[Kind, ...]]:
    """Sets of kinds that have a member of every family: the smallest first, then by how near their ends are."""
    needed = list(dict.fromkeys(frozenset(family) for family in families))
    minimal = [family for family in needed if not any(other < family for other in needed)]  # these hit the others too
    kinds = sorted(nearest, key=lambda kind: (nearest[kind].distance, kind))
    useful = [kind for kind in kinds if any(kind in family for family in minimal)]
    for size in range(1, EDGES_MAX + 1):
        chosen = [
            kinds
            for kinds in combinations(useful, size)
            if all(any(kind in family for kind in kinds) for family in minimal)
        ]
        yield from sorted(chosen, key=lambda kinds: (sum(nearest[kind].distance for kind in kinds), kinds))
