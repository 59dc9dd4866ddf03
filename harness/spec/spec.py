"""Specs: what to check, as a value.

A spec says how to open the system, what its model is, which operations there are and what must always hold.
System and model offer the same methods, so an operation is usually one line. Every kind of check runs from
this one value.

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

What a method of the *system* may return: a plain result; a dependency; or a pair ``(result, dependency)``.
A dependency is any object with ``is_persistent() -> bool`` and ``is_failed() -> bool``. The model's method
returns the plain result, or None where the system returns a dependency alone. Operations that change
durable state say so with ``writes``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from unittest import TestCase

from harness.spec.device import MediumShape
from harness.spec.generators import Generator, ResultsOf
from harness.spec.tracing import Tracer


class Mode(StrEnum):
    """Which kinds of steps a run may contain."""

    CONFORMANCE = "conformance"
    CRASH = "crash"


class Dependency(Protocol):
    def is_persistent(self) -> bool: ...
    def is_failed(self) -> bool: ...


Argument = Generator | ResultsOf
Key = Hashable
Group = Sequence[Key]  # keys that one operation changes all or none of
Tier = Literal["fine", "coarse"]
BOUNDED: Final = ", bounded"  # ends the name of a spec within its bounds
DRAIN_STEPS_MAX: Final = 64  # device steps after the last operation of an exhausted program

Writes = str | Callable[[Mapping[str, Any], Any], Iterable[Group]]


class Operation:
    """A call made on system and model alike, whose results must be equal.

    ``arguments`` maps each parameter to its generator. ``writes`` names what the call changes: the name of the argument
    that is the key, or a function of (arguments, result) that gives groups of keys, each group atomic; the result is
    None for a call that a crash has interrupted. Where the system is free in what it returns, the model ``adopts`` the
    result: its method is called as ``model.<name>(result, **arguments)`` and raises `ViolationError` if the system may
    not have returned that. A typed error that the system raised is given to it in the result's place. When the power
    fails within the call there is no result; ``partial``, if given, says of the system what it had done by then, and
    that is adopted in its place.
    """

    __slots__ = ("adopts", "arguments", "name", "partial", "weight", "writes")

    def __init__(
        self,
        name: str,
        *,
        weight: int = 1,
        writes: Writes | None = None,
        adopts: bool = False,
        partial: Callable[[Any], Any] | None = None,
        **arguments: Argument,
    ) -> None:
        self.name = name
        self.weight = weight
        self.writes = writes
        self.adopts = adopts
        self.partial = partial
        self.arguments: Mapping[str, Argument] = arguments


class Background(Operation):
    """Work that must not change what the system answers; called on the system only, unless the model has it.

    Where the model offers a method of the same name, it is given what the system returned:
    ``model.<name>(result, **arguments)``; the method raises `ViolationError` if the system may not have done so.
    """

    __slots__ = ()


class WriteBack(Operation):
    """``system.write_back(steps)``: a bounded number of device steps, each the system's open choice."""

    __slots__ = ("steps_max",)

    def __init__(self, *, weight: int = 2, steps_max: int = 8) -> None:
        super().__init__("write_back", weight=weight)
        self.steps_max = steps_max


class Reboot(Operation):
    """Clean shutdown, after which every dependency must be persistent or failed; then open again."""

    __slots__ = ()

    def __init__(self, *, weight: int = 1) -> None:
        super().__init__("reboot", weight=weight)


class Crash(Operation):
    """The device stops; what survives is chosen; the system is opened again on it.

    By choice the power fails in the middle of one more operation, after any number of device events, and in the middle
    of recovery; or only the process dies, and the device keeps what it has. See ``docs/CRASH_MODEL.md``.

    ``flushes`` names background operations, without arguments, each of which is run just before the crash or not, by
    choice (the coarse tier: each component flushed or dropped). ``tier`` says how finely the device's survivors are
    chosen: "fine", or "coarse", where the operation is named ``crash_coarse``. It has no weight: a random run has about
    one crash, where there is most to lose.
    """

    __slots__ = ("flushes", "tier")

    def __init__(self, *, flushes: Sequence[str] = (), tier: Tier = "fine") -> None:
        super().__init__("crash" if tier == "fine" else "crash_coarse")
        self.flushes = tuple(flushes)
        self.tier: Tier = tier


@dataclass(frozen=True, slots=True)
class Durability:
    """How to see and to settle the outcome of one key.

    ``read(subject, key)`` works on system and model and gives a comparable, immutable outcome, absence
    included. ``settle(model, key, outcome)`` makes the model agree with what a crash left.
    """

    read: Callable[[Any, Any], Any]
    settle: Callable[[Any, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One named way to run a spec: its media, and whatever else ``system`` wants to know."""

    name: str
    media: tuple[MediumShape, ...]
    parameters: Any = None
    collisions: tuple[bytes, ...] = (b"\x00\x00", b"\xff\xff")  # endings that an identifier may be chosen to have


@dataclass(frozen=True, slots=True)
class OnFile:
    """How to run the system on one real file, for ``harness torture``.

    It must reach the file by descriptors, through functions of `os` looked up when they are called, and write to it
    from one thread. ``refusals`` are the typed errors that ``open`` raises for a file whose creation was cut short.
    """

    create: Callable[[Path], Any]  # a new system in a new file
    open: Callable[[Path], Any]  # the system in a file, recovered
    close: Callable[[Any], None]  # let go of the file and write nothing, as a process that dies does
    refusals: tuple[type[Exception], ...] = ()
    wait: Callable[[Any], None] | None = None  # returns once a dependency is persistent


@dataclass(frozen=True, slots=True)
class Bounds:
    """What `harness exhaust` tries: every program of K of these operations, from each of these starting states.

    ``operations`` are some of the spec's, with generators of few values, each of which is tried. ``starts`` maps a name
    to the text of a program of these operations, as `harness.choices.program` writes it, ``crash`` included; it must
    run without a failure. ``in_memory`` (system) says what the order in which the device got things has left in memory:
    schedules are merged where that and the media are the same, so it must have what the system *takes for* persistent,
    and how far it is within a call that waits more than once. Without it none are merged. ``flushes`` are those of
    `Crash`, for the crash that ends each program.
    """

    operations: Sequence[Operation]
    starts: Mapping[str, str]
    in_memory: Callable[[Any], Hashable] | None = None
    flushes: Sequence[str] = ()


class ViolationError(Exception):
    """Raised by an invariant or a model that sees the system do what it must not. ``place`` is a stable name."""

    def __init__(self, place: str, answered: object = "", allowed: object = "") -> None:
        super().__init__(place)
        self.place = place
        self.answered = answered
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything the harness needs to know about one component.

    A model with a method ``reopened()`` is told of every reboot and crash, after recovery. What a system's fakes must
    keep across them goes into ``world.kept``. The system that ``system(world)`` opens must also offer ``shutdown()`` if
    there is a `Reboot`, and ``write_back(steps: int)`` if there is a `WriteBack`.
    """

    name: str
    system: Callable[[Any], Any]  # World -> system; also recovers it
    model: Callable[[], Any]
    operations: Sequence[Operation]
    configurations: Sequence[Configuration]
    contents: Callable[[Any], Any] | None = None  # whole contents, of system or model, comparable
    durability: Durability | None = None
    invariants: Sequence[Callable[[Any, Any], None]] = field(default=())  # (system, model); raise ViolationError
    errors: tuple[type[Exception], ...] = ()  # typed errors that count as results; the model raises the same
    excuses: tuple[type[Exception], ...] = ()  # typed errors that only the system may raise: the step is void
    steps_mean: int = 30
    step_seconds_max: float = 10.0  # a step that takes longer makes no progress
    bounds: Bounds | None = None
    trace: Callable[[Any, Tracer], None] | None = None  # (opened system, tracer): tell it of every write asked for
    on_file: OnFile | None = None  # for what only a real file shows

    def bounded(self) -> Spec:
        """The same with the operations of its bounds only, as `harness exhaust` runs it and its cases name it."""
        assert self.bounds is not None
        reboots = [operation for operation in self.operations if isinstance(operation, Reboot)]
        operations = [
            *self.bounds.operations,
            *reboots,
            WriteBack(steps_max=DRAIN_STEPS_MAX),
            Crash(flushes=self.bounds.flushes),
        ]
        return replace(self, name=f"{self.name}{BOUNDED}", operations=operations, bounds=None)

    def as_test(self, **options: Any) -> type[TestCase]:
        """Tests for pytest or unittest; see `harness.testing.state_machine.as_test` for the options."""
        return _test_makers[-1](self, **options)

    @property
    def can_crash(self) -> bool:
        """Whether it has a `Crash` among its operations."""
        return any(isinstance(operation, Crash) for operation in self.operations)


TestMaker = Callable[..., type[TestCase]]
_test_makers: list[TestMaker] = []


def make_tests_with(maker: TestMaker) -> None:
    """Have `Spec.as_test` call this. Tests are made far above specs, and import Hypothesis, which only tests need."""
    _test_makers.append(maker)
