"""What no task may do with a monitor that it has just been given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MISUSES: Sequence[Callable[[Any], object]] = (
    lambda monitor: (monitor.acquire(), monitor.acquire()),
    lambda monitor: (monitor.acquire(), monitor.__enter__()),
    lambda monitor: monitor.release(),
    lambda monitor: monitor.__exit__(None, None, None),
    lambda monitor: monitor.notify_all(),
    lambda monitor: monitor.wait_until(lambda: True, lambda: True),
    lambda monitor: (monitor.acquire(), monitor.wait_until(lambda: False, lambda: monitor.release() is None)),
)
