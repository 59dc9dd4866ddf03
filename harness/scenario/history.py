"""Histories: what happened in a run, one readable line an event.

Each line begins with the identity of its step. Lines are a function of the run alone: no addresses, no hash order,
and long values abbreviated the same way every time.

    3 put(key=b'a', payload=<130 bytes b'ahovcjqx'...>)
    3 -> pending
    7 crash
    7 polled: 3 put b'a' pending
    7 lost: write 0 of step 5 (medium 0, extent 3, pages 2..4): pages 4
    7 recovered b'a': None (allowed: None, b'ahovc')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any

from harness.scenario.verdict import Failure
from harness.world.medium import Loss

SHORT_BYTES_MAX = 16
ITEMS_SHOWN_MAX = 12
_TEXT_SIZE_MAX = 200

MISSING = "(not there)"


class History:
    """Collects the lines of one run."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def call(self, step: int, operation: str, arguments: Mapping[str, Any]) -> None:
        shown = ", ".join(f"{name}={describe(value)}" for name, value in arguments.items())
        self.lines.append(f"{step} {operation}({shown})")

    def note(self, step: int, text: str) -> None:
        self.lines.append(f"{step} {text}")

    def returned(self, step: int, result: object, dependency_state: str) -> None:
        """``dependency_state`` is empty where there was no dependency."""
        if not dependency_state:
            self.note(step, f"-> {describe(result)}")
        elif result is None:
            self.note(step, f"-> {dependency_state}")
        else:
            self.note(step, f"-> {describe(result)}, {dependency_state}")

    def losses(self, step: int, losses: Sequence[Loss]) -> None:
        if not losses:
            self.note(step, "lost: nothing that was issued")
        for loss in losses:
            self.note(step, f"lost: {describe_loss(loss)}")

    def violated(self, failure: Failure) -> None:
        self.note(failure.step, f"violated {failure.property} at {failure.place}")
        self.note(failure.step, f"answered: {failure.answered}")
        self.note(failure.step, f"allowed: {failure.allowed}")


def describe_loss(loss: Loss) -> str:
    entry = loss.entry
    place = f"medium {entry.medium}, extent {entry.extent}"
    if not loss.unit:
        return f"entry {entry.number} of step {entry.step} (reset of {place})"
    what = "all of it" if len(loss.units) == loss.unit_count else f"{loss.unit}s {_ranges(loss.units)}"
    size = f"{loss.unit_count} {loss.unit}{'s' if loss.unit_count > 1 else ''}"
    return f"entry {entry.number} of step {entry.step} (write of {size} to {place} from page {entry.page}): {what}"


def _ranges(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers) + " of it"


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
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return "(" + _join(_text_of(item) for item in value) + ("," if len(value) == 1 else "") + ")"
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
    """Both sides, for people; of two mappings only where they differ."""
    if not (isinstance(answered, Mapping) and isinstance(allowed, Mapping)):
        return describe(answered), describe(allowed)
    keys = [*allowed, *(key for key in answered if key not in allowed)]
    different = [key for key in keys if answered.get(key, MISSING) != allowed.get(key, MISSING)]
    return _describe_entries(answered, different), _describe_entries(allowed, different)


def _describe_entries(mapping: Mapping[Any, Any], keys: Sequence[Any]) -> str:
    return _join(f"{_text_of(key)}: {_text_of(mapping[key]) if key in mapping else MISSING}" for key in keys)
