"""Values in words: short texts for people, the same for equal values.

A text is a function of the value alone: it has no addresses and no hash order, and abbreviates long values alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any

SHORT_BYTES_MAX = 16
ITEMS_SHOWN_MAX = 12
_TEXT_SIZE_MAX = 200

MISSING = "(not there)"


def describe(value: object) -> str:
    """A short text for people; equal values have equal texts."""
    text = _text_of(value)
    return text if len(text) <= _TEXT_SIZE_MAX else f"{text[: _TEXT_SIZE_MAX - 3]}..."


def _text_of(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of_bytes(bytes(value))
    if isinstance(value, Mapping):
        return "{" + _join(f"{_text_of(key)}: {_text_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, AbstractSet):
        return "{" + _join(sorted(_text_of(item) for item in value)) + "}"
    names = getattr(value, "_fields", ())  # of a named tuple
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return "(" + _join(_text_of(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, tuple) and type(value).__repr__.__module__ == "collections":  # none of its class's own
        named = zip(names, value, strict=True)
        return f"{type(value).__name__}({_join(f'{name}={_text_of(item)}' for name, item in named)})"
    if isinstance(value, list):
        return "[" + _join(_text_of(item) for item in value) + "]"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}({value})"
    if type(value).__repr__ is object.__repr__:
        return f"<{type(value).__name__}>"  # the default shows an address
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({_join(_field_texts(value))})"
    return repr(value)


def _field_texts(value: Any) -> list[str]:
    return [f"{each.name}={_text_of(getattr(value, each.name))}" for each in fields(value) if each.repr]


def _text_of_bytes(value: bytes) -> str:
    if len(value) <= SHORT_BYTES_MAX:
        return repr(value)
    return f"<{len(value)} bytes {value[: SHORT_BYTES_MAX // 2]!r}...>"


def _join(texts: Iterable[str]) -> str:
    shown = list(texts)
    if len(shown) > ITEMS_SHOWN_MAX:
        shown[ITEMS_SHOWN_MAX:] = [f"... {len(shown) - ITEMS_SHOWN_MAX} more"]
    return ", ".join(shown)


def describe_difference(answered: object, allowed: object) -> tuple[str, str]:
    """Both sides as text; of two mappings only the entries in which they differ."""
    if not (isinstance(answered, Mapping) and isinstance(allowed, Mapping)):
        return describe(answered), describe(allowed)
    keys = [*allowed, *(key for key in answered if key not in allowed)]
    different = [key for key in keys if answered.get(key, MISSING) != allowed.get(key, MISSING)]
    return _describe_entries(answered, different), _describe_entries(allowed, different)


def _describe_entries(mapping: Mapping[Any, Any], keys: Sequence[Any]) -> str:
    return _join(f"{_text_of(key)}: {_text_of(mapping[key]) if key in mapping else MISSING}" for key in keys)
