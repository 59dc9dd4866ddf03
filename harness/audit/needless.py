"""Needless edges: which edges of a store's dependencies could go, so that no crash state could tell?

Every edge costs latency. For each kind of edge in a run's traces, the audit builds the crash states that become legal
without it, and recovers from them:

    needed              such a state breaks a property; the first is kept, and how many were tried until then
    possibly needless   no such state that was tried does, nor does any in runs of a system without these edges
    implied             the other edges cover it in every trace, so it costs nothing. Kinds are left out one at a time,
                        so of two kinds that imply each other one must stay
    never tried         no trace has such a state, so nothing is known

The audit also judges a few states a life that are legal with all edges. If one fails, the store or this judge is wrong,
and nothing is said of any edge.

A trace cannot show what a system would do sooner if an edge were gone: it reuses an extent earlier that is given back
earlier. So an edge that seems needless is tried: the system runs again without it. Its crashes are judged as in any
check, and its traces are searched for failing states as above. This is not possible for acknowledgements, nor for log
records that wait for the one before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from random import Random

from harness.audit.edges import Instance, Kind, extra_states, is_of, is_persistent_without, kinds_of
from harness.audit.judge import State, StateJudge
from harness.choices.random_policy import random_tape, scenario_seed
from harness.scenario.violation import Violation
from harness.spec.plan import Plan
from harness.trace.closure import Closure, in_issue_order
from harness.trace.trace import Edge, Trace
from harness.trace.traced_run import Life, run_traced
from harness.trace.tracer import Trial
from harness.trace.witness import order_violations

LEGAL_STATES_A_LIFE = 2


class Need(StrEnum):
    NEEDED = "needed"
    NEEDLESS = "possibly needless"
    IMPLIED = "implied"
    NEVER_TRIED = "never tried"


@dataclass(frozen=True, slots=True)
class Example:
    """The first state that showed that an edge is needed."""

    scenario: int
    step: int
    after: str
    before: str
    property: str
    place: str
    answered: str
    allowed: str


@dataclass(slots=True)
class EdgeCount:
    """The findings about one kind of edge."""

    kind: Kind
    edges: int = 0
    implied: int = 0
    unissued: int = 0  # edges of which the end that waits was never issued, or never called persistent
    states: int = 0  # that were tried, up to the first that failed
    example: Example | None = None
    can_be_left_out: bool = False
    trials: int = 0  # scenarios run without these edges
    trials_effective: int = 0  # trials in which a write was issued that would otherwise have waited
    trial_states: int = 0

    @property
    def need(self) -> Need:
        if self.example is not None:
            return Need.NEEDED
        if self.states:
            return Need.NEEDLESS
        return Need.IMPLIED if self.implied and self.implied + self.unissued == self.edges else Need.NEVER_TRIED


@dataclass(slots=True)
class Audit:
    """The result of the audit of one spec under one configuration. ``wrong`` says why it is worth nothing."""

    scenarios: int = 0
    lives: int = 0
    states: int = 0
    legal_states: int = 0
    seconds: float = 0.0
    kinds: dict[Kind, EdgeCount] = field(default_factory=dict)
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to audit: until the scenarios or the seconds run out; None: no bound."""

    scenarios: int | None
    seconds: float | None
    seed: int = 0


def audit_plan(plan: Plan, budget: Budget) -> Audit:
    """Trace random scenarios and try the states that each edge keeps out."""
    audit = Audit()
    started = time.perf_counter()
    # Half of the time for states, half for trials of the edges that seem needless.
    for number in _numbers(budget.scenarios, budget.seconds and budget.seconds / 2):
        lives, violation = run_traced(plan, random_tape(scenario_seed(budget.seed, number)), judged=True)
        audit.scenarios += 1
        if violation is not None:
            audit.wrong = f"scenario {number} fails as it is: {violation.property} at {violation.place}"
        for life in lives:
            if not audit.wrong:
                _audit_life(plan, life, number, audit)
        if audit.wrong:
            break
    doubtful = [count for count in audit.kinds.values() if count.need is Need.NEEDLESS and count.can_be_left_out]
    for count in [] if audit.wrong else doubtful:
        seconds = budget.seconds and budget.seconds / 2 / len(doubtful)
        _try_without(plan, count, budget.seed, _numbers(audit.scenarios, seconds))
    audit.seconds = time.perf_counter() - started
    return audit


def _numbers(scenarios: int | None, seconds: float | None) -> Iterator[int]:
    """The numbers of scenarios, as many as asked for, or as the time allows."""
    started = time.perf_counter()
    number = 0
    while scenarios is None or number < scenarios:
        if seconds is not None and time.perf_counter() - started > seconds:
            return
        yield number
        number += 1


def _audit_life(plan: Plan, life: Life, scenario: int, audit: Audit) -> None:
    audit.lives += 1
    broken = order_violations(life.trace)
    if broken:
        audit.wrong = f"scenario {scenario}: {broken[0].place}: {broken[0].answered}"
        return
    shapes = plan.configuration.media
    zoned = [shape.device.survives_in_order for shape in shapes]
    closure = Closure(life.trace, zoned)
    judge = StateJudge(plan, life, closure)
    for state in _legal_states(closure, Random(scenario)):
        judged = judge.judge(state)
        audit.legal_states += 1
        if judged.violation is not None:
            audit.wrong = (
                f"scenario {scenario}: a legal state at the end of step {judged.step} fails: {judged.violation}"
            )
            return
    built_on = frozenset(life.trace.built_on)
    for kind, instances in kinds_of(life.trace, life.acknowledgements).items():
        count = audit.kinds.setdefault(kind, EdgeCount(kind))
        count.edges += len(instances)
        count.can_be_left_out |= any(
            not each.is_promise and Edge(each.before, each.after) not in built_on for each in instances
        )
        if count.example is None:
            _try_kind(plan, life, scenario, count)
    audit.states = sum(count.states for count in audit.kinds.values())


def _legal_states(closure: Closure, random: Random) -> Iterator[State]:
    """States with all that was issued up to some moment, without one write and all that need it."""
    order = in_issue_order(closure.trace)
    for _ in range(LEGAL_STATES_A_LIFE if order else 0):
        upto = order[: 1 + int(random.random() * len(order))]
        lost = closure.dependents(upto[int(random.random() * len(upto))].number)
        yield State(sum(1 << node.number for node in upto) & ~lost)


def _try_kind(plan: Plan, life: Life, scenario: int, count: EdgeCount) -> None:
    trace, kind, shapes = life.trace, count.kind, plan.configuration.media
    closure = Closure(trace, [shape.device.survives_in_order for shape in shapes], partial(is_of, trace, kind))
    judge = StateJudge(plan, life, closure)
    for instance in kinds_of(trace, life.acknowledgements).get(kind, ()):
        states = extra_states(closure, kind, instance, shapes)
        if states is None:
            count.implied += 1
            continue
        tried = count.states
        for state in states:
            judged = judge.judge(state, partial(is_persistent_without, trace, kind), step_min=_given(trace, instance))
            count.states += 1
            if judged.violation is not None:
                count.example = _example(trace, instance, scenario, judged.step, judged.violation)
                return
        count.unissued += count.states == tried  # there was no state, so the end that waits was never issued


def _try_without(plan: Plan, count: EdgeCount, seed: int, scenarios: Iterator[int]) -> None:
    """Run the scenarios again without these edges, until something fails. With the edges they all pass."""
    trial = Trial(removed=frozenset({count.kind}))
    for number in scenarios:
        tape = random_tape(scenario_seed(seed, number))
        lives, violation = run_traced(plan, tape, judged=True, trial=trial)
        count.trials += 1
        count.trials_effective += any(_is_early(life.trace, count.kind) for life in lives)
        if violation is not None:
            kind = count.kind
            count.example = _as_example(number, violation.step, str(kind.after), str(kind.before), violation)
        again = EdgeCount(count.kind, example=count.example)
        for life in lives:
            if again.example is None:
                _try_kind(plan, life, number, again)
        count.trial_states += again.states
        count.example = again.example
        if count.example is not None:
            return


def _is_early(trace: Trace, kind: Kind) -> bool:
    """Whether an edge that was left out would have held back a write."""
    for edge in trace.edges:
        after, before = trace.write_of(edge.after), trace.write_of(edge.before)
        if is_of(trace, kind, edge) and after is not None and after != before:
            issued, passed = trace.nodes[after].issued, None if before is None else trace.nodes[before].passed
            if issued is not None and (passed is None or passed > issued):
                return True
    return False


def _given(trace: Trace, instance: Instance) -> int:
    """The step that gave the acknowledgement of an edge: no earlier crash counts. 0 for an edge between nodes."""
    return trace.acknowledgements[instance.after].step if instance.is_promise else 0


def _example(trace: Trace, instance: Instance, scenario: int, step: int, violation: Violation) -> Example:
    if instance.is_promise:
        given = trace.acknowledgements[instance.after]
        after = f"{given.operation} of step {given.step}"
    else:
        after = trace.nodes[instance.after].describe()
    return _as_example(scenario, step, after, trace.nodes[instance.before].describe(), violation)


def _as_example(scenario: int, step: int, after: str, before: str, broken: Violation) -> Example:
    return Example(scenario, step, after, before, broken.property, broken.place, broken.answered, broken.allowed)
