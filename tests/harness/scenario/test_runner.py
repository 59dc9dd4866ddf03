"""What a run makes of what comes out of system and model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from harness.choices.program import Program, Step
from harness.choices.script import NoLongerApplies
from harness.scenario.runner import replay_program
from harness.scenario.verdict import Run
from harness.spec.device import MediumShape
from harness.spec.generators import integers, results_of, sampled
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import (
    Background,
    Configuration,
    Crash,
    Durability,
    Mode,
    Operation,
    Reboot,
    Spec,
    ViolationError,
    WriteBack,
)
from harness.world.devices import ZONED
from harness.world.sequential_seam import Deadlock

CONFIGURATION = Configuration("only", (MediumShape(2, 4, 8, device=ZONED),))


class MissingError(Exception):
    pass


class OtherError(Exception):
    pass


class BusyError(Exception):
    pass


class Ticket:
    """A dependency that is settled by hand."""

    def __init__(self, state: str = "pending") -> None:
        self.state = state

    def is_persistent(self) -> bool:
        return self.state == "persistent"

    def is_failed(self) -> bool:
        return self.state == "failed"


class System:
    """Does what the test's script says; a dictionary where the script says nothing."""

    def __init__(self, script: dict[str, Callable[..., Any]], world: Any) -> None:
        self.script = script
        self.world = world
        self.entries: dict[int, int] = {}
        self.call("open", self)

    def call(self, name: str, *arguments: Any, default: Any = None) -> Any:
        return self.script[name](*arguments) if name in self.script else default

    def get(self, key: int) -> Any:
        return self.call("get", key, default=self.entries.get(key))

    def put(self, key: int, value: int) -> Any:
        self.entries[key] = value
        return self.call("put", key, value, default=Ticket("persistent"))

    def make(self) -> Any:
        return self.call("make", default=100)

    def use(self, made: int) -> Any:
        return self.call("use", made, default=made)

    def tidy(self) -> Any:
        return self.call("tidy")

    def write_back(self, steps: int) -> None:
        self.call("write_back", steps)

    def shutdown(self) -> None:
        self.call("shutdown")


class Model:
    script: ClassVar[dict[str, Callable[..., Any]]] = {}  # replaced in a subclass for each test

    def __init__(self) -> None:
        self.entries: dict[int, int] = {}

    def get(self, key: int) -> Any:
        return self.script["get"](key) if "get" in self.script else self.entries.get(key)

    def put(self, key: int, value: int) -> Any:
        self.entries[key] = value

    def make(self) -> int:
        return 100

    def use(self, made: int) -> int:
        return made


class TidyingModel(Model):
    def tidy(self, result: Any) -> None:
        if result == "too much":
            raise ViolationError("tidied too much", result, "less")


def write(model: Model, key: int, outcome: int | None) -> None:
    if outcome is None:
        model.entries.pop(key, None)
    else:
        model.entries[key] = outcome


def make_spec(
    script: dict[str, Callable[..., Any]] | None = None,
    model: type[Model] = Model,
    model_script: dict[str, Callable[..., Any]] | None = None,
    **changes: Any,
) -> Spec:
    disk: dict[int, int] = {}  # a device that loses nothing, unless the script says so

    def open_system(world: Any) -> System:
        system = System(script or {}, world)
        system.entries = disk
        return system

    spec = Spec(
        "scripted",
        system=open_system,
        model=type("ScriptedModel", (model,), {"script": model_script or {}}),
        operations=[
            Operation("get", key=integers(0, 3)),
            Operation("put", key=integers(0, 3), value=integers(0, 9), writes="key"),
            Operation("make"),
            Operation("use", made=results_of("make")),
            Background("tidy"),
            WriteBack(steps_max=4),
            Reboot(),
            Crash(flushes=["tidy"]),
        ],
        configurations=[CONFIGURATION],
        contents=lambda subject: dict(subject.entries),
        durability=Durability(read=lambda subject, key: subject.entries.get(key), settle=write),
        errors=(MissingError, OtherError),
        excuses=(BusyError,),
    )
    return replace(spec, **changes)


def run(spec: Spec, *operations: str | tuple[str, dict[str, int]], strict: bool = True) -> Run:
    steps = [
        Step(identity, *((operation,) if isinstance(operation, str) else operation))
        for identity, operation in enumerate(operations, start=1)
    ]
    return replay_program(compile_plan(spec, CONFIGURATION, Mode.CRASH), Program(tuple(steps)), strict=strict)


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


def signature(result: Run) -> tuple[str, str] | None:
    return None if result.violation is None else result.violation.signature


ALL = ("get", "put", "make", "use", "tidy", "write_back", "reboot", "crash")


def test_all_is_well() -> None:
    result = run(make_spec(), *ALL)
    assert result.violation is None
    assert (result.counters.operations, result.counters.reboots, result.counters.crashes) == (8, 1, 1)


@pytest.mark.parametrize(
    ("script", "operations", "expected"),
    [
        ({"get": lambda key: 7}, ["get"], ("conformance", "get")),
        ({"get": raising(MissingError())}, ["get"], ("conformance", "get")),
        (
            {"get": raising(ZeroDivisionError())},
            ["get"],
            ("unexpected error", "ZeroDivisionError in raising.<locals>.call"),
        ),
        ({"get": raising(AssertionError())}, ["get"], ("unexpected error", "AssertionError in raising.<locals>.call")),
        ({"get": raising(SystemExit(0))}, ["get"], ("unexpected error", "SystemExit in raising.<locals>.call")),
        ({"get": raising(Deadlock("stuck"))}, ["get"], ("deadlock", "get")),
        ({"tidy": raising(MissingError())}, ["tidy"], ("unexpected error", "MissingError in raising.<locals>.call")),
        (
            {"write_back": raising(KeyError())},
            ["write_back"],
            ("unexpected error", "KeyError in raising.<locals>.call"),
        ),
        ({"shutdown": raising(KeyError())}, [], ("unexpected error", "KeyError in raising.<locals>.call")),
        ({"shutdown": raising(KeyError())}, ["reboot"], ("unexpected error", "KeyError in raising.<locals>.call")),
        ({"put": lambda key, value: Ticket()}, ["put"], ("forward progress", "shutdown")),
        ({"tidy": lambda: Ticket()}, ["tidy", "reboot"], ("forward progress", "shutdown")),
        ({"put": lambda key, value: (3, Ticket("persistent"))}, ["put"], ("conformance", "put")),
    ],
)
def test_failures_of_the_system(
    script: dict[str, Callable[..., Any]], operations: Sequence[str], expected: tuple[str, str]
) -> None:
    assert signature(run(make_spec(script), *operations)) == expected


def test_the_failure_names_its_step() -> None:
    result = run(make_spec({"get": lambda key: 7}), "make", "put", "get", "make")
    assert result.violation is not None
    assert (result.violation.step, result.violation.operation) == (3, "get")
    assert [step.identity for step in result.program.steps] == [1, 2, 3]


def test_equal_typed_errors_agree_and_others_do_not() -> None:
    missing = {"get": raising(MissingError("system"))}
    assert signature(run(make_spec(missing, model_script={"get": raising(MissingError("model"))}), "get")) is None
    differing = make_spec(missing, model_script={"get": raising(OtherError())})
    assert signature(run(differing, "get")) == ("conformance", "get")
    only_model = make_spec(model_script={"get": raising(MissingError())})
    assert signature(run(only_model, "get")) == ("conformance", "get")


def test_a_model_that_breaks_is_a_finding_too() -> None:
    broken = make_spec(model_script={"get": raising(KeyError())})
    assert signature(run(broken, "get")) == ("unexpected error", "model: KeyError in raising.<locals>.call")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_what_is_not_the_systems_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(make_spec({"get": raising(error)}), "get")


def test_an_error_of_a_generator_is_no_finding() -> None:
    def draw(choose: Any, name: str) -> int:
        raise AssertionError("a generator's own trouble")

    with pytest.raises(AssertionError, match="own trouble"):
        run(make_spec(operations=[Operation("get", key=draw)]), "get")


def test_an_excused_step_is_void() -> None:
    calls: list[int] = []
    spec = make_spec({"get": raising(BusyError())}, model_script={"get": lambda key: calls.append(key)})
    result = run(spec, "get")
    assert signature(result) is None
    assert result.counters.excused == 1
    assert calls == []


def test_an_excused_shutdown_leaves_the_system_as_it_is() -> None:
    result = run(make_spec({"shutdown": raising(BusyError())}), "put", "reboot")
    assert signature(result) is None
    assert result.counters.excused == 2


def test_a_background_operation_shows_its_result_to_a_model_that_wants_it() -> None:
    script = {"tidy": lambda: "too much"}
    assert signature(run(make_spec(script), "tidy")) is None
    assert signature(run(make_spec(script, model=TidyingModel), "tidy")) == ("invariant", "tidied too much")


class _AdoptingModel(Model):
    """Takes any even number for made, remembers how often it was opened again."""

    reopened_count = 0

    def make(self, result: Any = None) -> Any:
        if isinstance(result, MissingError) or result % 2:
            raise ViolationError("odd make", result, "an even number")

    def reopened(self) -> None:
        self.reopened_count += 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [(lambda: 8, None), (lambda: 9, ("invariant", "odd make")), (raising(MissingError()), ("invariant", "odd make"))],
)
def test_a_model_that_adopts_judges_what_the_system_gave(
    make: Callable[[], int], expected: tuple[str, str] | None
) -> None:
    spec = make_spec({"make": make}, model=_AdoptingModel, operations=[Operation("make", adopts=True)])
    assert signature(run(spec, "make")) == expected


def test_a_model_that_wants_to_know_is_told_of_each_reopening() -> None:
    def told(system: System, model: _AdoptingModel) -> None:
        counts.append(model.reopened_count)

    counts: list[int] = []
    run(make_spec(model=_AdoptingModel, invariants=[told]), "get", "reboot", "crash")
    assert counts == [0, 1, 2]


def test_what_the_world_keeps_survives() -> None:
    def open_system(system: System) -> None:
        kept = system.world.kept
        kept["lives"] = kept.get("lives", 0) + 1

    lives: list[int] = []
    spec = make_spec({"open": open_system}, invariants=[lambda system, model: lives.append(system.world.kept["lives"])])
    run(spec, "get", "reboot", "crash")
    assert lives == [1, 2, 3]


def test_only_the_latest_results_can_be_referred_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.scenario.arguments.RESULTS_KEPT_COUNT", 2)
    uses = [("use", {"made.0": identity}) for identity in (1, 2, 3)]
    assert run(make_spec(), "make", "make", "make", *uses).counters.skipped == 1


def test_a_conformance_spec_without_durability_may_have_failed_writes() -> None:
    spec = make_spec({"put": lambda key, value: Ticket("failed")}, durability=None)
    spec = replace(spec, operations=spec.operations[:-1])
    program = Program((Step(1, "put"), Step(2, "reboot")))
    assert replay_program(compile_plan(spec, CONFIGURATION, Mode.CONFORMANCE), program, strict=True).violation is None


def test_invariants_hold_after_each_step() -> None:
    def even(system: System, model: Model) -> None:
        if any(value % 2 for value in system.entries.values()):
            raise ViolationError("even", system.entries, "even values")

    result = run(make_spec(invariants=[even]), "make", ("put", {"value.0": 3}), "make")
    assert signature(result) == ("invariant", "even")
    assert result.violation is not None
    assert result.violation.step == 2


def reopening_with(change: Callable[[System], None], *, at: int) -> dict[str, Callable[..., Any]]:
    """Change what the system finds when it is opened for the ``at``-th time."""
    opened: list[System] = []

    def open_system(system: System) -> None:
        opened.append(system)

    def first_write_back(steps: int) -> None:
        if len(opened) == at:
            change(opened[-1])

    return {"open": open_system, "write_back": first_write_back}


def test_contents_are_compared_in_the_end() -> None:
    script = {"write_back": lambda steps: None}
    result = run(make_spec(script, contents=lambda subject: type(subject) is System), "get")
    assert signature(result) == ("conformance", "contents")
    assert result.violation is not None
    assert result.violation.operation == "end"


@pytest.mark.parametrize("operation", ["reboot", "crash"])
def test_a_system_that_does_not_open_again(operation: str) -> None:
    times: list[int] = []

    def open_system(system: System) -> None:
        times.append(1)
        if len(times) > 1:
            raise MissingError

    assert signature(run(make_spec({"open": open_system}), operation)) == (
        "recovery",
        "MissingError in test_a_system_that_does_not_open_again.<locals>.open_system",
    )


def test_untouched_keys_must_stay_as_they_were() -> None:
    """The ledger sees keys written since the last settling; the rest is seen by comparing whole contents."""
    spec = make_spec()
    disk = spec.system(None).entries
    # ``tidy`` runs in the middle, and spoils a key that was settled by the reboot
    spoiling = make_spec({"tidy": lambda: disk.clear()})
    spoiling = replace(spoiling, system=lambda world: _with_entries(spoiling_script(disk), world, disk))
    result = run(spoiling, ("put", {"value.0": 2}), "reboot", "tidy", "crash")
    assert signature(result) == ("persistence", "contents")


def spoiling_script(disk: dict[int, int]) -> dict[str, Callable[..., Any]]:
    return {"tidy": lambda: disk.clear()}


def _with_entries(script: dict[str, Callable[..., Any]], world: Any, disk: dict[int, int]) -> System:
    system = System(script, world)
    system.entries = disk
    return system


def test_a_crash_settles_the_model_to_what_is_observed() -> None:
    disk: dict[int, int] = {}
    script: dict[str, Callable[..., Any]] = {
        "put": lambda key, value: Ticket(),
        "tidy": lambda: disk.clear(),
    }
    spec = replace(make_spec(), system=lambda world: _with_entries(script, world, disk))
    lossy = run(spec, ("put", {"value.0": 2}), ("crash", {"flush.0": 1}), "get")
    assert signature(lossy) is None
    kept = run(spec, ("put", {"value.0": 2}), "crash", "get")
    assert signature(kept) is None
    # once it was seen, it is the only outcome allowed
    assert signature(run(spec, ("put", {"value.0": 2}), "crash", ("crash", {"flush.0": 1}))) == (
        "persistence",
        "contents",
    )


def test_a_failed_write_may_be_there_or_not_after_a_reboot() -> None:
    disk: dict[int, int] = {}
    script: dict[str, Callable[..., Any]] = {
        "put": lambda key, value: Ticket("failed"),
        "tidy": lambda: disk.clear(),
    }
    spec = replace(make_spec(), system=lambda world: _with_entries(script, world, disk))
    assert signature(run(spec, "put", "reboot", "get")) is None
    assert signature(run(spec, "put", "tidy", "reboot", "get")) is None


def test_results_are_referred_to_by_the_step_that_gave_them() -> None:
    made = iter([11, 22, 33])
    used: list[int] = []

    def use(value: int) -> int:
        used.append(value)
        return value

    spec = make_spec({"make": lambda: next(made), "use": use})
    spec = replace(spec, model=_EchoingModel)
    result = run(spec, "use", "make", "make", ("use", {"made.0": 3}), ("use", {"made.0": 2}), ("use", {"made.0": 9}))
    assert signature(result) is None
    assert used == [22, 11]
    assert result.counters.skipped == 2
    assert [step.identity for step in result.program.steps] == [1, 2, 3, 4, 5, 6]


class _EchoingModel(Model):
    """Agrees with whatever was made."""

    def make(self) -> Any:
        return _Anything()


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_write_back_is_bounded_and_at_least_one_step() -> None:
    asked: list[int] = []
    run(make_spec({"write_back": asked.append}), "write_back", ("write_back", {"steps.0": 3}))
    assert asked == [1, 4]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"operations": [Operation("get"), Operation("get")]}, "twice"),
        ({"operations": []}, "no operations"),
        ({"operations": [Operation("end")]}, "reserved"),
        ({"operations": [Operation("get", device=integers(0, 1))]}, "lane"),
        ({"operations": [Operation("use", made=results_of("nothing"))]}, "nothing"),
        ({"operations": [Operation("put", writes="kee", key=sampled([1]))]}, "kee"),
        ({"operations": [Crash(flushes=["nothing"])]}, "nothing"),
        ({"operations": [Crash()], "durability": None}, "durability"),
    ],
)
def test_a_spec_that_cannot_be_run_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        compile_plan(make_spec(**changes), CONFIGURATION, Mode.CRASH)


def test_replay_of_an_operation_that_is_gone() -> None:
    with pytest.raises(NoLongerApplies) as caught:
        run(make_spec(), "get", "swim")
    assert caught.value.step == 2
    assert signature(run(make_spec(), "get", "swim", strict=False)) is None


def test_the_history_reads_well() -> None:
    spec = make_spec({"put": lambda key, value: Ticket("persistent"), "get": lambda key: key})
    result = run(spec, ("put", {"key.0": 1, "value.0": 4}), "crash", ("get", {"key.0": 2}))
    assert list(result.history) == [
        "1 put(key=1, value=4)",
        "1 -> persistent",
        "2 crash",
        "2 polled: 1 put 1 persistent",
        "2 lost: nothing that was issued",
        "2 recovered 1: 4 (allowed: 4)",
        "2 contents equal",
        "3 get(key=2)",
        "3 -> 2",
        "3 violated conformance at get",
        "3 answered: 2",
        "3 allowed: None",
    ]
