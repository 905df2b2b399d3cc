"""Whether a record can fit of which not everything is known yet: what a filter makes worth looking at.

Logic with three values. A test of names that are known is true or false; of others it may be either.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from spiceproxy.filter.compiler import compile_test
from spiceproxy.filter.parser import parse
from spiceproxy.filter.syntax import And, Node, Not, Or, Path, walk

if TYPE_CHECKING:
    from spiceproxy.filter import Record

_Verdict = tuple[bool, bool]
"""Whether it may be true, and whether it may be false."""

_Judge = Callable[["Record"], _Verdict]

_EITHER: Final = (True, True)


def compile_possible(text: str, unknown: Collection[str]) -> Callable[["Record"], bool]:
    """What says whether a record can fit.

    Args:
        text: Of a filter.
        unknown: Top-level names whose values the records that it is given do not have yet. All others count as known,
            also where they are missing.

    Raises:
        FilterError: The text is not an expression.
    """
    judge = _judge(parse(text), frozenset(unknown))
    return lambda record: judge(record)[0]


def _judge(node: Node, unknown: frozenset[str]) -> _Judge:
    match node:
        case Not():
            inner = _judge(node.test, unknown)
            return lambda record: inner(record)[::-1]
        case And():
            every = [_judge(test, unknown) for test in node.tests]

            def all_of(record: "Record") -> _Verdict:
                found = [judge(record) for judge in every]
                return all(may for may, _ in found), any(may_not for _, may_not in found)

            return all_of
        case Or():
            some = [_judge(test, unknown) for test in node.tests]

            def any_of(record: "Record") -> _Verdict:
                found = [judge(record) for judge in some]
                return any(may for may, _ in found), all(may_not for _, may_not in found)

            return any_of
    if any(isinstance(each, Path) and each.name in unknown for each, _ in walk(node)):
        return lambda _record: _EITHER
    test = compile_test(node)
    return lambda record: (True, False) if test(record) else (False, True)
