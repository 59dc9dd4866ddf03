"""The file worker: works on a system in a real file, and reports every call, before and after, and acknowledgement.

Its steps follow from the tape and from the system's answers. It knows neither model nor ledger; the `account`, which
gets its reports, does. An error of the system that the spec does not name is reported as *broken* and ends the work.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.choices.tape import Tape
from harness.scenario.arguments import ArgumentDrawer, split_answer
from harness.scenario.ledger import PENDING, poll
from harness.scenario.violation import Violated, Violation, violation_of_system
from harness.spec.plan import OPERATION, REBOOT, WRITE_BACK, Action, Plan
from harness.spec.spec import Dependency, OnFile
from harness.torture.account import Account, Event, What

Report = Callable[[Event], None]

WAIT_ODDS: Final = 8  # one of so many calls that give a dependency waits for it


def on_file_of(plan: Plan) -> OnFile:
    assert plan.spec.on_file is not None
    return plan.spec.on_file


def open_crashed(plan: Plan, path: Path, account: Account, report: Report) -> Any:
    """Open the file after a crash. None if the file was never whole and the system refuses it. Raises `Violated`."""
    on_file = on_file_of(plan)
    report(Event(What.OPEN))
    try:
        system = on_file.open(path)
    except on_file.refusals as error:
        if not account.is_created:
            return None
        raise Violated(_violation(error, "open", "recovery")) from error
    except Exception as error:
        raise Violated(_violation(error, "open", "recovery")) from error
    report(Event(What.OPENED))
    return system


class Worker:
    """The work of one process. ``system`` is None until `create` or `open`, unless an open one is given."""

    def __init__(self, plan: Plan, path: Path, report: Report, *, first_step: int = 1, system: Any = None) -> None:
        self._plan = plan
        self._on_file = on_file_of(plan)
        self._path = path
        self._report = report
        self._step = first_step - 1
        self._pending: list[tuple[int, str, Dependency]] = []
        self.system = system

    @property
    def next_step(self) -> int:
        return self._step + 1

    def create(self) -> None:
        self._report(Event(What.CREATE))
        self.system = self._guarded("create", lambda: self._on_file.create(self._path))
        self._report(Event(What.OPENED))

    def open(self) -> None:
        self._report(Event(What.OPEN))
        self.system = self._guarded("open", lambda: self._on_file.open(self._path), "recovery")
        self._report(Event(What.OPENED))

    def close(self) -> None:
        """Let go of the file without writing, like a process that dies."""
        if self.system is not None:
            self._on_file.close(self.system)
            self.system = None

    def run(self, tape: Tape, steps_max: int | None = None) -> int:
        """Perform the steps of one tape, or the first ``steps_max`` of them. Gives how many it performed."""
        tape.begin(self._plan.mix)
        drawer = ArgumentDrawer(tape)
        done_count = 0
        for index in islice(tape.steps(), steps_max):
            self._perform(self._plan.actions[index], tape, drawer)
            done_count += 1
        return done_count

    def _perform(self, action: Action, tape: Tape, drawer: ArgumentDrawer) -> None:
        arguments = self._draw(action, tape, drawer)
        if arguments is None:
            return
        self._step += 1
        self._report(Event(What.CALL, self._step, action.name, arguments))
        call = (lambda: self.system.shutdown()) if action.kind == REBOOT else self._calling(action, arguments)
        answer = self._answer(action, call)
        if answer is _NO_ANSWER:
            return
        if action.kind == REBOOT:
            self._reopen(action)
            return
        result, dependency = split_answer(answer, self._plan.dependency_types)
        is_wanted = action.kind == OPERATION
        self._report(Event(What.DONE, self._step, action.name, (result if is_wanted else None, dependency is not None)))
        if action.remembered:
            drawer.remember(action.name, tape.step, result)
        if dependency is not None:
            self._pending.append((self._step, action.name, dependency))
            if self._on_file.wait is not None and tape.choose("wait", WAIT_ODDS) == WAIT_ODDS - 1:
                self._wait(dependency)
        self._poll()

    def _draw(self, action: Action, tape: Tape, drawer: ArgumentDrawer) -> dict[str, Any] | None:
        if action.kind == WRITE_BACK:
            return {"steps": 1 + tape.choose("steps", action.steps_max)}
        return drawer.draw(action)

    def _calling(self, action: Action, arguments: dict[str, Any]) -> Callable[[], Any]:
        return lambda: getattr(self.system, action.name)(**arguments)

    def _answer(self, action: Action, call: Callable[[], Any]) -> Any:
        spec = self._plan.spec
        try:
            return call()
        except spec.excuses:
            self._report(Event(What.REFUSED, self._step, action.name))
        except spec.errors as error:
            if action.kind != OPERATION:
                self._break(error, action.name)
            self._report(Event(What.ERROR, self._step, action.name, type(error)))
        except Exception as error:
            self._break(error, action.name)
        return _NO_ANSWER

    def _reopen(self, action: Action) -> None:
        self._poll()
        self._report(Event(What.DONE, self._step, action.name, (None, False)))
        self._pending.clear()
        self.close()
        self.open()

    def _wait(self, dependency: Dependency) -> None:
        assert self._on_file.wait is not None
        try:
            self._on_file.wait(dependency)
        except self._plan.spec.excuses:
            pass
        except Exception as error:
            self._break(error, "wait")

    def _poll(self) -> None:
        """Report the dependencies that have become persistent, or failed."""
        still: list[tuple[int, str, Dependency]] = []
        for step, operation, dependency in self._pending:
            state = poll(dependency)
            if state == PENDING:
                still.append((step, operation, dependency))
            else:
                self._report(Event(What.STATE, step, operation, state))
        self._pending = still

    def _guarded(self, operation: str, call: Callable[[], Any], property_name: str = "unexpected error") -> Any:
        try:
            return call()
        except Exception as error:
            self._break(error, operation, property_name)

    def _break(self, error: Exception, operation: str, property_name: str = "unexpected error") -> None:
        violation = _violation(error, operation, property_name)
        self._report(Event(What.BROKEN, self._step, operation, violation))
        raise Violated(violation) from error


_NO_ANSWER: Final = object()


def _violation(error: Exception, operation: str, property_name: str) -> Violation:
    violation = violation_of_system(error, operation, property_name)
    if violation is None:
        raise error
    return violation
