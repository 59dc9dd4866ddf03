"""What a spec tells a tracer: every write that its system asks for, and what that waits for.

A spec that offers ``trace`` is called with the opened system and a `Tracer`. From then on it must have the tracer told
of each write, reset and change before the device can have it. What the tracer makes of it is `harness/trace`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

Parts = Callable[[Any], Iterable[Any]]


class Origin(NamedTuple):
    """Which code asked, and, where one code does several things, for what and about what."""

    code: str  # "Extents.append < ChunkStore._flush"
    what: str  # "pages", "reset", "soft pointer"
    about: str = ""  # "run"; tells nodes of one code apart that are of different use

    def plain(self) -> Origin:
        """The code alone."""
        return self._replace(about="")

    def __str__(self) -> str:
        return f"{self.code} ({f'{self.about} ' if self.about else ''}{self.what})"


class Tracer(Protocol):
    """Is told what a system asks for. Objects that stand for something are equal only to themselves."""

    def settled(self, dependency: Any) -> None:
        """This object stands for nothing: whoever waits for it waits for nothing."""

    def take_apart(self, kind: type, parts: Parts) -> None:
        """How to see what an object of this type stands for; the others have a method ``parts()``."""

    def submitted(
        self, node: Any, medium: int, extent: int, page: int, page_count: int, origin: Origin, after: Any
    ) -> None:
        """A write, or, with no pages, a reset, was asked for. ``node`` stands for it; it waits for ``after``."""

    def promised(self, node: Any, origin: Origin, after: Any, subject: str = "") -> None:
        """A change was asked for, which some later write will carry: the one that ``node`` will be bound to."""

    def follows(self, node: Any, before: Any) -> None:
        """The node was built on this one, as a record of a log is on the one before, and waits for it too."""

    @property
    def is_trial(self) -> bool:
        """Whether nodes shall wait for other things than the system has them wait for: see `prerequisites`."""

    def prerequisites(self, node: Any) -> tuple[list[Any], bool]:
        """What this node shall wait for in a trial; and whether that is all, nothing being still to be asked for."""
