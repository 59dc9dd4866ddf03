"""Case files: one failing run, saved as text that is still readable, and still replays, years later.

A file names the spec, configuration and mode of the check, and the property and place that broke. It holds the program
with all its choices. Header and steps have everything that replay needs. The text after a ``#`` says how that step ran
when the case was saved; it is for people only.

    harness case 1
    spec: shardstore/index_spec.py
    name: index
    configuration: file
    mode: crash
    property: persistence
    place: put
    story: what was put and persistent is absent after the crash
    seed: 7
    scenario: 1234

    0 put key.0=1          # put(key=b'b', payload=<1 byte>)
    4 crash survivor.0.0=1 # crash: lost write 1 of step 0

Reading is total: any text gives a `Case`, or a `CaseFileError` with the line at fault. A version that this code does
not know is refused, never guessed at. Whether the program still *means* anything to today's spec is decided by
replaying it, not by reading the file.
"""

from __future__ import annotations

import builtins
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.choices.program import Program, ProgramSyntaxError, Step, format_program, parse_program
from harness.spec.spec import Mode

FORMAT_VERSION = 1
SUFFIX = ".case"
_TITLE = "harness case"
_REQUIRED = ("spec", "name", "configuration", "mode", "property", "place")
_OPTIONAL = ("story", "seed", "scenario")
_COMMENT_COLUMN_MAX = 48
_DIGITS_MAX = 18


class CaseFileError(ValueError):
    """A case file cannot be read; ``line`` counts from one."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Case:
    """One saved failure. Header texts are single lines without surrounding blanks."""

    spec: str  # path of the spec's file, relative to the project
    name: str  # of the spec in that file
    configuration: str
    mode: Mode
    property: str
    place: str
    program: Program = field(default_factory=Program)
    story: str = ""
    seed: int | None = None
    scenario: int | None = None

    def __post_init__(self) -> None:
        for key in (*_REQUIRED, "story"):
            _check_header(key, str(getattr(self, key)), may_be_empty=key not in _REQUIRED)

    @builtins.property  # the field of that name hides it
    def signature(self) -> tuple[str, str]:
        return (self.property, self.place)


def _check_header(key: str, value: str, *, may_be_empty: bool) -> None:
    if value != one_line(value) or not (value or may_be_empty):
        raise ValueError(f"{key} must be one line of text, without surrounding or double blanks: {value!r}")


def one_line(text: str) -> str:
    """The text on one line: each run of blanks and line ends becomes a single space."""
    return " ".join(text.split())


def format_case(case: Case, comments: Mapping[int, str] | None = None) -> str:
    """The text of a case file; ``comments`` maps a step's identity to a description of how it ran."""
    lines = [f"{_TITLE} {FORMAT_VERSION}"]
    for key in (*_REQUIRED, *_OPTIONAL):
        value = getattr(case, key)
        if value not in (None, ""):
            lines.append(f"{key}: {value}")
    steps = format_program(case.program).splitlines()
    width = max((len(step) for step in steps if len(step) <= _COMMENT_COLUMN_MAX), default=0)
    lines.append("")
    for step, line in zip(case.program.steps, steps, strict=True):
        lines.append(_with_comment(step, line, width, comments or {}))
    return "\n".join(lines) + "\n"


def _with_comment(step: Step, line: str, width: int, comments: Mapping[int, str]) -> str:
    comment = one_line(comments.get(step.identity, ""))
    return f"{line.ljust(width)}  # {comment}" if comment else line


def parse_case(text: str) -> Case:
    """Read what `format_case` wrote. Raises `CaseFileError` for any other text."""
    lines = text.splitlines()
    _check_title(lines[0] if lines else "")
    header, header_end = _parse_header(lines)
    # Empty lines in place of the header keep the line numbers of the program's errors right.
    body = "\n" * header_end + "\n".join(lines[header_end:])
    try:
        program = parse_program(body)
    except ProgramSyntaxError as error:
        raise CaseFileError(error.line, error.expected) from None
    missing = [key for key in _REQUIRED if key not in header]
    if missing:
        raise CaseFileError(header_end, f"header lacks {', '.join(missing)}")
    return _build(header, program)


def _check_title(line: str) -> None:
    match = re.fullmatch(rf"{_TITLE} ([0-9]{{1,{_DIGITS_MAX}}})", line.strip())
    if match is None:
        raise CaseFileError(1, f"not a case file: expected '{_TITLE} {FORMAT_VERSION}'")
    if int(match[1]) != FORMAT_VERSION:
        raise CaseFileError(1, f"case file version {int(match[1])} is not known; this is version {FORMAT_VERSION}")


def _parse_header(lines: list[str]) -> tuple[dict[str, tuple[int, str]], int]:
    """The header's values with their line numbers, and the number of lines it takes. A blank line ends it."""
    header: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            return header, number
        key, separator, value = line.partition(":")
        if not separator or key not in (*_REQUIRED, *_OPTIONAL):
            raise CaseFileError(number, "expected a header line 'key: value', or a blank line before the steps")
        if key in header:
            raise CaseFileError(number, f"{key} is given twice")
        header[key] = (number, value.strip())
    return header, len(lines)


def _build(header: Mapping[str, tuple[int, str]], program: Program) -> Case:
    line, mode = header["mode"]
    if mode not in tuple(Mode):
        raise CaseFileError(line, f"unknown mode {mode!r}: one of {', '.join(Mode)}")
    for key in (*_REQUIRED, "story"):
        line, value = header.get(key, (1, ""))
        try:
            _check_header(key, value, may_be_empty=key not in _REQUIRED)
        except ValueError as error:
            raise CaseFileError(line, str(error)) from None
    return Case(
        spec=header["spec"][1],
        name=header["name"][1],
        configuration=header["configuration"][1],
        mode=Mode(mode),
        property=header["property"][1],
        place=header["place"][1],
        program=program,
        story=header["story"][1] if "story" in header else "",
        seed=_integer(header, "seed"),
        scenario=_integer(header, "scenario"),
    )


def _integer(header: Mapping[str, tuple[int, str]], key: str) -> int | None:
    if key not in header:
        return None
    line, value = header[key]
    if not re.fullmatch(rf"-?[0-9]{{1,{_DIGITS_MAX}}}", value):
        raise CaseFileError(line, f"{key} must be an integer")
    return int(value)


def read_case(path: Path) -> Case:
    """Read a case file. Raises `CaseFileError` for bad content and `OSError` if the file cannot be read."""
    try:
        return parse_case(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise CaseFileError(1, "not a case file: not UTF-8 text") from None


def file_name(case: Case, copy: int = 1) -> str:
    """A file name that is the same for the same failure on every machine; ``copy`` counts cases that share it."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{case.name} {case.mode} {case.property}".lower()).strip("-")
    # The words alone leave out the place, and the path of the spec.
    identity = "\n".join((case.spec, case.name, case.mode, case.property, case.place))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return f"{words}-{digest}{f'-{copy}' if copy > 1 else ''}{SUFFIX}"
