"""The trail: goes depth first through every combination of choices, simplest first.

    rewind, run, advance;  rewind, run, advance;  ...  until `advance` answers False

A run takes its choices with `pick`, in order. The number of its choices, and the range of each, may depend on the
choices before.
"""

from __future__ import annotations


class Trail:
    __slots__ = ("_depth", "_picked")

    def __init__(self) -> None:
        self._picked: list[tuple[int, int]] = []  # (value, count) of each choice of the present run
        self._depth = 0

    def rewind(self) -> None:
        self._depth = 0

    def pick(self, count: int) -> int:
        depth = self._depth
        self._depth = depth + 1
        if depth == len(self._picked):
            self._picked.append((0, count))
        return self._picked[depth][0]

    def is_at_end(self) -> bool:
        """Whether the next pick is one that no earlier run has reached."""
        return self._depth >= len(self._picked)

    def advance(self) -> bool:
        """Go to the next combination; False if there is none left."""
        del self._picked[self._depth :]  # the run may have stopped earlier than one before it
        while self._picked:
            value, count = self._picked.pop()
            if value + 1 < count:
                self._picked.append((value + 1, count))
                return True
        return False
