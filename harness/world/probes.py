"""Probes: see which places of the code under test are reached, in every run and at next to no cost.

A probe is a call that stands before a statement, in a recompiled copy of its function. Within the context `Probes` the
function runs that copy, so other functions cost nothing, and this one costs a call wherever a probe stands.

Guarantees. Behind the context all functions are as they were. A probe changes nothing of what a function does. It
stands on the line of its statement, so no trace function sees it, unless the first that runs of the statement is on a
further line. So an exception from outside, which comes at the n-th line or call (`interruption.py`), comes at the same
place with and without probes. That is why a condition calls nothing that is written in Python, and has no loops.

Not promised: anything of a condition that raises. That error comes out of the code under test, as if it were its own.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from harness.spec.events import Event

_REACHED: Final = "__reached__"  # among the globals of a module with probes
_MAY_BE_CALLED: Final = frozenset(("len", "min", "max", "any", "all", "type"))
_MAY_STAND: Final = (
    ast.Expression,
    ast.expr_context,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    *(ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.Set),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
)
_Place = tuple[str, int]  # a function's name, and its first line


class ProbeError(Exception):
    """There is no such place in the code, or the condition is none that may stand there."""


class Probe(NamedTuple):
    """``name`` is reached when the statement that begins on this line is about to run, and the condition holds."""

    name: str
    namespace: dict[str, Any]  # of the module
    line: int
    when: str = ""


class _Mark(NamedTuple):
    """A probe in one file."""

    line: int
    number: int
    when: str


def probe_of(event: Event) -> Probe:
    """The probe that sees the event. Raises `ProbeError`."""
    function = inspect.unwrap(event.function)
    if not isinstance(function, FunctionType):
        raise ProbeError(f"{event.function!r} is not written in Python")
    namespace, code = function.__globals__, function.__code__
    _check_names(event.when, namespace, code)
    source = _source_of(namespace)
    tree = _functions_in(source).get((code.co_name, code.co_firstlineno))
    if tree is None:
        raise ProbeError(f"{code.co_qualname} is not in its source")
    if event.at:
        lines = source.splitlines()
        starts = sorted({each.lineno for each in ast.walk(tree) if isinstance(each, ast.stmt)} - {tree.lineno})
        found = [line for line in starts if event.at in lines[line - 1]]
        if len(found) != 1:
            raise ProbeError(
                f"{len(found)} statements of {code.co_qualname} begin on a line with {event.at!r}, not one"
            )
        return Probe(event.name, namespace, found[0], event.when)
    body = tree.body[1:] if ast.get_docstring(tree) is not None and len(tree.body) > 1 else tree.body
    return Probe(event.name, namespace, body[0].lineno, event.when)


def _check_names(when: str, namespace: Mapping[str, Any], code: CodeType) -> None:
    """Raise `ProbeError` if the condition has a name that nothing there has."""
    known = {*namespace, *_MAY_BE_CALLED}
    for each in (code, *_codes_within(code)):
        known |= {*each.co_varnames, *each.co_cellvars, *each.co_freevars}
    names = {each.id for each in ast.walk(_condition(when)) if isinstance(each, ast.Name)} if when else set()
    if names - known:
        raise ProbeError(f"{code.co_qualname} knows no {', '.join(sorted(names - known))}")


def _source_of(namespace: Mapping[str, Any]) -> str:
    try:
        return Path(namespace["__file__"]).read_text(encoding="utf-8")
    except (KeyError, OSError) as error:
        raise ProbeError(f"the source of {namespace.get('__name__')} cannot be read") from error


@cache
def _functions_in(source: str) -> dict[_Place, ast.FunctionDef | ast.AsyncFunctionDef]:
    """By name and first line, decorators counted."""
    return {
        (each.name, min([each.lineno, *(decorator.lineno for decorator in each.decorator_list)])): each
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


class Probes:
    """A context in which probes stand; ``reached`` has the numbers of those that were.

    The number of a probe is its place among ``probes``. In one module contexts must not overlap.
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.probes = probes
        self.reached: set[int] = set()
        self._copies = list(_copies_of(probes))  # once: the context may be entered often
        self._namespaces = {id(each.namespace): each.namespace for each in probes}
        self._originals: list[tuple[FunctionType, CodeType]] = []

    def __enter__(self) -> Probes:
        for namespace in self._namespaces.values():
            namespace[_REACHED] = self.reached.add
        for function, code in self._copies:
            self._originals.append((function, function.__code__))
            function.__code__ = code
        return self

    def __exit__(self, *_: object) -> None:
        while self._originals:
            function, code = self._originals.pop()
            function.__code__ = code
        for namespace in self._namespaces.values():
            del namespace[_REACHED]


def _copies_of(probes: Sequence[Probe]) -> Iterator[tuple[FunctionType, CodeType]]:
    """The functions that have a probe, each with the code to run in place of its own."""
    marks_of: dict[int, list[_Mark]] = {}
    for number, probe in enumerate(probes):
        marks_of.setdefault(id(probe.namespace), []).append(_Mark(probe.line, number, probe.when))
    for namespace in {id(each.namespace): each.namespace for each in probes}.values():
        probed = _probed(namespace["__file__"], _source_of(namespace), tuple(marks_of[id(namespace)]))
        for function in _functions_of(namespace):
            own = function.__code__
            code = probed.get((own.co_qualname, own.co_firstlineno))
            if code is None:
                continue
            if code.co_freevars != own.co_freevars:
                raise ProbeError(f"a condition in {own.co_qualname} has a name of a function around it")
            yield function, code


def _functions_of(namespace: dict[str, Any]) -> Iterator[FunctionType]:
    """Every function that the module holds: its own, its classes' methods, and what decorators hide."""
    seen: set[int] = set()
    waiting = list(namespace.values())
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, type) and value.__module__ == namespace["__name__"]:
            waiting += vars(value).values()
        for attribute in ("__func__", "__wrapped__", "fget", "fset"):
            hidden = getattr(value, attribute, None) if callable(value) or isinstance(value, property) else None
            if hidden is not None:
                waiting.append(hidden)
        if isinstance(value, FunctionType) and value.__globals__ is namespace:
            yield value


@cache
def _probed(file: str, source: str, marks: tuple[_Mark, ...]) -> dict[_Place, CodeType]:
    """The code of each function of the file in which, or within which, a probe stands."""
    tree = ast.parse(source)
    inserter = _Inserter(marks)
    inserter.visit(tree)
    if inserter.left:
        raise ProbeError(f"no statement begins at line {min(inserter.left)} of {file}")
    with warnings.catch_warnings(action="ignore"):
        module = compile(tree, file, "exec", dont_inherit=True)
    return {
        (code.co_qualname, code.co_firstlineno): code
        for code in _codes_within(module)
        if any(_REACHED in each.co_names for each in (code, *_codes_within(code)))
    }


def _codes_within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_within(constant)


class _Inserter(ast.NodeTransformer):
    """Puts probes before the first statement that begins on their line; ``left`` are lines that have none."""

    def __init__(self, marks: Iterable[_Mark]) -> None:
        self._marks: dict[int, list[_Mark]] = {}
        for mark in marks:
            self._marks.setdefault(mark.line, []).append(mark)

    @property
    def left(self) -> Iterable[int]:
        return self._marks.keys()

    def visit(self, node: ast.AST) -> Any:
        marks = self._marks.pop(node.lineno, ()) if isinstance(node, ast.stmt) else ()
        visited = self.generic_visit(node)
        if not marks or not isinstance(node, ast.stmt):
            return visited
        return [*(_on_line_of(node, _probe_statement(mark)) for mark in marks), visited]


def _on_line_of(statement: ast.stmt, probe: ast.stmt) -> ast.stmt:
    for each in ast.walk(probe):
        if isinstance(each, ast.stmt | ast.expr | ast.excepthandler):
            each.lineno = each.end_lineno = statement.lineno
            each.col_offset = each.end_col_offset = statement.col_offset
    return probe


def _probe_statement(mark: _Mark) -> ast.stmt:
    note = ast.parse(f"{_REACHED}({mark.number})").body[0]
    if not mark.when:
        return note
    return ast.If(_condition(mark.when), [note], [])


def _condition(text: str) -> ast.expr:
    """The condition as a tree. Raises `ProbeError` if it has what may not stand in one."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ProbeError(f"no condition: {text!r}: {error.msg}") from error
    for each in ast.walk(tree):
        if not isinstance(each, _MAY_STAND):
            raise ProbeError(f"a condition must not have a {type(each).__name__}: {text!r}")
        if isinstance(each, ast.Call) and not (isinstance(each.func, ast.Name) and each.func.id in _MAY_BE_CALLED):
            raise ProbeError(f"a condition may call {', '.join(sorted(_MAY_BE_CALLED))} only: {text!r}")
    return tree.body
