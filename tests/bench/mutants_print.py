"""Mutation testing: how many small changes of the store do the specs see? Prints the survivors, and shares by module.

    python tests/bench/mutants_print.py --count 300 --results mutants.json    what is in the file is not run again
    python tests/bench/mutants_print.py --count 300 --results mutants.json --again    the survivors, with new specs

Each mutant gets a bounded `harness check` of all specs and modes, without unit tests, in a copy of the tree. Killed is
what breaks a spec. A run that crashes, hangs or cannot be imported is killed too, and counted apart: a spec saw nothing
there. One mutant runs at a time. The sample is a function of seed and source, and a larger one begins with the smaller.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shardstore", "refmodel", "harness")
MEMORY_BYTES_MAX = 4 << 30
ANSWERS = ("violated", "crashed", "hung", "not imported", "survived")

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """What each mutant's run may take."""

    scenarios: int  # of each check
    cpu_seconds: float
    seed: int = 0
    specs: tuple[str, ...] = ()  # all

    hang_cpu_seconds: int = 150  # a step without progress takes ten seconds, and its scenario is run again


@contextmanager
def copied(root: Path = ROOT, packages: Sequence[str] = PACKAGES) -> Iterator[Path]:
    """A copy of the packages, in which one file after the other is changed and changed back."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder, "tree")
        for package in packages:
            shutil.copytree(root / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", tree)
        yield tree


def run_changed(tree: Path, file: str, source: str, limits: Limits) -> Result:
    """Check the tree with this source in place of a file's."""
    path = tree / file
    original = path.read_text(encoding="utf-8")
    _write(path, source)
    try:
        return _run(tree, limits)
    finally:
        _write(path, original)


def _write(path: Path, source: str) -> None:
    path.write_text(source, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)  # two mutants may look alike to it


def _run(tree: Path, limits: Limits) -> Result:
    request, answer = tree.parent / "request.json", tree.parent / "answer.json"
    asked = {**asdict(limits), "memory_bytes_max": MEMORY_BYTES_MAX, "parent_pid": os.getpid()}
    request.write_text(json.dumps(asked), encoding="utf-8")
    answer.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("mutant_run.py")), str(request), str(answer)]
    hang = limits.hang_cpu_seconds
    bounded = ["/bin/sh", "-c", f'ulimit -t {hang}; exec "$@"', "mutant", *command]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(bounded, cwd=tree, env=environment, capture_output=True, text=True, timeout=20 * hang)
    except subprocess.TimeoutExpired:
        return {"answer": "hung", "detail": "waits for ever"}
    if answer.exists():
        return dict(json.loads(answer.read_text(encoding="utf-8")))
    if done.returncode < 0:
        return {"answer": "hung", "detail": f"ended by signal {-done.returncode}"}
    return {"answer": "crashed", "detail": done.stderr[-300:]}


class Results:
    """What is known of a sample, in a file that is written after each mutant."""

    def __init__(self, path: Path | None, source_digest: str) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._digest = source_digest
        self.by_name: dict[str, Result] = {}
        if path is not None and path.exists():
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["source"] != source_digest:
                raise SystemExit(f"{path} is of other source: places have moved, begin another file")
            self.by_name = saved["mutants"]

    def add(self, name: str, result: Result) -> None:
        self.by_name[name] = result
        if self._path is not None:
            text = json.dumps({"source": self._digest, "mutants": self.by_name}, indent=1)
            partial = self._path.with_suffix(".partial")
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(self._path)


def digest(sources: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{file}\0{text}\0" for file, text in sorted(sources.items())).encode()).hexdigest()


def shares(results: Iterable[tuple[str, Result]]) -> list[str]:
    """A table of counts by module, with the share that was killed."""
    counts: dict[str, Counter[str]] = {}
    for file, result in results:
        for name in (file, "all"):
            counts.setdefault(name, Counter())[result["answer"]] += 1
    lines = [f"{'module':34}" + "".join(f"{answer:>14}" for answer in ANSWERS) + "        killed"]
    for name in sorted(counts, key=lambda name: (name == "all", name)):
        count = counts[name]
        killed = 100 * (count.total() - count["survived"]) / count.total()
        lines.append(f"{name:34}" + "".join(f"{count[answer]:14}" for answer in ANSWERS) + f"{killed:12.0f} %")
    return lines


def main() -> None:
    try:
        from mutants import list_mutants, production_files, sample
    except ImportError as error:
        raise SystemExit(f"mutants: {error.name} is not installed; it comes with the extra `mutants`") from None
    options = _options()
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in production_files(ROOT)}
    results = Results(options.results, digest(sources))
    chosen = [
        mutant for file, source in sources.items() if options.only in file for mutant in list_mutants(file, source)
    ]
    mutants = sample(chosen, options.seed)[: options.count]
    limits = Limits(options.scenarios, options.cpu_seconds)
    with copied() as tree:
        for number, mutant in enumerate(mutants, 1):
            known = results.by_name.get(mutant.name)
            if known is not None and not (options.again and known["answer"] == "survived"):
                continue
            source = sources[mutant.file]
            result = run_changed(tree, mutant.file, mutant.apply(source), limits)
            results.add(mutant.name, {**result, "diff": mutant.diff(source)})
            print(f"{number}/{len(mutants)} {result['answer']}: {mutant.name}", file=sys.stderr, flush=True)
    known_results = [(mutant, results.by_name[mutant.name]) for mutant in mutants]
    for mutant, result in known_results:
        if result["answer"] == "survived":
            print(f"survived: {mutant.name}", *(f"    {line}" for line in result["diff"]), sep="\n")
    print(*shares((mutant.file, result) for mutant, result in known_results), sep="\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=5, help="mutants to sample")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--only", default="", help="mutants of files whose path holds this")
    parser.add_argument("--scenarios", type=int, default=100_000, help="of each check, at most")
    parser.add_argument("--cpu-seconds", type=float, default=45.0, help="for each mutant, at most")
    parser.add_argument("--results", type=Path, help="the file to go on with")
    parser.add_argument("--again", action="store_true", help="run survivors again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
