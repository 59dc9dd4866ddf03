"""Faults: calls of a medium that the device refuses, by `DeviceError`.

A fault is armed for some kinds of call on one medium. It lets a number of them pass, then has a number refused, or all
until it is mended. It may stick to the extent of the first refusal, like a bad region of a disk. A refused write may
have reached the device all the same, whole or in part. A refused barrier may have lost what it should have made
persistent. Choices say which.

While the harness itself reads, to compare, faults are suspended: they are for the system's own calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from errno import EIO
from typing import Final, Protocol

from harness.spec.device import ChooseSurvivor


class Site(IntEnum):
    """The kind of call that a fault has refused."""

    READ = 0
    WRITE = 1
    RESET = 2
    BARRIER = 3


_LANDED_COUNT: Final = 3  # nothing, a part, all


class DeviceError(OSError):
    """The device refuses a call, because a fault says so."""

    def __init__(self, site: Site, extent: int) -> None:
        where = "" if site is Site.BARRIER else f" of extent {extent}"
        super().__init__(EIO, f"{site.name.lower()}{where} refused")


class Refusing(Protocol):
    """The medium that refuses a call."""

    index: int
    page_size_bytes: int

    def land(self, extent: int, page: int, data: bytes) -> None: ...
    def land_reset(self, extent: int) -> None: ...
    def lose(self, choose_survivor: ChooseSurvivor) -> None: ...


@dataclass(slots=True)
class Fault:
    """One armed fault. It is over when ``failing_count`` is 0; None: until it is mended."""

    medium: int
    sites: tuple[Site, ...]
    passing_count: int
    failing_count: int | None
    is_sticking: bool
    extent: int | None = None  # that it has stuck to

    def refuses(self, medium: int, site: Site, extent: int) -> bool:
        """Whether this call is refused. Counts it."""
        if medium != self.medium or site not in self.sites:
            return False
        if self.extent not in (None, extent) and site is not Site.BARRIER:
            return False
        if self.passing_count:
            self.passing_count -= 1
            return False
        if self.failing_count is not None:
            self.failing_count -= 1
        if self.is_sticking and site is not Site.BARRIER:
            self.extent = extent
        return True


class Faults:
    """The faults of a world. ``at_refusal`` is told of each call that is refused."""

    __slots__ = ("_armed", "_choose", "_choose_survivor", "_is_suspended", "at_refusal", "say")

    def __init__(self, choose: Callable[[str, int], int], choose_survivor: ChooseSurvivor | None = None) -> None:
        self._choose = choose
        self._choose_survivor = choose_survivor or choose
        self._armed: list[Fault] = []
        self._is_suspended = False
        self.at_refusal: Callable[[int, Site], None] = lambda medium, site: None
        self.say: Callable[[str], None] | None = None

    @property
    def are_armed(self) -> bool:
        return bool(self._armed)

    def arm(self, fault: Fault) -> None:
        self._armed.append(fault)

    def mend(self) -> None:
        """End all faults."""
        self._armed.clear()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let every call pass, and count none."""
        before, self._is_suspended = self._is_suspended, True
        try:
            yield
        finally:
            self._is_suspended = before

    def meet(self, medium: Refusing, site: Site, extent: int, page: int, data: bytes) -> None:
        """A medium is about to be called. Raises `DeviceError` if a fault says so."""
        if self._is_suspended:
            return
        refusals = [fault.refuses(medium.index, site, extent) for fault in self._armed]  # of all: each counts calls
        if not any(refusals):
            return
        self._armed = [fault for fault in self._armed if fault.failing_count != 0]
        landed = 0 if site is Site.READ else self._choose("landed", _LANDED_COUNT)
        error = DeviceError(site, extent)
        if self.say is not None:
            self.say(f"medium {medium.index}: {error.strerror}{_told(site, landed)}")
        if landed:
            self._land(medium, site, extent, page, data, is_whole=landed == _LANDED_COUNT - 1)
        self.at_refusal(medium.index, site)
        raise error

    def _land(self, medium: Refusing, site: Site, extent: int, page: int, data: bytes, *, is_whole: bool) -> None:
        """Let a refused call take effect, or a part of it."""
        if site is Site.RESET:
            medium.land_reset(extent)
        elif site is Site.BARRIER:
            medium.lose(self._choose_survivor)
        elif is_whole:
            medium.land(extent, page, data)
        else:
            size = medium.page_size_bytes
            page_count = self._choose("landed", len(data) // size)
            if page_count:
                medium.land(extent, page, data[: page_count * size])


def _told(site: Site, landed: int) -> str:
    if not landed:
        return ""
    if site is Site.BARRIER:
        return ", and writes are lost"
    return ", but it is done" if landed == _LANDED_COUNT - 1 or site is Site.RESET else ", but some pages are written"
