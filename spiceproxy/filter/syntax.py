"""What a filter says, as a tree. A node's `position` is where it begins in the text; it does not count when comparing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written out."""

    value: Scalar
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Path:
    """A value of the record: a top-level name, then names of fields and numbers of list items."""

    name: str
    steps: tuple[str | int, ...] = ()
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Bits:
    """`left & right` or `left | right`."""

    operator: str
    left: "Term"
    right: "Term"
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """`left operator right`; the operator is one of == != < <= > >=."""

    operator: str
    left: "Term"
    right: "Term"
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Glob:
    """`left =~ "pattern"`, or `!~` if negated."""

    left: "Term"
    pattern: str
    negated: bool = False
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class In:
    """`left in [items]`, or `not in` if negated."""

    left: "Term"
    items: tuple[Literal, ...]
    negated: bool = False
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    """`not test`."""

    test: "Node"
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class And:
    """Two or more tests that are all true."""

    tests: tuple["Node", ...]
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Or:
    """Two or more tests of which one is true."""

    tests: tuple["Node", ...]
    position: int = field(default=0, compare=False, repr=False)


Term = Literal | Path | Bits  # has a value
Test = Compare | Glob | In | Not | And | Or  # is true or false
Node = Term | Test


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below."""
    match node:
        case Bits() | Compare():
            return (node.left, node.right)
        case Glob() | In():
            return (node.left,)
        case Not():
            return (node.test,)
        case And() | Or():
            return node.tests
        case _:
            return ()


def walk(tree: Node) -> Iterator[tuple[Node, int]]:
    """Every node with its depth (the root has 1), in the order of the text. Does not recurse."""
    waiting: list[tuple[Node, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(child, depth + 1) for child in reversed(children(node))]


def compared(node: Node) -> Iterator[tuple[Path, str, int]]:
    """Values that this node compares with text that is written out, whether it is to be the same or not, and where that is."""
    match node:
        case Compare(operator="==" | "!=") | Bits():
            for one, other in ((node.left, node.right), (node.right, node.left)):
                if isinstance(one, Path) and isinstance(other, Literal) and isinstance(other.value, str):
                    yield one, other.value, other.position
        case In(left=Path() as path):
            for each in node.items:
                if isinstance(each.value, str):
                    yield path, each.value, each.position
