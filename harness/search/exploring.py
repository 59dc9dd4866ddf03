"""Exploring the last step of a program: every schedule of it, and every crash point in each schedule.

    start, steps before: as they were, device choices fixed | last step: device choices depth first
                                                              ^   ^    ^   ^  before each device event, and at the end:
                                                              a `CrashPoint`, with all dependencies polled

The explorer leaves a schedule where an earlier one has been in the same state: the same on the media and past barriers,
and the same in memory (`Bounds.in_memory`). Within an operation its changes are not known yet. So crash points within
an operation are given out once it has returned, and its changes count as not persistent there. Therefore a schedule
that is left within an operation still runs to its end, but adds no more points.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.choices.exploring_policy import ExploringPolicy, Pick, exploring_tape
from harness.choices.program import Program, Step
from harness.choices.trail import Trail
from harness.scenario.ledger import PENDING, Ledger
from harness.scenario.scenario import Recovered, Scenario
from harness.scenario.verdict import Counters
from harness.scenario.violation import Violated, Violation
from harness.spec.plan import WRITE_BACK, Plan
from harness.spec.spec import Bounds
from harness.world.legal_images import Image, LegalImages, Remains
from harness.world.medium import SimulatedMedium
from harness.world.power import Strike


class CrashPoint(NamedTuple):
    """A moment at which the power may fail: ``events`` device events into the step."""

    events: int
    is_end: bool  # the step is over
    states: tuple[str, ...]  # of the ledger's writes, including those that the step had still to make
    images: Sequence[tuple[Image, tuple[Remains, ...]]]
    picks: tuple[Pick, ...]  # the device choices up to this moment


class Schedule(NamedTuple):
    """One schedule of the last step. ``ledger`` and ``model`` are as the step left them."""

    points: Sequence[CrashPoint]
    ledger: Ledger
    model: Any
    kept: Mapping[str, Any]
    violation: Violation | None
    picks: tuple[Pick, ...]
    end: Hashable  # tells the state it ended in from others; None if the end was not reached
    is_whole: bool  # no point was left out


class Visited:
    """Where the schedules of one program have been: the states that one went on from, and the points given out."""

    __slots__ = ("points", "states")

    def __init__(self) -> None:
        self.states: set[Hashable] = set()
        self.points: set[Hashable] = set()


class _Merged(BaseException):
    """Ends a schedule, since an earlier one was in this state."""


class Explorer:
    """Explores programs of one bounded plan. Without ``merging`` it runs every schedule to its end."""

    def __init__(self, plan: Plan, bounds: Bounds, counters: Counters, *, merging: bool) -> None:
        self.plan = plan
        self.counters = counters
        self.schedules_count = 0
        self._in_memory = bounds.in_memory
        self._merging = merging and bounds.in_memory is not None
        self._images = LegalImages()
        self.start: Recovered | None = None  # the state that every program goes on from; None: empty media

    def schedules(
        self,
        program: Program,
        first: int,
        fixed: Sequence[Pick],
        visited: Visited,
        *,
        flushes: Sequence[str] = (),
        ends: bool = False,
    ) -> Iterator[Schedule]:
        """Every schedule of the program's last step, with the background operations ``flushes`` just before it.

        With ``ends``, each run is also ended cleanly and compared, and this gives one more `Schedule` for it.
        """
        trail = Trail()
        while True:
            run = _Run(self, ExploringPolicy(first, trail, fixed), program, visited, flushes)
            schedule = run.schedule()
            yield schedule
            if ends and schedule.end is not None:
                yield run.finish()  # only now, since it settles the writes that the schedule's points are judged by
            self.schedules_count += 1
            if not trail.advance():
                return

    @property
    def is_merging(self) -> bool:
        return self._merging

    def state(self, scenario: Scenario) -> Hashable:
        """A value that decides how the run can go on, and what a crash may leave."""
        assert self._in_memory is not None
        media = tuple(medium.state() for medium in scenario.world.media)
        return media, self._in_memory(scenario.system)


class _Run:
    """One run of the program. It observes the media during the last step."""

    def __init__(
        self,
        explorer: Explorer,
        policy: ExploringPolicy,
        program: Program,
        visited: Visited,
        flushes: Sequence[str],
    ) -> None:
        self._explorer = explorer
        self._policy = policy
        self._tape = exploring_tape(program, policy)
        self._last: Step = program.steps[-1]
        self._visited = visited
        self._flushes = flushes
        self._events = 0
        self._is_merged = False
        self._is_whole = True
        self._excused_count = 0
        self._points: list[CrashPoint] = []
        self._tape.begin(explorer.plan.mix)
        self._scenario = Scenario(explorer.plan, self._tape, explorer.counters)

    def schedule(self) -> Schedule:
        violation, end = None, None
        try:
            self._run_up()
            end = self._last_step()
            if self._is_merged:
                end = None
        except _Merged:
            pass
        except Violated as stop:
            violation = stop.violation
        if self._explorer.counters.excused > self._excused_count:
            # The step was refused, and nothing says what it had done by then. So points within it cannot be judged.
            self._is_whole = False
            self._points = [each for each in self._points if each.is_end]
        count = len(self._scenario.ledger.writes)
        points = [
            each._replace(states=(*each.states, *(PENDING,) * (count - len(each.states)))) for each in self._points
        ]
        return self._outcome(points, violation, end)

    def finish(self) -> Schedule:
        """After the schedule: a clean shutdown, reopening and comparison. It adds no points."""
        self._policy.is_over = True
        violation = None
        try:
            self._scenario.finish()
        except Violated as stop:
            violation = stop.violation
        return self._outcome((), violation, None)

    def _outcome(self, points: Sequence[CrashPoint], violation: Violation | None, end: Hashable) -> Schedule:
        scenario = self._scenario
        picks = tuple(self._policy.picks)
        kept = scenario.world.kept
        return Schedule(points, scenario.ledger, scenario.model, kept, violation, picks, end, self._is_whole)

    def _run_up(self) -> None:
        """Run all steps but the last."""
        scenario, tape = self._scenario, self._tape
        start = self._explorer.start
        if start is None:
            scenario.open()
        else:
            scenario.resume(start)
        for index in tape.steps():
            if tape.step == self._last.identity:
                self._index = index
                return
            scenario.perform(index)
        raise AssertionError("the program has no such last step")

    @property
    def _is_draining(self) -> bool:
        return self._explorer.plan.actions[self._index].kind == WRITE_BACK

    def _last_step(self) -> Hashable:
        self._scenario.perform_after(self._flushes, self._index, self._watch)
        self._policy.before_pick = None
        self._note_point(is_end=True)
        for medium in self._scenario.world.media:
            medium.observe(None)
        if self._is_draining and not self._is_drained():
            self._is_whole = False
        # Where states cannot be told apart, every schedule ends in one of its own.
        return self._explorer.state(self._scenario) if self._explorer.is_merging else tuple(self._policy.picks)

    def _is_drained(self) -> bool:
        """Whether another write-back finds nothing left to do."""
        events = _Events()
        for medium in self._scenario.world.media:
            medium.observe(events)
        self._policy.is_over = True
        try:
            self._scenario.write_back_again()
        except Violated:
            return False  # no program has these further steps, so the failure could not be saved
        for medium in self._scenario.world.media:
            medium.observe(None)
        return not events.count

    def _watch(self) -> None:
        for medium in self._scenario.world.media:
            medium.observe(self)
        self._policy.before_pick = self._before_pick
        self._excused_count = self._explorer.counters.excused

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None:
        self._note_point(is_end=False)
        self._events += 1

    def _before_pick(self, is_new: bool) -> None:
        explorer = self._explorer
        if not explorer.is_merging or not is_new:
            return
        state = explorer.state(self._scenario)
        if state not in self._visited.states:
            self._visited.states.add(state)
        elif self._is_draining:  # a drain changes no keys, so its points need no more of it
            raise _Merged
        else:
            self._is_merged = self._policy.is_over = True  # but run to the end, which tells what the operation changes

    def _note_point(self, *, is_end: bool) -> None:
        if self._is_merged or not self._policy.is_on_new_ground:
            return
        scenario = self._scenario
        media = scenario.world.media
        with scenario.world.seam.held_monitors_aside():
            states = tuple(scenario.ledger.poll())
        key = (states, tuple(medium.state() for medium in media))
        if key in self._visited.points:
            return
        self._visited.points.add(key)
        images = list(self._explorer._images.of(media))
        self._points.append(CrashPoint(self._events, is_end, states, images, tuple(self._policy.picks)))


class _Events:
    """An observer that counts."""

    def __init__(self) -> None:
        self.count = 0

    def before_event(self, medium: SimulatedMedium, kind: Strike, extent: int, page: int, data: bytes) -> None:
        self.count += 1
