"""Images of power cuts: records lives on a real file, and judges what a cut at any moment of them may leave.

A *life* is one or more processes at work on one file, one after the other. Some reboot; some die in the middle of a
call or of a recovery. The next process finds their writes still in the operating system's cache. `file_log` records
every change of the file. The journal notes for each event how many entries of that log were done.

An *image* is a file that a power cut at some moment may leave. It is opened, and must read as the acknowledgements by
then allow. Opening it is itself a life and recorded too. Some of these go on for a few steps, and images of them, their
recovery included, are judged in turn.

Moments are drawn where they matter: right after a sync, with a sync under way, where earlier data is overwritten, and
within creation and recovery. Everything follows from the seed: the image of a number is the same in every run.
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
ENTRIES_MAX: Final = 200  # about how many entries a process does before it dies
GO_ON_ODDS: Final = 4  # one of so many images goes on for a few steps ...
GO_ON_STEPS_MAX: Final = 12
GENERATIONS_MAX: Final = 3  # ... and images of that life are judged, down to so many generations
DRAWS_MAX: Final = 4  # of one image, as long as they were all drawn before

_PAGE_SIZE_BYTES: Final = 4096  # how finely overwriting is noticed


class Session(NamedTuple):
    """The work of one process in a life."""

    seed: int
    steps_max: int
    dies_after: int | None = None  # it dies after so many entries of the log; None: it does not
    part: float = 0.0  # of the write that is due then, the part that is done


class Stamped(NamedTuple):
    """An event of the journal, and when it happened."""

    position: int  # entries of the log that were done by then
    event: Event


@dataclass(slots=True)
class Life:
    """All that happened to one file."""

    base: bytes | None  # the content before; None: there was no file
    entries: list[Entry] = field(default_factory=list)
    journal: list[Stamped] = field(default_factory=list)
    violation: Violation | None = None
    is_refused: bool = False  # the file had never been whole, and the system refused it
    acknowledged_checked: int = 0

    def before(self, position: int) -> list[Event]:
        """The events up to the moment when ``position`` entries were done, and before the next."""
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
    """Counts of what was tried."""

    lives: int = 0
    images: int = 0
    lossy: int = 0  # images that had lost something issued
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
    """A file that breaks a property, with its content from before it was opened, and its story."""

    where: str  # "image 17 of life 3", "kill 5 of file 0"
    violation: Violation
    content: bytes | None
    story: tuple[str, ...]


def record_life(
    plan: Plan, path: Path, base: bytes | None, before: Sequence[Event], sessions: Sequence[Session], seed: int
) -> Life:
    """Run sessions on a file that holds ``base`` after the events ``before``. Without either, the first creates it."""
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
    """Run one process until it has done its steps or dies."""

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
        with suppress(ProcessDied):  # closing may try to write buffered data, which a dead process cannot
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
    """Judge the first ``images_count`` images of each of these lives, up to the first that breaks a property."""
    figures = ImageFigures()
    for number in lives:
        bad = _OneLife(plan, folder, seed, number, figures).judge(images_count)
        if bad is not None:
            return figures, bad
    return figures, None


class _OneLife:
    """The life of one number, and its images."""

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
        """Judge one image of the life, then images of the lives that follow from it. Gives the first bad one."""
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
        """An image that was not drawn for this life before, unless `DRAWS_MAX` draws find none."""
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
    """Up to `SESSIONS_MAX` processes, most of which die; few of the first ones die while they create the file."""
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
    """The number of entries that are done when the power fails."""
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
    """The positions of writes that overwrite earlier data and do not go on where an earlier write ended."""
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
    """The life, line by line; if an image is given, up to that image, and with its losses."""
    if image is None:
        return tuple(f"{position:6} {describe_event(event)}" for position, event in life.journal)
    journal = [stamped for stamped in life.journal if stamped.position <= image.position]
    lines = [f"{position:6} {describe_event(event)}" for position, event in journal]
    lines.append(f"the power fails after {image.position} of {len(life.entries)} entries")
    lines += [f"  {describe_loss(loss, life.entries[loss.entry])}" for loss in image.losses]
    return tuple(lines)
