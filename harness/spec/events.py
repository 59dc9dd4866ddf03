"""Rare events: places of the code under test of which a spec says that its scenarios should get there.

    Event("a superblock log turns", TwinLog._turn, when="self._name == 'superblock'")
    Event("a level below the second", Index._merge, at="self._compacting = True", when="target > 1")

A check counts the scenarios in which each happened. What was not found is one thing, what was not reached another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """A scenario has it if ``function`` was called in it; see `harness.world.probes` for how that is seen.

    With ``at``, it was about to run the one line of the function that has this text, on which a statement begins. With
    ``when``, this condition held then. It is an expression of names that are known there, of attributes, subscripts,
    comparisons and arithmetic, and of calls of `len`, `min`, `max`, `any`, `all` and `type`; it must not change
    anything.

    Events of one name are one event that happens at several places. ``because`` says why a spec cannot have it, so that
    it is not missed.
    """

    name: str
    function: Callable[..., Any]
    at: str = ""
    when: str = ""
    because: str = ""
