"""Overlap: a call of the system in the middle of another, where that one lets its monitor go.

    outer call  |----------.................------.............|     .  the other call's turn
    inner call             |------......----|   (others follow, if the model does not see the outer one)

`world/turns.py` has how two calls take turns. A choice at each point says whether an inner call begins there, and
which; while two are under way, whether the turn changes.

Which order of the two is right? The model sees each call as a whole. So:

    the model does not see the outer call    each inner call is compared and entered as soon as it has returned; there
                                             may be some, one after another
    it sees the outer call                   there is one inner call. Once both have returned, both orders are tried on
                                             copies of the model. That one is entered in which both answers are right.
                                             If both orders are possible, and leave the model in different states, the
                                             keys that the calls write are read, and say which order it was
    the power fails in the outer call        an inner call that has returned is entered, before the outer call if its
                                             answer allows that, else behind it. One that has not returned may have
                                             taken effect or not, as the outer call, which is entered first then

A call that is refused by an excused error has changed nothing. If one of the two is refused so, the other may be
refused by any typed error, since it may have met what the refused one had begun.

Two calls never overlap if they do not leave the model alike in both orders, and neither answers nor keys would tell
which it was: the model predicts that before the inner call begins. Nor do two that the model sees if it adopts one of
them, or if one changes several groups of keys, since nobody promises that others see all of them at once.

Where the device fails, calls come only in the middle of calls that the model does not see, and only those of which a
refusal has changed nothing. Of others nobody could tell what they have done without ending the life of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from harness.choices.lanes import MEANWHILE
from harness.scenario import history as events
from harness.scenario.describe import describe
from harness.scenario.results import compare_error, compare_result
from harness.scenario.side_by_side import Answer, SideBySide
from harness.scenario.violation import Violation
from harness.spec.models import copy_of, state_of
from harness.spec.plan import BACKGROUND, OPERATION, WRITE_BACK, Action
from harness.spec.spec import Key
from harness.world.power import PowerCut
from harness.world.turns import SharedMonitor, Turns

T = TypeVar("T")

INNER_CALLS_MAX: Final = 3  # within one that the model does not see


class _Made(NamedTuple):
    """A call that was made; ``answer`` is None if it has not returned."""

    action: Action
    arguments: dict[str, Any]
    answer: Answer | None = None

    @property
    def groups(self) -> list[tuple[Key, ...]]:
        return self.action.groups_written(self.arguments, None)


class _Abandoned(BaseException):
    """Ends an inner call whose scenario is over."""


class Overlap:
    """Makes the calls of one scenario with others in their middle. Must be there before the system is opened."""

    __slots__ = ("_inner", "_left_count", "_outer", "_scenario", "_turns", "was_begun")

    def __init__(self, scenario: SideBySide) -> None:
        self._scenario = scenario
        self._turns = Turns(scenario.tape)
        self._outer: _Made | None = None  # None: there is none, or the model does not see it
        self._inner: _Made | None = None  # the last one, unless it was entered
        self._left_count = 0  # how many more may begin
        self.was_begun = False
        scenario.world.make_monitors_by(lambda name: SharedMonitor(name, self._turns))

    @property
    def is_under_way(self) -> bool:
        return self._turns.is_other_under_way

    def act(self, action: Action) -> None:
        """Make one step with other calls in its middle, as the tape chooses. Raises what `SideBySide.act` does."""
        scenario = self._scenario
        try:
            is_seen = action.kind == OPERATION or action.model_sees
            if action not in scenario.plan.overlapping or (is_seen and scenario.tolerance is not None):
                scenario.act_alone(action)
            elif is_seen:
                self._act_seen(action)
            else:
                self._with_inner(INNER_CALLS_MAX, lambda: scenario.act_alone(action))
        finally:
            self._outer = self._inner = None
            self.was_begun = False

    def _act_seen(self, action: Action) -> None:
        scenario = self._scenario
        arguments = scenario.draw_arguments(action)
        if arguments is None:
            return
        self._outer = outer = _Made(action, arguments)
        answer = self._with_inner(int(_may_overlap(outer)), lambda: self._answer(outer))
        if self._inner is None:
            scenario.enter(action, arguments, answer)
        else:
            self._enter_both(outer._replace(answer=answer), self._inner)

    # --- taking turns -------------------------------------------------------------------------------

    def _with_inner(self, count: int, call: Callable[[], T]) -> T:
        """Make a call with up to ``count`` others in its middle, and run the last of these to its end."""
        turns = self._turns
        self._left_count = count
        turns.at_point = self._at_point if count else None
        try:
            result = call()
            turns.finish()
            if self._scenario.position.is_cut:  # in the inner call, which had longer to go
                raise PowerCut
        except BaseException as error:
            ended = turns.take_error()
            turns.stop(_Abandoned())
            if ended is not None:
                raise ended from None  # whatever has become of the outer call since
            if isinstance(error, PowerCut):
                self._settle_cut()
            raise
        finally:
            turns.at_point = None
        return result

    def _at_point(self) -> None:
        turns, choose, overlapping = self._turns, self._scenario.tape.choose, self._scenario.plan.overlapping
        if turns.is_other_under_way:
            if not turns.is_main_over and choose("turn", 2):
                turns.hand_over()
        elif self._left_count:
            chosen = choose("meanwhile", 1 + len(overlapping))
            if chosen:
                self._begin(overlapping[chosen - 1])

    def _begin(self, action: Action) -> None:
        scenario = self._scenario
        tape = scenario.tape
        tape.within = within = f"{tape.name or MEANWHILE}."
        arguments = self._draw(action)
        tape.within = ""
        if arguments is None or not self._may_be_inner(_Made(action, arguments)):
            return
        self._inner = _Made(action, arguments)
        self._left_count -= 1
        self.was_begun = True
        scenario.counters.overlapped += 1
        self._turns.begin(self._make_inner, within)

    def _draw(self, action: Action) -> dict[str, Any] | None:
        if action.kind == WRITE_BACK:
            return {"steps": 1 + self._scenario.tape.choose("steps", action.steps_max)}
        return self._scenario.drawer.draw(action)

    def _make_inner(self) -> None:
        """The other task."""
        scenario, made = self._scenario, self._inner
        assert made is not None
        scenario.note(events.Called, made.action.name, made.arguments)
        try:
            answer = self._answer(made)
        except PowerCut:
            return
        if self._outer is None:
            self._inner = None
            self._enter([made._replace(answer=answer)])
        else:
            self._inner = made._replace(answer=answer)
            if answer.error is None:
                scenario.take_promise(made.action, answer.dependency)  # now, since the outer call may yet fulfil it

    def _answer(self, made: _Made) -> Answer:
        answer = self._scenario.answer(made.action, made.arguments)
        self._scenario.ledger.announce(answer.dependency)  # it is entered later
        return answer

    # --- which calls may overlap --------------------------------------------------------------------

    def _may_be_inner(self, inner: _Made) -> bool:
        if self._scenario.tolerance is not None and not self._is_whole_if_refused(inner):
            return False
        if self._outer is None or inner.action.kind not in (OPERATION, BACKGROUND):
            return True
        if not _may_overlap(inner):
            return False
        return inner.action.kind == BACKGROUND or self._will_be_told_apart(self._outer, inner)

    def _is_whole_if_refused(self, inner: _Made) -> bool:
        """Whether a call that the device has made fail has changed nothing."""
        action = inner.action
        is_open = action.promises == "itself" or len(inner.groups) > 1
        return not is_open and action.name not in self._scenario.plan.fatal

    def _will_be_told_apart(self, outer: _Made, inner: _Made) -> bool:
        """Whether answers or keys will say which call came first, if that makes any difference to the model."""
        one, one_answers = self._predicted(outer, inner)
        other, other_answers = self._predicted(inner, outer)
        if state_of(one) == state_of(other) or one_answers != other_answers[::-1]:
            return True
        return any(self._read(one, key) != self._read(other, key) for key in _keys(outer, inner))

    def _predicted(self, *order: _Made) -> tuple[Any, list[Any]]:
        """A model after these calls, and the answers it gives."""
        model = copy_of(self._scenario.model)
        answers: list[Any] = []
        for made in order:
            try:
                answers.append(getattr(model, made.action.name)(**made.arguments))
            except self._scenario.plan.spec.errors as error:
                answers.append(type(error))
        return model, answers

    def _read(self, subject: Any, key: Key) -> Any:
        plan = self._scenario.plan
        if plan.read is None:
            return None
        try:
            return plan.read(subject, key)
        except plan.spec.errors as error:
            return type(error)

    # --- which order it was -------------------------------------------------------------------------

    def _enter_both(self, outer: _Made, inner: _Made) -> None:
        possible = []
        violation: Violation | None = None
        for order in ((inner, outer), (outer, inner)):
            model, found = self._in_order(order)
            if found is None:
                possible.append((order, model))
            violation = violation or found
        if possible:
            self._enter(self._by_keys(possible))
        elif not self._is_refused_by_other(outer, inner):
            self._scenario.take(violation)

    def _in_order(self, order: Sequence[_Made]) -> tuple[Any, Violation | None]:
        """A copy of the model after these calls, and the violation if their answers are not right in this order."""
        plan = self._scenario.plan
        model = copy_of(self._scenario.model)
        for action, arguments, answer in order:
            assert answer is not None
            if action.kind != OPERATION or answer.is_excused:
                continue
            if answer.error is not None:
                violation = compare_error(plan, model, action, arguments, answer.error)
            else:
                violation = compare_result(plan, model, action, arguments, answer.result)
            if violation is not None:
                return model, violation
        return model, None

    def _is_refused_by_other(self, outer: _Made, inner: _Made) -> bool:
        """Whether one was refused, with an excuse, and has made the other be refused."""
        answers = [made.answer for made in (outer, inner) if made.answer is not None]
        return all(answer.error is not None for answer in answers) and any(answer.is_excused for answer in answers)

    def _by_keys(self, possible: Sequence[tuple[Sequence[_Made], Any]]) -> Sequence[_Made]:
        """Of the possible orders the one that the keys show."""
        order, model = possible[0]
        if len(possible) == 1 or state_of(model) == state_of(possible[1][1]):
            return order
        scenario = self._scenario
        keys = _keys(*order)
        try:
            found = {key: self._read(scenario.system, key) for key in keys}
        except BaseException as error:
            scenario.fail_on(error, scenario.operation)
        allowed = [{key: self._read(each, key) for key in keys} for _, each in possible]
        for (each, _), outcomes in zip(possible, allowed, strict=True):
            if outcomes == found:
                return each
        scenario.take(Violation("conformance", order[-1].action.name, describe(found), describe(allowed)))
        raise AssertionError("a violation ends the scenario")

    def _enter(self, order: Sequence[_Made]) -> None:
        scenario = self._scenario
        under_way = scenario.arguments
        for action, arguments, answer in order:
            assert answer is not None
            scenario.arguments = arguments
            scenario.enter(action, arguments, answer)
        scenario.arguments = under_way

    # --- the power has failed -----------------------------------------------------------------------

    def _settle_cut(self) -> None:
        """Enter the inner call. The outer one has no answer, and is entered by whoever cut the power, as the last."""
        scenario, inner, outer = self._scenario, self._inner, self._outer
        if inner is None:
            return
        if inner.answer is None:
            arguments = scenario.arguments
            if outer is not None:  # first: else the model might refuse it because of the inner call
                scenario.note_unfinished(outer.action)
                arguments = None
            scenario.arguments = inner.arguments
            scenario.note_unfinished(inner.action)
            scenario.arguments = arguments
            return
        if outer is not None and self._in_order([inner])[1] is not None:  # so the outer call has taken effect
            scenario.note_unfinished(outer.action)
            scenario.arguments = None
        self._enter([inner])


def _may_overlap(made: _Made) -> bool:
    """Whether the model sees the call as one change or none, and can say beforehand what it does."""
    action = made.action
    return not action.adopts and not action.model_sees and len(made.groups) <= 1


def _keys(*calls: _Made) -> list[Key]:
    """The keys that these calls write, each once."""
    return list(dict.fromkeys(key for made in calls for group in made.groups for key in group))
