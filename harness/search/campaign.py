"""Running many checks on several processes: every spec, mode and configuration, each cut into slices.

Each check gets the same share of the time, and each is cut into one slice a process, so that all processes
are busy to the end. Slice ``k`` of a timed check starts at scenario ``k * SLICE_STRIDE``; a scenario's number and the
seed alone decide what it does, so a failure is found again whatever the number of processes was.

An interrupt stops every slice at its next report. What was seen until then is kept, and the answer is *unknown*.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.scenario.verdict import Answer, Counters, Verdict
from harness.search.check import check
from harness.spec.loader import LoadedSpec, SpecLoadError, load_spec
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Configuration, Mode, Spec

SLICE_STRIDE = 1_000_000_000
INTERRUPTED = "interrupted"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """One check to be run: a spec in one mode under one configuration."""

    path: str
    spec: str
    mode: Mode
    configuration: str
    impossible: str = ""  # why it cannot be run at all


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to do: scenarios for each check, or seconds for all of them together."""

    scenarios: int | None
    seconds: float | None
    seed: int
    jobs: int


@dataclass(frozen=True, slots=True)
class CheckSlice:
    """The part of a check that one process runs."""

    check: int  # its position among the plans
    plan: CheckPlan
    seed: int
    first_scenario: int
    scenarios: int | None
    seconds: float | None


Report = Callable[[int, Counters, float], None]
"""Progress of one check: its position, what it did so far, and its core seconds."""


class _Stop(BaseException):
    """Leaves a running check; not an Exception, so that no code under test swallows it."""


def plan_checks(
    loaded: Sequence[LoadedSpec], modes: Callable[[Spec], Sequence[Mode]], configuration: str | None
) -> list[CheckPlan]:
    """All combinations, in order; a spec that lacks the configuration asked for is left out unless all do."""
    plans = []
    for each in loaded:
        for mode in modes(each.spec):
            for known in each.spec.configurations:
                if configuration in (None, known.name):
                    _refuse_unusable(each, known, mode)
                    impossible = _impossible(each.spec, mode)
                    plans.append(CheckPlan(each.path, each.spec.name, mode, known.name, impossible))
    if not plans:
        known_names = sorted({known.name for each in loaded for known in each.spec.configurations})
        raise SpecLoadError(f"no configuration named {configuration!r}; there are {', '.join(known_names)}")
    return plans


def _refuse_unusable(each: LoadedSpec, configuration: Configuration, mode: Mode) -> None:
    try:
        compile_plan(each.spec, configuration, mode)
    except SpecError as error:
        raise SpecLoadError(f"{each.path}: {error}") from error


def _impossible(spec: Spec, mode: Mode) -> str:
    return "the spec has no Crash operation" if mode is Mode.CRASH and not spec.can_crash else ""


def slices(plans: Sequence[CheckPlan], budget: Budget) -> list[CheckSlice]:
    """Every plan's slices; first all first slices, so that each check has begun early."""
    possible = [index for index, plan in enumerate(plans) if not plan.impossible]
    jobs = max(1, budget.jobs)
    found = []
    for part in range(jobs):
        for index in possible:
            if budget.scenarios is None:
                seconds = (budget.seconds or 0.0) / len(possible)
                found.append(CheckSlice(index, plans[index], budget.seed, part * SLICE_STRIDE, None, seconds))
                continue
            first, end = (budget.scenarios * edge // jobs for edge in (part, part + 1))
            if end > first:
                found.append(CheckSlice(index, plans[index], budget.seed, first, end - first, budget.seconds))
    return found


def run_checks(plans: Sequence[CheckPlan], budget: Budget, folder: Path, report: Report) -> list[Verdict]:
    """One verdict a plan, in order. Ctrl-C ends the run early but not this function."""
    to_run = slices(plans, budget)
    run = _run_here if budget.jobs <= 1 or len(to_run) <= 1 else _run_in_processes
    parts = run(to_run, budget.jobs, folder, _Progress(to_run, report))
    return [
        _merge(plan, budget.seed, [parts[number] for number, part in enumerate(to_run) if part.check == index])
        for index, plan in enumerate(plans)
    ]


class _Progress:
    """Adds up what the slices of a check report."""

    def __init__(self, to_run: Sequence[CheckSlice], report: Report) -> None:
        self._to_run = to_run
        self._report = report
        self._latest: dict[int, tuple[Counters, float]] = {}

    def __call__(self, number: int, counters: Counters, seconds: float) -> None:
        self._latest[number] = (counters.copy(), seconds)
        check_index = self._to_run[number].check
        total, core_seconds = Counters(), 0.0
        for other, (latest, spent) in self._latest.items():
            if self._to_run[other].check == check_index:
                total.add(latest)
                core_seconds += spent
        self._report(check_index, total, core_seconds)


def _run_here(to_run: Sequence[CheckSlice], jobs: int, folder: Path, progress: _Progress) -> list[Verdict]:
    verdicts: list[Verdict] = []
    interrupted = False

    def raise_stop(signal_number: int, frame: Any) -> None:
        raise _Stop

    previous = signal.signal(signal.SIGINT, raise_stop)
    try:
        for number, part in enumerate(to_run):
            verdict = _not_run(part) if interrupted else run_slice(part, folder, _bind(progress, number))
            interrupted = interrupted or verdict.reason == INTERRUPTED
            verdicts.append(verdict)
    finally:
        signal.signal(signal.SIGINT, previous)
    return verdicts


def _bind(progress: _Progress, number: int) -> Callable[[Counters, float], None]:
    return lambda counters, seconds: progress(number, counters, seconds)


def run_slice(part: CheckSlice, folder: Path, progress: Callable[[Counters, float], None]) -> Verdict:
    """Run one slice to its end; a failure of the check itself makes it *unknown*, with the reason."""
    started = time.perf_counter()
    latest = Counters()

    def note(counters: Counters, seconds: float) -> None:
        nonlocal latest
        latest = counters.copy()
        progress(counters, seconds)

    try:
        spec = load_spec(part.plan.path, part.plan.spec, folder).spec
        verdict = check(
            spec,
            part.plan.mode,
            configuration=part.plan.configuration,
            scenarios=part.scenarios,
            seconds=part.seconds,
            seed=part.seed,
            first_scenario=part.first_scenario,
            progress=note,
        )
        progress(verdict.counters, verdict.seconds)
        return verdict
    except (_Stop, KeyboardInterrupt):
        return _unknown(part.plan, part.seed, INTERRUPTED, latest, time.perf_counter() - started)
    except Exception as error:
        return _unknown(part.plan, part.seed, _describe(error), latest, time.perf_counter() - started)


def _describe(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"the check itself failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}{at}"


def _not_run(part: CheckSlice) -> Verdict:
    return _unknown(part.plan, part.seed, INTERRUPTED, Counters(), 0.0)


def _unknown(plan: CheckPlan, seed: int, reason: str, counters: Counters, seconds: float) -> Verdict:
    return Verdict(plan.spec, plan.mode, plan.configuration, Answer.UNKNOWN, counters, seconds, reason, seed=seed)


def _run_in_processes(to_run: Sequence[CheckSlice], jobs: int, folder: Path, progress: _Progress) -> list[Verdict]:
    context = multiprocessing.get_context("spawn")
    stop, messages = context.Event(), context.Queue()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(stop, messages)) as pool:
        futures = [pool.submit(_slice_in_worker, number, part, folder) for number, part in enumerate(to_run)]
        try:
            _wait(futures, messages, progress)
        except KeyboardInterrupt:
            stop.set()
            for future in futures:
                future.cancel()
            wait([future for future in futures if not future.cancelled()])
        _drain(messages, progress)
    return [_result(future, part) for future, part in zip(futures, to_run, strict=True)]


def _result(future: Future[Verdict], part: CheckSlice) -> Verdict:
    if future.cancelled():
        return _not_run(part)
    error = future.exception()
    if isinstance(error, Exception):
        return _unknown(part.plan, part.seed, _describe(error), Counters(), 0.0)
    return future.result()


def _wait(futures: Sequence[Future[Verdict]], messages: Any, progress: _Progress) -> None:
    pending = set(futures)
    while pending:
        _, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        _drain(messages, progress)


def _drain(messages: Any, progress: _Progress) -> None:
    while True:
        try:
            number, counters, seconds = messages.get_nowait()
        except queue.Empty:
            return
        progress(number, counters, seconds)


_worker: dict[str, Any] = {}  # what the initializer hands to this process's slices


def _start_worker(stop: Any, messages: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, through the event
    _worker.update(stop=stop, messages=messages)


def _slice_in_worker(number: int, part: CheckSlice, folder: Path) -> Verdict:
    def progress(counters: Counters, seconds: float) -> None:
        if _worker["stop"].is_set():
            raise _Stop
        _worker["messages"].put((number, counters.copy(), seconds))

    return run_slice(part, folder, progress)


def _merge(plan: CheckPlan, seed: int, parts: Sequence[Verdict]) -> Verdict:
    """One verdict from a check's slices: violated if any is, else none found if any reached what matters."""
    if plan.impossible:
        return _unknown(plan, seed, plan.impossible, Counters(), 0.0)
    counters, seconds = Counters(), 0.0
    for part in parts:
        counters.add(part.counters)
        seconds += part.seconds
    violated = [part for part in parts if part.answer is Answer.VIOLATED]
    if violated:
        first = min(violated, key=lambda part: part.scenario if part.scenario is not None else -1)
        return replace(first, counters=counters, seconds=seconds)
    reasons = sorted({part.reason for part in parts if part.answer is Answer.UNKNOWN})
    failed = [reason for reason in reasons if reason == INTERRUPTED or reason.startswith("the check itself")]
    answers = {part.answer for part in parts}
    if failed or answers <= {Answer.UNKNOWN}:
        return _unknown(plan, seed, "; ".join(failed or reasons) or "nothing was run", counters, seconds)
    answer = Answer.HOLDS if answers == {Answer.HOLDS} else Answer.NONE_FOUND
    return Verdict(plan.spec, plan.mode, plan.configuration, answer, counters, seconds, seed=seed)
