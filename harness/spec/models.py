"""Models as values: how a model, and what a world keeps, is copied and compared.

Checks that try many ways on from one state, exhaustion, confirming, the audit, copy the model at each, and ask whether
two states are the same. A model may say how, by two methods:

    class MyModel:
        def copy(self) -> MyModel:          # shares nothing that either may change
        def state(self) -> Hashable:        # equal states, equal futures

Without them it goes by its attributes: values that cannot change, lists, dictionaries, sets and tuples of values, and
objects that are models again. Anything else is refused, in one line that names it, rather than shared unseen. The same
holds for what a spec keeps in ``world.kept``. A state is what Porcupine's models step on; ours can be told apart by it.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeVar

T = TypeVar("T")

_UNCHANGING = (bool, int, float, str, bytes, frozenset, type(None), Enum, FunctionType, BuiltinFunctionType, type)


class NotCopiableError(ValueError):
    """A model, or something that is kept, cannot be copied or compared. The message is one line."""


def is_unchanging(value: object) -> bool:
    """Whether it can never change."""
    return isinstance(value, _UNCHANGING) or (isinstance(value, tuple) and all(map(is_unchanging, value)))


def copy_of(value: T) -> T:
    """A copy that shares nothing that may change."""
    copied: T = _copy(value)
    return copied


def _copy(value: Any) -> Any:
    if is_unchanging(value):
        return value
    kind = type(value)
    if kind is dict:
        return {key: _copy(each) for key, each in value.items()}
    if kind in (list, set):
        return kind(map(_copy, value))
    if isinstance(value, tuple):
        parts = map(_copy, value)
        return kind(*parts) if hasattr(value, "_fields") else tuple(parts)
    if hasattr(value, "copy"):
        return value.copy()
    attributes = _attributes(value)
    copied = object.__new__(kind)
    for name, each in attributes:
        object.__setattr__(copied, name, _copy(each))
    return copied


def state_of(value: Any) -> Hashable:
    """What tells it apart: two of equal state behave alike from here on."""
    if is_unchanging(value):
        return value  # type: ignore[no-any-return]  # what cannot change can be hashed
    if isinstance(value, dict):
        return frozenset((key, state_of(each)) for key, each in value.items())
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, list | tuple):
        return tuple(map(state_of, value))
    if hasattr(value, "state"):
        told: Hashable = value.state()
        return told
    return (type(value), *((name, state_of(each)) for name, each in _attributes(value)))


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Of an object of a class of its own, without slots: others may hold what nobody sees."""
    if type(value).__module__ == "builtins" or not hasattr(value, "__dict__"):
        kind = type(value).__name__
        raise NotCopiableError(f"{kind} cannot be copied: give it the methods copy() and state()")
    return list(vars(value).items())
