"""Tree to closures. A term becomes a function that gets its value, a test one that says yes or no.

A value that is missing is None, as null is. Every comparison with it is false, except the two with the literal null.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from spiceproxy.filter import values
from spiceproxy.filter.syntax import And, Bits, Compare, Glob, In, Literal, Node, Not, Or, Path, Term

if TYPE_CHECKING:
    from spiceproxy.filter import Record

Get = Callable[["Record"], Any]
Matches = Callable[["Record"], bool]

_FLIPPED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compile_test(node: Node) -> Matches:
    """What says whether a record fits. Recurses once a level; the parser bounds those."""
    match node:
        case Compare():
            return _compare(node)
        case Glob():
            return _where(node.left, values.glob(node.pattern, _top_level(node.left)), negated=node.negated)
        case In():
            return _membership(node)
        case Not():
            inner = compile_test(node.test)
            return lambda record: not inner(record)
        case And():
            return _all([compile_test(test) for test in node.tests])
        case Or():
            return _any([compile_test(test) for test in node.tests])
        case _:
            get = _term(node)
            return lambda record: bool(get(record))


def _all(tests: list[Matches]) -> Matches:
    if len(tests) == 2:
        first, second = tests
        return lambda record: first(record) and second(record)

    def every(record: "Record") -> bool:
        for test in tests:  # noqa: SIM110 - a generator costs more than the tests
            if not test(record):
                return False
        return True

    return every


def _any(tests: list[Matches]) -> Matches:
    if len(tests) == 2:
        first, second = tests
        return lambda record: first(record) or second(record)

    def some(record: "Record") -> bool:
        for test in tests:  # noqa: SIM110
            if test(record):
                return True
        return False

    return some


def _top_level(term: Term) -> str | None:
    return term.name if isinstance(term, Path) and not term.steps else None


def _where(term: Term, decide: values.Decide, *, negated: bool = False) -> Matches:
    """A test of one value; false if that is missing, negated or not."""
    name = _top_level(term)
    if name is None:
        get = _term(term)
        if negated:
            return lambda record: (value := get(record)) is not None and not decide(value)
        return lambda record: (value := get(record)) is not None and decide(value)
    if negated:
        return lambda record: (value := record.get(name)) is not None and not decide(value)
    return lambda record: (value := record.get(name)) is not None and decide(value)


def _compare(node: Compare) -> Matches:
    left, sign, right = node.left, node.operator, node.right
    if isinstance(left, Literal) and not isinstance(right, Literal):
        left, sign, right = right, _FLIPPED[sign], left
    if not isinstance(right, Literal):
        return _compare_two(_term(left), sign, _term(right))
    if right.value is None:
        get = _term(left)
        if sign == "==":
            return lambda record: get(record) is None
        if sign == "!=":
            return lambda record: get(record) is not None
        return lambda _record: False
    if sign in values.ORDERS:
        return _where(left, values.ordered(sign, right.value))
    return _where(left, values.equals(right.value, _top_level(left)), negated=sign == "!=")


def _compare_two(left: Get, sign: str, right: Get) -> Matches:
    def compare(record: "Record") -> bool:
        one, other = left(record), right(record)
        if one is None or other is None:
            return False
        if sign in values.ORDERS:
            return values.in_order(sign, one, other)
        return values.same(one, other) is (sign == "==")

    return compare


def _membership(node: In) -> Matches:
    decisions = [
        values.equals(item.value, _top_level(node.left)) for item in node.items if item.value is not None
    ]

    def is_one(value: Any) -> bool:
        for decide in decisions:  # noqa: SIM110
            if decide(value):
                return True
        return False

    found = _where(node.left, is_one, negated=node.negated)
    if node.negated or len(decisions) == len(node.items):
        return found
    get = _term(node.left)
    return lambda record: get(record) is None or found(record)


def _term(node: Node) -> Get:
    match node:
        case Literal():
            value = node.value
            return lambda _record: value
        case Path():
            return _path(node.name, node.steps)
        case Bits():
            return _bits(node)
        case _:  # pragma: no cover - the parser lets nothing else through
            raise AssertionError(node)


def _path(name: str, steps: tuple[str | int, ...]) -> Get:
    if not steps:
        return lambda record: record.get(name)

    if len(steps) == 1 and isinstance(steps[0], str):  # fields.flags: the usual one
        step = steps[0]
        return lambda record: value.get(step) if isinstance(value := record.get(name), dict) else None

    def get(record: "Record") -> Any:
        value: Any = record.get(name)
        for step in steps:
            if step.__class__ is str:
                if not isinstance(value, dict):
                    return None
                value = value.get(step)
            elif isinstance(value, list | tuple) and step < len(value):  # type: ignore[operator]
                value = value[step]  # type: ignore[index]
            else:
                return None
        return value

    return get


def _bits(node: Bits) -> Get:
    left, right, both = _term(node.left), _term(node.right), node.operator == "&"
    mask = node.right.value if isinstance(node.right, Literal) else None
    if both and isinstance(mask, int):  # fields.flags & 2
        return lambda record: int(value) & mask if isinstance(value := left(record), int) else None

    def get(record: "Record") -> int | None:
        one, other = left(record), right(record)
        if other.__class__ is str:
            other = values.bits_named(one, other)
        elif one.__class__ is str:
            one = values.bits_named(other, one)
        if not isinstance(one, int) or not isinstance(other, int):
            return None
        return int(one) & int(other) if both else int(one) | int(other)

    return get
