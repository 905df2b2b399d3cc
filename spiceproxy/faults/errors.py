"""What is wrong with a rule."""

import difflib
from collections.abc import Iterable
from typing import Final

from spiceproxy.errors import UsageError

Path = tuple[str | int, ...]
"""Where in a file of rules: ("fault", 0, "match", "channel")."""

_SHOWN: Final = 12  # names that are listed where none is near


class FaultFileError(UsageError):
    """A file of faults cannot be used; the text has the file, the line and what is wrong.

    Attributes:
        file: Its name.
        line: From 1.
        reason: What is wrong, in one line.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


class RuleError(Exception):
    """Something at `path` of a rule is wrong. Whoever knows the file makes a FaultFileError of it."""

    def __init__(self, reason: str, path: Path = ()) -> None:
        super().__init__(reason)
        self.reason, self.path = reason, path

    def under(self, *path: str | int) -> "RuleError":
        """The same, seen from further up."""
        return RuleError(self.reason, (*path, *self.path))


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> str:
    """Say that there is no such name, and which one may have been meant."""
    names = list(known)
    text = f"there is no {kind} `{name}`{where}"
    by_lower = {each.lower(): each for each in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"{text}; did you mean `{by_lower[near[0]]}`?"
    if len(names) > _SHOWN or not names:
        return text
    return f"{text}; there is {', '.join(names)}"
