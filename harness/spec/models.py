"""Models as values: how a model, and a world's ``kept`` values, are copied and compared.

Exhaustion, confirming and the audit try many ways to go on from one state. At each they copy the model, and they ask
whether two states are the same. A model may say how, by two methods:

    class MyModel:
        def copy(self) -> MyModel:          # shares nothing that either may change
        def state(self) -> Hashable:        # equal states, equal futures

A model without these methods is copied and compared by its attributes. These may be values that cannot change; lists,
dictionaries, sets and tuples of values; and objects that are models themselves. Anything else is refused, with one line
that names it: sharing it unseen would let one trial change another. The same holds for the values in ``world.kept``.
A state is what Porcupine's models step on; here it also tells models apart.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeVar

T = TypeVar("T")

_UNCHANGING = (bool, int, float, str, bytes, frozenset, type(None), Enum, FunctionType, BuiltinFunctionType, type)


class NotCopiableError(ValueError):
    """A model, or a value in ``world.kept``, cannot be copied or compared. The message is one line."""


def is_unchanging(value: object) -> bool:
    """Whether a value can never change, so that copies may share it."""
    return isinstance(value, _UNCHANGING) or (isinstance(value, tuple) and all(map(is_unchanging, value)))


def copy_of(value: T) -> T:
    """A copy that shares nothing that may change. Raises `NotCopiableError`."""
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
    copied = object.__new__(kind)  # without __init__, whose arguments nobody knows
    for name, each in attributes:
        # Past the class's own __setattr__, which a frozen dataclass makes raise.
        object.__setattr__(copied, name, _copy(each))
    return copied


def state_of(value: Any) -> Hashable:
    """A value by which to compare: two models of equal state behave alike from here on. Raises `NotCopiableError`."""
    if is_unchanging(value):
        return value  # type: ignore[no-any-return]  # a value that cannot change can be hashed
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
    """Names and values of an object's attributes.

    Raises `NotCopiableError` for built-in types and for classes with slots: they may hold values that `vars` misses.
    """
    if type(value).__module__ == "builtins" or not hasattr(value, "__dict__"):
        kind = type(value).__name__
        raise NotCopiableError(f"{kind} cannot be copied: give it the methods copy() and state()")
    return list(vars(value).items())
