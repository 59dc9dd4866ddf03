"""The bridge to Hypothesis: a source of choices that it draws, and its shrinker for programs we recorded.

The only module that touches Hypothesis' insides; the version is pinned. What it relies on, and a test holds:

- ``hypothesis.find`` shrinks a choice sequence that its database holds under ``key + b".secondary"``; one under
  ``key`` itself is replayed and believed to be minimal.
- The sequence must have the very types and ranges that the strategy draws, or a value silently becomes the
  simplest. So it is written down by the same order of questions that `DrawnSource` asks.
- ``find(random=...)`` silently turns the database off. So the generator that ``find`` seeds itself from is replaced
  for as long as it runs, to have the same result every time.
- A sequence of more than 8 KiB is not replayed; `shrink_values` then gives nothing.

Each step is led by a *more* flag: deleting a step is then deleting a stretch of choices. A draw of the system's is
an integer below its count; names play no part here, positions do, so Hypothesis tries what addressed choices
cannot: one step's choices moving to another step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import gettempdir

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.core import threadlocal
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from hypothesis.errors import HypothesisException
from hypothesis.internal.conjecture.engine import BUFFER_SIZE

from harness.choices.mix import Menu
from harness.choices.program import Program
from harness.choices.sources import ReplaySource
from harness.scenario.runner import run_scenario
from harness.scenario.verdict import Mode, Run
from harness.shrink.passes import cost
from harness.spec.spec import Configuration, Spec

CANDIDATES_MAX = 3_000
STEPS_MAX = 40
_KEY = b"harness"


DrawBelow = Callable[[str, int], int]
"""An integer below a count; what it is for is said for people only."""


class DrawnSource:
    """A source that asks someone else for every choice: a flag before each step, and integers below a count."""

    def __init__(self, draw_more: Callable[[], bool], draw_below: DrawBelow, steps_max: int) -> None:
        self.step = 0
        self._draw_more = draw_more
        self._draw_below = draw_below
        self._steps_max = steps_max
        self._allowed: tuple[int, ...] = ()

    def begin(self, menu: Menu) -> None:
        self.step = 0
        self._allowed = menu.allowed

    def next_step(self) -> int:
        self.step += 1
        if self.step > self._steps_max or not self._draw_more():
            return -1
        return self._allowed[self._draw_below("operation", len(self._allowed))]

    def choose(self, name: str, count: int) -> int:
        return self._draw_below(name, count) if count > 1 else 0

    choose_at = choose
    choose_rare = choose

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        return identities[self.choose(name, len(identities))] if identities else 0

    def close(self) -> None:
        """Nothing is left to check."""


class TranscribingSource:
    """Replays a program and writes down what a `DrawnSource` would have had to draw for it."""

    def __init__(self, program: Program, steps_max: int) -> None:
        self._inner = ReplaySource(program, strict=False)
        self._steps_max = steps_max
        self._steps_count = 0
        self._allowed: tuple[int, ...] = ()
        self.choices: list[int] = []

    @property
    def step(self) -> int:
        return self._inner.step

    def begin(self, menu: Menu) -> None:
        self._allowed = menu.allowed
        self._inner.begin(menu)

    def next_step(self) -> int:
        index = self._inner.next_step()
        self._steps_count += 1
        if self._steps_count <= self._steps_max:
            self.choices.append(index >= 0)
        if index >= 0:
            self.choices.append(self._allowed.index(index))
        return index

    def choose(self, name: str, count: int) -> int:
        return self._keep(self._inner.choose(name, count), count)

    choose_rare = choose

    def choose_at(self, full_name: str, count: int) -> int:
        return self._keep(self._inner.choose_at(full_name, count), count)

    def choose_step(self, name: str, identities: Sequence[int]) -> int:
        value = self._inner.choose_step(name, identities)
        if identities:
            # A drawn source cannot leave the reference open, so an open one becomes the first.
            self._keep(identities.index(value) if value in identities else 0, len(identities))
        return value

    def _keep(self, value: int, count: int) -> int:
        if count > 1:
            self.choices.append(value)
        return value

    def close(self) -> None:
        self._inner.close()


def drawn_source(draw: st.DrawFn, steps_max: int = STEPS_MAX) -> DrawnSource:
    """A source for use within a composite strategy."""
    return DrawnSource(lambda: draw(st.booleans()), lambda _, count: draw(st.integers(0, count - 1)), steps_max)


def shrink_values(
    spec: Spec,
    configuration: Configuration,
    mode: Mode,
    program: Program,
    signature: tuple[str, str],
    *,
    candidates_max: int = CANDIDATES_MAX,
) -> Program | None:
    """The simplest program Hypothesis' shrinker makes of this one that fails alike; None if none is simpler."""
    steps_max = len(program.steps)
    choices = transcribe(spec, configuration, mode, program)
    if len(choices_to_bytes(choices)) > BUFFER_SIZE:
        return None
    best = program
    candidates = 0

    @st.composite
    def runs(draw: st.DrawFn) -> Run | None:
        nonlocal candidates
        candidates += 1
        if candidates > candidates_max:
            return None
        try:
            return run_scenario(spec, configuration, mode, drawn_source(draw, steps_max), record=True)
        except HypothesisException:
            raise
        except Exception:  # a candidate on which the spec or the harness gives up is not the failure looked for
            return None

    def fails_alike(run: Run | None) -> bool:
        nonlocal best
        if run is None or run.failure is None or run.failure.signature != signature:
            return False
        best = min(best, run.program, key=cost)
        return True

    _find_from(choices, runs(), fails_alike)
    return best if cost(best) < cost(program) else None


def transcribe(spec: Spec, configuration: Configuration, mode: Mode, program: Program) -> list[int]:
    """The choice sequence that makes a `DrawnSource` run this program."""
    source = TranscribingSource(program, len(program.steps))
    run_scenario(spec, configuration, mode, source)
    return source.choices


def _find_from(
    choices: Sequence[int], strategy: st.SearchStrategy[Run | None], condition: Callable[[Run | None], bool]
) -> None:
    """Let Hypothesis shrink from these choices; what it finds is seen by ``condition``."""
    database = InMemoryExampleDatabase()
    database.save(_KEY + b".secondary", choices_to_bytes(choices))
    quiet = settings(
        database=database,
        deadline=None,
        phases=(Phase.reuse, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    # Else it would leave a folder of its own where the harness is run.
    set_hypothesis_home_dir(Path(gettempdir()) / "harness-hypothesis")
    before = threadlocal._hypothesis_global_random
    threadlocal._hypothesis_global_random = Random(0)
    try:
        find(strategy, condition, settings=quiet, database_key=_KEY)
    except HypothesisException:
        return  # nothing found from there, or the bound on candidates made it look flaky
    finally:
        threadlocal._hypothesis_global_random = before
        set_hypothesis_home_dir(None)
