"""SIGINT and SIGTERM, noted rather than raised, so that a run ends early with what is known.

The first signal is only noted: the code that runs jobs asks for it, and stops them. A second raises `KeyboardInterrupt`
at once, unless something is being cleaned up. A signal that the process ignored before stays ignored, as for a shell's
background jobs. Signals reach the main thread only: other threads do not listen.

Not promised: that anything is cleaned up after SIGKILL.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_REMOVALS_MAX: Final = 5
_REMOVAL_PAUSE_SECONDS: Final = 0.1


class Interrupts:
    """The interrupts since somebody listens."""

    def __init__(self) -> None:
        self._count = 0
        self._is_held = False

    @property
    def is_noted(self) -> bool:
        return self._count > 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1 and not self._is_held:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise nothing within, so that cleaning up comes to its end."""
        before, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = before


_active: Interrupts | None = None


@contextmanager
def listening() -> Iterator[Interrupts]:
    """Listen to both signals. Within another `listening`, give the same interrupts."""
    global _active
    if _active is not None:
        yield _active
        return
    _active = interrupts = Interrupts()
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    heard = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in heard:
            signal.signal(number, interrupts.note)
        yield interrupts
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
        _active = None


@contextmanager
def blocked() -> Iterator[None]:
    """Block both signals, so that a process started within gets none before it can ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder, and remove it in the end, even if interrupts end the run."""
    with listening() as interrupts:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        try:
            yield folder
        finally:
            with interrupts.held():
                _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(_REMOVALS_MAX):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_SECONDS)  # a killed process may have written into it while it died
