"""Which statements a plant has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.planted.changed_lines import changed_lines

CLEAN = '''\
LIMIT = 3


class Store:
    """Text."""

    size = 1

    def put(self, key, value):
        """Text."""
        if key:
            self.note(key)
            self.more = (
                key
                + value
            )
        else:
            self.note(value)
            self.forget()
        return value
'''


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("            self.note(key)\n", "            self.note(value)\n", [12]),
        ("                + value\n", "                - value\n", [13]),  # of a statement of several lines, its first
        ("        if key:\n", "        if not key:\n", [11]),
        ("            self.note(key)\n", "", [12]),  # the next in the block
        ("            self.forget()\n", "", [18]),  # the one before
        ("        return value\n", "        self.size += 1\n        return value\n", [20]),
        ("put(self, key, value)", "put(self, value, key)", [11]),  # whoever calls it comes here
        ("LIMIT = 3", "LIMIT = 4", []),
        ("    size = 1", "    size = 2", []),
        ('        """Text."""\n        if', '        """Other."""\n        if', [11]),
    ],
)
def test_a_changed_line_stands_for_its_statement(tmp_path: Path, old: str, new: str, lines: list[int]) -> None:
    assert CLEAN.count(old) == 1
    clean, planted = tmp_path / "clean.py", tmp_path / "planted.py"
    clean.write_text(CLEAN)
    planted.write_text(CLEAN.replace(old, new))
    assert changed_lines(clean, planted) == lines
