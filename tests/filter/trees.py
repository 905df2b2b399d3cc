"""Trees back to text, and random trees."""

import json
import math
from typing import Any

from hypothesis import strategies as st

from spiceproxy.filter.syntax import And, Bits, Compare, Glob, In, Literal, Node, Not, Or, Path, Test

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
WORDS = {"and", "or", "not", "in", "true", "false", "null"}


def show(node: Node) -> str:
    """A text that means this tree."""
    match node:
        case Literal(value=str(text)):
            return quote(text)
        case Literal():
            return json.dumps(node.value)
        case Path():
            return node.name + "".join(
                f"[{step}]" if isinstance(step, int) else f".{step}" for step in node.steps
            )
        case Bits():
            return f"{operand(node.left)} {node.operator} {operand(node.right)}"
        case Compare():
            return f"{operand(node.left)} {node.operator} {operand(node.right)}"
        case Glob():
            return f"{operand(node.left)} {'!~' if node.negated else '=~'} {quote(node.pattern)}"
        case In():
            items = ", ".join(show(item) for item in node.items)
            return f"{operand(node.left)} {'not in' if node.negated else 'in'} [{items}]"
        case Not():
            return f"not {operand(node.test)}"
        case And():
            return " and ".join(map(operand, node.tests))
        case Or():
            return " or ".join(map(operand, node.tests))


def operand(node: Node) -> str:
    return f"({show(node)})" if isinstance(node, Bits | Test) else show(node)


def quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,8}", fullmatch=True)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=12),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: math.copysign(1, number) > 0),
    st.booleans(),
    st.none(),
)
literals = scalars.map(Literal)
paths = st.builds(
    Path,
    names.filter(lambda name: name not in WORDS),
    st.lists(names | st.integers(0, 999_999_999), max_size=3).map(tuple),
)
bits = st.recursive(
    paths | st.integers(0, 2**32).map(Literal),
    lambda inner: st.builds(Bits, st.sampled_from("&|"), inner, inner),
    max_leaves=4,
)
terms = st.one_of(literals, paths, bits)
tests = st.one_of(
    st.builds(Compare, st.sampled_from(COMPARISONS), terms, terms),
    st.builds(Glob, terms, st.text(max_size=12), st.booleans()),
    st.builds(In, terms, st.lists(literals, min_size=1, max_size=4).map(tuple), st.booleans()),
)
trees: st.SearchStrategy[Node] = st.recursive(
    terms | tests,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=4).map(tuple)),
    ),
    max_leaves=8,
)
