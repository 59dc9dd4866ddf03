"""The dependency of the toys: it is settled by whoever writes."""

from __future__ import annotations


class Note:
    def __init__(self) -> None:
        self.persistent = self.failed = False

    def is_persistent(self) -> bool:
        return self.persistent

    def is_failed(self) -> bool:
        return self.failed
