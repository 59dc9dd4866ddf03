"""The ledger: what each key may read as after a crash.

Since the last settling it keeps, for each key, the outcome it had before and every (outcome, dependency) written since,
in order. Just before a crash all dependencies are polled. Allowed afterwards is the outcome of the key's last operation
seen persistent, or of any later one; with none persistent also the outcome before. The outcome of a failed operation is
neither required nor forbidden. An operation that changes a group of keys must have reached all of them or none: it is a
*mixture* if one key reads as the group left it and another as it was before. A key that was written again later says
nothing either way, for keys need not survive as one prefix; where equal outcomes leave it open what a key says, the
system has the benefit of the doubt.

What is observed is settled: the model takes it over, and it is the only outcome allowed from there on, also after
further crashes with nothing written.

Memory is bounded by the number of keys and of writes not yet persistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from harness.spec.spec import Dependency, Key

PENDING: Final = "pending"
PERSISTENT: Final = "persistent"
FAILED: Final = "failed"

PRUNE_AT_COUNT = 256


class Write(NamedTuple):
    """One key that one operation changed."""

    key: Key
    outcome: Any
    dependency: Dependency | None  # None: never seen persistent, other than by a clean shutdown
    step: int
    operation: str
    group: int  # 0: alone


class LedgerWatcher(Protocol):
    """Is told what is entered. Whoever watches wants it all: a watched ledger forgets nothing before it is settled."""

    def acknowledged(self, dependency: Dependency | None, step: int, operation: str, key: Key | None) -> None:
        """An operation returned this dependency; ``key`` is None if it changes none."""

    def polled(self, states: Sequence[str]) -> None:
        """The states of the writes, as they are now."""

    def settled(self) -> None:
        """All of it is settled, and the ledger empty."""


@dataclass(frozen=True, slots=True)
class Disallowed:
    """A key, or a group, that reads as nothing that is allowed."""

    place: str  # "outcome" or "mixture"
    answered: dict[Key, Any]
    allowed: dict[Key, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What recovery left of the keys that were written since the last settling."""

    disallowed: Disallowed | None
    observed: dict[Key, Any]
    allowed: dict[Key, Sequence[Any]]
    any_persistent: bool  # some key's last operation was persistent, or was settled earlier
    any_lost: bool  # some key's last operation was not, and is not what the key reads as


class UnreadableKeyError(Exception):
    """Reading a recovered key raised ``__cause__``; ``allowed`` is what it may read as."""

    def __init__(self, key: Key, allowed: Sequence[Any]) -> None:
        super().__init__(key, allowed)
        self.key = key
        self.allowed = allowed


class Ledger:
    """See the module. ``read`` is that of the spec's `Durability`; without one only dependencies are kept."""

    __slots__ = ("_bases", "_group_count", "_others", "_prune_at_count", "_read", "_settled", "_writes", "watcher")

    def __init__(self, read: Callable[[Any, Any], Any] | None) -> None:
        self._read = read
        self.watcher: LedgerWatcher | None = None
        self._bases: dict[Key, Any] = {}
        self._writes: list[Write] = []
        self._others: list[tuple[Dependency, int, str]] = []  # of operations that change no key
        self._group_count = 0
        self._prune_at_count = PRUNE_AT_COUNT
        self._settled: set[Key] = set()

    @classmethod
    def of(cls, read: Callable[[Any, Any], Any] | None, bases: Mapping[Key, Any], writes: Sequence[Write]) -> Ledger:
        """A ledger as it was when just this had been written."""
        ledger = cls(read)
        ledger._bases.update(bases)
        ledger._writes.extend(writes)
        ledger._group_count = max((write.group for write in writes), default=0)
        return ledger

    def expect(self, model: Any, key: Key) -> None:
        """The model is about to change this key."""
        if self._read is not None and key not in self._bases:
            self._bases[key] = self._read(model, key)

    def expect_groups(self, model: Any, groups: Iterable[Iterable[Key]]) -> None:
        """The same of several keys."""
        for group in groups:
            for key in group:
                self.expect(model, key)

    def note_group(
        self, model: Any, keys: Iterable[Key], dependency: Dependency | None, step: int, operation: str
    ) -> None:
        """The model has changed all of these keys; the system may only show all or none of it."""
        self._group_count += 1
        for key in dict.fromkeys(keys):
            self.note(model, key, dependency, step, operation, self._group_count)

    def note(
        self, model: Any, key: Key, dependency: Dependency | None, step: int, operation: str, group: int = 0
    ) -> None:
        """The model has changed this key."""
        outcome = None if self._read is None else self._read(model, key)
        self._writes.append(tuple.__new__(Write, (key, outcome, dependency, step, operation, group)))
        if self.watcher is not None:
            self.watcher.acknowledged(dependency, step, operation, key)
        elif len(self._writes) >= self._prune_at_count:
            self._prune()

    def note_other(self, dependency: Dependency, step: int, operation: str) -> None:
        """A dependency of an operation that changes no key: it must only become persistent in the end."""
        self._others.append((dependency, step, operation))
        if self.watcher is not None:
            self.watcher.acknowledged(dependency, step, operation, None)
        if len(self._others) >= PRUNE_AT_COUNT:
            self._others = [other for other in self._others if poll(other[0]) == PENDING]

    def _prune(self) -> None:
        """Forget what a later persistent write of the same key made irrelevant."""
        states = self.poll()
        first_needed = {
            write.key: at
            for at, (write, state) in enumerate(zip(self._writes, states, strict=True))
            if state == PERSISTENT
        }
        self._writes = [write for at, write in enumerate(self._writes) if at >= first_needed.get(write.key, 0)]
        self._prune_at_count = max(PRUNE_AT_COUNT, 2 * len(self._writes))

    @property
    def writes(self) -> Sequence[Write]:
        return self._writes

    def bases(self) -> dict[Key, Any]:
        """What each key that was written read as before."""
        return dict(self._bases)

    def poll(self) -> list[str]:
        """The state of each of `writes` now."""
        states = [poll(write.dependency) for write in self._writes]
        if self.watcher is not None:
            self.watcher.polled(states)
        return states

    def first_unfinished(self) -> tuple[int, str] | None:
        """Step and operation of a dependency that is neither persistent nor failed."""
        for write in self._writes:
            if write.dependency is not None and poll(write.dependency) == PENDING:
                return write.step, write.operation
        for dependency, step, operation in self._others:
            if poll(dependency) == PENDING:
                return step, operation
        return None

    def judge(self, read: Callable[[Key], Any], states: Sequence[str]) -> Reading:
        """Read every key written since the last settling. ``states`` were polled just before the crash.

        Raises `UnreadableKeyError` from whatever ``read`` raises.
        """
        places = self._places_by_key()
        observed: dict[Key, Any] = {}
        allowed: dict[Key, Sequence[Any]] = {}
        disallowed: Disallowed | None = None
        any_persistent = not self._settled <= places.keys()
        any_lost = False
        for key, key_places in places.items():
            options = allowed[key] = self._allowed(key, key_places, states)
            try:
                outcome = observed[key] = read(key)
            except Exception as error:
                raise UnreadableKeyError(key, options) from error
            last = key_places[-1]
            if states[last] == PERSISTENT:
                any_persistent = True
            elif outcome != self._writes[last].outcome:
                any_lost = True
            if disallowed is None and outcome not in options:
                disallowed = Disallowed("outcome", {key: outcome}, {key: options})
        if disallowed is None and self._group_count:
            disallowed = self._find_mixture(places, states, observed, allowed)
        return Reading(disallowed, observed, allowed, any_persistent, any_lost)

    def _places_by_key(self) -> dict[Key, list[int]]:
        places: dict[Key, list[int]] = {}
        for at, write in enumerate(self._writes):
            places.setdefault(write.key, []).append(at)
        return places

    def _allowed(self, key: Key, places: Sequence[int], states: Sequence[str]) -> list[Any]:
        """Outcomes in the order in which they were written."""
        options = [self._bases[key]]
        for at in places:
            if states[at] == PERSISTENT:
                options.clear()
            options.append(self._writes[at].outcome)
        return options

    def _find_mixture(
        self,
        places: dict[Key, list[int]],
        states: Sequence[str],
        observed: dict[Key, Any],
        allowed: dict[Key, Sequence[Any]],
    ) -> Disallowed | None:
        groups: dict[int, list[int]] = {}
        for at, write in enumerate(self._writes):
            if write.group:
                groups.setdefault(write.group, []).append(at)
        for members in groups.values():
            may_be_without = may_be_with = True
            for at in members:
                key = self._writes[at].key
                options = allowed[key]
                # The key's writes are the last options, so this one is found from the end.
                place = len(options) - len(places[key]) + places[key].index(at)
                later = options[max(place + 1, 0) :]
                before = options[: max(place, 0)]
                may_be_without = may_be_without and (observed[key] in before or observed[key] in later)
                may_be_with = may_be_with and observed[key] in options[max(place, 0) :]
            if not (may_be_without or may_be_with):
                keys = [self._writes[at].key for at in members]
                return Disallowed("mixture", {key: observed[key] for key in keys}, {key: allowed[key] for key in keys})
        return None

    def clear(self) -> None:
        """Everything is settled."""
        self._settled.update(self._bases)
        self._bases.clear()
        self._writes.clear()
        self._others.clear()
        self._group_count = 0
        if self.watcher is not None:
            self.watcher.settled()


def poll(dependency: Dependency | None) -> str:
    if dependency is None:
        return PENDING
    if dependency.is_persistent():
        return PERSISTENT
    return FAILED if dependency.is_failed() else PENDING
