"""Rewrites: programs near a failing one that the passes of shrinking cannot reach by taking away.

    calmed     an operation that a crash interrupts runs to its end instead
    enclosed   the other way round: the crash comes late in the operation before it, or just after its end. If there is
               a flush before that operation, the crash may do this flush itself
    moved      one step is replaced by one of any kind at any place, with all its choices zero
    refitted   one step is left out, and one argument of another has any other value
    joined     two steps with at most one between them become one of any kind in the place of the first, with all its
               choices zero. One choice elsewhere may be lowered. Numbered choices get the number before, since fewer
               writes come before them
    turned     one step is left out, and one knob of the configuration has any other value
    fewer      one operation less follows on an exception that arrived in a crash step. Numbered choices get the number
               before, and one choice may be lowered
    elsewhere  one step is left out, or none, and a call in the middle of another begins at any other of its points
    swapped    one step is left out, and one other is of another kind, with all its choices zero

All but `swapped` are tried as they are, so they must fail alike with every other choice as it was. The caller draws the
choices of a swapped program anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.choices.lanes import (
    FOLLOWS,
    INTERRUPTS,
    KNOB,
    MEANWHILE,
    OF_CRASH,
    OF_SURROUNDINGS,
    SURVIVOR,
    begins_call_between,
    lane_of,
)
from harness.choices.program import OPENING, RESERVED_NAMES, Program, Step
from harness.shrink.passes import lowered_and_shifted
from harness.spec.plan import CRASH, Plan
from harness.world.power import Strike

REFITTED_VALUES_COUNT: Final = 64  # few arguments have more values
POINTS_COUNT: Final = 32  # few calls let their monitor go more often


def calmed(program: Program, plan: Plan) -> Iterator[Program]:
    for crash in program.steps:
        inner = _interrupted(crash, plan)
        if inner:
            kept = {name: value for name, value in crash.choices.items() if lane_of(name) not in OF_CRASH}
            yield Program(tuple(Step(step.identity, inner, kept) if step is crash else step for step in program.steps))


def enclosed(program: Program, plan: Plan) -> Iterator[Program]:
    for place, crash in enumerate(program.steps):
        action = plan.action_of.get(crash.operation)
        before = program.steps[place - 1] if place else None
        if action is None or action.kind != CRASH or before is None or crash.choices.get(INTERRUPTS):
            continue
        for within in _within(before, plan):
            shorter = program.without([before.identity])
            choices = {**before.choices, **_renamed(crash.choices, {before.identity: crash.identity}), **within}
            late = _with_choices_of(shorter, crash.identity, choices)
            yield late
            # A flush before the crash needs no step of its own, since the crash has flushes.
            flushed = program.steps[place - 2].operation if place > 1 else ""
            if flushed in action.flushes:
                number = action.flushes.index(flushed)
                shorter = late.without([program.steps[place - 2].identity])
                yield _with_choices_of(shorter, crash.identity, {**choices, f"flush.{number}": 1})


def _within(step: Step, plan: Plan) -> list[dict[str, int]]:
    """The choices of a crash late in this step, and at its end if it resets nothing. Empty if none can come in it."""
    names = [action.name for action in plan.interruptible]
    if plan.write_back is not None and step.operation == plan.write_back.name:
        inner = {INTERRUPTS: 1}
    elif step.operation in names:
        inner = {INTERRUPTS: 2 if plan.write_back is not None else 1, "during.0": names.index(step.operation)}
    else:
        return []
    return [inner | {"far.0": 1}, inner | {"strike.0": Strike.RESET.value}]


def _with_choices_of(program: Program, identity: int, choices: Mapping[str, int]) -> Program:
    return Program(
        tuple(Step(identity, step.operation, choices) if step.identity == identity else step for step in program.steps)
    )


def _interrupted(step: Step, plan: Plan) -> str:
    """The operation that this crash step interrupts; empty if there is none."""
    inside = step.choices.get(INTERRUPTS, 0)
    if not inside or step.operation not in plan.action_of or plan.action_of[step.operation].kind != CRASH:
        return ""
    if inside == 1 and plan.write_back is not None:
        return plan.write_back.name
    during = step.choices.get("during.0", 0)
    return plan.interruptible[during].name if during < len(plan.interruptible) else ""


def moved(program: Program, plan: Plan) -> Iterator[Program]:
    ordinary = _ordinary(program, plan)
    for gone in reversed(ordinary):
        others = [step for step in program.steps if step is not gone]
        for place in range(len(others), -1, -1):
            for kind in _kinds(plan):
                yield _in_places(program, [*others[:place], Step(gone.identity, kind), *others[place:]])


def refitted(program: Program, plan: Plan) -> Iterator[Program]:
    for gone in reversed(program.steps):
        shorter = program.without([gone.identity])
        for step in _ordinary(shorter, plan):
            for name in sorted(step.choices):
                if lane_of(name) not in OF_SURROUNDINGS:
                    for value in range(REFITTED_VALUES_COUNT):
                        if value != step.choices[name]:
                            yield shorter.with_choice(step.identity, name, value)


def joined(program: Program, plan: Plan) -> Iterator[Program]:
    ordinary = _ordinary(program, plan)
    pairs = [*zip(program.steps, program.steps[1:], strict=False), *zip(program.steps, program.steps[2:], strict=False)]
    for first, second in reversed(pairs):
        if first in ordinary and second in ordinary:
            shorter = program.without([second.identity])
            for kind in _kinds(plan):
                steps = (Step(step.identity, kind) if step is first else step for step in shorter.steps)
                yield from lowered_and_shifted(Program(tuple(steps)))


def turned(program: Program, plan: Plan) -> Iterator[Program]:
    for knob in plan.configuration.knobs:
        for place in range(len(knob.values)):
            other = _with_knob(program, f"{KNOB}.{knob.name}", place)
            if other is not program:
                for gone in reversed(_ordinary(program, plan)):
                    yield other.without([gone.identity])


def _with_knob(program: Program, name: str, place: int) -> Program:
    opening = Step(0, OPENING)
    if program.steps and program.steps[0].identity == opening.identity:
        opening = program.steps[0]
    if opening.choices.get(name, 0) == place:
        return program
    steps = [step for step in program.steps if step.identity != opening.identity]
    return Program((opening, *steps)).with_choice(opening.identity, name, place)


def fewer(program: Program, plan: Plan) -> Iterator[Program]:
    for crash in program.steps:
        count = crash.choices.get(FOLLOWS, 0)
        if count:
            yield from lowered_and_shifted(program.with_choice(crash.identity, FOLLOWS, count - 1))


def elsewhere(program: Program, plan: Plan) -> Iterator[Program]:
    for gone in (None, *reversed(_ordinary(program, plan))):
        shorter = program if gone is None else program.without([gone.identity])
        for step in shorter.steps:
            for began in filter(begins_call_between, step.choices):
                for point in range(POINTS_COUNT):
                    to = f"{MEANWHILE}.{point}"
                    if to not in step.choices:
                        choices = {_begun_at(to, began, name): value for name, value in step.choices.items()}
                        yield _with_choices_of(shorter, step.identity, choices)


def _begun_at(to: str, began: str, name: str) -> str:
    """The name of a choice once the call that one choice began begins by another."""
    return to + name.removeprefix(began) if name == began or name.startswith(f"{began}.") else name


def swapped(program: Program, plan: Plan) -> Iterator[Program]:
    for gone in reversed(program.steps):
        for other in reversed(_ordinary(program, plan)):
            for kind in _kinds(plan):
                if other is not gone and kind != other.operation:
                    yield Program(
                        tuple(
                            Step(step.identity, kind) if step is other else step
                            for step in program.steps
                            if step is not gone
                        )
                    )


def _kinds(plan: Plan) -> Sequence[str]:
    return [plan.mix.names[index] for index in plan.mix.ordinary]


def _ordinary(program: Program, plan: Plan) -> list[Step]:
    """The steps that are neither a crash nor the opening or the end."""
    kinds = _kinds(plan)
    return [step for step in program.steps if step.operation in kinds and step.operation not in RESERVED_NAMES]


def _in_places(program: Program, steps: Sequence[Step]) -> Program:
    """These steps, in order, under the program's identities. Survivor choices follow the steps that they are about."""
    identities = [step.identity for step in program.steps]
    renamed = {step.identity: identity for step, identity in zip(steps, identities, strict=True)}
    return Program(
        tuple(Step(renamed[step.identity], step.operation, _renamed(step.choices, renamed)) for step in steps)
    )


def _renamed(choices: Mapping[str, int], renamed: Mapping[int, int]) -> dict[str, int]:
    found = {}
    for name, value in choices.items():
        lane, _, rest = name.partition(".")
        step, _, number = rest.partition(".")
        if lane == SURVIVOR and step.isdecimal() and int(step) in renamed:
            name = f"{lane}.{renamed[int(step)]}.{number}"
        found[name] = value
    return found
