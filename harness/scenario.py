"""One scenario: system and model, step by step, and the first property that is broken.

After `open`, each `perform` makes one call on system and model alike and compares; `finish` shuts down, opens again and
compares whole contents. The first violation raises `ScenarioFailed`, and the scenario is over. Who drives it picks the
steps: the runner from a source, or a state machine rule by rule.

What comes out of the system is either a result, an error that the spec names, or a failure. Errors of the spec itself
(generators) and of the harness pass through unchanged, and so do `MemoryError` and whatever derives
from `BaseException`, other than the stop signals of medium and seam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from harness.arguments import ArgumentDrawer, split_answer
from harness.failures import ScenarioFailed, finding_of_model, finding_of_system
from harness.history import History, describe, describe_difference
from harness.ledger import FAILED, Judgement, Ledger, UnreadableKeyError, poll
from harness.plan import BACKGROUND, CRASH, OPERATION, WRITE_BACK, Action, Plan
from harness.sources import ENDING, OPENING, Source
from harness.spec import Dependency, Key
from harness.verdict import Counters, Failure
from harness.world import World


class Scenario:
    """See the module. ``counters`` are added to, and may be shared by many scenarios."""

    __slots__ = (
        "_actions",
        "_counters",
        "_dependency_types",
        "_drawer",
        "_errors",
        "_excuses",
        "_history",
        "_invariants",
        "_ledger",
        "_plan",
        "_position",
        "_source",
        "_step_operation",
        "model",
        "system",
        "world",
    )

    def __init__(self, plan: Plan, source: Source, counters: Counters, history: History | None = None) -> None:
        self._plan = plan
        self._actions = plan.actions
        self._invariants = plan.spec.invariants
        self._dependency_types = plan.dependency_types
        self._source = source
        self._counters = counters
        self._history = history
        self._ledger = Ledger(plan.read)
        self._errors = plan.spec.errors
        self._excuses = plan.spec.excuses
        self._drawer = ArgumentDrawer(source)
        self._step_operation = OPENING
        self.world = World(plan.configuration, source)
        self._position = self.world.position
        self.model = plan.spec.model()
        self.system: Any = None

    # -- for whoever drives

    def open(self) -> None:
        """Step 0: the system opens on empty media."""
        self._counters.scenarios += 1
        self._open_system(OPENING)

    def perform(self, index: int) -> None:
        """The step that the source is at: the menu's operation ``index``."""
        position = self._position
        position.step = self._source.step
        position.issued_count = 0
        action = self._actions[index]
        self._step_operation = action.name
        kind = action.kind
        if kind == OPERATION:
            self._operation(action)
        elif kind == BACKGROUND:
            self._background(action)
        elif kind == WRITE_BACK:
            self._write_back(action)
        elif kind == CRASH:
            self._crash(action)
        else:
            self._counters.reboots += 1
            self._reboot(action.name)
        self._counters.operations += 1
        if self._invariants:
            self._check_invariants(action.name)

    def finish(self) -> None:
        """The end: clean shutdown and reopening where the system has one, then whole contents."""
        self.world.begin_step(self._source.step)
        self._step_operation = ENDING
        if self._plan.reboots:
            self._reboot(ENDING)
        else:
            self._compare_contents(ENDING, "conformance")

    # -- steps

    def _operation(self, action: Action) -> None:
        arguments = self._draw_arguments(action)
        if arguments is None:
            return
        try:
            answer = getattr(self.system, action.name)(**arguments)
        except self._excuses as excuse:
            self._excuse(excuse)
            return
        except self._errors as error:
            self._compare_error(action, arguments, error)
            return
        except BaseException as error:
            self._fail_on(error, action.name)
        result, dependency = split_answer(answer, self._dependency_types)
        if action.key_argument is not None:
            self._write_key(action, arguments[action.key_argument], arguments, result, dependency)
        elif action.groups_of is not None:
            self._write_groups(action, arguments, result, dependency)
        else:
            self._compare_result(action, arguments, result, dependency)
            if dependency is not None:
                self._ledger.note_other(dependency, self._position.step, action.name)
        if action.remembered:
            self._drawer.remember(action.name, self._position.step, result)

    def _write_key(
        self,
        action: Action,
        key: Key,
        arguments: Mapping[str, Any],
        result: object,
        dependency: Dependency | None,
    ) -> None:
        ledger = self._ledger
        ledger.expect(self.model, key)
        self._compare_result(action, arguments, result, dependency)
        ledger.note(self.model, key, dependency, self._position.step, action.name)

    def _write_groups(
        self, action: Action, arguments: Mapping[str, Any], result: object, dependency: Dependency | None
    ) -> None:
        assert action.groups_of is not None
        groups = [tuple(group) for group in action.groups_of(arguments, result)]
        for group in groups:
            for key in group:
                self._ledger.expect(self.model, key)
        self._compare_result(action, arguments, result, dependency)
        for group in groups:
            self._ledger.note_group(self.model, group, dependency, self._position.step, action.name)

    def _background(self, action: Action) -> None:
        arguments = self._draw_arguments(action)
        if arguments is None:
            return
        try:
            answer = getattr(self.system, action.name)(**arguments)
        except self._excuses as excuse:
            self._excuse(excuse)
            return
        except BaseException as error:
            self._fail_on(error, action.name)
        result, dependency = split_answer(answer, self._dependency_types)
        self._note_result(result, dependency)
        if dependency is not None:
            self._ledger.note_other(dependency, self._position.step, action.name)
        if action.model_sees:
            self._call_model(action.name, lambda method: method(result, **arguments))
        if action.remembered:
            self._drawer.remember(action.name, self._position.step, result)

    def _write_back(self, action: Action) -> None:
        steps_count = 1 + self._source.choose("steps", action.steps_max)
        if self._history is not None:
            self._history.call(self._position.step, action.name, {"steps": steps_count})
        try:
            self.system.write_back(steps_count)
        except self._excuses as excuse:
            self._excuse(excuse)
        except BaseException as error:
            self._fail_on(error, action.name)

    def _reboot(self, operation: str) -> None:
        history, step = self._history, self._position.step
        if history is not None:
            history.note(step, operation)
        try:
            self.system.shutdown()
            states = self._ledger.poll()
            unfinished = self._ledger.first_unfinished()
        except self._excuses as excuse:
            self._excuse(excuse)
            self._compare_contents(operation, "conformance")
            return
        except BaseException as error:
            self._fail_on(error, operation)
        if unfinished is not None:
            since, writer = unfinished
            answered = f"{writer} of step {since} still pending after clean shutdown"
            self._fail("forward progress", "shutdown", answered, "persistent, or failed")
        self.world.reboot()
        self._open_system(operation)
        if FAILED in states and self._plan.settle is not None:
            self._settle(self._judge(operation, states))
        self._ledger.clear()
        self._compare_contents(operation, "conformance")

    def _crash(self, action: Action) -> None:
        history, step = self._history, self._position.step
        for name in action.flushes:
            if self._source.choose("flush", 2):
                self._background(self._plan.action_of[name])
        try:
            states = self._ledger.poll()
        except BaseException as error:
            self._fail_on(error, action.name)
        if history is not None:
            history.note(step, action.name)
            for write, state in zip(self._ledger.writes, states, strict=True):
                history.note(step, f"polled: {write.step} {write.operation} {describe(write.key)} {state}")
        losses = self.world.crash(action.tier)
        if history is not None:
            history.losses(step, losses)
        self._counters.crashes += 1
        self._open_system(action.name)
        judgement = self._judge(action.name, states)
        if judgement.any_persistent and (judgement.any_lost or losses):
            self._counters.crashes_interesting += 1
        self._settle(judgement)
        self._compare_contents(action.name, "persistence")

    # -- parts of steps

    def _open_system(self, operation: str) -> None:
        try:
            self.system = self._plan.spec.system(self.world)
        except BaseException as error:
            self._fail_on(error, operation, "recovery")
        if operation != OPENING and self._plan.model_reopens:
            self._call_model("reopened", lambda method: method())

    def _draw_arguments(self, action: Action) -> dict[str, Any] | None:
        arguments = self._drawer.draw(action)
        if arguments is None:
            self._counters.skipped += 1
            if self._history is not None:
                self._history.note(self._position.step, f"{action.name} skipped: no result to refer to")
        elif self._history is not None:
            self._history.call(self._position.step, action.name, arguments)
        return arguments

    def _compare_result(
        self, action: Action, arguments: Mapping[str, Any], result: object, dependency: Dependency | None
    ) -> None:
        if self._history is not None:
            self._note_result(result, dependency)
        if action.adopts:
            self._call_model(action.name, lambda method: method(result, **arguments))
            return
        try:
            expected = getattr(self.model, action.name)(**arguments)
        except self._errors as error:
            self._fail("conformance", action.name, describe(result), type(error).__name__)
        except BaseException as error:
            self._fail_on_model(error, action.name)
        if result is not expected and result != expected:
            self._fail("conformance", action.name, *describe_difference(result, expected))

    def _compare_error(self, action: Action, arguments: Mapping[str, Any], error: Exception) -> None:
        """Typed errors agree by type; the model must have raised the same."""
        if self._history is not None:
            self._history.note(self._position.step, f"-> {describe(error)}")
        if action.adopts:
            self._call_model(action.name, lambda method: method(error, **arguments))
            return
        try:
            expected = getattr(self.model, action.name)(**arguments)
        except self._errors as model_error:
            if type(model_error) is type(error):
                return
            self._fail("conformance", action.name, type(error).__name__, type(model_error).__name__)
        except BaseException as model_error:
            self._fail_on_model(model_error, action.name)
        self._fail("conformance", action.name, type(error).__name__, describe(expected))

    def _call_model(self, operation: str, call: Callable[[Any], object]) -> None:
        try:
            call(getattr(self.model, operation))
        except BaseException as error:
            self._fail_on_model(error, operation)

    def _note_result(self, result: object, dependency: Dependency | None) -> None:
        if self._history is not None:
            self._history.returned(self._position.step, result, "" if dependency is None else poll(dependency))

    def _excuse(self, error: Exception) -> None:
        self._counters.excused += 1
        if self._history is not None:
            self._history.note(self._position.step, f"-> {describe(error)}, excused")

    # -- contents

    def _judge(self, operation: str, states: list[str]) -> Judgement:
        try:
            judgement = self._ledger.judge(self.system, states)
        except UnreadableKeyError as unreadable:
            cause = unreadable.__cause__ or unreadable
            self._fail_on(cause, operation, "persistence", {unreadable.key: unreadable.allowed})
        except BaseException as error:
            self._fail_on(error, operation, "persistence")
        if self._history is not None:
            for key, outcome in judgement.observed.items():
                options = ", ".join(dict.fromkeys(describe(option) for option in judgement.allowed[key]))
                line = f"recovered {describe(key)}: {describe(outcome)} (allowed: {options})"
                self._history.note(self._position.step, line)
        return judgement

    def _settle(self, judgement: Judgement) -> None:
        mismatch = judgement.mismatch
        if mismatch is not None:
            self._fail("persistence", mismatch.place, describe(mismatch.answered), describe(mismatch.allowed))
        settle = self._plan.settle
        assert settle is not None
        for key, outcome in judgement.observed.items():
            settle(self.model, key, outcome)
        self._ledger.clear()

    def _compare_contents(self, operation: str, property_name: str) -> None:
        contents = self._plan.spec.contents
        if contents is None:
            return
        try:
            answered = contents(self.system)
        except BaseException as error:
            self._fail_on(error, operation, property_name)
        allowed = contents(self.model)
        if answered != allowed:
            self._fail(property_name, "contents", *describe_difference(answered, allowed))
        if self._history is not None:
            self._history.note(self._position.step, "contents equal")

    def _check_invariants(self, operation: str) -> None:
        for invariant in self._invariants:
            try:
                invariant(self.system, self.model)
            except BaseException as error:
                self._fail_on(error, operation)

    # -- failures

    def _fail_on(
        self,
        error: BaseException,
        operation: str,
        property_name: str = "unexpected error",
        allowed: object = None,
    ) -> NoReturn:
        """Turn what came out of the system into a failure, or let it pass if it is not the system's."""
        finding = finding_of_system(error, operation, property_name)
        if finding is None:
            raise error
        property_broken, place, answered, no_error = finding
        self._fail(property_broken, place, answered, no_error if allowed is None else describe(allowed))

    def _fail_on_model(self, error: BaseException, operation: str) -> NoReturn:
        finding = finding_of_model(error, operation)
        if finding is None:
            raise error
        self._fail(*finding)

    def _fail(self, property_name: str, place: str, answered: str, allowed: str) -> NoReturn:
        failure = Failure(property_name, self._position.step, self._step_operation, place, answered, allowed)
        if self._history is not None:
            self._history.violated(failure)
        raise ScenarioFailed(failure)
