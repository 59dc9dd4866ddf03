"""Tracing: how a spec tells a tracer of every write that its system asks for, and of what each write waits for.

The harness calls ``Spec.trace`` with each opened system and a `Tracer`. From then on the tracer must be told of each
write, reset and change before the device can have it. `harness/trace` makes a trace of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

Parts = Callable[[Any], Iterable[Any]]


class Origin(NamedTuple):
    """The code that asked for a write or change; where one code does several things, also for what and about what."""

    code: str  # "Extents.append < ChunkStore._flush"
    what: str  # "pages", "reset", "soft pointer"
    about: str = ""  # "run"; tells apart nodes that one code asks for with different purposes

    def plain(self) -> Origin:
        """The same origin without ``about``."""
        return self._replace(about="")

    def __str__(self) -> str:
        return f"{self.code} ({f'{self.about} ' if self.about else ''}{self.what})"


class Tracer(Protocol):
    """Hears what a system asks for. An object that stands for a write must be equal only to itself."""

    def settled(self, dependency: Any) -> None:
        """``dependency`` stands for no write: a write that waits for it waits for nothing."""

    def take_apart(self, kind: type, parts: Parts) -> None:
        """``parts(object)`` gives the objects that one of type ``kind`` stands for; other types have ``parts()``."""

    def submitted(
        self, node: Any, medium: int, extent: int, page: int, page_count: int, origin: Origin, after: Any
    ) -> None:
        """The system asked for a write, or for a reset if ``page_count`` is 0. ``node`` waits for ``after``."""

    def promised(self, node: Any, origin: Origin, after: Any, subject: str = "") -> None:
        """The system asked for a change. A later write will carry it, and ``node`` is bound to that write then."""

    def hastened(self, node: Any, lifted: Iterable[Any], after: Any, beside: Any) -> None:
        """Of what ``node`` waits for, ``lifted`` counts no more, but ``after`` does. It stands for ``beside``, too.

        That is, the system looks for ``beside`` when it recovers, and takes the node for absent if it is not there.
        """

    def follows(self, node: Any, before: Any) -> None:
        """``node`` also waits for ``before``, on which it was built: a log record follows the one before it."""

    def look_at(self, dependency: Any) -> None:
        """Take note of what ``dependency`` stands for now, for a call that returns it once it shows no more."""

    @property
    def is_trial(self) -> bool:
        """Whether the nodes of this run wait for `prerequisites` instead of what the system has them wait for."""

    def prerequisites(self, node: Any) -> tuple[list[Any], bool]:
        """In a trial: what ``node`` shall wait for, and whether that is all, with nothing still to be asked for."""
