"""An exception from outside within a crash step: it arrives in the middle of one operation, before the crash comes.

    the operation, in whose middle the exception arrives                     "interrupt", "thrown", "arrival"
      -> its keys are read at once: each group as before or as after it      the model takes that over
      -> contents are compared
      -> some more operations: compared, or refused as the spec allows       "afterwards", "next"
      -> perhaps a shutdown, which claims success or refuses                 "closed"
      -> the crash goes on: the power fails, or the process dies

A system may refuse changes, background work and the shutdown by the errors that the spec calls ``broken``. It must not
refuse to read, and a key that it has refused to change it must go on refusing to change. After a shutdown that claims
success the crash may take nothing: everything reads as it did just before.

An exception that the system keeps to itself has arrived all the same. Its call is then compared like any other, and
what follows may be refused. After an interrupted shutdown the system is not asked anything, but may be shut down again.

What breaks before the crash comes breaks *interrupt*; only hangs, misused locks and devices keep their own names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from harness.scenario import history as events
from harness.scenario.describe import describe
from harness.scenario.judge import unfinished
from harness.scenario.ledger import FAILED
from harness.scenario.side_by_side import SideBySide
from harness.scenario.violation import Violation
from harness.spec.plan import OPERATION, REBOOT, Action
from harness.spec.spec import Interrupts, Key
from harness.world.interruption import ARRIVALS, Interruption, Where

CALLS_MAX: Final = 256
LINES_MAX: Final = 2048
AFTERWARDS_MAX: Final = 3


class _CutShort(BaseException):
    """The exception came out of the call, or a typed error did that says so."""


class _Refused(BaseException):
    """The system has refused a call since an exception has broken it."""


class _Struck:
    """Stands in front of the system for one call, in which the exception arrives."""

    def __init__(
        self,
        system: Any,
        interruption: Interruption,
        broken: tuple[type[Exception], ...],
        at_arrival: Callable[[], None],
    ) -> None:
        self._system = system
        self._interruption = interruption
        self._broken = broken
        self._at_arrival = at_arrival
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._system, name)
        return found if self._is_over else self._guarded(found)

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self._is_over = True
            try:
                with self._interruption:
                    return method(**arguments)
            except ARRIVALS:
                raise _CutShort from None
            except self._broken:
                if self._interruption.has_arrived:
                    raise _CutShort from None
                raise
            finally:
                if self._interruption.has_arrived:
                    self._at_arrival()

        return call


class _Broken:
    """Stands in front of a system that may refuse an operation. ``has_returned`` says whether that came to its end."""

    def __init__(self, system: Any, operation: str, broken: tuple[type[Exception], ...]) -> None:
        self._system = system
        self._operation = operation
        self._broken = broken
        self.has_returned = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._system, name)
        if name != self._operation:  # a reading, which must not be refused
            return method

        def call(**arguments: Any) -> Any:
            try:
                answer = method(**arguments)
            except self._broken as error:
                raise _Refused(describe(error)) from None
            self.has_returned = True
            return answer

        return call


def interrupt(scenario: SideBySide, inner: Action, where: Where) -> bool:
    """Perform an operation in whose middle an exception arrives, and see what it has left of the system.

    If the operation has too few calls or lines, it is performed as usual. Gives whether the system was then shut down
    and claims success, so that the crash may take nothing. Raises `Violated`.
    """
    interrupts = scenario.plan.spec.interrupts
    assert interrupts is not None
    choose = scenario.tape.choose
    error = ARRIVALS[choose("thrown", len(ARRIVALS))]
    count = choose("arrival", LINES_MAX if where is Where.LINE else CALLS_MAX)
    interruption = Interruption(interrupts, where, count, error)
    is_cut_short = _perform_struck(scenario, inner, interruption, interrupts)
    if not interruption.has_arrived:
        return False
    is_all_persistent = _Aftermath(scenario, interrupts, inner).perform(is_cut_short)
    scenario.is_interrupted = False
    return is_all_persistent


def _perform_struck(scenario: SideBySide, inner: Action, interruption: Interruption, interrupts: Interrupts) -> bool:
    """Whether the call was cut short."""
    scenario.arguments = None  # so that what was not begun is not taken for cut short
    system = scenario.system

    def note_arrival() -> None:
        scenario.is_interrupted = True
        scenario.counters.interrupts += 1
        scenario.note(events.Interrupted, inner.name, interruption.name, interruption.place)

    scenario.system = struck = _Struck(system, interruption, interrupts.broken, note_arrival)
    try:
        scenario.act(inner)
    except _CutShort:
        return True
    finally:
        if scenario.system is struck:  # else the operation was a reboot, and has put another in its place
            scenario.system = system
    return False


class _Aftermath:
    """What is asked of a system in which an exception has arrived."""

    def __init__(self, scenario: SideBySide, interrupts: Interrupts, inner: Action) -> None:
        self._scenario = scenario
        self._interrupts = interrupts
        self._inner = inner
        self._choose = scenario.tape.choose
        self._refused_keys: set[Key] = set()

    def perform(self, is_cut_short: bool) -> bool:
        """Whether it ends in a shutdown that claims success."""
        scenario, inner = self._scenario, self._inner
        is_shut_down = inner.kind == REBOOT and is_cut_short
        if not is_shut_down:
            if is_cut_short:
                scenario.settle_live(inner)
            scenario.compare_contents(inner.name, "interrupt")
            count = self._choose("afterwards", 1 + AFTERWARDS_MAX)
            for _ in range(count):
                self._go_on()
            if count:
                scenario.compare_contents(inner.name, "interrupt")
        return scenario.plan.reboots and bool(self._choose("closed", 2)) and self._shut_down(again=is_shut_down)

    def _go_on(self) -> None:
        """Perform one more operation, which the system may refuse unless it only reads."""
        scenario = self._scenario
        following = scenario.plan.following
        action = following[self._choose("next", len(following))]
        groups_refused = action.kind != OPERATION or action.key_argument or action.groups_of
        system = scenario.system
        scenario.arguments = None
        scenario.system = broken = _Broken(system, action.name, self._interrupts.broken if groups_refused else ())
        try:
            scenario.act(action)
        except _Refused as refusal:
            scenario.system = system
            scenario.note(events.Raised, str(refusal), False)
            self._note_refused(action)
        finally:
            scenario.system = system
        if broken.has_returned:
            self._check_not_refused(action)

    def _note_refused(self, action: Action) -> None:
        arguments = self._scenario.arguments
        if arguments is None or action.kind != OPERATION or action.adopts:
            return
        groups = action.groups_written(arguments, None)
        if len(groups) == 1:
            self._refused_keys.update(groups[0])
        else:  # the groups before the one that was refused may be there
            self._scenario.settle_live(action)

    def _check_not_refused(self, action: Action) -> None:
        arguments = self._scenario.arguments
        if arguments is None or action.kind != OPERATION or action.adopts:
            return
        again = {key for group in action.groups_written(arguments, None) for key in group} & self._refused_keys
        if again:
            answered = f"{action.name} changes {describe(sorted(again, key=repr))}, which was refused before"
            self._scenario.take(Violation("interrupt", "accepted again", answered, "what was refused stays refused"))

    def _shut_down(self, *, again: bool) -> bool:
        """Shut the system down. Whether it claims success, and no write has failed."""
        scenario = self._scenario
        spec, ledger = scenario.plan.spec, scenario.ledger
        refusals = (*self._interrupts.broken, *spec.excuses, *(spec.errors if again else ()))
        scenario.note(events.Called, "shutdown", {})
        try:
            scenario.system.shutdown()
            states = ledger.poll()
            violation = unfinished(ledger)
        except refusals as error:
            scenario.note(events.Raised, describe(error), False)
            return False
        except BaseException as error:
            scenario.fail_on(error, "shutdown")
        scenario.note(events.Returned, None, "")
        scenario.take(violation)
        return FAILED not in states
