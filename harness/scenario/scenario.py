"""One scenario: system and model, step by step, and the first property that is broken.

After `open`, each `perform` makes one call on system and model alike and compares; `finish` shuts down, opens again and
compares whole contents. The first violation raises `ScenarioFailed`, and the scenario is over. Who drives it picks the
steps: the runner from a source, or a state machine rule by rule.

What comes out of the system is either a result, an error that the spec names, or a failure. Errors of the spec itself
(generators) and of the harness pass through unchanged, and so do `MemoryError` and whatever derives
from `BaseException`, other than the stop signals of medium and seam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any, Final, NamedTuple, NoReturn

from harness.choices.sources import ENDING, OPENING, Source
from harness.scenario.arguments import ArgumentDrawer, split_answer
from harness.scenario.failures import ScenarioFailed, finding_of_model, finding_of_system
from harness.scenario.history import History, describe, describe_difference
from harness.scenario.ledger import FAILED, PENDING, Judgement, Ledger, UnreadableKeyError, poll
from harness.scenario.verdict import Counters, Failure
from harness.spec.plan import BACKGROUND, CRASH, OPERATION, WRITE_BACK, Action, Plan
from harness.spec.spec import Dependency, Key
from harness.world.medium import Loss, PowerCut, Strike
from harness.world.world import World

# How far into an operation, or a recovery, the power may fail.
CUT_EVENTS_MAX: Final = 16
CUT_FAR_MAX: Final = 8  # rarely, so many times as far
CUT_BARRIERS_MAX: Final = 4  # and resets
RECOVERY_EVENTS_MAX: Final = 4
RECOVERIES_CUT_MAX: Final = 2
DEATH_ODDS: Final = 6  # of so many crashes, one only kills the process

_STRIKES = tuple(Strike)

# The share of legal crash states that were tried is told of the first so many crashes that have at most so many states.
SHARE_CRASHES_MAX: Final = 1_000
SHARE_STATES_MAX: Final = 100_000


class Recovered(NamedTuple):
    """All that is left after a crash was recovered from and settled."""

    media: tuple[tuple[bytes, ...], ...]
    kept: Mapping[str, Any]
    model: Any
    identifiers_count: int  # given out so far


class Scenario:
    """See the module. ``counters`` are added to, and may be shared by many scenarios."""

    __slots__ = (
        "_actions",
        "_arguments",
        "_counters",
        "_dependency_types",
        "_drawer",
        "_errors",
        "_excuses",
        "_history",
        "_invariants",
        "_plan",
        "_polled_at_cut",
        "_position",
        "_source",
        "_step_operation",
        "ledger",
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
        self.ledger = Ledger(plan.read)
        self._errors = plan.spec.errors
        self._excuses = plan.spec.excuses
        self._drawer = ArgumentDrawer(source)
        self._step_operation = OPENING
        self._arguments: dict[str, Any] | None = None  # of the call under way
        self._polled_at_cut: list[str] = []
        self.world = World(plan.configuration, source)
        self._position = self.world.position
        self.model = plan.spec.model()
        self.system: Any = None

    # -- for whoever drives

    def open(self) -> None:
        """Step 0: the system opens on empty media."""
        self._counters.scenarios += 1
        self._open_system(OPENING)

    def resume(self, state: Recovered) -> None:
        """In place of `open` and of all the steps that led to this state: the system recovers on it."""
        self._counters.scenarios += 1
        self.world.resume(state.media, state.kept, state.identifiers_count)
        self.model = deepcopy(state.model)
        self._open_system(OPENING)

    def recovered(self) -> Recovered:
        """The state just after a crash was recovered from; nothing may have been written since."""
        media = tuple(medium.contents() for medium in self.world.media)
        return Recovered(media, dict(self.world.kept), deepcopy(self.model), self.world.identifiers_count)

    def left_by_crash(self) -> tuple[object, ...]:
        """All that decides, beside the media, how things go on just after a crash was recovered from."""
        return dict(self.world.kept), self.model, self.world.identifiers_count, self._drawer.results()

    def perform(self, index: int) -> None:
        """The step that the source is at: the menu's operation ``index``."""
        position = self._position
        position.step = self._source.step
        position.issued_count = 0
        action = self._actions[index]
        self._step_operation = action.name
        if action.kind == CRASH:
            self._crash(action)
        else:
            self._act(action)
        self._counters.operations += 1
        if self._invariants:
            self._check_invariants(action.name)

    def perform_all(self) -> None:
        """The opening, and every step that the source gives."""
        self.open()
        next_step, perform = self._source.next_step, self.perform
        index = next_step()
        while index >= 0:
            perform(index)
            index = next_step()

    def perform_after(self, flushes: Sequence[str], index: int, begin: Callable[[], None]) -> None:
        """As a crash step begins: these background operations, and one more, from ``begin`` on; all are one step."""
        position = self._position
        position.step = self._source.step
        position.issued_count = 0
        for name in flushes:
            self._background(self._plan.action_of[name])
        begin()
        self._step_operation = self._actions[index].name
        self._act(self._actions[index])
        if self._invariants:
            self._check_invariants(self._step_operation)

    def write_back_again(self) -> None:
        """As many more device steps as there may be in one write-back."""
        assert self._plan.write_back is not None
        self._step_operation = self._plan.write_back.name
        arguments = {"steps": self._plan.write_back.steps_max}
        try:
            self._call("write_back", arguments)
        except self._excuses as excuse:
            self._excuse(excuse)
        except BaseException as error:
            self._fail_on(error, self._step_operation)

    def finish(self) -> None:
        """The end: clean shutdown and reopening where the system has one, then whole contents."""
        self.world.begin_step(self._source.step)
        self._step_operation = ENDING
        if self._plan.reboots:
            self._reboot(ENDING)
        else:
            self._compare_contents(ENDING, "conformance")

    # -- steps

    def _act(self, action: Action) -> None:
        kind = action.kind
        if kind == OPERATION:
            self._operation(action)
        elif kind == BACKGROUND:
            self._background(action)
        elif kind == WRITE_BACK:
            self._write_back(action)
        else:
            self._counters.reboots += 1
            self._reboot(action.name)

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call the system. Raises `PowerCut` if the power has failed meanwhile, whatever the system made of it."""
        try:
            answer = getattr(self.system, name)(**arguments)
        except BaseException:
            if self.world.position.is_cut:
                raise PowerCut from None
            raise
        if self.world.position.is_cut:
            raise PowerCut
        return answer

    def _operation(self, action: Action) -> None:
        arguments = self._draw_arguments(action)
        if arguments is None:
            return
        try:
            answer = self._call(action.name, arguments)
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
                self.ledger.note_other(dependency, self._position.step, action.name)
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
        ledger = self.ledger
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
                self.ledger.expect(self.model, key)
        self._compare_result(action, arguments, result, dependency)
        for group in groups:
            self.ledger.note_group(self.model, group, dependency, self._position.step, action.name)

    def _background(self, action: Action) -> None:
        arguments = self._draw_arguments(action)
        if arguments is None:
            return
        try:
            answer = self._call(action.name, arguments)
        except self._excuses as excuse:
            self._excuse(excuse)
            return
        except BaseException as error:
            self._fail_on(error, action.name)
        result, dependency = split_answer(answer, self._dependency_types)
        self._note_result(result, dependency)
        if dependency is not None:
            self.ledger.note_other(dependency, self._position.step, action.name)
        if action.model_sees:
            self._call_model(action.name, lambda method: method(result, **arguments))
        if action.remembered:
            self._drawer.remember(action.name, self._position.step, result)

    def _write_back(self, action: Action) -> None:
        self._arguments = arguments = {"steps": 1 + self._source.choose("steps", action.steps_max)}
        if self._history is not None:
            self._history.call(self._position.step, action.name, arguments)
        try:
            self._call(action.name, arguments)
        except self._excuses as excuse:
            self._excuse(excuse)
        except BaseException as error:
            self._fail_on(error, action.name)

    def _reboot(self, operation: str) -> None:
        history, step = self._history, self._position.step
        if history is not None:
            history.note(step, operation)
        self._arguments = {}
        try:
            self._call("shutdown", {})
            states = self.ledger.poll()
            unfinished = self.ledger.first_unfinished()
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
        self.ledger.clear()
        self._compare_contents(operation, "conformance")

    def _crash(self, action: Action) -> None:
        """Between operations or within one; the recovery that follows may be cut short too."""
        for name in action.flushes:
            if self._source.choose("flush", 2):
                self._background(self._plan.action_of[name])
        self._polled_at_cut = []
        if action.tier == "fine":
            inner = self._choose_inner()
            if inner is not None:
                self._interrupt(inner)
        try:
            states = self._polled_at_cut or self.ledger.poll()
        except BaseException as error:
            self._fail_on(error, action.name)
        states += [PENDING] * (len(self.ledger.writes) - len(states))  # what the interrupted call was to change
        self._note_crash(action.name, states)
        died = self._dies(action)
        losses = self._stop(action, died)
        self._recover(action)
        judgement = self._judge(action.name, states)
        if judgement.any_persistent and (judgement.any_lost or losses):
            self._counters.crashes_interesting += 1
        self._settle(judgement)
        self._compare_contents(action.name, "persistence")
        self._crash_again(action, died)

    def _crash_again(self, action: Action, died: bool) -> None:
        """With nothing written since, nothing may read otherwise; above all not what was read before a barrier."""
        choose = self._source.choose if died else self._source.choose_rare
        if action.tier == "fine" and choose("again", 2):
            self._stop(action, died=False)
            self._open_system(action.name)
            self._compare_contents(action.name, "persistence")

    def _choose_inner(self) -> Action | None:
        """The operation that the crash comes in the middle of; write-back has most events, so it is one of three."""
        plan, choose = self._plan, self._source.choose
        kinds = [each for each in ((plan.write_back,) if plan.write_back else (), plan.interruptible) if each]
        inside = choose("inside", 1 + len(kinds))
        if not inside:
            return None
        candidates = kinds[inside - 1]
        return candidates[choose("during", len(candidates))]

    def _interrupt(self, inner: Action) -> None:
        """Perform one more operation; the power fails in its middle, or after it if it has fewer events."""
        choose = self._source.choose
        strike = _STRIKES[choose("strike", len(_STRIKES))]
        count = choose("cut", CUT_EVENTS_MAX if strike is Strike.EVENT else CUT_BARRIERS_MAX)
        count += CUT_EVENTS_MAX * self._source.choose_rare("far", CUT_FAR_MAX)
        self._arguments = None
        self.world.fail_power_after(strike, count if strike is Strike.EVENT else count + 1, self._poll_at_cut)
        try:
            self._act(inner)
        except PowerCut:
            self._counters.operations_cut += 1
            if self._history is not None:
                plural = "" if count == 1 else "s"
                reason = (
                    f"{count} device event{plural}" if strike is Strike.EVENT else f"{strike.name.lower()} {count + 1}"
                )
                self._history.note(self._position.step, f"-> power fails within {inner.name}, after {reason}")
            self._note_unfinished(inner)
        self.world.keep_power()

    def _poll_at_cut(self) -> None:
        """What is persistent when the power fails; what the system does while it falls down says nothing of that."""
        with self.world.seam.held_monitors_aside():
            self._polled_at_cut = self.ledger.poll()

    def _note_unfinished(self, action: Action) -> None:
        """What an interrupted operation was to change may read either way."""
        arguments, ledger, step = self._arguments, self.ledger, self._position.step
        if arguments is None or action.kind != OPERATION:
            return
        result = None
        if action.adopts:
            if action.partial is None:
                return  # it has not given back what the model would have to adopt
            result = action.partial(self.system)
        groups: list[tuple[Key, ...]] = []
        if action.key_argument is not None:
            groups = [(arguments[action.key_argument],)]
        elif action.groups_of is not None:
            groups = [tuple(group) for group in action.groups_of(arguments, result)]
        for group in groups:
            for key in group:
                ledger.expect(self.model, key)
        try:
            method = getattr(self.model, action.name)
            method(result, **arguments) if action.adopts else method(**arguments)
        except self._errors:
            return  # refused, so it would have changed nothing
        except BaseException as error:
            self._fail_on_model(error, action.name)
        for group in groups:
            ledger.note_group(self.model, group, None, step, action.name)

    def _note_crash(self, operation: str, states: list[str]) -> None:
        history, step = self._history, self._position.step
        if history is not None:
            history.note(step, operation)
            for write, state in zip(self.ledger.writes, states, strict=True):
                history.note(step, f"polled: {write.step} {write.operation} {describe(write.key)} {state}")

    def _dies(self, action: Action) -> bool:
        return action.tier == "fine" and self._source.choose("death", DEATH_ODDS) == 1

    def _stop(self, action: Action, died: bool) -> Sequence[Loss]:
        """The device stops, or only the process dies and leaves the device's log as it is."""
        self._counters.crashes += 1
        if died:
            self.world.reboot()
            if self._history is not None:
                self._history.note(self._position.step, "the process dies, the device goes on")
            return ()
        if action.tier == "fine":
            self._count_share()
        losses = self.world.crash(action.tier)
        self._counters.crash_states.add(*self.world.contents())
        if self._history is not None:
            self._history.losses(self._position.step, losses)
        return losses

    def _count_share(self) -> None:
        counters = self._counters
        if counters.share_crashes < SHARE_CRASHES_MAX:
            legal = self.world.legal_states_count()
            if legal <= SHARE_STATES_MAX:
                counters.share_crashes += 1
                counters.share_tried += 1
                counters.share_legal += legal

    def _recover(self, action: Action) -> None:
        """Open again, after recoveries that the next crash cut short."""
        for _ in range(RECOVERIES_CUT_MAX if action.tier == "fine" else 0):
            cut = self._source.choose_rare("recovery", 1 + RECOVERY_EVENTS_MAX)
            if not cut:
                break
            self._counters.recoveries_cut += 1
            self.world.fail_power_after(Strike.EVENT, cut - 1)
            if self._history is not None:
                self._history.note(self._position.step, f"recovery is cut short after {cut - 1} device events")
            with suppress(PowerCut):
                self._build_system(action.name)
            self._stop(action, self._dies(action))
        self._open_system(action.name)

    # -- parts of steps

    def _open_system(self, operation: str) -> None:
        self._build_system(operation)
        if operation != OPENING and self._plan.model_reopens:
            self._call_model("reopened", lambda method: method())

    def _build_system(self, operation: str) -> None:
        try:
            self.system = self._plan.spec.system(self.world)
        except BaseException as error:
            if self.world.is_power_cut:
                raise PowerCut from None
            self._fail_on(error, operation, "recovery")

    def _draw_arguments(self, action: Action) -> dict[str, Any] | None:
        self._arguments = arguments = self._drawer.draw(action)
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
            judgement = self.ledger.judge(self.system, states)
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
        self.ledger.clear()

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
        if isinstance(error, PowerCut):
            raise error  # it was to fail
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
