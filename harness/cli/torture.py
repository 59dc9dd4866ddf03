"""``harness torture``: runs a system on a real file, with power cuts and killed processes."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.exit_status import Unusable, exit_status_of
from harness.cli.report import make_console
from harness.fleet.interrupts import listening
from harness.scenario.verdict import Answer
from harness.spec.loader import LoadedSpec, SpecLoadError, find_spec_files, load_specs
from harness.spec.plan import SpecError
from harness.torture.crash_images import BadFile, ImageFigures
from harness.torture.halves import IMAGES, Dose, HalfResult, Torture, torture, torture_in_processes, torture_plan
from harness.torture.kills import KillFigures

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_SECONDS = 5.0  # between lines of progress
_STORY_LINES_SHOWN = 24


def run_torture(argument: str, dose: Dose, workers: int, json_path: Path | None, keep: Path) -> int:
    """Torture each spec of ``argument`` that can run on a file, print the results, and give the exit status."""
    folder = Path.cwd()
    loaded = [each for path in find_spec_files([argument], folder) for each in load_specs(path, folder)]
    chosen = [each for each in loaded if each.spec.on_file is not None]
    if not chosen:
        raise Unusable(f"{argument}: no spec says how to run on a file (on_file)")
    console = make_console()
    answers: list[Answer] = []
    rows: list[dict[str, Any]] = []
    with listening():  # an interrupt ends the specs that follow, too
        for each in chosen:
            started = time.perf_counter()
            result = _run(console, each, dose, workers, folder)
            seconds = time.perf_counter() - started
            kept = {half.half: _keep(each, half, dose, keep) for half in result.halves if half.bad is not None}
            _print(console, each, result, seconds)
            for half in result.halves:
                _explain(console, each, half, kept.get(half.half))
            rows.append(_figures(each, result, kept, seconds))
            answers += [half.answer for half in result.halves]
    if json_path is not None:
        figures = {"budget": {**asdict(dose), "jobs": workers}, "specs": rows}
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return exit_status_of(answers)


def _run(console: Console, each: LoadedSpec, dose: Dose, workers: int, folder: Path) -> Torture:
    report = _Progress(console, dose)
    try:
        plan = torture_plan(each.spec)
    except SpecError as error:
        raise SpecLoadError(f"{each.path}: {error}") from error
    if workers <= 1:
        return torture(plan, dose, report)
    return torture_in_processes(each.path, each.spec.name, folder, dose, workers, report)


class _Progress:
    """Prints a line of progress now and then."""

    def __init__(self, console: Console, dose: Dose) -> None:
        self._console = console
        self._dose = dose
        self._shown_at = time.monotonic()

    def __call__(self, images: ImageFigures, kills: KillFigures) -> None:
        now = time.monotonic()
        if now - self._shown_at >= _PLAIN_SECONDS:
            self._shown_at = now
            line = f"{images.images:,} of {self._dose.images:,} images, {kills.kills:,} of {self._dose.kills:,} kills"
            self._console.print(line, soft_wrap=True)


def _print(console: Console, each: LoadedSpec, result: Torture, seconds: float) -> None:
    console.print(f"{each.spec.name} ({each.path}), on a file, {seconds:.1f} s", soft_wrap=True)
    for half in result.halves:
        said = f"{half.answer}{f': {half.reason}' if half.reason else ''}"
        shown = _images_shown(result.images) if half.half == IMAGES else _kills_shown(result.kills)
        console.print(f"  {half.half:<8}{said}", soft_wrap=True)
        for count, what in shown:
            console.print(f"  {count:>12,}  {what}", soft_wrap=True)


def _images_shown(figures: ImageFigures) -> Sequence[tuple[int, str]]:
    return (
        (figures.images, "images of power cuts"),
        (len(figures.digests), "of them different"),
        (figures.lossy, "in which something issued was lost"),
        (figures.within_call, "cut within an operation"),
        (figures.within_recovery, "cut within recovery"),
        (figures.within_creation, "cut while the file was made"),
        (figures.of_images, "of the life that followed another image"),
        (figures.refused, "refused, for the file had never been whole"),
        (figures.acknowledged_checked, "acknowledged writes checked"),
        (figures.lives, "lives recorded"),
    )


def _kills_shown(figures: KillFigures) -> Sequence[tuple[int, str]]:
    return (
        (figures.kills, "processes killed"),
        (figures.within_call, "within an operation"),
        (figures.within_recovery, "within recovery"),
        (figures.within_creation, "while the file was made"),
        (figures.refused, "refused, for the file had never been whole"),
        (figures.acknowledged_checked, "acknowledged writes checked"),
        (figures.calls, "operations"),
        (figures.files, "files"),
    )


# --- what was found ---------------------------------------------------------------------------------


def _keep(each: LoadedSpec, half: HalfResult, dose: Dose, keep: Path) -> Path:
    """Write the bad file and its story into a folder of their own, and give the folder."""
    bad = half.bad
    assert bad is not None
    name = re.sub(r"[^a-z0-9]+", "-", f"{each.spec.name} {half.half} {bad.where} seed {dose.seed}".lower())
    folder = keep / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").unlink(missing_ok=True)  # of an earlier run: now there may be no file at all
    if bad.content is not None:
        (folder / "file").write_bytes(bad.content)
    (folder / "story.txt").write_text("\n".join([*_heading(each, half, bad), "", *bad.story]) + "\n", encoding="utf-8")
    return folder


def _heading(each: LoadedSpec, half: HalfResult, bad: BadFile) -> list[str]:
    violation = bad.violation
    return [
        f"{each.spec.name} ({each.path}), {half.half}: {violation.property} at {violation.place}, in {bad.where}",
        f"read     {violation.answered}",
        f"allowed  {violation.allowed}",
    ]


def _explain(console: Console, each: LoadedSpec, half: HalfResult, kept: Path | None) -> None:
    if half.bad is None or kept is None:
        return
    console.print()
    for line in (*_heading(each, half, half.bad), "", *half.bad.story[-_STORY_LINES_SHOWN:], ""):
        console.print(line, soft_wrap=True)
    console.print(f"kept in {kept}: the file as it was before it was opened, and the whole story", soft_wrap=True)
    if half.bad.content is None:
        console.print("there was no file", soft_wrap=True)
    else:
        console.print(f"to open it: {open_command(each, kept / 'file')}", soft_wrap=True)


def open_command(each: LoadedSpec, file: Path) -> str:
    """The command that opens a copy of the file, since opening may write."""
    code = (
        "from pathlib import Path; from harness.spec.loader import load_spec; "
        f"spec = load_spec({each.path!r}, {each.spec.name!r}, Path.cwd()).spec; "
        f"system = spec.on_file.open(Path({str(file) + '.opened'!r}))"
    )
    return f"cp {shlex.quote(str(file))} {shlex.quote(str(file) + '.opened')} && python -i -c {shlex.quote(code)}"


def _figures(each: LoadedSpec, result: Torture, kept: dict[str, Path], seconds: float) -> dict[str, Any]:
    images = {name: getattr(result.images, name) for name in result.images.__slots__ if name != "digests"}
    return {
        "spec": each.path,
        "name": each.spec.name,
        "seconds": seconds,
        "images": {**images, "different": len(result.images.digests)},
        "kills": asdict(result.kills),
        "halves": [_half_figures(half, kept.get(half.half)) for half in result.halves],
    }


def _half_figures(half: HalfResult, kept: Path | None) -> dict[str, Any]:
    bad = half.bad
    figures: dict[str, Any] = {"half": half.half, "answer": half.answer, "reason": half.reason, "violation": None}
    if bad is not None:
        figures["violation"] = {"where": bad.where, "kept": str(kept), **asdict(bad.violation)}
    return figures
