"""The command line: ``harness check | exhaust | replay | shrink | show | bugs | audit | torture``.

Exit status: 0 none found, holds or fixed; 1 violated; 2 unusable arguments or input, with one clear line on standard
error; 3 unknown. Of several answers the worst counts: violated, then unknown.

Each command imports its own code when it runs, so that `--help` and errors in arguments come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from harness.cli.exit_status import EXIT_OK, EXIT_UNKNOWN, EXIT_UNUSABLE, Unusable
from harness.spec.spec import Mode

DEFAULT_SECONDS = 30.0
_ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit status. ``arguments`` are those of the process if None."""
    try:
        status = harness.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.Abort:
        print("harness: interrupted", file=sys.stderr)
        return EXIT_UNKNOWN
    except BrokenPipeError:
        # The reader of the output has gone. Failures are saved, but not all of them were printed. Without this, Python
        # would complain once more when it flushes standard output at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNKNOWN
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help(), file=sys.stderr)
        return EXIT_UNUSABLE
    except OSError as error:
        print(f"harness: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except click.ClickException as error:
        print(f"harness: {' '.join(error.format_message().split())}", file=sys.stderr)
        return EXIT_UNUSABLE
    return status if isinstance(status, int) else EXIT_OK


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def harness() -> None:
    """Check stores against their models: random programs, crashes, minimal failures, replay.

    Exit status: 0 none found or holds, 1 violated, 2 unusable arguments or input, 3 unknown.
    """
    if not __debug__:
        raise Unusable("the checks must not run under python -O")


def _json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json",
        "json_path",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write every figure.",
    )(command)


def _jobs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--jobs", metavar="N", type=click.IntRange(min=1), help="Processes; as many as there are cores unless given."
    )(command)


def _corpus_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--corpus",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("fuzz_corpus"),
        show_default=True,
        help="Where failures are saved.",
    )(command)


@harness.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1)
@click.option("--mode", type=click.Choice([_ALL, *(mode.value for mode in Mode)]), default=_ALL, show_default=True)
@click.option("--config", "configuration", metavar="NAME", help="Only this configuration.")
@click.option("--scenarios", metavar="N", type=click.IntRange(min=1), help="Scenarios for each check.")
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Time for all checks together; {DEFAULT_SECONDS:g} if neither is given.",
)
@click.option("--seed", metavar="S", type=int, default=0, show_default=True)
@_jobs_option
@_json_option
@_corpus_option
def check(
    specs: tuple[str, ...],
    mode: str,
    configuration: str | None,
    scenarios: int | None,
    seconds: float | None,
    seed: int,
    jobs: int | None,
    json_path: Path | None,
    corpus: Path,
) -> int:
    """Run random scenarios of every SPEC, a file or a folder of *_spec.py; all of the project's if none is given."""
    from harness.cli.check import check_specs
    from harness.fleet.budget import Budget
    from harness.search.check import Sample

    if scenarios is not None and seconds is not None:
        raise Unusable("give --scenarios or --seconds, not both")
    if scenarios is None:
        seconds = seconds or DEFAULT_SECONDS
    sample, budget = Sample(seed, scenarios=scenarios), Budget(seconds, jobs or _core_count())
    _check_writable(json_path)
    _check_folder(corpus)
    if seconds is not None and not seconds < float("inf"):  # nan and inf pass the range of the option
        raise Unusable("--seconds takes a number")
    with _one_line_errors():
        chosen = None if mode == _ALL else Mode(mode)
        return check_specs(specs, chosen, configuration, sample, budget, json_path, corpus)


@harness.command()
@click.argument("spec", metavar="SPEC")
@click.option(
    "--operations", metavar="K", type=click.IntRange(min=0), required=True, help="The longest programs to be tried."
)
@click.option("--config", "configuration", metavar="NAME", help="Only this configuration.")
@click.option(
    "--start", "starts", metavar="NAME", multiple=True, help="Only from this starting state; may be repeated."
)
@click.option(
    "--seconds", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Stop in time, and say so; else never."
)
@_jobs_option
@_json_option
@_corpus_option
def exhaust(
    spec: str,
    operations: int,
    configuration: str | None,
    starts: tuple[str, ...],
    seconds: float | None,
    jobs: int | None,
    json_path: Path | None,
    corpus: Path,
) -> int:
    """Try every program of K operations within the bounds of SPEC, and every legal crash state of each."""
    from harness.cli.exhaust import exhaust_spec
    from harness.fleet.budget import Budget

    _check_writable(json_path)
    _check_folder(corpus)
    with _one_line_errors():
        budget = Budget(seconds, jobs or _core_count())
        return exhaust_spec(spec, operations, configuration, starts, budget, json_path, corpus)


@harness.command()
@click.argument("cases", metavar="CASE...", nargs=-1, required=True)
@_json_option
def replay(cases: tuple[str, ...], json_path: Path | None) -> int:
    """Replay saved failures: still fails, fails differently, fixed, or no longer applies at a step."""
    from harness.cli.replay import replay_cases

    _check_writable(json_path)
    with _one_line_errors():
        return replay_cases(cases, json_path)


@harness.command()
@click.argument("case")
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Instead of CASE.")
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Then, or on Ctrl-C, the best so far is written.",
)
@_json_option
def shrink(case: str, output: Path | None, seconds: float, json_path: Path | None) -> int:
    """Make a saved failure minimal and write it back."""
    from harness.cli.shrink import shrink_case

    _check_writable(json_path)
    _check_writable(output or Path(case), "case")
    with _one_line_errors():
        return shrink_case(case, output, seconds, json_path)


@harness.command()
@click.argument("case")
@click.option(
    "--svg", "svg_path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, too."
)
def show(case: str, svg_path: Path | None) -> int:
    """Print a saved failure step by step, as it runs today."""
    from harness.cli.show import show_case

    _check_writable(svg_path, "--svg")
    with _one_line_errors():
        return show_case(case, svg_path)


@harness.command()
@click.argument("plants", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Time to search with one seed.",
)
@click.option(
    "--confirm",
    "confirm_seconds",
    metavar="S",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Time to try all programs shorter than the first seed's minimal one.",
)
@_jobs_option
@_json_option
def bugs(
    plants: Path, seeds: int, seconds: float, confirm_seconds: float, jobs: int | None, json_path: Path | None
) -> int:
    """Plant each bug of DIR in a copy of the code and see whether the checks find and minimise it."""
    from harness.cli.bugs import run_bugs

    _check_writable(json_path)
    with _one_line_errors():
        return run_bugs(plants, seeds, seconds, confirm_seconds, jobs or _core_count(), json_path)


@harness.command()
@click.argument("target", metavar="CASE|SPEC")
@click.option("--config", "configuration", metavar="NAME", help="Only this configuration.")
@click.option("--scenarios", metavar="N", type=click.IntRange(min=1), help="Scenarios for each configuration.")
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    help="Time for all configurations together, or to explore the case.",
)
@click.option("--seed", metavar="S", type=int, default=0, show_default=True)
@_json_option
def audit(
    target: str,
    configuration: str | None,
    scenarios: int | None,
    seconds: float | None,
    seed: int,
    json_path: Path | None,
) -> int:
    """Of a saved failure: which edge of dependencies is lacking. Of a spec: which edges could go."""
    from harness.cli.audit import audit_target

    if scenarios is not None and seconds is not None:
        raise Unusable("give --scenarios or --seconds, not both")
    if seconds is not None and not seconds < float("inf"):
        raise Unusable("--seconds takes a number")
    _check_writable(json_path)
    with _one_line_errors():
        return audit_target(target, configuration, scenarios, seconds or DEFAULT_SECONDS, seed, json_path)


@harness.command()
@click.argument("spec", metavar="SPEC")
@click.option("--images", metavar="N", type=click.IntRange(min=0), default=1000, show_default=True, help="Power cuts.")
@click.option(
    "--kills", metavar="N", type=click.IntRange(min=0), default=100, show_default=True, help="Killed processes."
)
@click.option("--seed", metavar="S", type=int, default=0, show_default=True)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("torture_failures"),
    show_default=True,
    help="Where a file that breaks something is kept.",
)
@_jobs_option
@_json_option
def torture(spec: str, images: int, kills: int, seed: int, keep: Path, jobs: int | None, json_path: Path | None) -> int:
    """Run SPEC on a real file: images of power cuts, and processes killed in the middle of their work."""
    from harness.cli.torture import run_torture
    from harness.torture.halves import Dose

    if not images and not kills:
        raise Unusable("nothing to do: --images 0 and --kills 0")
    _check_writable(json_path)
    _check_folder(keep, "--keep")
    with _one_line_errors():
        return run_torture(spec, Dose(images, kills, seed), jobs or _core_count(), json_path, keep)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn the errors of unusable input into one line and exit status 2."""
    from harness.corpus.case_file import CaseFileError
    from harness.planted.plants import PlantError
    from harness.spec.loader import SpecLoadError
    from harness.spec.models import NotCopiableError
    from harness.spec.plan import SpecError

    try:
        yield
    except (CaseFileError, NotCopiableError, SpecError, SpecLoadError, PlantError) as error:
        raise Unusable(str(error)) from error


def _check_folder(path: Path, what: str = "--corpus") -> None:
    """Refuse a folder in which failures could not be saved: at the start, not after the run."""
    existing = next(each for each in (path.resolve(), *path.resolve().parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise Unusable(f"{what} {path}: cannot be written")


def _check_writable(path: Path | None, what: str = "--json") -> None:
    """Refuse a file that could not be written: at the start, not after the run."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise Unusable(f"{what} {path}: cannot be written")


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
