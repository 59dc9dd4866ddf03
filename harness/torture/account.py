"""The account: follows the calls and answers of a system on a real file, and says what the file may hold by then.

A *journal* is a list of events in order. The driver of the system reports each event as it happens, before and after
each call. So a journal that breaks off anywhere says what was under way. The `Account` follows a journal: it moves the
model and the ledger on, compares results, and judges the file after a crash.

    create | open              before the file is touched
    opened                     the system is there
    call ... done              a call and its answer; or refused (excused, nothing has changed), or error (typed)
    state                      a call's dependency was seen persistent, or failed
    settled                    the outcomes after a crash, once they are judged
    broken                     the driver has seen a violation

A call that a crash has interrupted took effect or did not. No IO fails here, so a failed dependency is a violation, and
so is one that is pending after a clean shutdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from harness.scenario.describe import describe
from harness.scenario.judge import Judge, unfinished
from harness.scenario.ledger import FAILED, PENDING, PERSISTENT, Ledger
from harness.scenario.results import compare_error_type, compare_result
from harness.scenario.violation import Violated, Violation, violation_of_model
from harness.spec.plan import OPERATION, REBOOT, Plan, SpecError


class What(StrEnum):
    """Kinds of events; see the module."""

    CREATE = "create"
    OPEN = "open"
    OPENED = "opened"
    CALL = "call"
    DONE = "done"
    REFUSED = "refused"
    ERROR = "error"
    STATE = "state"
    SETTLED = "settled"
    BROKEN = "broken"


class Event(NamedTuple):
    """One line of a journal; ``value`` is pickled when it goes through a pipe."""

    what: What
    step: int = 0  # unique in a file's life
    operation: str = ""
    value: Any = None


def refuse_unsuitable(plan: Plan) -> None:
    """Raise `SpecError` for a spec that an account cannot follow."""
    spec = plan.spec
    if spec.on_file is None:
        raise SpecError(f"spec {spec.name!r} does not say how to run on a file (on_file)")
    if spec.durability is None:
        raise SpecError(f"spec {spec.name!r}: on a file it needs a durability, to know what may be lost")
    for action in plan.actions:
        if action.adopts or action.model_sees:  # a process that was killed has not said its result
            raise SpecError(f"spec {spec.name!r}: on a file the model cannot adopt what {action.name!r} returned")


class _Acknowledged:
    """The dependency of one call, in the state that was last reported."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = PENDING

    def is_persistent(self) -> bool:
        return self.state == PERSISTENT

    def is_failed(self) -> bool:
        return self.state == FAILED


class Account:
    """Follows a journal. `follow` and `judge` raise `Violated`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._ledger = Ledger(plan.read)
        self._judge = Judge(plan)
        self._dependencies: dict[int, _Acknowledged] = {}
        self._under_way: Event | None = None
        self._follow: dict[What, Callable[[Event], None]] = {
            What.OPEN: self._open,
            What.OPENED: self._opened,
            What.CALL: self._call,
            What.DONE: self._done,
            What.REFUSED: self._refused,
            What.ERROR: self._error,
            What.STATE: self._state,
            What.SETTLED: lambda event: self._settle(event.value),
            What.BROKEN: self._broken,
        }
        self.model = plan.spec.model()
        self.is_created = False
        self.acknowledged_checked = 0  # how many persistent writes `judge` has looked for

    def follow(self, event: Event) -> None:
        handler = self._follow.get(event.what)
        if handler is not None:
            handler(event)

    # --- events -------------------------------------------------------------------------------------

    def _open(self, event: Event) -> None:
        """A process opens the file: a call that was under way has been cut short, and may read either way."""
        call, self._under_way = self._under_way, None
        if call is None:
            return
        action = self._plan.action_of[call.operation]
        groups = action.groups_written(call.value, None)
        self._ledger.expect_groups(self.model, groups)
        try:
            self._call_model(call)
        except self._spec.errors:
            return
        self._note(call, groups, None)

    def _opened(self, event: Event) -> None:
        self.is_created = True
        if self._plan.model_reopens:
            self.model.reopened()

    def _call(self, event: Event) -> None:
        self._under_way = event

    def _done(self, event: Event) -> None:
        call = self._end_call()
        action = self._plan.action_of[call.operation]
        result, has_dependency = event.value
        groups = action.groups_written(call.value, result)
        dependency = _Acknowledged() if has_dependency else None
        if dependency is not None:
            self._dependencies[call.step] = dependency
        self._ledger.expect_groups(self.model, groups)
        if action.kind == OPERATION:
            _raise(compare_result(self._plan, self.model, action, call.value, result))
        if groups:
            self._note(call, groups, dependency)
        elif dependency is not None:
            self._ledger.note_other(dependency, call.step, call.operation)
        if action.kind == REBOOT:
            self._shut_down()

    def _shut_down(self) -> None:
        _raise(unfinished(self._ledger))
        self._clear()

    def _refused(self, event: Event) -> None:
        self._end_call()

    def _error(self, event: Event) -> None:
        call = self._end_call()
        action = self._plan.action_of[call.operation]
        _raise(compare_error_type(self._plan, self.model, action, call.value, event.value))

    def _state(self, event: Event) -> None:
        if event.value == FAILED:
            raise Violated(Violation("forward progress", event.operation, "failed", "persistent: no IO was refused"))
        dependency = self._dependencies.pop(event.step, None)
        if dependency is not None:
            dependency.state = event.value

    def _broken(self, event: Event) -> None:
        raise Violated(event.value)

    def _end_call(self) -> Event:
        call, self._under_way = self._under_way, None
        assert call is not None
        return call

    # --- the model and the ledger -------------------------------------------------------------------

    def _call_model(self, call: Event) -> Any:
        if self._plan.action_of[call.operation].kind != OPERATION:
            return None
        try:
            return getattr(self.model, call.operation)(**call.value)
        except self._spec.errors:
            raise
        except Exception as error:
            violation = violation_of_model(error, call.operation)
            if violation is None:
                raise
            raise Violated(violation) from error

    def _note(self, call: Event, groups: Sequence[Sequence[Any]], dependency: _Acknowledged | None) -> None:
        for group in groups:
            if len(group) == 1:
                self._ledger.note(self.model, group[0], dependency, call.step, call.operation)
            else:
                self._ledger.note_group(self.model, group, dependency, call.step, call.operation)

    def judge(self, system: Any) -> dict[Any, Any]:
        """Read every written key back after a crash, and settle the outcomes. Gives them for the journal."""
        states = self._ledger.poll()
        self.acknowledged_checked += states.count(PERSISTENT)
        judgement = self._judge.whole(self._ledger, states, system, self.model)
        _raise(judgement.violation)
        assert judgement.reading is not None
        self._clear()
        return judgement.reading.observed

    def _settle(self, observed: Mapping[Any, Any]) -> None:
        settle = self._plan.settle
        assert settle is not None
        for key, outcome in observed.items():
            settle(self.model, key, outcome)
        self._clear()

    def _clear(self) -> None:
        self._ledger.clear()
        self._dependencies.clear()


def _raise(violation: Violation | None) -> None:
    if violation is not None:
        raise Violated(violation)


def describe_event(event: Event) -> str:
    """An event as one line for people."""
    if event.what is What.CALL:
        shown = ", ".join(f"{name}={describe(value)}" for name, value in event.value.items())
        return f"{event.step} {event.operation}({shown})"
    if event.what is What.DONE:
        result, has_dependency = event.value
        return f"{event.step} -> {describe(result)}{', and a dependency' if has_dependency else ''}"
    value = "" if event.value is None else f" {describe(event.value)}"
    return f"{event.step} {event.what}{' ' + event.operation if event.operation else ''}{value}"
