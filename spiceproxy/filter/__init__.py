"""One small language that says which messages and events are meant: reader, event log, faults, live view.

`channel == "display" and name =~ "MIGRATE*" and fields.flags & 2`; for people it is described in docs/filter.md. The
parser is loaded with the first filter that is compiled, and costs nothing before.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from spiceproxy.filter.error import FilterError

__all__ = ["MISSING", "Filter", "FilterError", "Record", "compile_filter"]

# What a record answers for a name that it does not have. It is null: the language knows one kind of nothing, and a
# plain dict is a record too.
MISSING: Final = None

# Names whose values are known only after the body was decoded.
_OF_THE_BODY: Final = frozenset({"fields", "error", "trailing", "inside"})


class Record(Protocol):
    """What a filter looks at: a dict, or anything that has its values by top-level name."""

    def get(self, name: str, /) -> Any:
        """The value of this name: text, number, bytes, dict, list ...; or MISSING."""


class Filter:
    """A compiled filter.

    Attributes:
        text: As the user wrote it.
        matches: Called with a record, says whether it is meant. Raises nothing of its own.
        names: Top-level names that it asks for.
        needs_fields: It asks for what only a decoded body can tell.
    """

    __slots__ = ("matches", "names", "needs_fields", "text")

    def __init__(self, text: str, matches: Callable[[Record], bool], names: frozenset[str]) -> None:
        self.text, self.matches, self.names = text, matches, names
        self.needs_fields = not _OF_THE_BODY.isdisjoint(names)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"


def compile_filter(text: str, *, names: Collection[str] | None = None) -> Filter:
    """Compile a filter.

    Args:
        text: The expression, at most `parser.MAX_CHARACTERS` long.
        names: Every top-level name that a record may have; None if that is not known.

    Raises:
        FilterError: The text is not an expression, or asks for a name that is not in `names`.
    """
    # Late, for lark: docs/dependencies.md has the figures.
    from spiceproxy.filter.compiler import compile_test
    from spiceproxy.filter.names import check_names
    from spiceproxy.filter.parser import parse

    tree = parse(text)
    used = check_names(tree, text, names)
    return Filter(text, compile_test(tree), used)
