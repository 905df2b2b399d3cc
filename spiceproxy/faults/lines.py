"""On which line of a TOML file something stands: tomllib says what, and not where.

A statement of TOML ends at the end of a line, so a file falls into statements by asking tomllib of each line, and of the
lines after it, whether that is whole.
"""

import tomllib
from typing import Any, NamedTuple

from spiceproxy.faults.errors import Path


class _Statement(NamedTuple):
    line: int  # from 1
    text: str
    path: Path  # of the table that a header opens, or of the key


class Lines:
    """Where things stand in `text`, which tomllib has read."""

    def __init__(self, text: str) -> None:
        self._statements: list[_Statement] = []
        self._counts: dict[Path, int] = {}
        table: Path = ()
        start, pending = 1, ""
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            pending += line
            try:
                found = tomllib.loads(pending)
            except tomllib.TOMLDecodeError:
                continue  # it goes on in the next line
            if found:
                header = pending.lstrip().startswith("[")
                names = _keys(found)
                if header:
                    table = self._open(names, array=pending.lstrip().startswith("[["))
                path = table if header else (*table, *names)
                self._statements.append(_Statement(start, pending, path))
            start, pending = number + 1, ""

    def _open(self, names: Path, *, array: bool) -> Path:
        """The path of a table whose header is met: arrays of tables are counted."""
        path: Path = ()
        for position, name in enumerate(names):
            path = (*path, name)
            if array and position == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path

    def line_of(self, path: Path) -> int:
        """The line of what is at `path`, or else of what is around it; 1 for the file as a whole."""
        best: _Statement | None = None
        for statement in self._statements:
            common = _common(statement.path, path)
            # A statement inside of what is asked for tells as well as one around it: the first one of these.
            if common in (len(statement.path), len(path)) and (
                best is None or common > _common(best.path, path)
            ):
                best = statement
        if best is None or not _common(best.path, path):
            return 1
        return best.line + _inside(best.text, path[len(best.path) :])


def _keys(found: dict[str, Any]) -> Path:
    """The key of one statement: tomllib has made a table of each of its parts."""
    names: list[str | int] = []
    value: Any = found
    while isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
        names.append(name)
        value = value[name]
        if isinstance(value, list) and value == [{}]:  # the header of an array of tables
            break
    return tuple(names)


def _common(one: Path, other: Path) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _inside(text: str, rest: Path) -> int:
    """How many lines further down in a statement of several lines, which has an array in it."""
    lines = text.splitlines()
    if len(lines) == 1 or not rest:
        return 0
    first, last = 0, 0
    if isinstance(rest[0], int):  # an array: an item begins behind the one before it
        counts = [_items("\n".join(lines[: number + 1])) for number in range(len(lines))]
        ends = [
            next((n for n, count in enumerate(counts) if count > item), 0) for item in (rest[0] - 1, rest[0])
        ]
        first, last = (ends[0] + 1 if rest[0] else 0), ends[1]
    names = [name for name in rest if isinstance(name, str)]
    return next((n for n in range(first, last) if names and names[-1] in lines[n]), last)


def _items(text: str) -> int:
    """Items of an array that may not be closed yet."""
    for end in ("\n]", ""):
        try:
            value: Any = tomllib.loads(text + end)
        except tomllib.TOMLDecodeError:
            continue
        while isinstance(value, dict):
            value = value[next(iter(value))]
        return len(value)
    return 0  # inside of an item
