"""Images of power cuts: lives on a real file, recorded, and what a cut at any moment of them may leave, judged.

A *life* is one or more processes at work on one file, one after the other: some reboot, some die in the middle of a
call or of a recovery, with what they had written still in the operating system's cache for the next. All they do to the
file is recorded (`file_log`), and at how many entries of that log each event of the journal happened.

An *image* is what a power cut at some moment may leave. It is put into a file and opened, and must read as what was
acknowledged by then allows. That is itself a life, recorded too; some go on for a few steps, and images of them,
recovery included, are judged in turn.

Moments are drawn where they matter: right after a sync, with one under way, where what was written before is
overwritten, within creation and recovery. Everything is a function of the seed: the image of a number is the same in
every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from harness.choices.random_policy import random_tape, scenario_seed
from harness.choices.tape import Tape
from harness.scenario.violation import Violated, Violation
from harness.spec.plan import Plan
from harness.torture.account import Account, Event, What, describe_event
from harness.torture.file_log import Entry, FileLog, Kind, ProcessDied
from harness.torture.file_worker import Worker, open_crashed
from harness.torture.power_cut import Image, crash_image, describe_loss

IMAGES_PER_LIFE: Final = 50
SESSIONS_MAX: Final = 3
STEPS_MAX: Final = 120  # of one session
ENTRIES_MAX: Final = 200  # before a process dies
GO_ON_ODDS: Final = 4  # one of so many images goes on for a few steps ...
GO_ON_STEPS_MAX: Final = 12
GENERATIONS_MAX: Final = 3  # ... and images of that are judged, so deep
DRAWS_MAX: Final = 4  # of one image, if it was had before

_PAGE_SIZE_BYTES: Final = 4096  # how finely overwriting is noticed


class Session(NamedTuple):
    """What one process is to do."""

    seed: int
    steps_max: int
    dies_after: int | None = None  # entries of the log
    part: float = 0.0  # of the last one


class Stamped(NamedTuple):
    """An event of the journal, and when it happened."""

    position: int  # entries of the log that were done by then
    event: Event


@dataclass(slots=True)
class Life:
    """What happened to one file."""

    base: bytes | None  # what was in it before; None: there was none
    entries: list[Entry] = field(default_factory=list)
    journal: list[Stamped] = field(default_factory=list)
    violation: Violation | None = None
    is_refused: bool = False  # what was opened had never been whole
    acknowledged_checked: int = 0

    def before(self, position: int) -> list[Event]:
        """What had happened once so many entries were done, and before the next."""
        return [stamped.event for stamped in self.journal if stamped.position <= position]

    def spans(self) -> list[range]:
        """Positions within creations and recoveries."""
        spans, start = [], None
        for position, event in self.journal:
            if event.what in (What.CREATE, What.OPEN):
                start = position
            elif event.what is What.OPENED and start is not None:
                spans.append(range(start, position + 2))
        return [span for span in spans if span.stop <= len(self.entries) + 1]


@dataclass(slots=True)
class ImageFigures:
    """What was tried."""

    lives: int = 0
    images: int = 0
    lossy: int = 0  # something that had been issued was lost
    within_creation: int = 0
    within_recovery: int = 0
    within_call: int = 0
    refused: int = 0  # never whole, and refused by a typed error
    of_images: int = 0  # taken from the recovery, or the further life, of another image
    acknowledged_checked: int = 0
    digests: set[bytes] = field(default_factory=set)

    def add(self, other: ImageFigures) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.digests |= other.digests


_COUNTS = (
    "lives",
    "images",
    "lossy",
    "within_creation",
    "within_recovery",
    "within_call",
    "refused",
    "of_images",
    "acknowledged_checked",
)


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that breaks a property, as it was before it was opened, and how it came about."""

    where: str  # "image 17 of life 3", "kill 5 of file 0"
    violation: Violation
    content: bytes | None
    story: tuple[str, ...]


def record_life(
    plan: Plan, path: Path, base: bytes | None, before: Sequence[Event], sessions: Sequence[Session], seed: int
) -> Life:
    """Live on the file that holds ``base`` after the events ``before``; the first session creates it if nothing was."""
    path.unlink(missing_ok=True)
    if base is not None:
        path.write_bytes(base)
    life = Life(base, journal=[Stamped(0, event) for event in before])
    account = Account(plan)
    for event in before:
        account.follow(event)
    with FileLog(path, seed) as log:
        life.entries = log.entries
        try:
            for session in sessions:
                _live(plan, path, life, account, log, session)
                if life.is_refused:
                    break
        except Violated as stop:
            life.violation = stop.violation
        log.check_complete()
    life.acknowledged_checked = account.acknowledged_checked
    return life


def _live(plan: Plan, path: Path, life: Life, account: Account, log: FileLog, session: Session) -> None:
    """One process, until it has done its steps or dies."""

    def report(event: Event) -> None:
        life.journal.append(Stamped(len(log.entries), event))
        account.follow(event)

    steps = (stamped.event.step for stamped in reversed(life.journal) if stamped.event.what is What.CALL)
    worker = Worker(plan, path, report, first_step=next(steps, 0) + 1)
    if session.dies_after is not None:
        log.die_after(session.dies_after, session.part)
    try:
        if life.base is None and not life.journal:
            worker.create()
        else:
            worker.system = open_crashed(plan, path, account, report)
            life.is_refused = worker.system is None
            if not life.is_refused:
                life.journal.append(Stamped(len(log.entries), Event(What.SETTLED, value=account.judge(worker.system))))
        if not life.is_refused:
            _work(worker, session)
    except ProcessDied:
        pass
    finally:
        with suppress(ProcessDied):  # what is closed may have buffered something, and may not write it any more
            worker.close()
        log.restart()


def _work(worker: Worker, session: Session) -> None:
    done_count, part = 0, 0
    while done_count < session.steps_max:
        tape = random_tape(scenario_seed(session.seed, part))
        done_count += worker.run(tape, session.steps_max - done_count)
        part += 1


def judge_images(
    plan: Plan, folder: Path, seed: int, lives: range, images_count: int
) -> tuple[ImageFigures, BadFile | None]:
    """Judge the first ``images_count`` images of each of these lives; stops at the first that breaks something."""
    figures = ImageFigures()
    for number in lives:
        bad = _OneLife(plan, folder, seed, number, figures).judge(images_count)
        if bad is not None:
            return figures, bad
    return figures, None


class _OneLife:
    """A life from its number, and its images."""

    def __init__(self, plan: Plan, folder: Path, seed: int, number: int, figures: ImageFigures) -> None:
        self._plan = plan
        self._path = folder / "image"
        self._number = number
        self._seed = scenario_seed(seed, number)
        self._figures = figures
        self._left_count = 0
        self._seen: set[bytes] = set()

    def judge(self, images_count: int) -> BadFile | None:
        tape = random_tape(self._seed)
        life = record_life(self._plan, self._path, None, (), _draw_sessions(tape, self._seed), self._seed)
        self._figures.lives += 1
        if life.violation is not None:
            content = self._path.read_bytes() if self._path.exists() else None
            return BadFile(f"life {self._number}, without a power cut", life.violation, content, story(life))
        self._left_count = images_count
        image_number = 0
        while self._left_count > 0:
            bad = self._judge_one(life, image_number)
            if bad is not None:
                return bad
            image_number += 1
        return None

    def _judge_one(self, life: Life, image_number: int) -> BadFile | None:
        """One image of the life itself, and those that come of it."""
        generation, parent = 0, life
        told: tuple[str, ...] = ()
        seed = scenario_seed(self._seed, image_number)
        tape = random_tape(seed)
        while True:
            image = self._draw_image(parent, tape)
            self._count(image, parent, generation)
            goes_on = tape.choose("go on", GO_ON_ODDS) == 0
            sessions = [Session(seed + generation, tape.choose("steps", GO_ON_STEPS_MAX + 1) if goes_on else 0)]
            before = parent.before(image.position)
            child = record_life(self._plan, self._path, image.content, before, sessions, seed + generation + 1)
            self._figures.acknowledged_checked += child.acknowledged_checked
            self._figures.refused += child.is_refused
            told = (*told, *story(parent, image))
            if child.violation is not None:
                where = f"image {image_number} of life {self._number}" + f", generation {generation}" * bool(generation)
                own = story(child)[len(before) :]
                return BadFile(where, child.violation, image.content, (*told, "opened:", *own))
            generation += 1
            if not goes_on or generation == GENERATIONS_MAX or self._left_count == 0 or child.is_refused:
                return None
            told = (*told, "opened, and lost again:")
            parent = child

    def _draw_image(self, life: Life, tape: Tape) -> Image:
        """One that this life and its images have not had yet, unless that is hard to find."""
        for _ in range(DRAWS_MAX):
            image = crash_image(life.base, life.entries, _draw_position(life, tape), tape.choose)
            if image.digest not in self._seen:
                self._seen.add(image.digest)
                break
        return image

    def _count(self, image: Image, parent: Life, generation: int) -> None:
        self._left_count -= 1
        figures = self._figures
        figures.images += 1
        figures.of_images += generation > 0
        figures.lossy += bool(image.losses)
        figures.digests.add(image.digest)
        last = next((event.what for event in reversed(parent.before(image.position))), What.CREATE)
        figures.within_creation += last is What.CREATE
        figures.within_recovery += last is What.OPEN
        figures.within_call += last is What.CALL


def _draw_sessions(tape: Tape, seed: int) -> list[Session]:
    """Up to so many processes, of which most die; of the first ones few so early that there is hardly a file."""
    sessions = []
    for number in range(1 + tape.choose("sessions", SESSIONS_MAX)):
        steps_max = 1 + tape.choose("steps", STEPS_MAX)
        dies_after = None
        if tape.choose("dies", 3):
            dies_after = tape.choose("after", 1 + tape.choose("after", ENTRIES_MAX))
            if not number and tape.choose("late", 8):
                dies_after += ENTRIES_MAX // 2
        part = tape.choose("part", 64) / 64
        sessions.append(Session(scenario_seed(seed, number), steps_max, dies_after, part))
    return sessions


def _draw_position(life: Life, tape: Tape) -> int:
    """How many entries are done when the power fails."""
    size = len(life.entries)
    syncs = [at for at, entry in enumerate(life.entries) if entry.kind is Kind.SYNC]
    where = tape.choose("where", 6)
    if where == 0 and syncs:  # right after a sync
        return min(size, syncs[tape.choose("sync", len(syncs))] + 1 + tape.choose("on", 3))
    if where in (1, 2) and syncs:  # a sync is under way
        return syncs[tape.choose("sync", len(syncs))]
    turns = _turns(life.entries) if where == 3 else []
    if turns:
        return min(size, max(0, turns[tape.choose("turn", len(turns))] + tape.choose("on", 5) - 1))
    spans = life.spans() if where == 4 else []
    if spans:
        span = spans[tape.choose("span", len(spans))]
        return min(size, span.start + tape.choose("at", len(span)))
    return tape.choose("position", size + 1)


def _turns(entries: Sequence[Entry]) -> list[int]:
    """Where something is written over what was there, and not behind what was written before."""
    written: set[int] = set()
    ends: set[int] = set()
    turns = []
    for at, entry in enumerate(entries):
        if entry.kind is not Kind.WRITE or not any(entry.data):
            continue
        first, end = entry.offset_bytes // _PAGE_SIZE_BYTES, entry.offset_bytes + len(entry.data)
        if first in written and entry.offset_bytes not in ends:
            turns.append(at)
        ends.discard(entry.offset_bytes)
        ends.add(end)
        written.update(range(first, -(-end // _PAGE_SIZE_BYTES)))
    return turns


def story(life: Life, image: Image | None = None) -> tuple[str, ...]:
    """The life line by line, up to the image if one is given, and what it lost."""
    if image is None:
        return tuple(f"{position:6} {describe_event(event)}" for position, event in life.journal)
    journal = [stamped for stamped in life.journal if stamped.position <= image.position]
    lines = [f"{position:6} {describe_event(event)}" for position, event in journal]
    lines.append(f"the power fails after {image.position} of {len(life.entries)} entries")
    lines += [f"  {describe_loss(loss, life.entries[loss.entry])}" for loss in image.losses]
    return tuple(lines)
