"""Text to tree. The grammar is lark's LALR(1): linear in the text, and it does not recurse."""

import functools
import math
import re
from typing import Any, Final

import lark

from spiceproxy.filter.error import FilterError
from spiceproxy.filter.syntax import And, Bits, Compare, Glob, In, Literal, Node, Not, Or, Path, Test, walk

MAX_CHARACTERS: Final = 4096
MAX_DEPTH: Final = 50  # what compares a record calls itself once a level
MAX_PATTERN_CHARACTERS: Final = 256

# Words of the language may be names of fields, so a step of a path is a token of its own. A number takes every letter
# that follows, so that 10mz is one thing that is wrong, not two that do not fit.
_GRAMMAR: Final = r"""
start: or_
?or_: and_ (_OR and_)*
?and_: not_ (_AND not_)*
?not_: NOT not_ -> negation
    | comparison
?comparison: bit_or
    | bit_or COMPARE bit_or -> compare
    | bit_or MATCH STRING -> glob
    | bit_or IN "[" literal ("," literal)* "]" -> membership
?bit_or: bit_and (BIT_OR bit_and)*
?bit_and: atom (BIT_AND atom)*
?atom: literal
    | NAME step* -> path
    | "(" or_ ")"
step: "." STEP
    | "[" INDEX "]"
literal: STRING | NUMBER | WORD

_OR: /or\b|\|\|/
_AND: /and\b|&&/
NOT: /not\b|!/
COMPARE: /[=!<>]=|[<>]/
MATCH: /[=!]~/
IN: /(?:not\s+)?in\b/
BIT_OR: /\|(?!\|)/
BIT_AND: /&(?!&)/
WORD: /(?:true|false|null)\b/
NAME: /(?!(?:and|or|not|in|true|false|null)\b)[A-Za-z_][A-Za-z_0-9]*/
STEP: /[A-Za-z_][A-Za-z_0-9]*/
INDEX: /[0-9]{1,9}\b/
NUMBER: /-?[0-9](?:[eE][+-](?=[0-9])|[0-9A-Za-z_.])*/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""

_WORDS: Final = {"true": True, "false": False, "null": None}
_NUMBER: Final = re.compile(
    r"(?P<sign>-?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<decimal>[0-9]+(?P<part>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)))"
    r"(?P<unit>[A-Za-z]*)"
)
# Durations are seconds, as in every event; sizes are bytes. A divisor keeps 10ms the same number as 0.01.
_UNITS: Final[dict[str, tuple[int, int]]] = {
    "": (1, 1), "us": (1, 10**6), "ms": (1, 1000), "s": (1, 1), "min": (60, 1), "h": (3600, 1),
    "B": (1, 1), "kB": (1000, 1), "MB": (10**6, 1), "GB": (10**9, 1), "KiB": (2**10, 1), "MiB": (2**20, 1),
    "GiB": (2**30, 1),
}  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"', "'": "'"}

# What may come next, in words, in the order in which it is said.
_A_VALUE: Final = "a value (a name, a number, or text in quotes)"
_EXPECTED: Final = (
    ("STEP", "the name of a field"),
    ("INDEX", "the number of an item"),
    ("NAME", _A_VALUE),
    ("NUMBER", "a number or text in quotes"),
    ("STRING", "a pattern in quotes"),
    ("COMPARE", "a comparison"),
    ("_AND", "`and`"),
    ("_OR", "`or`"),
    ("COMMA", "`,`"),
    ("LSQB", "`[`"),
    ("RSQB", "`]`"),
    ("RPAR", "`)`"),
    ("$END", "the end"),
)
_PIECE: Final = re.compile(r"\w+|[^\w\s]{1,2}|.", re.DOTALL)
_LAST_PIECE: Final = re.compile(r"(?:\w+|[^\w\s]{1,2})$")


def parse(text: str) -> Node:
    """Parse a filter.

    Raises:
        FilterError: It is no filter, or longer or deeper than anybody means.
    """
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"a filter has {MAX_CHARACTERS} characters at most", text, MAX_CHARACTERS)
    if not text.strip():
        raise FilterError("the filter is empty", text, 0)
    try:
        tree: Node = _parser().parse(text)  # type: ignore[assignment]  # the builder's root, not lark's
    except lark.UnexpectedInput as error:
        raise _explain(error, text) from None
    except _Wrong as error:
        raise FilterError(error.args[0], text, error.position) from None
    for node, depth in walk(tree):
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter is nested {MAX_DEPTH} levels deep at most", text, node.position)
    return tree


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark(_GRAMMAR, parser="lalr", transformer=_Builder())


class _Wrong(Exception):  # noqa: N818 - becomes a FilterError where the text is known
    """Something that fits the grammar and still is not right."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@lark.v_args(inline=True)
class _Builder(lark.Transformer[Any, Node]):
    """Makes the tree while lark parses."""

    def start(self, node: Node) -> Node:
        return node

    def literal(self, token: lark.Token) -> Literal:
        position = _at(token)
        if token.type == "STRING":
            return Literal(_unquote(token), position)
        if token.type == "NUMBER":
            return Literal(_number(token), position)
        return Literal(_WORDS[token], position)

    def step(self, token: lark.Token) -> str | int:
        return int(token) if token.type == "INDEX" else str(token)

    def path(self, name: lark.Token, *steps: str | int) -> Path:
        return Path(str(name), steps, _at(name))

    def bit_and(self, first: Node, *rest: Any) -> Node:
        for operator, operand in zip(rest[::2], rest[1::2], strict=True):
            for side, other in ((first, operand), (operand, first)):
                if isinstance(side, Literal) and isinstance(side.value, str) and not isinstance(other, Path):
                    raise _Wrong('bits go by name only beside the field: fields.flags & "A|B"', side.position)
                if isinstance(side, Test) or (isinstance(side, Literal) and isinstance(side.value, float)):
                    raise _Wrong(f"`{operator}` tests the bits of a whole number", _at(operator))
            first = Bits(str(operator), first, operand, first.position)  # type: ignore[arg-type]
        return first

    bit_or = bit_and

    def compare(self, left: Node, operator: lark.Token, right: Node) -> Compare:
        for side in (left, right):
            _need_value(side, operator)
        return Compare(str(operator), left, right, left.position)  # type: ignore[arg-type]

    def glob(self, left: Node, operator: lark.Token, pattern: lark.Token) -> Glob:
        _need_value(left, operator)
        text = _unquote(pattern)
        if len(text) > MAX_PATTERN_CHARACTERS:
            raise _Wrong(f"a pattern has {MAX_PATTERN_CHARACTERS} characters at most", _at(pattern))
        return Glob(left, text, operator == "!~", left.position)  # type: ignore[arg-type]

    def membership(self, left: Node, operator: lark.Token, *items: Literal) -> In:
        _need_value(left, operator)
        return In(left, items, operator != "in", left.position)  # type: ignore[arg-type]

    def negation(self, word: lark.Token, test: Node) -> Not:
        return Not(test, _at(word))

    def and_(self, *tests: Node) -> And:
        return And(tests, tests[0].position)

    def or_(self, *tests: Node) -> Or:
        return Or(tests, tests[0].position)


def _need_value(side: Node, operator: lark.Token) -> None:
    if isinstance(side, Test):
        raise _Wrong(f"`{operator}` compares values; one side of it is true or false already", _at(operator))


def _at(token: lark.Token) -> int:
    return token.start_pos or 0


def _unquote(token: lark.Token) -> str:
    def letter(found: re.Match[str]) -> str:
        code, long_code, simple = found.groups()
        if simple is None:
            return chr(int(code or long_code, 16))
        if simple not in _ESCAPED:
            known = "\\\\ \\\" \\' \\n \\r \\t \\0 \\x41 \\u0041"
            raise _Wrong(f"no such escape in text; there are {known}", _at(token) + 1 + found.start())
        return _ESCAPED[simple]

    return _ESCAPE.sub(letter, token[1:-1])


def _number(token: lark.Token) -> int | float:
    found = _NUMBER.fullmatch(token)
    if found is None:
        raise _Wrong(f"`{token}` is not a number", _at(token))
    if found["unit"] not in _UNITS:
        known = " ".join(filter(None, _UNITS))
        raise _Wrong(f"`{found['unit']}` is not a unit; there are {known}", _at(token) + found.start("unit"))
    times, divisor = _UNITS[found["unit"]]
    if len(token) > 50:
        raise _Wrong("the number is too long", _at(token))
    if found["hex"] is not None:
        number: int | float = int(found["hex"], 16)
    else:
        number = float(found["decimal"]) if found["part"] else int(found["decimal"])
    number *= times
    if number % divisor or isinstance(number, float):
        number /= divisor
    else:
        number //= divisor
    if not math.isfinite(number):
        raise _Wrong("the number is too large", _at(token))
    return -number if found["sign"] else number


def _explain(error: lark.UnexpectedInput, text: str) -> FilterError:
    """Say in words what is wrong, without the names of tokens."""
    ended = isinstance(error, lark.UnexpectedToken) and error.token.type == "$END"
    position = len(text) if ended else error.pos_in_stream or 0
    if isinstance(error, lark.UnexpectedToken):
        possible = error.accepts or error.expected
    else:
        possible = getattr(error, "allowed", None) or set()
    rest = text[position:]
    if rest[:1] in {'"', "'"} and {"STRING", "NAME"} & possible:
        return FilterError(f"the closing {rest[0]} of this text is missing", text, position)
    if rest.startswith("=") and "COMPARE" in possible:
        return FilterError("`=` is not an operator: use `==` to compare, `=~` for a pattern", text, position)
    if possible == {"RPAR"} or (ended and "RPAR" in possible):
        return FilterError("the closing `)` is missing", text, position)
    if rest.startswith(")") and "$END" in possible:
        return FilterError("no `(` is open that this `)` could close", text, position)
    words = [word for token, word in _EXPECTED if token in possible]
    if "NAME" in possible:  # `not` and ( begin a value as well; the shorter answer helps more
        words = [_A_VALUE]
    elif "COMPARE" in possible:  # ... as does what may go on with a value that is whole
        words = [word for word in words if word != "`[`"]
    elif "NUMBER" in possible:
        words = ["a number or text in quotes"]
    expected = " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "something else"
    before = _LAST_PIECE.search(text[:position].rstrip())
    after = "" if before is None else f" after `{before[0][-20:]}`"
    if before is not None and before[0][-1] in "\"'":
        after = " after the text in quotes"
    piece = _PIECE.match(rest)
    found = f"found {_shown(piece[0][:20])}" if piece and not ended else "but the filter ends"
    return FilterError(f"expected {expected}{after}, {found}", text, position)


def _shown(piece: str) -> str:
    if piece[0] in "\"'":
        return "text in quotes"
    return f"`{piece}`" if piece.isprintable() else f"`{ascii(piece)[1:-1]}`"
