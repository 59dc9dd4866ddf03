"""Plans: a spec, one of its configurations and a mode, made ready to be run many times.

This module works out once everything that does not depend on a run's choices: the operations, how their arguments are
drawn, and which results the model wants to see. It refuses a spec that cannot be run, with a `SpecError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.choices.lanes import LANES
from harness.choices.mix import Mix
from harness.choices.program import RESERVED_NAMES
from harness.spec.generators import Generator, ResultsOf
from harness.spec.models import NotCopiableError, copy_of, state_of
from harness.spec.spec import (
    Background,
    Configuration,
    Crash,
    DeviceCall,
    Fault,
    Key,
    Mode,
    Operation,
    Promises,
    Reaches,
    Reboot,
    Spec,
    Tier,
    WriteBack,
    Writes,
)

OPERATION: Final = 0
BACKGROUND: Final = 1
WRITE_BACK: Final = 2
REBOOT: Final = 3
CRASH: Final = 4
FAULT: Final = 5


class SpecError(ValueError):
    """The spec contradicts itself or lacks what the mode needs."""


@dataclass(frozen=True, slots=True)
class Action:
    """One operation of the spec, ready to be performed."""

    name: str
    kind: int
    arguments: tuple[tuple[str, Generator], ...]
    references: tuple[tuple[str, str], ...]  # (argument, the operation whose results it is drawn from)
    key_argument: str | None  # the argument that is the key which the call changes
    groups_of: Callable[[Any, Any], Any] | None  # or a function that gives the groups of keys which it changes
    adopts: bool  # the model is given what the system returned
    partial: Callable[[Any], Any] | None  # gives what an interrupted call has done, for the model to adopt
    remembered: bool  # its results are kept, since some `references` name it
    model_sees: bool  # a background operation that the model has too
    promises: Promises
    steps_max: int = 0
    tier: Tier = "fine"
    flushes: tuple[str, ...] = ()

    def groups_written(self, arguments: Mapping[str, Any], result: object) -> list[tuple[Key, ...]]:
        """The keys that a call changes, in groups; each group is changed as a whole."""
        if self.key_argument is not None:
            return [(arguments[self.key_argument],)]
        if self.groups_of is not None:
            return [tuple(group) for group in self.groups_of(arguments, result)]
        return []


@dataclass(frozen=True, slots=True)
class Plan:
    """A spec ready to be run in one mode under one configuration."""

    spec: Spec
    configuration: Configuration
    mode: Mode
    mix: Mix
    actions: tuple[Action, ...]
    action_of: dict[str, Action]
    write_back: Action | None
    interruptible: tuple[Action, ...]  # operations other than write-back that the power may fail within
    spared: frozenset[str]  # operations that no exception from outside interrupts
    following: tuple[Action, ...]  # operations that may follow on such an exception
    fault_errors: tuple[type[Exception], ...]  # by which the system may answer once the device has failed
    fault_calls: tuple[DeviceCall, ...]  # which of the device's may fail
    reaches: Reaches | None  # which media an operation uses
    fatal: frozenset[str]  # operations after whose refusal by the device nobody knows what holds
    overlapping: tuple[Action, ...]  # operations that may be made in the middle of one another
    read: Callable[[Any, Any], Any] | None
    settle: Callable[[Any, Key, Any], None] | None
    reboots: bool
    model_reopens: bool
    dependency_types: dict[type, bool]  # grows as results are seen: which types are dependencies
    turned: dict[tuple[int, ...], Configuration]  # grows as knobs are turned: the configuration for their places


def compile_plan(spec: Spec, configuration: Configuration, mode: Mode) -> Plan:
    """Make a plan. Raises `SpecError` if the spec cannot be run."""
    model = spec.model()  # only to see which methods it has
    _check_names(spec)
    _check_knobs(spec, configuration)
    if spec.share < 1:
        raise SpecError(f"spec {spec.name!r} has a share of {spec.share}; the least is 1")
    wanted = {
        argument.operation
        for operation in spec.operations
        for argument in operation.arguments.values()
        if isinstance(argument, ResultsOf)
    }
    actions = tuple(_compile_action(operation, model, wanted) for operation in spec.operations)
    durability = spec.durability
    fault = next((operation for operation in spec.operations if isinstance(operation, Fault)), None)
    return Plan(
        spec=spec,
        configuration=configuration,
        mode=mode,
        mix=_compile_mix(spec, actions, mode),
        actions=actions,
        action_of={action.name: action for action in actions},
        write_back=next((action for action in actions if action.kind == WRITE_BACK), None),
        interruptible=_interruptible(actions),
        spared=_spared(spec, actions),
        following=_following(spec, actions),
        fault_errors=() if fault is None or mode is not Mode.FAULTS else fault.errors,
        fault_calls=() if fault is None else fault.calls,
        reaches=None if fault is None else fault.reaches,
        fatal=frozenset(() if fault is None else fault.fatal),
        overlapping=_overlapping(spec, actions, model),
        read=None if durability is None else durability.read,
        settle=None if durability is None else durability.settle,
        model_reopens=hasattr(model, "reopened"),
        reboots=any(action.kind == REBOOT for action in actions),
        dependency_types={type(None): False},
        turned={},
    )


def _check_names(spec: Spec) -> None:
    names = [operation.name for operation in spec.operations]
    if not names:
        raise SpecError(f"spec {spec.name!r} has no operations")
    for name in names:
        if names.count(name) > 1 or name in RESERVED_NAMES:
            raise SpecError(f"spec {spec.name!r}: operation name {name!r} is used twice or reserved")
    for operation in spec.operations:
        for argument, generator in operation.arguments.items():
            if argument in LANES:  # the argument's choices and the lane's would have the same names
                raise SpecError(f"spec {spec.name!r}: {operation.name} has an argument named like a lane, {argument!r}")
            if isinstance(generator, ResultsOf) and generator.operation not in names:
                raise SpecError(f"spec {spec.name!r}: {operation.name} wants results of {generator.operation!r}")
        for flushed in operation.flushes if isinstance(operation, Crash) else ():
            if flushed not in names:
                raise SpecError(f"spec {spec.name!r}: a crash flushes {flushed!r}, which is no operation")
    _check_interrupts(spec, names)
    for spared in spec.overlaps.sparing if spec.overlaps else ():
        if spared not in names:
            raise SpecError(f"spec {spec.name!r}: overlaps spare {spared!r}, which is no operation")
    for fault in spec.operations:
        for name in fault.fatal if isinstance(fault, Fault) else ():
            if name not in names:
                raise SpecError(f"spec {spec.name!r}: a fault is fatal in {name!r}, which is no operation")
    if spec.durability is None and any(isinstance(operation, Crash | Fault) for operation in spec.operations):
        raise SpecError(f"spec {spec.name!r}: a Crash or a Fault needs a durability, to know what may be lost")


def _check_knobs(spec: Spec, configuration: Configuration) -> None:
    names = [knob.name for knob in configuration.knobs]
    if len(set(names)) < len(names) or not all(knob.values for knob in configuration.knobs):
        raise SpecError(f"spec {spec.name!r}: two knobs have one name, or a knob has no values")
    for name in names:
        if not name.isidentifier():
            raise SpecError(f"spec {spec.name!r}: a knob is named {name!r}, which is no identifier")
    known = {event.name for event in spec.events}
    for knob in configuration.knobs:
        if knob.crossed and knob.crossed not in known:
            raise SpecError(f"spec {spec.name!r}: knob {knob.name!r} is crossed at {knob.crossed!r}, which is no event")
    if names and configuration.turned([0] * len(names)) != configuration.without_knobs():
        raise SpecError(f"spec {spec.name!r}: the first values of the knobs of {configuration.name!r} change something")


def _check_interrupts(spec: Spec, names: Sequence[str]) -> None:
    interrupts = spec.interrupts
    if interrupts is None:
        return
    if not interrupts.within.exists():  # else no line would ever count, and nothing could be found
        raise SpecError(f"spec {spec.name!r}: interrupts count lines within {interrupts.within}, which is not there")
    for spared in interrupts.sparing:
        if spared not in names:
            raise SpecError(f"spec {spec.name!r}: interrupts spare {spared!r}, which is no operation")


def _compile_action(operation: Operation, model: Any, wanted: set[str]) -> Action:
    key_argument, groups_of = _split_writes(operation)
    return Action(
        name=operation.name,
        kind=_kind_of(operation),
        arguments=tuple(
            (name, argument) for name, argument in operation.arguments.items() if not isinstance(argument, ResultsOf)
        ),
        references=tuple(
            (name, argument.operation)
            for name, argument in operation.arguments.items()
            if isinstance(argument, ResultsOf)
        ),
        key_argument=key_argument,
        groups_of=groups_of,
        adopts=operation.adopts,
        partial=operation.partial,
        remembered=operation.name in wanted,
        promises=operation.promises,
        model_sees=isinstance(operation, Background) and hasattr(model, operation.name),
        steps_max=operation.steps_max if isinstance(operation, WriteBack) else 0,
        tier=operation.tier if isinstance(operation, Crash) else "fine",
        flushes=operation.flushes if isinstance(operation, Crash) else (),
    )


def _interruptible(actions: Sequence[Action]) -> tuple[Action, ...]:
    return tuple(action for action in actions if action.kind not in (CRASH, FAULT, WRITE_BACK))


def _spared(spec: Spec, actions: Sequence[Action]) -> frozenset[str]:
    """Besides those that the spec names, whatever has a result that the model must see."""
    sparing = spec.interrupts.sparing if spec.interrupts else ()
    return frozenset((*sparing, *(action.name for action in actions if action.adopts or action.model_sees)))


def _following(spec: Spec, actions: Sequence[Action]) -> tuple[Action, ...]:
    sparing = spec.interrupts.sparing if spec.interrupts else ()
    return tuple(
        action for action in actions if action.kind not in (CRASH, FAULT, REBOOT) and action.name not in sparing
    )


def _overlapping(spec: Spec, actions: Sequence[Action], model: Any) -> tuple[Action, ...]:
    if spec.overlaps is None:
        return ()
    try:
        state_of(copy_of(model))  # two calls are tried in both orders on copies
    except NotCopiableError as error:
        raise SpecError(f"spec {spec.name!r} has overlaps, and its model cannot be copied: {error}") from None
    sparing = spec.overlaps.sparing
    return tuple(
        action for action in actions if action.kind not in (CRASH, FAULT, REBOOT) and action.name not in sparing
    )


def _split_writes(operation: Operation) -> tuple[str | None, Callable[[Any, Any], Any] | None]:
    writes: Writes | None = operation.writes
    if not isinstance(writes, str):
        return None, writes
    if writes not in operation.arguments:
        raise SpecError(f"operation {operation.name!r} writes {writes!r}, which is none of its arguments")
    return writes, None


def _kind_of(operation: Operation) -> int:
    for kind, operation_class in (
        (BACKGROUND, Background),
        (WRITE_BACK, WriteBack),
        (REBOOT, Reboot),
        (CRASH, Crash),
        (FAULT, Fault),
    ):
        if isinstance(operation, operation_class):
            return kind
    return OPERATION


def _compile_mix(spec: Spec, actions: tuple[Action, ...], mode: Mode) -> Mix:
    indices = range(len(actions))
    return Mix(
        [action.name for action in actions],
        [operation.weight for operation in spec.operations],
        # A spec has the same operations in all modes, so that a program means the same; some are only left out.
        crashes=[index for index in indices if actions[index].kind == CRASH] if mode is not Mode.CONFORMANCE else [],
        faults=[index for index in indices if actions[index].kind == FAULT] if mode is Mode.FAULTS else [],
        ordinary=[index for index in indices if actions[index].kind not in (CRASH, FAULT)],
        writers=[index for index in indices if actions[index].key_argument or actions[index].groups_of],
        steps_mean=spec.steps_mean,
    )
