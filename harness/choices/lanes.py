"""Lanes: every kind of choice that a run leaves open, one row each.

A choice has the name ``<lane>.<n>``: the n-th draw of that lane in its step. An argument of an operation is a lane too,
named after the argument, and has no row here. A new kind of choice is one new row: the code that records, replays,
redraws, pins or shrinks choices asks the row and keeps no list of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Whose(Enum):
    """The party that makes a choice."""

    CALLER = "caller"  # the caller of the system: operations, arguments, and whether the power fails within a call
    SURROUNDINGS = "surroundings"  # the device, the identifiers, and the moment and kind of a failure


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of choice. ``decides`` and ``simplest`` are words for people; ``simplest`` says what 0 means."""

    name: str
    whose: Whose
    decides: str
    simplest: str
    is_rare: bool = False  # a random run mostly answers 0
    is_scaled: bool = False  # a random run draws from all of the range, or from a part near 0
    is_pinned: bool = False  # `harness bugs --confirm` tries only 0 and the value that the case has
    is_of_crash: bool = False  # drawn by a crash step for itself, not by an operation within it
    is_lenient: bool = False  # a strict replay goes on if nobody asks for it: a mended store may not


_CALLER, _SURROUNDINGS = Whose.CALLER, Whose.SURROUNDINGS

_ROWS: Final = (
    Lane("knob", _CALLER, "how a knob of the configuration is turned", "its default", is_pinned=True),
    Lane("overlap", _CALLER, "whether calls may overlap in this run", "they may not", is_pinned=True),
    Lane(
        "meanwhile",
        _SURROUNDINGS,
        "whether another call is made where one lets its monitor go, and which; and all choices of that call",
        "none",
        is_pinned=True,
        is_lenient=True,
    ),
    Lane(
        "turn",
        _SURROUNDINGS,
        "which of two calls that overlap goes on where one lets its monitor go",
        "the same",
        is_pinned=True,
        is_lenient=True,
    ),
    Lane("steps", _CALLER, "how many device steps a write-back takes", "one"),
    Lane("device", _SURROUNDINGS, "what the system asks its seam: which write, barrier or record goes next", "first"),
    Lane("entropy", _SURROUNDINGS, "how an identifier ends", "plain", is_rare=True, is_pinned=True),
    Lane("early", _SURROUNDINGS, "whether a fault is armed before the system first opens", "none", is_pinned=True),
    Lane("refused", _SURROUNDINGS, "which calls of the device fail", "what fails is mended", is_pinned=True),
    Lane("refusing", _SURROUNDINGS, "on which medium", "the first", is_pinned=True),
    Lane("passing", _SURROUNDINGS, "how many such calls pass first", "none", is_scaled=True, is_pinned=True),
    Lane("failing", _SURROUNDINGS, "how many more than one then fail", "none", is_pinned=True),
    Lane("sticking", _SURROUNDINGS, "whether only those on the extent of the first", "any", is_pinned=True),
    Lane("landed", _SURROUNDINGS, "how much a refused call has done all the same", "nothing", is_pinned=True),
    Lane("flush", _SURROUNDINGS, "whether a component is flushed just before the crash", "not", is_of_crash=True),
    Lane("inside", _CALLER, "whether the crash comes within one more operation", "after the last", is_of_crash=True),
    Lane("during", _CALLER, "within which operation", "the spec's first", is_of_crash=True),
    Lane("strike", _SURROUNDINGS, "what is counted until power fails", "events", is_pinned=True, is_of_crash=True),
    Lane(
        "cut",
        _SURROUNDINGS,
        "how many of these happen before it fails",
        "none, or one barrier or reset",
        is_of_crash=True,
    ),
    Lane("far", _SURROUNDINGS, "how many times 16 more", "none", is_rare=True, is_pinned=True, is_of_crash=True),
    Lane(
        "interrupt",
        _SURROUNDINGS,
        "whether an exception arrives in place of a power failure, and what is counted until then",
        "power fails",
        is_pinned=True,
        is_of_crash=True,
    ),
    Lane("thrown", _SURROUNDINGS, "which exception arrives", "keyboard interrupt", is_pinned=True, is_of_crash=True),
    Lane(
        "arrival",
        _SURROUNDINGS,
        "how many calls or lines are passed before it arrives",
        "none",
        is_scaled=True,
        is_pinned=True,
        is_of_crash=True,
    ),
    Lane("afterwards", _CALLER, "how many operations follow on it", "none", is_of_crash=True),
    Lane("next", _CALLER, "which operation follows", "the spec's first", is_of_crash=True),
    Lane("closed", _CALLER, "whether the system is then shut down", "it is not", is_pinned=True, is_of_crash=True),
    Lane("death", _SURROUNDINGS, "whether only the process dies", "power fails", is_pinned=True, is_of_crash=True),
    Lane("survivor", _SURROUNDINGS, "what a crash takes of one write", "nothing", is_of_crash=True, is_lenient=True),
    Lane(
        "recovery",
        _SURROUNDINGS,
        "after how many events recovery is cut short",
        "it is not",
        is_rare=True,
        is_pinned=True,
        is_of_crash=True,
    ),
    Lane(
        "again",
        _SURROUNDINGS,
        "whether power fails once more right after recovery",
        "it does not",
        is_rare=True,
        is_pinned=True,
        is_of_crash=True,
    ),
    Lane(
        "outage",
        _SURROUNDINGS,
        "the same where the process had died, so that the device still has all it was given",
        "it does not",
        is_pinned=True,
        is_of_crash=True,
    ),
)

LANES: Final[Mapping[str, Lane]] = {lane.name: lane for lane in _ROWS}


def lanes_where(is_so: Callable[[Lane], bool]) -> frozenset[str]:
    """Names of the lanes for which ``is_so`` holds."""
    return frozenset(lane.name for lane in _ROWS if is_so(lane))


RARE: Final = lanes_where(lambda lane: lane.is_rare)
SCALED: Final = lanes_where(lambda lane: lane.is_scaled)
PINNED: Final = lanes_where(lambda lane: lane.is_pinned)
OF_CRASH: Final = lanes_where(lambda lane: lane.is_of_crash)
LENIENT: Final = lanes_where(lambda lane: lane.is_lenient)
OF_SURROUNDINGS: Final = lanes_where(lambda lane: lane.whose is Whose.SURROUNDINGS)

SURVIVOR: Final = "survivor"
REFUSED: Final = "refused"
FAILING: Final = "failing"
OVERLAP: Final = "overlap"
MEANWHILE: Final = "meanwhile"
TURN: Final = "turn"
KNOB: Final = "knob"
INTERRUPT: Final = "interrupt"
INTERRUPTS: Final = "inside.0"  # a crash step with this choice interrupts one more operation
FOLLOWS: Final = "afterwards.0"  # and a crash step with this one performs so many more after it


def lane_of(choice: str) -> str:
    """The lane of a choice, from its full name; for a choice of an argument, the argument's name.

    All choices of a call in the middle of another are of the lane that began it.
    """
    return choice.split(".", 1)[0]


def is_of_call_between(choice: str) -> bool:
    """Whether a choice is one of a call in the middle of another: ``meanwhile.<point>.<lane>.<n>``."""
    return choice.startswith(f"{MEANWHILE}.") and choice.count(".") > 1


def begins_call_between(choice: str) -> bool:
    """Whether a choice that is not 0 begins such a call: ``meanwhile.<point>``."""
    return choice.startswith(f"{MEANWHILE}.") and choice.count(".") == 1


def own_name(choice: str) -> str:
    """The name of a choice as the call in the middle of another would have it by itself."""
    return choice.split(".", 2)[2] if is_of_call_between(choice) else choice
