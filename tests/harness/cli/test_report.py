"""What is printed: a failing sequence that explains itself, within 100 columns, the same without colour."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.choices.program import Program, Step
from harness.cli.reach_table import Reached, print_reached
from harness.cli.report import Progress, figures, make_console, percent, print_plants, print_verdicts, rate
from harness.planted.bugs import PlantResult, SeedResult
from harness.planted.plants import Plant
from harness.scenario.failing_sequence import MEANINGS, WIDTH_MAX, comments, failing_sequence
from harness.scenario.history import Began, Broke, Called, Lost, Polled, Recovered, Returned
from harness.scenario.verdict import Answer, Counters, Run, Verdict
from harness.scenario.violation import Violation
from harness.search.campaign import CheckJob
from harness.spec.device import Entry, Loss
from harness.spec.events import Event
from harness.spec.spec import Configuration, Knob, Mode, Spec

VIOLATION = Violation("persistence", "outcome", "None", "b'a'", 4, "crash")
LOST = Entry(1, 0, 0, 0, 0, b"a", b"")
RUN = Run(
    VIOLATION,
    Counters(scenarios=1, operations=3, crashes=1),
    Program((Step(1, "put"), Step(4, "crash", {"survivor.1.0": 1}))),
    (
        Called(1, "put", {"key": b"a", "payload": b"a"}),
        Returned(1, None, "pending"),
        Began(4, "crash"),
        Polled(4, 1, "put", b"a", "persistent"),
        Lost(4, (Loss(LOST, (0,), "page", 1),)),
        Recovered(4, b"a", None, (b"a",)),
        Broke(4, VIOLATION),
    ),
)
VERDICT = Verdict(
    "toy", Mode.CRASH, "zoned", Answer.VIOLATED, Counters(scenarios=200, operations=6_000), 0.5, run=RUN, scenario=7
)

EXPECTED = """\
persistence violated: toy, crash, zoned
  after a crash each key reads as its last persistent operation left it, or a later one

    1  put(key=b'a', payload=b'a')
          -> pending
    4  crash
          polled: 1 put b'a' persistent
          lost: entry 0 of step 1 (write of 1 page to medium 0, extent 0 from page 0): all of it
          recovered b'a': None (allowed: b'a')

  broken at        step 4, crash (outcome)
  system answered  None
  model allows     b'a'

  2 operations, 1-minimal: without any one of them, or with one choice zero or one less, this does
  not fail.

  harness replay fuzz_corpus/x.case
"""


def test_a_failing_sequence_tells_the_whole_story() -> None:
    text = failing_sequence(
        RUN,
        spec="toy",
        mode=Mode.CRASH,
        configuration="zoned",
        one_minimal=True,
        command="harness replay fuzz_corpus/x.case",
    )
    assert text == EXPECTED


def test_what_is_not_one_minimal_is_never_called_minimal() -> None:
    text = failing_sequence(RUN, spec="toy", mode=Mode.CRASH, configuration="zoned", one_minimal=False)
    assert "not shown to be 1-minimal" in text
    assert "minimal" not in failing_sequence(RUN, spec="toy", mode=Mode.CRASH, configuration="zoned")


@given(st.lists(st.tuples(st.integers(1, 9), st.text()), max_size=5), st.text(), st.text())
def test_every_line_fits(history: list[tuple[int, str]], answered: str, allowed: str) -> None:
    events = tuple(Called(step, " ".join(text.split()), {}) for step, text in history)
    run = replace(RUN, events=events, violation=replace(VIOLATION, answered=answered * 9, allowed=allowed * 9))
    text = failing_sequence(run, spec="toy", mode=Mode.CRASH, configuration="zoned", story="a long story " * 20)
    assert max(map(len, text.splitlines())) <= WIDTH_MAX


def test_a_run_that_did_not_fail_has_no_failing_sequence() -> None:
    with pytest.raises(ValueError, match="did not fail"):
        failing_sequence(replace(RUN, violation=None), spec="toy", mode=Mode.CRASH, configuration="zoned")


def test_comments_put_a_step_on_one_line() -> None:
    assert comments(RUN.events)[1] == "put(key=b'a', payload=b'a') -> pending"
    assert comments(RUN.events)[4].startswith("crash; polled: 1 put b'a' persistent; lost: ")


def test_every_property_the_engine_names_has_a_meaning() -> None:
    """Taken from the failures the engine makes; a new property needs a line for people."""
    engine = {"conformance", "persistence", "forward progress", "recovery", "interrupt", "invariant"}
    engine |= {"device", "deadlock", "no progress", "lock misuse", "unexpected error", "promise"}
    assert engine == set(MEANINGS)


def printed(*verdicts: Verdict) -> str:
    out = io.StringIO()
    print_verdicts(Console(file=out, width=WIDTH_MAX), verdicts)
    return out.getvalue()


def test_the_table_has_every_figure_and_fits_even_after_a_long_night() -> None:
    many = Counters(scenarios=250_000_000, operations=7_500_000_000, crashes=250_000_000, crashes_lossy=9_900_000)
    text = printed(replace(VERDICT, spec="chunk_store", configuration="zoned small", counters=many, seconds=60_000))
    for figure in ("chunk_store", "crash", "zoned small", "250.0M", "9,900,000", "4,167"):
        assert figure in text
    assert "violated" in text
    assert max(map(len, text.splitlines())) <= WIDTH_MAX


def test_unknown_always_says_why() -> None:
    text = printed(replace(VERDICT, answer=Answer.UNKNOWN, run=None, reason="none of 3 crashes was interesting"))
    assert "unknown: toy, crash, zoned: none of 3 crashes was interesting" in text


def test_figures_for_machines_are_the_ones_printed() -> None:
    found = figures(VERDICT)
    assert found["scenarios"] == 200
    assert found["scenarios_per_core_second"] == rate(VERDICT.counters, VERDICT.seconds) == 400
    assert found["violation"]["place"] == "outcome"
    assert found["scenario"] == 7


def test_no_time_is_no_rate() -> None:
    assert rate(Counters(scenarios=5), 0.0) == 0


def test_progress_is_plain_and_rare_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=WIDTH_MAX), [CheckJob("toy.py", "toy", Mode.CRASH, "zoned")]) as progress:
        for _ in range(100):
            progress(0, Counters(scenarios=1), 0.1)
    assert out.getvalue() == ""


def test_a_console_never_grows_past_the_width() -> None:
    assert make_console().width <= WIDTH_MAX


def test_the_table_of_plants_says_what_was_reached_and_never_cuts_the_answer() -> None:
    plant = Plant("a-plant-of-long-name", "", "", "", Mode.CRASH, "forward progress", 12, ())
    seen = SeedResult(0, True, 90_000, 60.0, operations_found=99, operations=13, reached=89_999)
    unseen = SeedResult(0, False, 90_000, 60.0, reached=0)
    unseeable = replace(unseen, reached=None)
    out = io.StringIO()
    results = [PlantResult(plant, (each,)) for each in (seen, unseen, unseeable)]
    print_plants(Console(file=out, width=WIDTH_MAX), results)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= WIDTH_MAX
    assert "…" not in text
    assert "13/12" in text
    assert ">99" in text
    assert "not reached: none of 90,000 scenarios ran a changed line" in text
    assert "what it changes runs on import" in text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1e-6, "<0.1"), (0.0123, "1.2"), (0.5, "50"), (0.9999, ">99"), (1, "100")]
)
def test_a_share_in_percent_shows_nothing_and_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_tables_of_reach_show_what_never_was() -> None:
    events = (Event("often", len), Event("never", len), Event("explained", len, because="it is so small"))
    knobs = (Knob("size", (1, 20), "often"), Knob("other", ("x",)))
    configuration = Configuration("only", (), knobs=knobs)
    spec = Spec("toy", len, int, (), (configuration,), events=events)
    counters = Counters(scenarios=200, events={"often": 150}, knobs={("size", 0): 200, ("other", 0): 200})
    out = io.StringIO()
    print_reached(Console(file=out, width=WIDTH_MAX), [Reached(spec, counters)])
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert {"often 150 75", "never 0 0 toy", "explained 0 0"} <= set(lines)
    assert "not in toy, since it is so small: explained" in lines
    assert {"size 1: 100 20: 0 often: 150", "other x: 100"} <= set(lines)
    assert max(map(len, out.getvalue().splitlines())) <= 80
