"""The comparison compares what it says: every store gives back what it was given, and figures are printed whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from rivals import OURS, RIVALS, YARDSTICK, Workload, opened
from rivals_measure import MEASURES, Results, Run, flushes_between_marks, medians
from rivals_print import in_figures, print_whole, table, times

ITEMS = [(bytes([number]) * 16, bytes([number]) * 700) for number in range(1, 40)]


@pytest.mark.parametrize("value_size_bytes", [100, 700])
@pytest.mark.parametrize("name", RIVALS)
def test_gives_back_what_was_put_also_after_reopening(name: str, value_size_bytes: int, tmp_path: Path) -> None:
    if not RIVALS[name].is_installed():
        pytest.skip("not installed")
    items = {key: value[:value_size_bytes] for key, value in ITEMS}
    workload = Workload(value_size_bytes, 1 << 20)
    with opened(name, tmp_path, workload) as rival:
        rival.put(list(items.items())[:20])
        for item in list(items.items())[20:]:
            rival.put([item])
        assert {key: rival.get(key) for key in rival.keys()} == items  # noqa: SIM118 - a rival is no dictionary
    with opened(name, tmp_path, workload) as rival:
        assert {key: rival.get(key) for key in rival.keys()} == items  # noqa: SIM118 - a rival is no dictionary


@pytest.mark.parametrize("name", [OURS, YARDSTICK])
def test_a_run_has_every_figure(name: str, tmp_path: Path) -> None:
    run = Run(name, tmp_path, 100, 0.02)
    run.measure()
    expected = {measure.name for measure in MEASURES} - {"flushes"}  # counted by a tracer, apart
    assert expected - set(run.figures) <= {"device_1", "device_1000"}  # not every device counts
    assert run.figures["written_1000"] > 0.9


def test_flushes_are_counted_between_the_marks_alone() -> None:
    trace = """\
7 openat(AT_FDCWD, "a"..., O_RDWR|O_DSYNC|O_CLOEXEC) = 5
7 openat(AT_FDCWD, "b"..., O_RDWR|O_CLOEXEC) = 6
7 fdatasync(6) = 0
7 chdir(".") = 0
7 pwrite64(6, "x"..., 4096, 0) = 4096
8 fdatasync(6 <unfinished ...>
7 pwrite64(5, "x"..., 4096, 0) = 4096
8 <... fdatasync resumed>) = 0
7 chdir(".") = 0
7 fsync(6) = 0
7 +++ exited with 0 +++"""
    assert flushes_between_marks(trace.splitlines()) == 2


def test_medians_and_ratios() -> None:
    assert medians([{"a": 3.0}, {"a": 1.0}, {"a": 2.0}]) == {"a": 2.0}
    results = Results({OURS: {"put_1": 1.0}, YARDSTICK: {"put_1": 4.0}}, {}, {})
    assert results.ratio(OURS, "put_1", YARDSTICK) == 0.25
    assert results.ratio(OURS, "put_10", YARDSTICK) is None


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (12.34, "12.3"), (456.7, "457"), (123_456.0, "123,000")])
def test_figures_are_in_full(value: float, text: str) -> None:
    assert in_figures(value) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.0456, "x0.046"), (0.456, "x0.46"), (4.56, "x4.6"), (456.0, "x460")])
def test_ratios_have_two_figures(ratio: float, text: str) -> None:
    assert times(ratio).rstrip() == text
    assert len(times(ratio)) == 6


def test_nothing_is_cut_where_output_is_narrow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = list(RIVALS)
    figures = {name: {measure.name: 1_234_567.0 for measure in MEASURES} for name in names[:-1]}
    print_whole(table("a title", names, Results(figures, {names[-1]: "its reason"}, {})))
    printed = capsys.readouterr().out
    assert printed.count("1,230,000 x1.0") == len(MEASURES) * (len(names) - 2)
    assert "failed" in printed
    assert "…" not in printed
