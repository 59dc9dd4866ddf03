"""Exceptions from outside: one arrives at a chosen place of the code that a call of the system runs.

    at a call    just before, or just after, a call that the system makes of its seam or of a device
    at a line    before a line of the system's own code. Of a loop only the first rounds count: a line counts up to
                 `ROUNDS_MAX` times where it follows on the same line

Guarantees. Nothing is looked at but within the context, so all other calls cost nothing. At most one exception arrives.
The trace function that was set before, a debugger's or that of a coverage tool, is set again afterwards. It does not
see what happens within the context. No garbage is collected there, since its finalisers would run at any place. An
exception that arrives in a finaliser is lost, as any would be, and has arrived all the same.

Not promised: that the same number means the same place after the code, or the version of Python, has changed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from enum import IntEnum
from fnmatch import fnmatch
from os.path import realpath
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from harness.spec.spec import Interrupts
from harness.world import medium, sequential_seam, turns

TraceFunction = Callable[[FrameType, str, Any], Any]
_Line = tuple[CodeType, int]

ROUNDS_MAX: Final = 3
SPEC_FILES: Final = "*_spec.py"
_OUTSIDE: Final = frozenset({medium.__file__, sequential_seam.__file__, turns.__file__})


class Where(IntEnum):
    """What is counted until an exception arrives."""

    NOWHERE = 0  # none arrives
    CALL = 1  # calls of the seam and of devices, their beginning and their end
    LINE = 2


class ArrivedInterrupt(KeyboardInterrupt):
    """A keyboard interrupt that the harness has sent."""


class ArrivedMemoryError(MemoryError):
    """A want of memory that the harness has made up."""


ARRIVALS: Final = (ArrivedInterrupt, ArrivedMemoryError)


class Interruption:
    """A context in which an exception arrives after ``count`` calls or lines; ``place`` says where it did, in words."""

    __slots__ = (
        "_collects",
        "_error",
        "_hook",
        "_interrupts",
        "_is_counted",
        "_left_count",
        "_line_before",
        "_previous",
        "_rounds",
        "_trace",
        "place",
    )

    def __init__(self, interrupts: Interrupts, where: Where, count: int, error: type[BaseException]) -> None:
        self._interrupts = interrupts
        self._trace: TraceFunction = self._line_function if where is Where.LINE else self._call_function
        self._left_count = count
        self._error = error
        self._is_counted: dict[str, bool] = {}
        self._line_before: _Line | None = None
        self._rounds: dict[tuple[_Line | None, _Line], int] = {}
        self._previous: Any = None
        self._hook = sys.unraisablehook
        self._collects = False
        self.place = ""

    @property
    def name(self) -> str:
        """The exception's name, as people know it."""
        return self._error.__bases__[0].__name__

    @property
    def has_arrived(self) -> bool:
        return bool(self.place)

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()
        self._hook, sys.unraisablehook = sys.unraisablehook, self._lose
        self._previous = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._previous)
        sys.unraisablehook = self._hook
        if self._collects:
            gc.enable()

    def _lose(self, lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, ARRIVALS):
            self._hook(lost)

    # --- lines --------------------------------------------------------------------------------------

    def _line_function(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        name = frame.f_code.co_filename
        if name not in self._is_counted:
            self._is_counted[name] = self._is_within(name)
        return self._line if self._is_counted[name] else None

    def _is_within(self, name: str) -> bool:
        file, within = Path(realpath(name)), Path(realpath(self._interrupts.within))
        left_out = any(fnmatch(file.name, pattern) for pattern in (SPEC_FILES, *self._interrupts.leaving_out))
        return (file == within or within in file.parents) and not left_out

    def _line(self, frame: FrameType, event: str, argument: object) -> TraceFunction:
        if event == "line":
            line = frame.f_code, frame.f_lineno
            pair = self._line_before, line
            self._line_before = line
            self._rounds[pair] = rounds_count = self._rounds.get(pair, 0) + 1
            if rounds_count <= ROUNDS_MAX:
                self._pass(frame, "at")
        return self._line

    # --- calls of the seam and of devices -----------------------------------------------------------

    def _call_function(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        caller = frame.f_back
        if frame.f_code.co_filename not in _OUTSIDE or caller is None or caller.f_code.co_filename in _OUTSIDE:
            return None
        self._pass(caller, f"before {frame.f_code.co_qualname} is called at")
        frame.f_trace_lines = False
        return self._return

    def _return(self, frame: FrameType, event: str, argument: object) -> TraceFunction:
        if event == "exception":
            frame.f_trace = None  # a call that fails does not return
        elif event == "return" and frame.f_back is not None:
            self._pass(frame.f_back, f"after {frame.f_code.co_qualname} was called at")
        return self._return

    def _pass(self, frame: FrameType, what: str) -> None:
        if self.place:
            return
        if self._left_count:
            self._left_count -= 1
            return
        code = frame.f_code
        self.place = f"{what} {Path(code.co_filename).name}:{frame.f_lineno}, in {code.co_qualname}"
        raise self._error(f"the harness has sent this, {self.place}")
