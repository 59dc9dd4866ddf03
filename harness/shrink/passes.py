"""The passes of shrinking. They work over any oracle that runs a candidate and says whether it fails alike.

    pass      changes that no longer help once the pass is through
    ddmin     removing chunks of steps, of half the program and less; brings thousands of steps to few
    single    removing any one step
    pair      removing any two steps, in programs of fewer than 30 steps
    lane      setting all choices of one name to zero, everywhere or in one step
    value     setting any one choice to zero, to something smaller, or one down
    together  lowering all choices of one name and value at once (two steps that must name the same key)
    trade     removing one step while one choice elsewhere is lowered, and numbered choices get the number before,
              since without a write the number of each later write is one less; in programs of at most 12 steps
    last      tries once more, on the final program, to remove each single step, and to set each single choice to zero
              and one down. The result is *1-minimal* only if none of these fails alike

A program is simpler if it has fewer operations; then, fewer choices that are not zero; then, a smaller sum of choices.
No pass ever makes the program less simple. The passes run until none improves it, or a bound is reached. That on
candidates does not depend on the machine; who asks for one on time gives ``before_run``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from harness.choices.lanes import lane_of
from harness.choices.program import Program, Step, cost, operation_count

CANDIDATES_MAX = 50_000
PAIR_STEPS_MAX = 30
TRADE_STEPS_MAX = 12
TRADES_MAX = 5_000  # for one program
_REMEMBERED_STEPS_MAX = 100  # longer candidates are rarely met twice and costly to remember
_ALL_BELOW = 16  # of a choice up to this, every smaller value is tried; of a larger one, halves

Reproduce = Callable[[Program], Program | None]
"""Runs a candidate and gives the program as it ran, if it fails alike; else None."""

Suggest = Callable[[Program], Iterable[Program]]
"""Gives, for the best program so far, other programs that may fail alike."""

Address = tuple[int, str]
"""Names a choice: the identity of its step, and its name."""


class BoundReached(BaseException):
    """Ends a search early, with the best so far."""


def always_go_on() -> None:
    """Ends nothing."""


@dataclass(slots=True)
class PassCounters:
    tried: int = 0
    improved: int = 0


@dataclass(slots=True)
class Search:
    """The simplest failing program so far, and what was tried. Every pass works on one of these."""

    reproduce: Reproduce
    best: Program
    candidates_max: int = CANDIDATES_MAX
    before_run: Callable[[], None] = always_go_on  # may raise `BoundReached`
    passes: dict[str, PassCounters] = field(default_factory=dict)
    tried: int = 0
    _seen: set[tuple[object, ...]] = field(default_factory=set)

    def attempt(self, name: str, candidate: Program) -> bool:
        """Run a candidate for the pass ``name``. It becomes the best if it fails alike and is simpler."""
        if self._is_known(candidate):
            return False
        ran = self.run(name, candidate)
        if ran is None:
            return False
        # The program as it ran lacks the choices that nobody asked for, so it may be simpler than the candidate.
        simplest = min(ran, candidate, key=cost)
        if cost(simplest) >= cost(self.best):
            return False
        self.best = simplest
        self.passes[name].improved += 1
        return True

    def run(self, name: str, candidate: Program) -> Program | None:
        if self.tried >= self.candidates_max:
            raise BoundReached
        self.before_run()
        self.tried += 1
        self.passes.setdefault(name, PassCounters()).tried += 1
        return self.reproduce(candidate)

    def forget(self) -> None:
        """Allow all candidates again: one that was not simpler than one best program may be simpler than another."""
        self._seen.clear()

    def _is_known(self, candidate: Program) -> bool:
        if len(candidate.steps) > _REMEMBERED_STEPS_MAX:
            return False
        key = tuple((step.identity, step.operation, frozenset(_nonzero(step).items())) for step in candidate.steps)
        known = key in self._seen
        self._seen.add(key)
        return known


def minimise(search: Search, suggestions: Sequence[tuple[str, Suggest]] = ()) -> bool:
    """Run the passes until none improves, then on what each of the ``suggestions`` gives. True if that is 1-minimal."""
    try:
        _run_own_passes(search)
        tried: dict[Suggest, Program] = {}  # by suggestion, the program that it could not improve
        for name, suggest in suggestions:
            if tried.get(suggest) is not search.best:  # else it would suggest the same programs once more
                while _follow(search, name, suggest):
                    pass
                tried[suggest] = search.best
        return is_one_minimal(search)
    except BoundReached:
        return False


def _follow(search: Search, name: str, suggest: Suggest) -> bool:
    """Take up suggestions until one leads to a program with fewer operations; False if none does."""
    before = operation_count(search.best)
    for candidate in suggest(search.best):
        _consider(search, name, candidate)
        if operation_count(search.best) < before:
            return True
    return False


def _consider(search: Search, name: str, candidate: Program) -> None:
    """Shrink another program that fails alike, and keep the outcome if it is simpler than the best."""
    ran = search.run(name, candidate)
    if ran is None:
        return
    held, search.best = search.best, ran
    search.forget()
    try:
        _run_own_passes(search, trades=False)
        if operation_count(search.best) < operation_count(held):  # else trades would cost more than they may bring
            _run_own_passes(search)
    finally:
        if cost(search.best) < cost(held):
            search.passes[name].improved += 1
        else:
            search.best = held


def _run_own_passes(search: Search, *, trades: bool = True) -> None:
    ddmin(search)
    before = None
    while before != cost(search.best):
        before = cost(search.best)
        for own_pass in (remove_singles, remove_pairs, zero_lanes, lower_values, lower_together):
            own_pass(search)
        if trades:
            trade(search)


def ddmin(search: Search) -> None:
    """Remove chunks, again at each size until it stops helping. Back to front, since the failure is near the end."""
    chunk_size = len(search.best.steps) // 2
    # As in Zeller and Hildebrandt (2002), but trying only the complements of chunks, never a chunk alone.
    while chunk_size >= 1:
        improved = False
        end = len(search.best.steps)
        while end > 0:
            start = max(0, end - chunk_size)
            improved |= search.attempt("ddmin", _without(search.best, search.best.steps[start:end]))
            end = min(start, len(search.best.steps))
        if not improved:
            chunk_size //= 2


def _without(program: Program, steps: Sequence[Step]) -> Program:
    return program.without(step.identity for step in steps)


def remove_singles(search: Search) -> None:
    while any(search.attempt("single", candidate) for candidate in _single_removals(search.best)):
        pass


def _single_removals(program: Program) -> Iterator[Program]:
    return (_without(program, [step]) for step in reversed(program.steps))


def remove_pairs(search: Search) -> None:
    improved = True
    while improved and len(search.best.steps) < PAIR_STEPS_MAX:
        steps = search.best.steps
        improved = any(
            search.attempt("pair", _without(search.best, [first, second]))
            for index, first in enumerate(steps)
            for second in steps[index + 1 :]
        )


def trade(search: Search) -> None:
    improved = True
    while improved and len(search.best.steps) <= TRADE_STEPS_MAX:
        candidates = islice(_trades(search.best), TRADES_MAX)
        improved = any(search.attempt("trade", candidate) for candidate in candidates)


def _trades(program: Program) -> Iterator[Program]:
    for removed in _single_removals(program):
        yield from lowered_and_shifted(removed)


def lowered_and_shifted(program: Program) -> Iterator[Program]:
    """The program, and all with one choice lowered; each in all ways to give numbered choices the number before."""
    for candidate in (program, *_lowered(program)):
        yield from _shifted(candidate)


def _lowered(program: Program) -> Iterator[Program]:
    """Every program one zeroed choice or one decrement away."""
    for address in addresses(program):
        for value in sorted({0, _value(program, address) - 1}):
            yield _with_choices(program, [address], value)


def _shifted(program: Program) -> Iterator[Program]:
    """The program, then each way to give numbered choices the number before, in any steps and from any number on."""
    ways = [(step.identity, prefix, numbers) for step in program.steps for prefix, numbers in _numbered(step)]
    for firsts in product(*((None, *_gaps(numbers)) for _, _, numbers in ways)):
        candidate = program
        for (identity, prefix, numbers), first in zip(ways, firsts, strict=True):
            if first is not None:
                candidate = _shift(candidate, identity, prefix, [number for number in numbers if number >= first])
        yield candidate


def _numbered(step: Step) -> list[tuple[str, list[int]]]:
    """The names of a step's choices without their last number, each with the numbers that it has, in order."""
    found: dict[str, list[int]] = {}
    for name in _nonzero(step):
        prefix, _, number = name.rpartition(".")
        if number.isdecimal():
            found.setdefault(prefix, []).append(int(number))
    return [(prefix, sorted(numbers)) for prefix, numbers in sorted(found.items())]


def _gaps(numbers: Sequence[int]) -> list[int]:
    """Numbers whose predecessor is free."""
    return [number for number in numbers if number and number - 1 not in numbers]


def _shift(program: Program, identity: int, prefix: str, numbers: Sequence[int]) -> Program:
    for number in numbers:
        value = _value(program, (identity, f"{prefix}.{number}"))
        program = program.with_choice(identity, f"{prefix}.{number}", 0)
        program = program.with_choice(identity, f"{prefix}.{number - 1}", value)
    return program


def zero_lanes(search: Search) -> None:
    """Set all choices of one lane, say all survivors, to zero: everywhere, or else in single steps."""
    for lane in sorted({lane_of(name) for _, name in addresses(search.best)}):
        everywhere = [address for address in addresses(search.best) if lane_of(address[1]) == lane]
        if search.attempt("lane", _with_choices(search.best, everywhere, 0)):
            continue
        for identity in sorted({identity for identity, _ in everywhere}):
            here = [address for address in everywhere if address[0] == identity]
            search.attempt("lane", _with_choices(search.best, here, 0))


def lower_values(search: Search) -> None:
    for address in addresses(search.best):
        _lower(search, "value", [address])


def lower_together(search: Search) -> None:
    """Lower equal choices of one lane together, since some matter only by being equal."""
    groups: dict[tuple[str, int], list[Address]] = {}
    for identity, name in addresses(search.best):
        value = _value(search.best, (identity, name))
        groups.setdefault((lane_of(name), value), []).append((identity, name))
    for _, group in sorted(groups.items()):
        if len(group) > 1:
            _lower(search, "together", group)


def _lower(search: Search, name: str, group: Sequence[Address]) -> None:
    """Set the choices of a group, which are equal, to the smallest value found that fails alike."""
    improved = True
    while improved:
        present = [address for address in group if _value(search.best, address)]
        if not present:
            return
        value = _value(search.best, present[0])
        improved = any(
            search.attempt(name, _with_choices(search.best, present, smaller)) for smaller in _smaller_values(value)
        )


def _smaller_values(value: int) -> list[int]:
    if value <= _ALL_BELOW:
        return list(range(value))
    return [0, *(value >> shift for shift in range(value.bit_length() - 1, 0, -1)), value - 1]


def is_one_minimal(search: Search) -> bool:
    """Whether the best program still fails alike, and none of its neighbours does. Each is run once more."""
    best = search.best
    if search.run("last", best) is None:
        return False
    return all(search.run("last", neighbour) is None for neighbour in neighbours(best))


def neighbours(program: Program) -> Iterator[Program]:
    """Every program one step, one zeroed choice or one decrement away."""
    yield from _single_removals(program)
    yield from _lowered(program)


def addresses(program: Program) -> list[Address]:
    """Every choice that is not zero."""
    return [(step.identity, name) for step in program.steps for name in sorted(_nonzero(step))]


def _nonzero(step: Step) -> dict[str, int]:
    return {name: value for name, value in step.choices.items() if value}


def _value(program: Program, address: Address) -> int:
    identity, name = address
    return next((step.choices.get(name, 0) for step in program.steps if step.identity == identity), 0)


def _with_choices(program: Program, group: Sequence[Address], value: int) -> Program:
    for identity, name in group:
        program = program.with_choice(identity, name, value)
    return program
