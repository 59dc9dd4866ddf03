"""The calls of one scenario: drawing their arguments, and splitting what they return.

Arguments are drawn from the tape, in the spec's order. Results that other operations refer to are kept under the
identity of the step that gave them, of each operation the latest `RESULTS_KEPT_COUNT`.
"""

from __future__ import annotations

from typing import Any

from harness.choices.tape import Tape
from harness.spec.plan import Action
from harness.spec.spec import Dependency

RESULTS_KEPT_COUNT = 64


class ArgumentDrawer:
    """Draws arguments and keeps the results that they may refer to."""

    __slots__ = ("_choose", "_results", "_tape")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._choose = tape.choose
        self._results: dict[str, dict[int, Any]] = {}

    def draw(self, action: Action) -> dict[str, Any] | None:
        """The arguments by name; None if one refers to a result and there is none."""
        choose = self._choose
        arguments = {}
        for name, generator in action.arguments:
            arguments[name] = generator(choose, name)
        for name, operation in action.references:
            results = self._results.get(operation, {})
            identity = self._tape.choose_step(name, tuple(results))
            if not identity:
                return None
            arguments[name] = results[identity]
        return arguments

    def results(self) -> dict[str, dict[int, Any]]:
        """The results that arguments may refer to, by operation and step."""
        return self._results

    def remember(self, operation: str, step: int, result: object) -> None:
        results = self._results.setdefault(operation, {})
        results[step] = result
        if len(results) > RESULTS_KEPT_COUNT:
            del results[next(iter(results))]


def split_answer(answer: Any, known_types: dict[type, bool]) -> tuple[Any, Dependency | None]:
    """Split what the system returned into plain result and dependency.

    ``known_types`` remembers which types are dependencies, so that the hot path asks a type only once.
    """
    kind = type(answer)
    if known_types[kind] if kind in known_types else _is_dependency(kind, known_types):
        return None, answer
    if kind is tuple and len(answer) == 2 and _is_dependency(type(answer[1]), known_types):
        return answer[0], answer[1]
    return answer, None


def _is_dependency(kind: type, known_types: dict[type, bool]) -> bool:
    if kind not in known_types:
        known_types[kind] = hasattr(kind, "is_persistent") and hasattr(kind, "is_failed")
    return known_types[kind]
