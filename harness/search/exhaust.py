"""Exhaustion: every program of up to K operations from a starting state, and every legal crash state of each.

    start | op | op | ... | op | device steps until there is nothing left to write
                            ^  ^  ^  ^  ^  the power fails before any device event, in every schedule;
                                           every legal image of the media is recovered and judged

Images of the same bytes are recovered once, whichever program and schedule left them. Each is still judged against
every history that may have left it. A program's *legal states* are its different images; *holds* means that all were
judged. Every prefix of a program is itself a program that was tried before.

Pinned, not tried: identifiers are plain, recovery runs to its end, and between operations the device takes only writes
that the operations themselves ask for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product

from harness.choices.exploring_policy import Pick
from harness.choices.program import Program, ProgramSyntaxError, Step, parse_program
from harness.choices.replay_policy import replay_tape
from harness.choices.trail import Trail
from harness.scenario.crash import CUT_EVENTS_MAX, CUT_FAR_MAX, cut_after
from harness.scenario.judge import Judge, model_after_crash
from harness.scenario.runner import replay_program
from harness.scenario.scenario import Recovered, Scenario
from harness.scenario.verdict import Counters, Run
from harness.scenario.violation import Violated, Violation
from harness.scenario.watchdog import Watchdog
from harness.search.exploring import CrashPoint, Explorer, Schedule, Visited
from harness.search.observation import Observation
from harness.search.recoveries import Recoveries
from harness.spec.loader import find_configuration
from harness.spec.plan import BACKGROUND, CRASH, OPERATION, Action, Plan, SpecError, compile_plan
from harness.spec.spec import DRAIN_STEPS_MAX, Configuration, Key, Mode, Spec
from harness.world.legal_images import Image, Remains

REPORT_INTERVAL_SECONDS = 0.5


@dataclass(slots=True)
class Tally:
    """Counts of what was tried. ``states`` are legal crash states: each program's different images."""

    programs: int = 0
    states_judged: int = 0
    schedules: int = 0
    crash_points: int = 0
    states: int = 0
    recoveries: int = 0
    is_complete: bool = True  # nothing was left out: no time ran out, no step was refused, every drain came to its end

    def add(self, other: Tally) -> None:
        for each in fields(self):
            if each.name != "is_complete":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.is_complete = self.is_complete and other.is_complete


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The result of one part; ``run`` is the failing run, replayed, if there is one."""

    tally: Tally
    run: Run | None = None
    trouble: str = ""  # says that a violation did not show again when replayed


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the alphabet, with one choice of its arguments."""

    action: Action
    choices: dict[str, int] = field(default_factory=dict)

    def step(self, identity: int) -> Step:
        return Step(identity, self.action.name, self.choices)


@dataclass(slots=True)
class Images:
    """The different images of one program, by name."""

    legal: set[tuple[int, ...]] = field(default_factory=set)
    judged: set[tuple[int, ...]] = field(default_factory=set)


class _Found(BaseException):
    """Ends the search: this program breaks a property."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.program = program


class _OutOfTime(BaseException):
    pass


def alphabet(spec: Spec, configuration: Configuration) -> list[Call]:
    """The calls: every operation of the bounds with every combination of its arguments. Raises `SpecError`."""
    return [call for action in _plan(spec, configuration).actions for call in _calls(action)]


def _calls(action: Action) -> Iterator[Call]:
    if action.kind not in (OPERATION, BACKGROUND):
        return
    if action.references:
        raise SpecError(f"cannot be exhausted: {action.name} takes results of other operations")
    trail = Trail()
    while True:
        trail.rewind()
        choices: dict[str, int] = {}
        drawn: dict[str, int] = {}

        def choose(name: str, count: int, choices: dict[str, int] = choices, drawn: dict[str, int] = drawn) -> int:
            number = drawn.get(name, 0)
            drawn[name] = number + 1
            value = trail.pick(count)
            if value:
                choices[f"{name}.{number}"] = value
            return value

        for name, generator in action.arguments:
            generator(choose, name)
        yield Call(action, choices)
        if not trail.advance():
            return


def recoveries_of(spec: Spec, configuration: Configuration, *, sharing: bool = True) -> Recoveries:
    """Recoveries that several `exhaust` of the same spec, configuration and start may share.

    Without ``sharing``, recovery is run on each image.
    """
    return Recoveries(_plan(spec, configuration), sharing=sharing)


def _plan(spec: Spec, configuration: Configuration) -> Plan:
    bounded = spec.bounded()
    plan = compile_plan(bounded, find_configuration(bounded, configuration.name), Mode.CRASH)
    if plan.read is None:
        raise SpecError(f"spec {spec.name!r} cannot be exhausted without a durability")
    return plan


def parse_start(spec: Spec, name: str) -> Program:
    assert spec.bounds is not None
    try:
        return parse_program(spec.bounds.starts[name])
    except ProgramSyntaxError as error:
        raise SpecError(f"spec {spec.name!r}, start {name!r}: {error}") from error


def exhaust(
    spec: Spec,
    configuration: Configuration,
    start: str,
    operations_max: int,
    *,
    first_call: int | None = None,
    deadline: float | None = None,
    merging: bool = True,
    recoveries: Recoveries | None = None,
    report: Callable[[Tally], None] | None = None,
) -> Exhausted:
    """Try every program from one start; with ``first_call`` only those that begin with that call of the alphabet.

    ``deadline`` is a time of `time.perf_counter`; when it has passed, the tally is not complete. ``recoveries`` are
    shared with other programs from the same start. ``report`` is called now and then with the tally so far. Raises
    `SpecError` for a spec or a start that cannot be used.
    """
    program = parse_start(spec, start)
    shared = recoveries if recoveries is not None else recoveries_of(spec, configuration)
    return _Part(spec, configuration, program, operations_max, deadline, merging, shared, report).run(first_call)


def recovered_state(plan: Plan, start: Program) -> Recovered | None:
    """The state that a start which ends in a crash leaves, so that the start is run only once.

    None if that state cannot be resumed. Raises `_Found` if the start fails.
    """
    tape = replay_tape(start, strict=False)
    tape.begin(plan.mix)
    scenario = Scenario(plan, tape, Counters())
    try:
        scenario.perform_all()
    except Violated:
        raise _Found(start) from None
    # After a process death, a later crash may still take what no barrier had passed: a resumed world would lose that.
    return None if any(medium.log for medium in scenario.world.media) else scenario.recovered()


class _Part:
    """Tries all programs from one start, or those of them that begin with one call."""

    def __init__(
        self,
        spec: Spec,
        configuration: Configuration,
        start: Program,
        operations_max: int,
        deadline: float | None,
        merging: bool,
        recoveries: Recoveries,
        report: Callable[[Tally], None] | None,
    ) -> None:
        assert spec.bounds is not None
        self.tally = Tally()
        self._plan = _plan(spec, configuration)
        self.judge = Judge(self._plan)
        self.explorer = Explorer(self._plan, spec.bounds, Counters(), merging=merging)
        self._alphabet = alphabet(spec, configuration)
        self._start = start
        self._run_up = start.steps  # the steps of the start that are run again for every program
        self._first = start.steps[-1].identity if start.steps else 0
        self._operations_max = operations_max
        self._deadline = deadline
        self._report = report
        self._next_report = time.perf_counter() + REPORT_INTERVAL_SECONDS
        self._extents: dict[bytes, int] = {}  # each content has a number, so that an image's name is short
        self._flushes = tuple(spec.bounds.flushes)
        self._recoveries = recoveries
        self._recoveries_before_count = self._recoveries.run_count

    def run(self, first_call: int | None) -> Exhausted:
        run, trouble = None, ""
        try:
            with Watchdog(self._progress, self._plan.spec.step_seconds_max):
                self._explore(first_call)
        except _OutOfTime:
            self.tally.is_complete = False
        except _Found as found:
            again = replay_program(self._plan, found.program, strict=True)
            if again.violation is None:
                trouble = "a violation that does not show when its program is replayed"
            else:
                run = again
        self._count_up()
        return Exhausted(self.tally, run, trouble)

    def _progress(self) -> Hashable:
        """See `Watchdog`. A step here is one of a program, an image that is judged, or a recovery."""
        return self.explorer.counters.progress(), self.tally.states, self._recoveries.begun_count

    def _count_up(self) -> None:
        self.tally.schedules = self.explorer.schedules_count
        self.tally.recoveries = self._recoveries.run_count - self._recoveries_before_count

    def _explore(self, first_call: int | None) -> None:
        if self._start.steps and self._plan.action_of[self._start.steps[-1].operation].kind == CRASH:
            self.explorer.start = recovered_state(self._plan, self._start)
            if self.explorer.start is not None:
                self._run_up = ()
        if first_call is None:
            self._programs((), [()], Images())
        else:
            self._extend((), [()], self._alphabet[first_call])

    # --- programs -----------------------------------------------------------------------------------

    def _programs(self, steps: tuple[Step, ...], ends: Sequence[Sequence[Pick]], images: Images) -> None:
        """Judge the drain of the program of these steps, then all longer programs.

        ``ends`` are the device choices that lead to each of the states that the program ends in.
        """
        drain = Step(self._first + len(steps) + 1, "write_back", {"steps.0": DRAIN_STEPS_MAX - 1})
        judged = _Judged(self, (*steps, drain), images, is_drain=True)
        for flushed in product((False, True), repeat=len(self._flushes)):
            visited = Visited()
            for fixed in ends:
                for schedule in self._schedules((*steps, drain), fixed, visited, flushed):
                    judged.judge(schedule, flushed)
        if not steps:
            self.tally.programs += 1
        if len(steps) < self._operations_max:
            for call in self._alphabet:
                self._extend(steps, ends, call)

    def _extend(self, steps: tuple[Step, ...], ends: Sequence[Sequence[Pick]], call: Call) -> None:
        self.tally.programs += 1
        longer = (*steps, call.step(self._first + len(steps) + 1))
        images = Images()
        judged = _Judged(self, longer, images, is_drain=False)
        reached: dict[Hashable, Sequence[Pick]] = {}
        visited = Visited()
        for fixed in ends:
            for schedule in self._schedules(longer, fixed, visited):
                judged.judge(schedule)
                if schedule.end is not None:  # one way to each state is enough to go on from it
                    reached.setdefault(schedule.end, schedule.picks)
        self._programs(longer, list(reached.values()), images)

    def _schedules(
        self,
        steps: tuple[Step, ...],
        fixed: Sequence[Pick],
        visited: Visited,
        flushed: Sequence[bool] | None = None,
    ) -> Iterator[Schedule]:
        program = Program((*self._run_up, *steps))
        flushes = [name for name, chosen in zip(self._flushes, flushed or (), strict=False) if chosen]
        ends = flushed is not None and not any(flushed)  # a clean end has no crash step that could flush
        for schedule in self.explorer.schedules(program, self._first, fixed, visited, flushes=flushes, ends=ends):
            self._look_at_clock()
            self.tally.is_complete = self.tally.is_complete and schedule.is_whole
            self._recoveries.keep(schedule.kept)  # also refuses a ``kept`` that differs between programs
            yield schedule

    def _look_at_clock(self) -> None:
        now = time.perf_counter()
        if self._deadline is not None and now > self._deadline:
            raise _OutOfTime
        if self._report is not None and now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL_SECONDS
            self._count_up()
            self._report(replace(self.tally, is_complete=False))

    # --- images -------------------------------------------------------------------------------------

    def name_of(self, image: Image) -> tuple[int, ...]:
        numbers = self._extents
        return tuple([numbers.setdefault(extent, len(numbers)) for extents in image for extent in extents])

    def observation(self, image: Image, keys: Sequence[Key]) -> Observation:
        return self._recoveries.observation(image, keys)


class _Judged:
    """Judges the crash points of one program's last step, or of its drain: each image against each history."""

    def __init__(self, part: _Part, steps: tuple[Step, ...], images: Images, *, is_drain: bool) -> None:
        self._part = part
        self._steps = steps
        self._is_drain = is_drain
        self._images = images
        self._done: set[Hashable] = set()  # (image, history)
        self._passed: set[Hashable] = set()  # (observation of an image, history): other images may look the same
        self._flushed: Sequence[bool] = ()

    def judge(self, schedule: Schedule, flushed: Sequence[bool] = ()) -> None:
        """Judge a schedule. Raises `_Found` for its first violation."""
        self._flushed = flushed
        if schedule.violation is not None:
            steps = self._steps
            if any(flushed):  # only a crash step can have the flushes, so make one that the power does not cut
                choices = {
                    **steps[-1].choices,
                    **self._within_drain(),
                    **cut_after(CUT_EVENTS_MAX * CUT_FAR_MAX - 1),
                }
                steps = (*steps[:-1], Step(steps[-1].identity, "crash", choices))
            raise _Found(self._program(schedule.picks, steps))
        part, writes = self._part, schedule.ledger.writes
        keys = list(dict.fromkeys(write.key for write in writes))
        outcomes = tuple((write.key, write.outcome, write.group) for write in writes)
        for point in schedule.points:
            part.tally.crash_points += 1
            for image, left in point.images:
                name = part.name_of(image)
                if name not in self._images.legal:
                    self._images.legal.add(name)
                    part.tally.states += 1
                history = (name, point.states, outcomes)
                if history in self._done:
                    continue
                self._done.add(history)
                if name not in self._images.judged:
                    self._images.judged.add(name)
                    part.tally.states_judged += 1
                observation = part.observation(image, keys)
                judged = (observation, point.states, outcomes)
                if judged in self._passed:
                    continue
                self._passed.add(judged)
                if self._violation(schedule, point, observation) is not None:
                    raise _Found(self._crashed(point, left))

    def _violation(self, schedule: Schedule, point: CrashPoint, observation: Observation) -> Violation | None:
        if observation.violation is not None:
            return observation.violation
        plan, judge = self._part._plan, self._part.judge
        model = model_after_crash(plan, schedule.model)
        judged = judge.outcomes(schedule.ledger, point.states, observation.outcome, model)
        return judged.violation or judge.observed_contents(observation.contents, model)

    # --- the failing program ------------------------------------------------------------------------

    def _crashed(self, point: CrashPoint, left: Sequence[Remains]) -> Program:
        """The program as it ran up to this point, and the crash that leaves these remains."""
        survivors = {name: value for remains in left for name, value in remains.choices.items()}
        last = self._steps[-1]
        if point.is_end and not self._is_drain:
            return self._program(point.picks, (*self._steps, Step(last.identity + 1, "crash", survivors)))
        cut = cut_after(point.events)
        if self._is_drain:
            within = self._within_drain()
        else:
            names = [action.name for action in self._part._plan.interruptible]
            # 2: an operation; 1 would be write-back, which a bounded spec always has.
            within = {"inside.0": 2, "during.0": names.index(last.operation)}
        choices = {**last.choices, **within, **cut, **survivors}
        return self._program(point.picks, (*self._steps[:-1], Step(last.identity, "crash", choices)))

    def _within_drain(self) -> dict[str, int]:
        return {"inside.0": 1, **{f"flush.{n}": 1 for n, chosen in enumerate(self._flushed) if chosen}}

    def _program(self, picks: Sequence[Pick], steps: Sequence[Step]) -> Program:
        by_step: dict[int, list[int]] = {}
        for pick in picks:
            by_step.setdefault(pick.step, []).append(pick.value)
        with_picks = []
        for step in steps:
            device = {f"device.{number}": value for number, value in enumerate(by_step.get(step.identity, ()))}
            choices = {name: value for name, value in {**step.choices, **device}.items() if value}
            with_picks.append(Step(step.identity, step.operation, choices))
        return Program((*self._part._start.steps, *with_picks))
