"""The ledger: what each key may read as after a crash.

For each key it keeps the outcome at the last settling, and every (outcome, dependency) written since, in order. Just
before a crash, all dependencies are polled.

    a key may read as     the outcome of its last operation that was polled persistent, or of any later operation;
                          if none was persistent, also the outcome at the last settling
    a failed operation    may have taken effect or not
    a group of keys       was changed as a whole or not at all. If one key reads as the group left it, and another as
                          before, that is a *mixture*

A key that was written again after its group says nothing either way, for keys need not survive as one prefix. Equal
outcomes may leave it open whether a key reads as before or after its group: the system has the benefit of the doubt.

The observed outcomes are settled: the model takes them over. From then on each is the only outcome allowed, also after
further crashes, until the key is written again.

Memory is bounded by the number of keys and of writes that are not yet persistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from sys import maxsize
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
    dependency: Dependency | None  # None: counts as pending until a clean shutdown
    step: int
    operation: str
    group: int  # the same for all keys of one group; 0: the key is in none


class _Held:
    """Stands for a dependency that was persistent when a call promised it."""

    def is_persistent(self) -> bool:
        return True

    def is_failed(self) -> bool:
        return False


_HELD: Final = _Held()


class LedgerWatcher(Protocol):
    """Is told of each entry. A watched ledger forgets no entry before it is settled, since a watcher wants them all."""

    def returned(self, dependency: Dependency) -> None:
        """A call has returned this dependency. The ledger is told of the call later, and the watcher too."""

    def acknowledged(self, dependency: Dependency | None, step: int, operation: str, key: Key | None) -> None:
        """An operation returned this dependency; ``key`` is None if it changes none."""

    def polled(self, states: Sequence[str]) -> None:
        """The writes of the ledger were polled; these are their states, in order."""

    def settled(self) -> None:
        """Everything is settled, and the ledger is empty."""


@dataclass(frozen=True, slots=True)
class Disallowed:
    """A key or a group that reads as it is not allowed to."""

    place: str  # "outcome" or "mixture"
    answered: dict[Key, Any]
    allowed: dict[Key, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcomes, after recovery, of the keys that were written since the last settling."""

    disallowed: Disallowed | None
    observed: dict[Key, Any]
    allowed: dict[Key, Sequence[Any]]
    any_persistent: bool  # the last operation of some key was persistent, or was settled earlier
    any_lost: bool  # the last operation of some key was not persistent, and the key does not read as it left it


class UnreadableKeyError(Exception):
    """Reading a recovered key raised ``__cause__``; ``allowed`` are the outcomes that it may have."""

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
        """A ledger as it was once these writes had been made, and no others."""
        ledger = cls(read)
        ledger._bases.update(bases)
        ledger._writes.extend(writes)
        ledger._group_count = max((write.group for write in writes), default=0)
        return ledger

    def announce(self, dependency: Dependency | None) -> None:
        """Let a watcher look at what a call has returned, while its order among others is not known yet."""
        if self.watcher is not None and dependency is not None:
            self.watcher.returned(dependency)

    def expect(self, model: Any, key: Key) -> None:
        """Note the outcome of a key that the model is about to change."""
        if self._read is not None and key not in self._bases:
            self._bases[key] = self._read(model, key)

    def expect_groups(self, model: Any, groups: Iterable[Iterable[Key]]) -> None:
        """Do the same for several groups of keys."""
        for group in groups:
            for key in group:
                self.expect(model, key)

    def note_group(
        self, model: Any, keys: Iterable[Key], dependency: Dependency | None, step: int, operation: str
    ) -> None:
        """Note that the model has changed all of these keys; after a crash, the system may show all or none of it."""
        self._group_count += 1
        for key in dict.fromkeys(keys):
            self.note(model, key, dependency, step, operation, self._group_count)

    def note(
        self, model: Any, key: Key, dependency: Dependency | None, step: int, operation: str, group: int = 0
    ) -> None:
        """Note that the model has changed this key."""
        outcome = None if self._read is None else self._read(model, key)
        self._writes.append(tuple.__new__(Write, (key, outcome, dependency, step, operation, group)))
        if self.watcher is not None:
            self.watcher.acknowledged(dependency, step, operation, key)
        elif len(self._writes) >= self._prune_at_count:
            self._prune()

    def note_other(self, dependency: Dependency, step: int, operation: str) -> None:
        """Note a dependency of an operation that changes no key: it need only be persistent or failed in the end."""
        self._others.append((dependency, step, operation))
        if self.watcher is not None:
            self.watcher.acknowledged(dependency, step, operation, None)
        if len(self._others) >= PRUNE_AT_COUNT:
            self._others = [other for other in self._others if poll(other[0]) == PENDING]

    def _prune(self) -> None:
        """Forget writes that no crash can bring back, since a later write of the same key is persistent."""
        states = self.poll()
        first_needed = {  # by key, its last persistent write: later ones replace earlier ones here
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
        """By key that was written, its outcome at the last settling."""
        return dict(self._bases)

    def poll(self) -> list[str]:
        """The state of each of `writes` now."""
        states = [poll(write.dependency) for write in self._writes]
        if self.watcher is not None:
            self.watcher.polled(states)
        return states

    def poll_at_cut(self) -> list[str]:
        """The same at a power cut. Until all is settled, each write keeps its place, by which its state is known."""
        self._prune_at_count = maxsize
        return self.poll()

    def first_unfinished(self, *, may_fail: bool = True, but_of: int | None = None) -> tuple[int, str] | None:
        """Step and operation of a dependency that is not persistent, and may not have failed or has not.

        Those of the step ``but_of`` do not count.
        """
        for write in self._writes:
            if (
                write.dependency is not None
                and write.step != but_of
                and not is_kept(write.dependency, may_fail=may_fail)
            ):
                return write.step, write.operation
        for dependency, step, operation in self._others:
            if step != but_of and not is_kept(dependency, may_fail=may_fail):
                return step, operation
        return None

    def hold_to_all(self) -> None:
        """Take all that is persistent now for persistent from here on, whatever its dependency says later."""
        if self.watcher is not None:
            return  # a watcher wants the dependencies themselves
        for at, write in enumerate(self._writes):
            if poll(write.dependency) == PERSISTENT:
                self._writes[at] = write._replace(dependency=_HELD)

    def judge(self, read: Callable[[Key], Any], states: Sequence[str]) -> Reading:
        """Read and judge every key written since the last settling.

        ``states`` are those of `writes`, polled just before the crash. Raises `UnreadableKeyError` from any `Exception`
        that ``read`` raises.
        """
        places = self._places_by_key()
        observed: dict[Key, Any] = {}
        allowed: dict[Key, Sequence[Any]] = {}
        disallowed: Disallowed | None = None
        any_persistent = not self._settled <= places.keys()  # a settled key that was not written since is persistent
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
        """The outcomes that a key may have, in the order in which they were written."""
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
                # A persistent write has cleared the options before it, so this write is found from the end; it may
                # itself be cleared, and its place is negative then.
                place = len(options) - len(places[key]) + places[key].index(at)
                later = options[max(place + 1, 0) :]
                before = options[: max(place, 0)]
                # A later outcome hides the group's, so it says neither that the group is there nor that it is not.
                may_be_without = may_be_without and (observed[key] in before or observed[key] in later)
                may_be_with = may_be_with and observed[key] in options[max(place, 0) :]
            if not (may_be_without or may_be_with):
                keys = [self._writes[at].key for at in members]
                return Disallowed("mixture", {key: observed[key] for key in keys}, {key: allowed[key] for key in keys})
        return None

    def clear(self) -> None:
        """Forget all writes, since the model agrees with the system now."""
        self._settled.update(self._bases)
        self._bases.clear()
        self._prune_at_count = PRUNE_AT_COUNT
        self._writes.clear()
        self._others.clear()
        self._group_count = 0
        if self.watcher is not None:
            self.watcher.settled()


def is_kept(dependency: Dependency, *, may_fail: bool) -> bool:
    """Whether what a dependency stands for is persistent, or else has failed and may have."""
    state = poll(dependency)
    return state == PERSISTENT or (may_fail and state == FAILED)


def poll(dependency: Dependency | None) -> str:
    """The state of a dependency now: "pending", "persistent" or "failed"."""
    if dependency is None:
        return PENDING
    if dependency.is_persistent():
        return PERSISTENT
    return FAILED if dependency.is_failed() else PENDING
