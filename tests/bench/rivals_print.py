"""This store beside others that one would pick instead: durable puts, gets, listings, and what they cost.

Every figure is the median of several rounds in which the stores take turns, on one file system, each in a process of
its own. Behind it stands what it is to sqlite3's. Stores come from the extra ``bench``; of one that is not installed
the table says so. The defaults take a minute or so, ``--scale`` makes everything longer and larger.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rivals import OURS, RIVALS, YARDSTICK
from rivals_measure import LOADED_COUNTS, MEASURES, VALUE_SIZES_BYTES, Measure, Results, measure_all

WIDTH_MAX = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much more to put, and for how much longer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(), help="where to make a temporary folder; else here")
    parser.add_argument("--store", choices=RIVALS, action="append", help="only this, and sqlite3; may be given again")
    arguments = parser.parse_args()
    wanted = [name for name in RIVALS if not arguments.store or name in (*arguments.store, YARDSTICK)]
    names = [name for name in wanted if RIVALS[name].is_installed()]
    print(f"file system: {file_system(arguments.folder.resolve())}; keys of 16 bytes in no order; rates a second")
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="rivals-") as folder:
        for value_size_bytes in VALUE_SIZES_BYTES:
            with Console(stderr=True).status("") as status:
                results = measure_all(
                    names, value_size_bytes, arguments.rounds, arguments.scale, Path(folder), status.update
                )
            print()
            loaded_count = int(LOADED_COUNTS[value_size_bytes] * arguments.scale)
            title = f"values of {value_size_bytes:,} bytes: {loaded_count:,} in groups of 1,000, and then the others"
            print_whole(table(title, wanted, results))
            print_own(results)
            if YARDSTICK in results.noise:
                print(f"noise: sqlite3's best round of groups of 1 was {results.noise[YARDSTICK]:.1f} times its worst")
            for name, reason in results.failures.items():
                print(f"{RIVALS[name].title} failed: {reason}")
    print()
    print_notes(wanted)
    return 0


def file_system(folder: Path) -> str:
    """The type of the one that the folder is on."""
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if folder.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    kind = found[1]
    return f"{kind}, in memory: nothing is durable, times mean little" if kind in {"tmpfs", "ramfs"} else kind


def table(title: str, names: list[str], results: Results) -> Table:
    """A column a store. What is better when it is more comes first, then what is better when it is less."""
    made = Table(title=title, title_justify="left")
    made.add_column("more is better", no_wrap=True)
    for name in names:
        made.add_column(RIVALS[name].title, no_wrap=True, justify="right")
    for measure in MEASURES:
        if measure.more_is_better:
            made.add_row(measure.title, *(_cell(name, measure, results) for name in names))
    made.add_section()
    made.add_row("[bold]less is better[/bold]")
    made.add_section()
    for measure in MEASURES:
        if not measure.more_is_better:
            made.add_row(measure.title, *(_cell(name, measure, results) for name in names))
    return made


def _cell(name: str, measure: Measure, results: Results) -> str:
    value = results.figures.get(name, {}).get(measure.name)
    if value is None:
        return _reason_for_nothing(name, results) if measure is MEASURES[0] else ""
    ratio = results.ratio(name, measure.name, YARDSTICK)
    return in_figures(value) if ratio is None or name == YARDSTICK else f"{in_figures(value)} {times(ratio)}"


def _reason_for_nothing(name: str, results: Results) -> str:
    if name in results.failures:
        return "failed"
    return "" if RIVALS[name].is_installed() else "not installed"


def in_figures(value: float) -> str:
    """Three significant figures, in full."""
    if value >= 1_000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float) -> str:
    """Two significant figures, in a column of six."""
    if ratio >= 10:
        return f"x{float(f'{ratio:.2g}'):<5.0f}"
    return f"x{ratio:<5.1f}" if ratio >= 1 else f"x{ratio:<5.2f}" if ratio >= 0.1 else f"x{ratio:<5.3f}"


def print_whole(made: Table) -> None:
    """As wide as its content, also where the output is narrower or is no terminal: nothing is cut."""
    wide = Console(width=WIDTH_MAX)
    width = wide.measure(made).maximum
    Console(width=width, soft_wrap=False).print(made)


def print_own(results: Results) -> None:
    """What this store counts itself."""
    own = results.figures.get(OURS)
    if own:
        print(
            f"{RIVALS[OURS].title}, by its own count: {own['own_barriers']:.2f} barriers and"
            f" {own['own_bytes']:,.0f} bytes a durable put in"
        )
        print(
            f"groups of 1; {own['own_barriers_8']:.2f} barriers a put by 8 threads, {own['own_barriers_32']:.2f} by 32"
        )


def print_notes(names: list[str]) -> None:
    print("x: times sqlite3's figure. Bytes written are those of the process's write calls; device bytes are in whole")
    print("blocks, with the file system's journal, and with what others wrote at the time. Flushes are the calls that")
    print("wait for the device, as strace sees them. Memory is over that of the bare interpreter.")
    for name in names:
        entry = RIVALS[name]
        print(f"{entry.title}{f' ({entry.version()})' if entry.version() else ''}: {entry.notes}")


if __name__ == "__main__":
    sys.exit(main())
