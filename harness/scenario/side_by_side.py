"""System and model side by side: makes each step other than a crash on both, and compares.

    act -- operation      a call on both sides, compared (`results.py`)
      |--- background     a call on the system; the model sees the result if it has the operation too
      |--- write-back     device steps
      `--- reboot         clean shutdown, opening, whole contents

A call of the system ends in a result, in an error that the spec names, or in a violation, which is raised as
`Violated`. Errors of the spec itself (generators) and of the harness pass through unchanged. So do `MemoryError` and
errors that derive from `BaseException` alone, other than `SystemExit` and the stop signals of medium and seam.

A history is given each event; a `Watcher` is told of each life of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, Protocol, TypeGuard

from harness.choices.program import OPENING
from harness.choices.tape import Tape
from harness.scenario import history as events
from harness.scenario.arguments import ArgumentDrawer, split_answer
from harness.scenario.describe import describe
from harness.scenario.fault import Tolerance, choose_fault, describe_fault
from harness.scenario.history import Event
from harness.scenario.judge import Judge, broken_promise, unfinished
from harness.scenario.ledger import FAILED, PENDING, Ledger, Reading, is_kept, poll
from harness.scenario.results import compare_error, compare_result
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violated, Violation, violation_of_model, violation_of_system
from harness.spec.plan import BACKGROUND, OPERATION, WRITE_BACK, Action, Plan
from harness.spec.spec import Configuration, Dependency, Key
from harness.world.faults import Site
from harness.world.power import PowerCut
from harness.world.world import World


class Watcher(Protocol):
    """Watches the lives of a scenario's system; a life lasts from an opening to the next crash or shutdown."""

    def life_ends(self) -> None:
        """The system is about to be opened, so its life before, if any, is over."""

    def life_begins(self) -> None:
        """The system was opened."""

    def step_ends(self) -> None:
        """A step was performed, and nothing was violated."""


class Overlapping(Protocol):
    """Makes calls with others in their middle (`overlap.py`), in scenarios that have these."""

    was_begun: bool  # one, in this step

    @property
    def is_under_way(self) -> bool:
        """Whether such a call has begun, so that nobody knows yet what it will have changed."""

    def act(self, action: Action) -> None:
        """What `SideBySide.act` says."""


class Answer(NamedTuple):
    """The end of a call of the system: a result and perhaps a dependency, or an error that the spec names."""

    result: Any = None
    dependency: Dependency | None = None
    error: Exception | None = None
    is_excused: bool = False


class SideBySide:
    """See the module. Many scenarios may add to the same ``counters``.

    Events are added to the list ``history``; None: nobody wants them.
    """

    __slots__ = (
        "_dependency_types",
        "_errors",
        "_excuses",
        "_places",
        "arguments",
        "counters",
        "drawer",
        "history",
        "is_interrupted",
        "judge",
        "ledger",
        "model",
        "operation",
        "overlap",
        "plan",
        "position",
        "system",
        "tape",
        "tolerance",
        "watcher",
        "world",
    )

    def __init__(self, plan: Plan, tape: Tape, counters: Counters, history: list[Event] | None = None) -> None:
        spec = plan.spec
        self.plan = plan
        self.tape = tape
        self.counters = counters
        self.history = history
        self.watcher: Watcher | None = None
        self._dependency_types = plan.dependency_types
        self._errors = spec.errors
        self._excuses = spec.excuses  # while the device has refused nothing
        self.tolerance = Tolerance(plan, counters) if plan.fault_errors else None
        self.judge = Judge(plan)
        self.ledger = Ledger(plan.read)
        self.drawer = ArgumentDrawer(tape)
        self.operation = OPENING  # of the step under way
        self.is_interrupted = False  # an exception from outside has arrived, and the crash after it has not come yet
        self.arguments: dict[str, Any] | None = None  # of the call under way
        self._places: Sequence[int] = ()  # of the knobs, each among its values
        self.world = World(self._turn_knobs(), tape)
        self.position = self.world.position
        if history is not None:
            self.world.faults.say = self._say
        self.world.faults.at_refusal = self._note_refusal
        self.model = spec.model()
        self.system: Any = None
        self.overlap: Overlapping | None = None

    def _turn_knobs(self) -> Configuration:
        """The configuration of this scenario: the plan's, with each knob as the tape chooses."""
        configuration, turned = self.plan.configuration, self.plan.turned
        if not configuration.knobs:
            return configuration
        places = tuple([self.tape.choose_knob(knob.name, len(knob.values)) for knob in configuration.knobs])
        self._places = places
        drawn = self.counters.knobs
        for knob, place in zip(configuration.knobs, places, strict=True):
            drawn[knob.name, place] = drawn.get((knob.name, place), 0) + 1
        if places not in turned:
            turned[places] = configuration.turned(places)
        return turned[places]

    def knobs_turned(self) -> list[str]:
        """The knobs that are not at their default, with their values."""
        knobs = self.plan.configuration.knobs
        return [f"{knob.name} = {knob.values[place]}" for knob, place in zip(knobs, self._places, strict=True) if place]

    # -- steps

    def begin_step(self) -> None:
        """Follow the tape to its next step."""
        # Inlined from `World.begin_step`, since this is on the hot path.
        position = self.position
        position.step = self.tape.step
        position.issued_count = 0

    def act(self, action: Action) -> None:
        """Make one step that is not a crash. Raises `Violated`, or `PowerCut` if the power fails meanwhile."""
        if self.overlap is None:
            self.act_alone(action)
        else:
            self.overlap.act(action)

    def act_alone(self, action: Action) -> None:
        """Do the same without another call in the middle."""
        kind = action.kind
        if kind in (OPERATION, BACKGROUND):
            self.call(action)
        elif kind == WRITE_BACK:
            self._write_back(action)
        else:
            self.counters.reboots += 1
            self.reboot(action.name)

    def call(self, action: Action) -> None:
        """Call the system, and compare."""
        arguments = self.draw_arguments(action)
        if arguments is not None:
            self.enter(action, arguments, self.answer(action, arguments))

    def answer(self, action: Action, arguments: Mapping[str, Any]) -> Answer:
        """Make a call of the system. An error that the spec does not name is raised as a violation."""
        try:
            answer = self._call(action.name, arguments)
        except self._excuses as excuse:
            self._excuse(excuse, action.name, arguments)
            return Answer(error=excuse, is_excused=True)
        except self._errors as error:
            if action.kind != OPERATION:
                self.fail_on(error, action.name)
            self._note_error(error, is_excused=False)
            return Answer(error=error)
        except BaseException as error:
            self.fail_on(error, action.name)
        result, dependency = split_answer(answer, self._dependency_types)
        if self.history is not None and action.kind != WRITE_BACK:
            self._note_result(result, dependency)
        return Answer(result, dependency)

    def enter(self, action: Action, arguments: dict[str, Any], answer: Answer) -> None:
        """Compare an answer with the model, which takes over what the call has changed."""
        result, dependency, error, is_excused = answer
        is_operation = action.kind == OPERATION
        if is_excused:
            self._settle_refused(action, arguments)
            return
        if error is not None:
            self.take(compare_error(self.plan, self.model, action, arguments, error))
            return
        if not is_operation or (action.key_argument is None and action.groups_of is None):
            if is_operation:
                self._compare(action, arguments, result)
            elif action.model_sees:
                self._call_model(action.name, result, arguments)
            if dependency is not None:
                self.ledger.note_other(dependency, self.position.step, action.name)
        else:
            self._compare_write(action, arguments, result, dependency)
        self.take_promise(action, dependency)
        if action.remembered:
            self.drawer.remember(action.name, self.position.step, result)

    def take_promise(self, action: Action, dependency: Dependency | None) -> None:
        """Hold the system to what the call has promised, now and after a crash."""
        if action.promises == "nothing":
            return
        may_fail = self.tolerance is None
        if action.promises == "itself" and dependency is not None and not is_kept(dependency, may_fail=may_fail):
            self.take(broken_promise(action.name, self.position.step, action.name))
        if action.promises == "everything":
            # What was written while the call was under way it need not have waited for.
            but_of = self.position.step if self.overlap is not None and self.overlap.was_begun else None
            pending = self.ledger.first_unfinished(may_fail=may_fail, but_of=but_of)
            if pending is not None:
                self.take(broken_promise(action.name, *pending))
        self.ledger.hold_to_all()

    def _settle_refused(self, action: Action, arguments: Mapping[str, Any]) -> None:
        """Of a call that changes several groups and was refused, the model takes over those that are there."""
        if self.tolerance is not None and self.tolerance.has_refused:
            self._settle_uncertain(action, arguments)
            return
        can_be_read = self.plan.read is not None and action.groups_of is not None
        groups = action.groups_written(arguments, None) if can_be_read else []
        if len(groups) > 1 and not all(self._reads_alike(key, action.name) for group in groups for key in group):
            self.settle_live(action)

    def _settle_uncertain(self, action: Action, arguments: Mapping[str, Any]) -> None:
        """The same once the device has failed, so that the keys may not be readable."""
        is_open = action.promises == "itself" or len(action.groups_written(arguments, None)) > 1
        if is_open:
            self.note_unfinished(action)
        if is_open or action.name in self.plan.fatal:
            self.restart(action.name)

    def _reads_alike(self, key: Key, operation: str) -> bool:
        assert self.plan.read is not None
        expected = self.plan.read(self.model, key)
        try:
            with self.world.faults.suspended():
                return bool(self.plan.read(self.system, key) == expected)
        except BaseException as error:
            self.fail_on(error, operation)

    def _compare_write(
        self, action: Action, arguments: Mapping[str, Any], result: object, dependency: Dependency | None
    ) -> None:
        """Compare a call that changes keys. The ledger reads each key of the model before and after the change."""
        ledger, model, step = self.ledger, self.model, self.position.step
        if action.key_argument is not None:
            key = arguments[action.key_argument]
            ledger.expect(model, key)
            self._compare(action, arguments, result)
            ledger.note(model, key, dependency, step, action.name)
            return
        groups = action.groups_written(arguments, result)
        ledger.expect_groups(model, groups)
        self._compare(action, arguments, result)
        for group in groups:
            ledger.note_group(model, group, dependency, step, action.name)

    def _write_back(self, action: Action) -> None:
        steps = 1 + self.tape.choose("steps", action.steps_max)
        self.arguments = {"steps": steps}
        self.note(events.Called, action.name, self.arguments)
        self.write_back_steps(action, steps)

    def write_back_steps(self, action: Action, steps: int) -> None:
        self.answer(action, {"steps": steps})

    def reboot(self, operation: str) -> None:
        """Shut down cleanly, after which every dependency must be persistent or failed; then open again."""
        self.note(events.Began, operation)
        self.arguments = {}
        try:
            self._call("shutdown", {})
            states = self.ledger.poll()
            violation = unfinished(self.ledger)
        except self._excuses as excuse:
            self._excuse(excuse, operation, {})
            if self._is_of_fault(excuse):
                self.restart(operation)
            else:
                self.compare_contents(operation, "conformance")  # it has refused to shut down, and is still open
            return
        except BaseException as error:
            self.fail_on(error, operation)
        self.take(violation)
        self.world.reboot()
        self.open_system(operation)
        if FAILED in states and self.plan.settle is not None:
            self.judge_outcomes(operation, states)  # a failed write may be there or not, even without a crash
        self.ledger.clear()
        self.compare_contents(operation, "conformance")

    def restart(self, operation: str) -> None:
        """The process dies, since nobody can tell what a call has done. What is left is judged like after a crash."""
        states = self.ledger.poll()
        self.world.reboot()
        self.note(events.ProcessDied)
        self.open_system(operation)
        self.judge_outcomes(operation, states)
        self.compare_contents(operation, "persistence")

    def arm_fault(self) -> None:
        """Arm a fault, or mend all, as the tape chooses."""
        fault = choose_fault(self.plan, self.world, self.tape)
        self._say("nothing fails any more" if fault is None else describe_fault(fault))

    # -- the system

    def open_system(self, operation: str) -> None:
        """Open the system, or recover it, on the world's media, and tell the model."""
        self.build_system(operation)
        if operation != OPENING and self.plan.model_reopens:
            try:
                self.model.reopened()
            except BaseException as error:
                self.fail_on_model(error, "reopened")

    def build_system(self, operation: str) -> None:
        """Open the system, or recover it. Raises `PowerCut` if the power failed meanwhile."""
        if self.watcher is not None:
            self.watcher.life_ends()
        self._begin_life()
        try:
            self.system = self.plan.spec.system(self.world)
        except BaseException as error:
            if self.world.is_power_cut:
                raise PowerCut from None
            if not self._is_of_fault(error):
                self.fail_on(error, operation, "recovery")
            self._excuse(error, operation, {})
            self._open_mended(operation)
        if self.watcher is not None:
            self.watcher.life_begins()

    def _begin_life(self) -> None:
        if self.tolerance is not None:
            self.tolerance.begin_life()
            self._excuses = self.plan.spec.excuses

    def _open_mended(self, operation: str) -> None:
        """Open the system once more, with nothing that fails: it must open now."""
        self.world.faults.mend()
        self.world.reboot()
        self._begin_life()
        try:
            self.system = self.plan.spec.system(self.world)
        except BaseException as error:
            self.fail_on(error, operation, "recovery")

    def _note_refusal(self, medium: int, site: Site) -> None:
        if self.tolerance is not None:
            self.tolerance.note_refusal(medium, site)
            self._excuses = (*self.plan.spec.excuses, *self.tolerance.errors)

    def _is_of_fault(self, error: BaseException) -> TypeGuard[Exception]:
        """Whether the system may answer so because its device has failed."""
        return self.tolerance is not None and isinstance(error, self.tolerance.errors)

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call the system. Raises `PowerCut` if the power failed meanwhile, even if the system swallowed that error."""
        try:
            answer = getattr(self.system, name)(**arguments)
        except BaseException:
            if self.position.is_cut:
                raise PowerCut from None
            raise
        if self.position.is_cut:
            raise PowerCut
        return answer

    def draw_arguments(self, action: Action) -> dict[str, Any] | None:
        self.arguments = arguments = self.drawer.draw(action)
        if arguments is None:
            self.counters.skipped += 1
            self.note(events.Skipped, action.name)
        elif self.history is not None:
            self.note(events.Called, action.name, arguments)
        return arguments

    def _compare(self, action: Action, arguments: Mapping[str, Any], result: object) -> None:
        """Call the model in the same way: it must answer the same, or adopt the result."""
        if action.adopts:
            self._call_model(action.name, result, arguments)
        else:
            violation = compare_result(self.plan, self.model, action, arguments, result)
            if violation is not None:
                self.take(violation)

    def _call_model(self, operation: str, result: object, arguments: Mapping[str, Any]) -> None:
        """Tell the model what the system returned."""
        try:
            getattr(self.model, operation)(result, **arguments)
        except BaseException as error:
            self.fail_on_model(error, operation)

    def note_unfinished(self, action: Action) -> bool:
        """Enter the changes of a call without an answer as never persistent: its keys may read either way.

        The model makes them. False if there are none.
        """
        arguments, ledger, model = self.arguments, self.ledger, self.model
        if arguments is None or action.kind != OPERATION:
            return False
        result = None
        if action.adopts:
            if action.partial is None:
                return False  # there is no result that the model could adopt
            result = action.partial(self.system)
        groups = action.groups_written(arguments, result)
        try:
            ledger.expect_groups(model, groups)
            method = getattr(model, action.name)
            method(result, **arguments) if action.adopts else method(**arguments)
        except self._errors:
            return False  # refused, so it would have changed nothing
        except BaseException as error:
            self.fail_on_model(error, action.name)
        for group in groups:
            ledger.note_group(model, group, None, self.position.step, action.name)
        return True

    # -- judging

    def judge_outcomes(self, operation: str, states: Sequence[str]) -> tuple[bool, bool]:
        """Judge and settle the keys. Gives whether anything was persistent, and whether anything was lost."""
        reading = self._judge(self.ledger, operation, states, events.Recovered)
        self.ledger.clear()
        return reading.any_persistent, reading.any_lost

    def settle_live(self, action: Action) -> None:
        """Read the keys of a call that has no answer: each group is there or not. The model takes over what is."""
        arguments = self.arguments
        if arguments is None or action.kind != OPERATION:
            return
        groups = action.groups_written(arguments, None)
        live = Ledger(self.plan.read)
        with suppress(*self._errors):  # of keys that are none: then the model refuses the call, too
            live.expect_groups(self.model, groups)
        if groups and self.note_unfinished(action):
            for group in groups:
                live.note_group(self.model, group, None, self.position.step, action.name)
            self._judge_live(live, action.name)

    def _judge_live(self, ledger: Ledger, operation: str) -> None:
        """Judge and settle the keys of this ledger of calls without an answer, in the system as it is."""
        self._judge(ledger, operation, [PENDING] * len(ledger.writes), events.ReadLive)

    def _judge(self, ledger: Ledger, operation: str, states: Sequence[str], event: type[events.Recovered]) -> Reading:
        with self.world.faults.suspended():
            judgement = self.judge.outcomes(ledger, states, self.judge.read_of(self.system), self.model, operation)
        reading = judgement.reading
        if reading is not None and self.history is not None:
            for key, outcome in reading.observed.items():
                self.note(event, key, outcome, reading.allowed[key])
        self.take(judgement.violation)
        assert reading is not None
        return reading

    def compare_contents(self, operation: str, property_name: str) -> None:
        if self.plan.spec.contents is not None:
            with self.world.faults.suspended():
                violation = self.judge.contents(self.system, self.model, property_name, operation)
            self.take(violation)
            self.note(events.ContentsEqual)

    def check_invariants(self) -> None:
        self.take(self.judge.invariants(self.system, self.model, self.operation))

    # -- what happens

    def note(self, event: Callable[..., Event], *parts: object) -> None:
        if self.history is not None:
            happened = event(self.position.step, *parts)
            self.history.append(events.Meanwhile(happened.step, happened) if self.tape.within else happened)

    def _say(self, line: str) -> None:
        self.note(events.Said, line)

    def _note_result(self, result: object, dependency: Dependency | None) -> None:
        if self.history is not None:
            self.note(events.Returned, result, "" if dependency is None else poll(dependency))

    def _note_error(self, error: Exception, *, is_excused: bool) -> None:
        if self.history is not None:
            self.note(events.Raised, describe(error), is_excused)

    def _excuse(self, error: Exception, operation: str, arguments: Mapping[str, Any]) -> None:
        self.counters.excused += 1
        self._note_error(error, is_excused=True)
        if self.tolerance is not None and self._is_of_fault(error):
            self.take(self.tolerance.judge(error, operation, arguments))

    def fail_on(self, error: BaseException, operation: str, property_name: str = "unexpected error") -> NoReturn:
        """Raise an error of the system as a violation, or unchanged if it says nothing about the system."""
        if isinstance(error, PowerCut):
            raise error  # the scenario asked for it, so the system has done nothing wrong
        self._stop(violation_of_system(error, operation, property_name), error)

    def fail_on_model(self, error: BaseException, operation: str) -> NoReturn:
        self._stop(violation_of_model(error, operation), error)

    def _stop(self, violation: Violation | None, error: BaseException) -> NoReturn:
        if violation is None:
            raise error
        self.take(violation)
        raise AssertionError("a violation ends the scenario")

    def take(self, violation: Violation | None) -> None:
        """Raise `Violated` if there is one."""
        if violation is not None:
            found = violation.at(self.position.step, self.operation)
            if self.is_interrupted:
                found = found.after_interrupt()
            self.note(events.Broke, found)
            raise Violated(found)
