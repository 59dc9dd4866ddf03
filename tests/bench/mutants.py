"""Mutants: the store's production code with one operator, number or keyword changed. They come from cosmic-ray.

A place in the source has many mutants, and a binary operator has twelve. So each place gives one, drawn by the seed:
else nearly all mutants would be of arithmetic. Left out is what is plainly no behaviour: annotations, assertions, the
texts of errors, `__repr__`, what only a type checker reads, and what a decorator is given.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

Node = Any  # of parso's tree
_NO_BEHAVIOUR = ("raise_stmt", "assert_stmt", "tfpdef", "fstring", "decorator")
_IDENTITY = {"Is", "IsNot"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file. The occurrence counts the places that the operator could change."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.operator.removeprefix('core/')} {self.occurrence}"

    def apply(self, source: str) -> str:
        mutated = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if mutated is None:
            raise LookupError(f"{self.name}: there is no such place")
        return str(mutated)

    def diff(self, source: str) -> list[str]:
        """The lines that go and those that come."""
        lines = difflib.unified_diff(source.splitlines(), self.apply(source).splitlines(), n=0, lineterm="")
        return [line for line in lines if line[:3] not in ("---", "+++") and not line.startswith("@@")]


def production_files(root: Path, package: str = "shardstore") -> list[str]:
    """The package's modules but for specs, relative to the root."""
    files = sorted((root / package).rglob("*.py"))
    return [
        file.relative_to(root).as_posix()
        for file in files
        if not file.name.startswith("spec_") and not file.stem.endswith("_spec")
    ]


def list_mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of a file that may change what it does, in the order of the source."""
    nodes = [(node, _is_behaviour(node)) for node in ast_nodes(get_ast(source))]
    found = []
    for name in _operators():
        positions = _positions(name, nodes)
        found += [
            Mutant(file, line, column, name, occurrence)
            for occurrence, (line, column, is_behaviour) in enumerate(positions)
            if is_behaviour
        ]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.column, mutant.operator, mutant.occurrence))


@cache
def _operators() -> tuple[str, ...]:
    """The operators that need no arguments, without those that swap ``is`` for what is no question of identity."""
    names = (name for name in operator_names() if not get_operator(name).arguments())
    return tuple(
        sorted(name for name in names if len(_IDENTITY & set(name.split("_")[1:])) != 1 or "Comparison" not in name)
    )


def _positions(operator: str, nodes: Iterable[tuple[Node, bool]]) -> Iterator[tuple[int, int, bool]]:
    instance = get_operator(operator)()
    for node, is_behaviour in nodes:
        for (line, column), _ in instance.mutation_positions(node):
            yield line, column, is_behaviour


def _is_behaviour(node: Node) -> bool:
    if node.type == "assert_stmt":
        return False
    inner, outer = node, node.parent
    while outer is not None:
        if _is_left_out(outer, inner):
            return False
        inner, outer = outer, outer.parent
    return True


def _is_left_out(outer: Node, inner: Node) -> bool:
    """Whether this child of the outer node, and all that is in it, is plainly no behaviour."""
    if outer.type == "annassign":
        return bool(inner is outer.children[1])
    if outer.type == "funcdef":
        return bool(outer.name.value == "__repr__" or inner is outer.annotation)
    if outer.type == "classdef":
        bases = outer.get_super_arglist()
        return bases is not None and "Protocol" in str(bases.get_code())
    if outer.type == "if_stmt":
        return bool(outer.children[1].get_code().strip() == "TYPE_CHECKING")
    if outer.type in ("parameters", "param"):  # a star or a stroke among parameters is no operator
        return bool(inner.type == "operator")
    return outer.type in _NO_BEHAVIOUR or _is_alias(outer)


def _is_alias(node: Node) -> bool:
    """Whether a statement names a type, as in ``Change = Put | Delete``."""
    if node.type != "expr_stmt" or len(node.children) != 3:
        return False
    value = node.children[2].get_code().strip()
    return " | " in value and all(part.strip()[:1].isupper() or part.strip() == "None" for part in value.split(" | "))


def sample(mutants: Iterable[Mutant], seed: int) -> list[Mutant]:
    """One mutant of each place, in a random order in which the files take turns. Any first part is a fair sample."""
    places: dict[str, dict[tuple[int, int], list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    for mutant in mutants:
        places[mutant.file][mutant.line, mutant.column].append(mutant)
    return _in_turns([_drawn(of_file, Random(f"{seed} {file}")) for file, of_file in sorted(places.items())])


def _drawn(places: dict[tuple[int, int], list[Mutant]], random: Random) -> list[Mutant]:
    drawn = [of_place[int(random.random() * len(of_place))] for of_place in places.values()]
    return sorted(drawn, key=lambda _: random.random())


def _in_turns(queues: Sequence[Sequence[Mutant]]) -> list[Mutant]:
    return [mutant for round_ in zip_longest(*queues) for mutant in round_ if mutant is not None]
