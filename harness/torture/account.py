"""What a system on a real file was asked and what it said, as events, and what it may hold by then.

A *journal* is the events in order. Whoever drives the system reports each as it happens, before and after each call, so
that a journal that breaks off anywhere says what was under way. The `Account` follows one: it moves the model and the
ledger on, compares results, and judges what a crash has left.

    create | open              before the file is touched
    opened                     the system is there
    call ... done              a call and what it gave; or refused (excused, nothing has changed), or error (typed)
    state                      a call's dependency was seen persistent, or failed
    settled                    what was found after a crash, once judged

A call that a crash has interrupted took effect or did not. No IO fails here, so a dependency that fails, or one that is
pending after a clean shutdown, is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from harness.scenario.failures import Finding, finding_of_model, finding_of_system
from harness.scenario.history import describe, describe_difference
from harness.scenario.ledger import FAILED, PENDING, PERSISTENT, Ledger, UnreadableKeyError
from harness.spec.plan import OPERATION, REBOOT, Action, Plan, SpecError


class What(StrEnum):
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


class Broken(BaseException):
    """A property is broken; whoever runs the system stops."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


def refuse_unsuitable(plan: Plan) -> None:
    """Raises `SpecError` for a spec that an account cannot follow."""
    spec = plan.spec
    if spec.on_file is None:
        raise SpecError(f"spec {spec.name!r} does not say how to run on a file (on_file)")
    if spec.durability is None:
        raise SpecError(f"spec {spec.name!r}: on a file it needs a durability, to know what may be lost")
    for action in plan.actions:
        if action.adopts or action.model_sees:
            raise SpecError(f"spec {spec.name!r}: on a file the model cannot adopt what {action.name!r} returned")


class _Acknowledged:
    """The dependency of one call, as far as it was reported."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = PENDING

    def is_persistent(self) -> bool:
        return self.state == PERSISTENT

    def is_failed(self) -> bool:
        return self.state == FAILED


class Account:
    """Follows a journal. `follow` and `judge` raise `Broken`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._ledger = Ledger(plan.read)
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
        self.acknowledged_checked = 0  # persistent writes that `judge` has looked for

    @property
    def is_within_call(self) -> bool:
        return self._under_way is not None

    def follow(self, event: Event) -> None:
        handler = self._follow.get(event.what)
        if handler is not None:
            handler(event)

    # --- events -------------------------------------------------------------------------------------

    def _open(self, event: Event) -> None:
        """Whatever was under way has been cut short."""
        call, self._under_way = self._under_way, None
        if call is None:
            return
        action = self._plan.action_of[call.operation]
        groups = _groups(action, call.value, None)
        self._expect(groups)
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
        groups = _groups(action, call.value, result)
        dependency = _Acknowledged() if has_dependency else None
        if dependency is not None:
            self._dependencies[call.step] = dependency
        self._expect(groups)
        if action.kind == OPERATION:
            self._compare(call, result)
        if groups:
            self._note(call, groups, dependency)
        elif dependency is not None:
            self._ledger.note_other(dependency, call.step, call.operation)
        if action.kind == REBOOT:
            self._shut_down()

    def _compare(self, call: Event, result: object) -> None:
        try:
            expected = self._call_model(call)
        except self._spec.errors as error:
            raise Broken(("conformance", call.operation, describe(result), type(error).__name__)) from None
        if result != expected:
            raise Broken(("conformance", call.operation, *describe_difference(result, expected)))

    def _shut_down(self) -> None:
        unfinished = self._ledger.first_unfinished()
        if unfinished is not None:
            since, writer = unfinished
            answered = f"{writer} of step {since} still pending after clean shutdown"
            raise Broken(("forward progress", "shutdown", answered, "persistent"))
        self._clear()

    def _refused(self, event: Event) -> None:
        self._end_call()

    def _error(self, event: Event) -> None:
        call = self._end_call()
        try:
            expected = self._call_model(call)
        except self._spec.errors as error:
            if type(error).__name__ == event.value:
                return
            raise Broken(("conformance", call.operation, event.value, type(error).__name__)) from None
        raise Broken(("conformance", call.operation, event.value, describe(expected)))

    def _state(self, event: Event) -> None:
        if event.value == FAILED:
            raise Broken(("forward progress", event.operation, "failed", "persistent: no IO was refused"))
        dependency = self._dependencies.pop(event.step, None)
        if dependency is not None:
            dependency.state = event.value

    def _broken(self, event: Event) -> None:
        raise Broken(event.value)

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
            finding = finding_of_model(error, call.operation)
            if finding is None:
                raise
            raise Broken(finding) from error

    def _expect(self, groups: Sequence[Sequence[Any]]) -> None:
        for group in groups:
            for key in group:
                self._ledger.expect(self.model, key)

    def _note(self, call: Event, groups: Sequence[Sequence[Any]], dependency: _Acknowledged | None) -> None:
        for group in groups:
            if len(group) == 1:
                self._ledger.note(self.model, group[0], dependency, call.step, call.operation)
            else:
                self._ledger.note_group(self.model, group, dependency, call.step, call.operation)

    def judge(self, system: Any) -> dict[Any, Any]:
        """Read everything back after a crash; what was found is settled, and given for the journal."""
        states = self._ledger.poll()
        self.acknowledged_checked += states.count(PERSISTENT)
        try:
            judgement = self._ledger.judge(system, states)
        except UnreadableKeyError as unreadable:
            cause = unreadable.__cause__ or unreadable
            raise Broken(_unreadable(cause, {unreadable.key: unreadable.allowed})) from cause
        mismatch = judgement.mismatch
        if mismatch is not None:
            raise Broken(("persistence", mismatch.place, describe(mismatch.answered), describe(mismatch.allowed)))
        self._settle(judgement.observed)
        self._compare_contents(system)
        return judgement.observed

    def _compare_contents(self, system: Any) -> None:
        contents = self._spec.contents
        if contents is None:
            return
        try:
            answered = contents(system)
        except Exception as error:
            raise Broken(_unreadable(error, contents(self.model))) from error
        allowed = contents(self.model)
        if answered != allowed:
            raise Broken(("persistence", "contents", *describe_difference(answered, allowed)))

    def _settle(self, observed: Mapping[Any, Any]) -> None:
        settle = self._plan.settle
        assert settle is not None
        for key, outcome in observed.items():
            settle(self.model, key, outcome)
        self._clear()

    def _clear(self) -> None:
        self._ledger.clear()
        self._dependencies.clear()


def _groups(action: Action, arguments: Mapping[str, Any], result: object) -> list[tuple[Any, ...]]:
    if action.key_argument is not None:
        return [(arguments[action.key_argument],)]
    if action.groups_of is not None:
        return [tuple(group) for group in action.groups_of(arguments, result)]
    return []


def _unreadable(error: BaseException, allowed: object) -> Finding:
    finding = finding_of_system(error, "read", "persistence")
    if finding is None:
        raise error
    property_name, place, answered, _ = finding
    return property_name, place, answered, describe(allowed)


def describe_event(event: Event) -> str:
    """One line for people."""
    if event.what is What.CALL:
        shown = ", ".join(f"{name}={describe(value)}" for name, value in event.value.items())
        return f"{event.step} {event.operation}({shown})"
    if event.what is What.DONE:
        result, has_dependency = event.value
        return f"{event.step} -> {describe(result)}{', and a dependency' if has_dependency else ''}"
    value = "" if event.value is None else f" {describe(event.value)}"
    return f"{event.step} {event.what}{' ' + event.operation if event.operation else ''}{value}"
