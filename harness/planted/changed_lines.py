"""The statements that a plant has changed, so that a search can say whether they were reached.

A changed line stands for the innermost statement that it is a line of; what was taken away, for a neighbour in its
block. What runs only when its module is imported cannot be seen: constants, and whole classes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path


def changed_lines(clean: Path, planted: Path) -> list[int]:
    """The lines at which the statements begin, in the planted file, that differ from the clean one, in order."""
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (clean, planted))
    functions = [each for each in ast.walk(ast.parse("\n".join(after))) if isinstance(each, _FUNCTIONS)]
    lines = []
    for tag, _, before_end, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "delete":
            lines.append(_neighbour(after, start, _indentation(before[before_end - 1])))
        elif tag != "equal":
            lines += range(start + 1, end + 1)
    return sorted({found for line in lines if (found := _statement_at(functions, line)) is not None})


_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def _neighbour(lines: list[str], place: int, indentation: int) -> int:
    """The number of the line next to a deletion that is in the same block, else of the one before."""
    is_next = place < len(lines) and lines[place].strip() and _indentation(lines[place]) == indentation
    return place + 1 if is_next else max(1, place)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _statement_at(functions: list[ast.FunctionDef | ast.AsyncFunctionDef], line: int) -> int | None:
    """Where the innermost statement within a function begins that has this line; of its head, the first of its body."""
    around = [each for each in functions if each.lineno <= line <= (each.end_lineno or 0)]
    if not around:
        return None
    function = max(around, key=lambda each: each.lineno)
    statements = list(_statements_in(function))
    within = [each.lineno for each in statements if each.lineno <= line <= (each.end_lineno or 0)]
    return max(within or [statements[0].lineno]) if statements else None


def _statements_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """But for documentation, which never runs."""
    for statement in function.body:
        for each in ast.walk(statement):
            is_text = isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            if isinstance(each, ast.stmt) and not is_text:
                yield each
