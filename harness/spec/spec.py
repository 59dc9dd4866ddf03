"""Specs: what to check, as a value.

A spec says how to open the system, what its model is, which operations there are and what must always hold. System and
model offer the same methods, so an operation is usually one line. Every kind of check runs from this one value.

    SPEC = Spec(
        "index",
        system=open_index,          # World -> the real component on the world's media
        model=HashIndex,
        operations=[
            Operation("get", key=keys),
            Operation("put", key=keys, locators=locators, weight=4, writes="key"),
            Background("flush"),
            Reboot(), WriteBack(), Crash(),
        ],
        contents=all_entries,
        durability=Durability(read=get_entry, settle=set_entry),
    )

A method of the *system* may return a plain result, a dependency, or a pair ``(result, dependency)``. A dependency is
any object with ``is_persistent() -> bool`` and ``is_failed() -> bool``. The model's method returns the plain result,
or None where the system returns a dependency alone. Operations that change durable state say so with ``writes``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from unittest import TestCase

from harness.spec.device import MediumShape
from harness.spec.events import Event
from harness.spec.generators import Generator, ResultsOf
from harness.spec.tracing import Tracer


class Mode(StrEnum):
    """The kinds of steps that a run may contain: a crash run may have crashes, a conformance run none.

    A faults run may have crashes too, and calls of the device that fail.
    """

    CONFORMANCE = "conformance"
    CRASH = "crash"
    FAULTS = "faults"

    @property
    def needs(self) -> str:
        """The kind of operation without which a spec has no such runs."""
        return {Mode.CONFORMANCE: "", Mode.CRASH: "Crash", Mode.FAULTS: "Fault"}[self]


class Dependency(Protocol):
    """Stands for a write: pending until it is persistent or failed, and then that for good."""

    def is_persistent(self) -> bool: ...
    def is_failed(self) -> bool: ...


Argument = Generator | ResultsOf
Key = Hashable
Group = Sequence[Key]  # keys of which one operation changes all or none
Promises = Literal["nothing", "itself", "everything"]
Tier = Literal["fine", "coarse"]
BOUNDED: Final = ", bounded"  # ends the name of a spec that `Spec.bounded` made
DRAIN_STEPS_MAX: Final = 64  # device steps after the last operation of an exhausted program

Turn = Callable[["Configuration", Mapping[str, Any]], "Configuration"]
Writes = str | Callable[[Mapping[str, Any], Any], Iterable[Group]]


class Operation:
    """A call made on system and model alike, whose results must be equal.

        Operation("get", key=keys, weight=3)
        Operation("put", key=keys, payload=payloads(4096), weight=4, writes="key")
        Operation("remove_all", keys=lists_of(keys, 3), writes=lambda arguments, _: [arguments["keys"]])  # one group
        Operation("allocate", adopts=True)

    ``arguments`` maps each parameter to its generator; ``weight`` is how often the operation comes, relative to others.

    ``writes`` says which keys the call changes: the name of the argument that is the key, or a function of
    (arguments, result) that gives groups of keys. Each group is changed as a whole or not at all.

    ``adopts`` is for results that the system may choose. The harness then calls ``model.<name>(result, **arguments)``,
    which raises `ViolationError` if the system may not return that. The model gets a typed error of the system in place
    of the result.

    ``promises`` says what is persistent, or has failed, once the call has returned: "everything" that was written
    before, or "itself", the change that the call has made. From then on a crash must leave it.

    ``partial`` is for a call that adopts and that a crash interrupts, so that it has no result. ``partial(system)``
    then gives what the call had done by then, and the model adopts this. For the result of any other interrupted call,
    ``writes`` is given None.
    """

    __slots__ = ("adopts", "arguments", "name", "partial", "promises", "weight", "writes")

    def __init__(
        self,
        name: str,
        *,
        weight: int = 1,
        writes: Writes | None = None,
        adopts: bool = False,
        partial: Callable[[Any], Any] | None = None,
        promises: Promises = "nothing",
        **arguments: Argument,
    ) -> None:
        self.name = name
        self.weight = weight
        self.writes = writes
        self.adopts = adopts
        self.partial = partial
        self.promises = promises
        self.arguments: Mapping[str, Argument] = arguments


class Background(Operation):
    """Work that must not change what the system answers; called on the system only, unless the model has it.

        Background("flush", weight=3)
        Background("reclaim", choice=integers(0, 2))
        Background("sync", promises="everything")

    A model that has a method of the same name is given what the system returned, as ``model.<name>(result,
    **arguments)``. That method raises `ViolationError` if the system may not have returned it.
    """

    __slots__ = ()


class WriteBack(Operation):
    """Calls ``system.write_back(steps)``: 1 to ``steps_max`` device steps, each of which the system leaves open."""

    __slots__ = ("steps_max",)

    def __init__(self, *, weight: int = 2, steps_max: int = 8) -> None:
        super().__init__("write_back", weight=weight)
        self.steps_max = steps_max


class Reboot(Operation):
    """Calls ``system.shutdown()``, after which every dependency must be persistent or failed; then opens again."""

    __slots__ = ()

    def __init__(self, *, weight: int = 1) -> None:
        super().__init__("reboot", weight=weight)


class Crash(Operation):
    """The device stops, a choice says which writes survive, and the system is opened again on these.

        Crash(flushes=("flush", "sync"))
        Crash(tier="coarse")

    Other choices decide whether the power fails in the middle of one more operation, and after how many device events.
    It may also fail again during recovery. Or only the process dies, and the device keeps what it has. See
    ``docs/CRASH_MODEL.md``.

    ``flushes`` names background operations without arguments; a choice for each says whether it runs just before the
    crash. ``tier`` says how finely the survivors are chosen: per write ("fine"), or all or nothing per extent
    ("coarse"). The operation is named ``crash``, or ``crash_coarse``. It has no weight: a random run has one crash on
    average, placed behind operations that write.
    """

    __slots__ = ("flushes", "tier")

    def __init__(self, *, flushes: Sequence[str] = (), tier: Tier = "fine") -> None:
        super().__init__("crash" if tier == "fine" else "crash_coarse")
        self.flushes = tuple(flushes)
        self.tier: Tier = tier


DeviceCall = Literal["read", "write", "reset", "barrier"]
DEVICE_CALLS: Final[tuple[DeviceCall, ...]] = ("read", "write", "reset", "barrier")
Reaches = Callable[[str, Mapping[str, Any]], Iterable[int]]


class Fault(Operation):
    """Some calls of a medium fail: a choice says which, after how many that pass, how often, and on which extent.

        Fault(errors=(DiskError,))
        Fault(errors=(DiskError,), reaches=lambda operation, arguments: (disk_of(arguments["key"]),))

    Only runs in the mode *faults* have them. Once a call has failed, the system may answer by one of ``errors`` until
    it is opened again; if only reads have failed, in the very operation in which one does. A change that was refused
    has changed nothing, unless its operation promises "itself": then it may be there or not. What was persistent must
    be there when the system is opened again and nothing fails.

    ``calls`` are those that may fail, of those that the system makes. A check in which one of them never failed is
    *unknown*.

    ``reaches`` gives the indices of the media that an operation uses: a failure elsewhere is no excuse for it. After
    one of the operations ``fatal`` has raised such an error, nobody knows what it has done, and the process dies. The
    operation is named ``fault``; it has no weight, as `Crash` has none.
    """

    __slots__ = ("calls", "errors", "fatal", "reaches")

    def __init__(
        self,
        *,
        errors: Sequence[type[Exception]],
        calls: Sequence[DeviceCall] = DEVICE_CALLS,
        reaches: Reaches | None = None,
        fatal: Sequence[str] = (),
    ) -> None:
        super().__init__("fault")
        self.errors = tuple(errors)
        self.calls = tuple(calls)
        self.reaches = reaches
        self.fatal = tuple(fatal)


@dataclass(frozen=True, slots=True)
class Durability:
    """How to read the outcome of one key, and how to settle it in the model.

        Durability(
            read=lambda subject, key: subject.get(key),
            settle=lambda model, key, outcome: model.settle(key, outcome),
        )

    ``read(subject, key)`` works on system and model and gives an immutable value to compare, also for an absent key.
    ``settle(model, key, outcome)`` makes the model agree with what a crash left.
    """

    read: Callable[[Any, Any], Any]
    settle: Callable[[Any, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Knob:
    """A number at which a system's behaviour changes, such as a threshold, a size or a limit.

        Knob("cache_pages", (4, 1, 1_000))

    Each scenario of a configuration draws one of ``values``. The first is the default and the simplest; let the others
    be small, large, and at an edge. What happens only past a threshold is reached in a few steps if that is small. The
    idea is from FoundationDB's simulation (Zhou et al., SIGMOD 2021).

    ``crossed`` names the `Event` that happens past the threshold: a value that was drawn has shown nothing yet.
    """

    name: str
    values: tuple[Any, ...]
    crossed: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One named way to run a spec: its media, and ``parameters`` for whatever else ``system`` wants to know.

        Configuration("small", (MediumShape(8, 16, 128, ZONED),), parameters={"cache_pages": 4})

    The system finds both at ``world.configuration``, and the simulated media at ``world.media``.

    Each scenario may turn some ``knobs``, and then runs under ``turn(configuration, values)``, with a value for each
    knob. See `Knob`.
    """

    name: str
    media: tuple[MediumShape, ...]
    parameters: Any = None
    collisions: tuple[bytes, ...] = (b"\x00\x00", b"\xff\xff")  # endings that a choice may give to an identifier
    knobs: tuple[Knob, ...] = ()
    turn: Turn | None = None  # what the knobs do; None: each has the name of a field of the parameters, a dataclass

    def without_knobs(self) -> Configuration:
        """The same with every knob at its default."""
        return replace(self, knobs=()) if self.knobs else self

    def turned(self, places: Sequence[int]) -> Configuration:
        """The configuration with each knob at this place among its values; it has no knobs any more."""
        values = {knob.name: knob.values[place] for knob, place in zip(self.knobs, places, strict=True)}
        plain = self.without_knobs()
        if self.turn is not None:
            return self.turn(plain, values)
        return replace(plain, parameters=replace(self.parameters, **values))


@dataclass(frozen=True, slots=True)
class OnFile:
    """How to run the system on one real file, for ``harness torture``.

        OnFile(create=Notebook.create, open=Notebook.open, close=lambda book: book.file.close())

    The system must reach the file by descriptors, through functions of `os` that it looks up at each call. Only one
    thread may write to it. ``refusals`` are the typed errors that ``open`` raises for a file whose creation was cut
    short.
    """

    create: Callable[[Path], Any]  # a new system in a new file
    open: Callable[[Path], Any]  # the system in a file, recovered
    close: Callable[[Any], None]  # let go of the file and write nothing, like a process that dies
    refusals: tuple[type[Exception], ...] = ()
    wait: Callable[[Any], None] | None = None  # given a dependency, returns once that is persistent


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of `harness exhaust`: it tries every program of K of these operations, from each starting state.

        Bounds(
            operations=[Operation("put", key=sampled([b"a", b"b"]), writes="key"), Background("sync")],
            starts={"empty": "", "one put": "1 put\\n2 sync"},
            in_memory=lambda system: tuple(system.queued),
        )

    ``operations`` are some of the spec's, with generators of few values; each value is tried. ``starts`` maps a name to
    the text of a program of these operations, and ``crash``, in the format of `harness.choices.program`. A start must
    run without a failure. ``flushes`` are those of `Crash`, for the crash that ends each program.
    ``configurations`` stand in for the spec's own of the same names: say with larger sectors, of which fewer may tear.

    ``in_memory(system)`` gives everything in memory that depends on the order in which the device got things. Two
    schedules that agree in it and in the media are merged into one. So it must have what the system *takes for*
    persistent, and how far the system is within a call that waits more than once. Without it none are merged.
    """

    operations: Sequence[Operation]
    starts: Mapping[str, str]
    in_memory: Callable[[Any], Hashable] | None = None
    flushes: Sequence[str] = ()
    configurations: Sequence[Configuration] = ()


@dataclass(frozen=True, slots=True)
class Interrupts:
    """Exceptions from outside, a keyboard interrupt or want of memory, which may end a call of the system anywhere.

        Interrupts(Path(__file__).parent, broken=(InterruptedStoreError,))

    One arrives now and then in the operation that a fine `Crash` interrupts, in place of the power's failing. After it
    the call is whole or absent, and reads go on. By an error of ``broken``, and in no other case, the system may refuse
    changes, background work and a clean shutdown; what it has refused once it must go on refusing.

    Lines are counted in the file or folder ``within``. Files named ``*_spec.py``, and those that match one of
    ``leaving_out``, do not count. An operation without ``writes`` counts as one that changes nothing. The operations
    named by ``sparing`` are neither interrupted nor performed afterwards.
    """

    within: Path
    broken: tuple[type[Exception], ...] = ()
    sparing: tuple[str, ...] = ()
    leaving_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Calls that overlap, as those of two threads do: where one lets a monitor of the seam go, another may be made.

        Overlaps(sparing=("tidy",))

    In some scenarios, an operation, background work or a write-back comes in the middle of another. The results of
    both must be those of one order of the two, and so must be what the keys read as afterwards. Where the model does
    not see the outer call, the inner one must answer as if it were alone.

    An operation that ``writes`` must leave its keys the same whatever they were before. A call that changes several
    groups of keys has no other in its middle, and comes in the middle of none. So do operations named by ``sparing``.
    The model must be one that `harness.spec.models` can copy and compare.
    """

    sparing: tuple[str, ...] = ()


class ViolationError(Exception):
    """Raised by an invariant or a model that sees the system do what it must not.

    ``place`` is a name that stays the same from run to run: violations of one place count as one failure.
    """

    def __init__(self, place: str, answered: object = "", allowed: object = "") -> None:
        super().__init__(place)
        self.place = place
        self.answered = answered
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything the harness needs to know about one component.

        SPEC = Spec(
            "notebook",
            system=lambda world: Notebook(world.media[0]),
            model=NotebookModel,
            operations=[Operation("get", key=keys), Operation("put", key=keys, writes="key"), Reboot()],
            configurations=[Configuration("zoned", (MediumShape(8, 16, 128, ZONED),))],
        )

    The system must also offer ``shutdown()`` if there is a `Reboot`, and ``write_back(steps: int)`` if there is a
    `WriteBack`. If the model has a method ``reopened()``, it is called after the recovery from each reboot and crash.
    Fakes of the system keep in ``world.kept`` what must outlive reboots and crashes.
    """

    name: str
    system: Callable[[Any], Any]  # World -> system: opens it on empty media, or recovers it
    model: Callable[[], Any]
    operations: Sequence[Operation]
    configurations: Sequence[Configuration]
    contents: Callable[[Any], Any] | None = None  # whole contents, of system or model, comparable
    durability: Durability | None = None
    invariants: Sequence[Callable[[Any, Any], None]] = field(default=())  # (system, model); raise ViolationError
    errors: tuple[type[Exception], ...] = ()  # typed errors that count as results; the model must raise the same type
    excuses: tuple[type[Exception], ...] = ()  # typed errors that only the system may raise; such a step is void
    steps_mean: int = 30  # steps of a random run, on average
    share: int = 1  # of the seconds of a check that has other specs too: twice as many for 2 as for 1
    step_seconds_max: float = 10.0  # a step that takes longer violates "no progress"
    bounds: Bounds | None = None
    trace: Callable[[Any, Tracer], None] | None = None  # (opened system, tracer): tells the tracer of every write
    on_file: OnFile | None = None  # for failures that only a real file shows
    interrupts: Interrupts | None = None  # for exceptions from outside
    events: Sequence[Event] = ()  # that scenarios should have; of those that none had, a long check is *unknown*
    overlaps: Overlaps | None = None  # for calls in the middle of others

    def bounded(self) -> Spec:
        """The spec that `harness exhaust` runs: with the operations of its bounds only, and no knobs."""
        assert self.bounds is not None
        # A program ends in a clean shutdown or a crash, so these are added even if the bounds leave them out.
        reboots = [operation for operation in self.operations if isinstance(operation, Reboot)]
        operations = [
            *self.bounds.operations,
            *reboots,
            WriteBack(steps_max=DRAIN_STEPS_MAX),
            Crash(flushes=self.bounds.flushes),
        ]
        own = {configuration.name: configuration for configuration in self.bounds.configurations}
        configurations = [own.get(each.name, each).without_knobs() for each in self.configurations]
        name = f"{self.name}{BOUNDED}"
        plain = replace(self, configurations=configurations, bounds=None, interrupts=None, overlaps=None)
        return replace(plain, name=name, operations=operations)

    def as_test(self, **options: Any) -> type[TestCase]:
        """Make tests for pytest or unittest; see `harness.testing.as_test.as_test` for the options."""
        return _test_makers[-1](self, **options)

    @property
    def can_crash(self) -> bool:
        """Whether it has a `Crash` among its operations."""
        return any(isinstance(operation, Crash) for operation in self.operations)

    @property
    def modes(self) -> list[Mode]:
        """The modes in which it can be checked."""
        fault = any(isinstance(operation, Fault) for operation in self.operations)
        return [Mode.CONFORMANCE, *([Mode.CRASH] if self.can_crash else []), *([Mode.FAULTS] if fault else [])]


TestMaker = Callable[..., type[TestCase]]
_test_makers: list[TestMaker] = []


def make_tests_with(maker: TestMaker) -> None:
    """Have `Spec.as_test` call ``maker``.

    A spec cannot import the code that makes tests: that lies above it, and imports Hypothesis, which only tests need.
    """
    _test_makers.append(maker)
