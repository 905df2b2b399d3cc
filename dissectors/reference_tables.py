"""Schemas as Markdown: a table of fields for a record, a line of values for an enum. What `dissectors.reference` prints."""

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from construct import Const, Construct, ConstructError, FormatField

from dissectors.fields import (
    Case,
    Choice,
    Count,
    CountedBytes,
    CountedText,
    FixedBytes,
    FixedItems,
    Flags,
    ImageBytes,
    Items,
    ItemsToEnd,
    Pointer,
    Record,
    RestBytes,
    Switch,
)
from dissectors.fields.boundary import unwrapped
from dissectors.migrate_data import EitherItems

_LETTERS: Final = {"B": "u8", "H": "u16", "I": "u32", "L": "u32", "Q": "u64"}
_INDENT: Final = "&nbsp;&nbsp;"


class _Row(NamedTuple):
    at: str  # offset, empty where it depends on what comes before
    name: str
    type: str
    meaning: str


class Notation:
    """How schemas are written down; remembers which structures and names were used, so that they can be listed.

    Args:
        names: Names of the records that have one, by their id().
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.structures: dict[str, Record] = {}
        self.values: dict[str, type[IntEnum | IntFlag]] = {}

    def table(self, record: Record) -> str:
        """Write down the fields of a record, with those of records that have no name of their own."""
        if not record.members:
            return "No fields."
        rows = [_Row("at", "field", "type", "meaning"), *self._rows(record, 0, 0)]
        lines = [f"| {row.at} | {row.name} | {row.type} | {row.meaning} |" for row in rows]
        return "\n".join([lines[0], "|--:|---|---|---|", *lines[1:]])

    def _rows(self, record: Record, at: int | None, depth: int) -> Iterator[_Row]:
        for member in record.subcons:
            schema = unwrapped(member)
            meaning = escaped(member.docs)
            type_ = self.written(schema)
            name = f"{_INDENT * depth}`{member.name}`"
            if isinstance(schema, Count):
                meaning = meaning or f"number of `{schema.of}`"
            yield _Row("" if at is None else str(at), name, type_, meaning)
            yield from self._inside(schema, at, depth + 1)
            size = _size(schema)
            at = None if at is None or size is None else at + size

    def _inside(self, schema: Construct, at: int | None, depth: int) -> Iterator[_Row]:
        """Say what a field consists of, where that has no name."""
        if isinstance(schema, Switch):
            for number, case in enumerate(schema.cases):
                condition = _condition(schema.on, case, first=number == 0)
                name = f"{_INDENT * depth}`{case.name}`"
                meaning = "; ".join(filter(None, (condition, escaped(getattr(case.schema, "docs", "")))))
                yield _Row("" if at is None else str(at), name, self.written(case.schema), meaning)
                yield from self._inside(unwrapped(case.schema), at, depth + 1)
        elif isinstance(schema, Pointer):
            yield from self._inside(unwrapped(schema.schema), None, depth)
        elif isinstance(schema, Items | ItemsToEnd | FixedItems):
            yield from self._inside(unwrapped(schema.subcon), None, depth)
        elif isinstance(schema, Record) and id(schema) not in self._names:
            yield from self._rows(schema, at, depth)

    def written(self, schema: Construct) -> str:
        """Write down a wire type."""
        schema = unwrapped(schema)
        match schema:
            case Choice() | Flags():
                return f"{self.written(schema.subcon)} {self._named(schema.names)}"
            case Count():
                return self.written(schema.subcon)
            case FormatField():
                return _integer(schema)
            case Record():
                return self._structure(schema)
            case CountedText():
                return f"text[`{schema.count}`]" + (" with its NUL" if schema.nul else "")
            case CountedBytes():
                return f"u8[`{schema.count}`]"
            case Const():
                return f"u8[{len(schema.value)}], `{schema.value.decode()}`"
            case FixedBytes():
                return f"u8[{schema.size}]"
            case RestBytes():
                return "u8[] to the end"
            case ImageBytes():
                bits = schema.bits_per_pixel
                row = f"`{schema.width}`" if bits == 8 else f"⌈{bits} × `{schema.width}` / 8⌉"
                return f"u8[{row} × `{schema.rows}`]"
            case Items():
                return f"{self.written(schema.subcon)}[`{schema.count}`]"
            case ItemsToEnd():
                return f"{self.written(schema.subcon)}[] to the end"
            case FixedItems():
                return f"{self.written(schema.subcon)}[{schema.count}]"
            case EitherItems():
                return " or ".join(self.written(kind) for kind in schema.kinds)
            case Pointer():
                return f"u32 → {self.written(schema.schema)}" + ("; 0 = none" if schema.null else "")
            case Switch():
                return f"one of, by `{schema.on}`"
        raise TypeError(f"no notation for {type(schema).__name__}")

    def _structure(self, schema: Record) -> str:
        name = self._names.get(id(schema))
        if name is None:
            return "struct" if schema.members else "nothing"
        self.structures.setdefault(name, schema)
        return link(name)

    def _named(self, names: type[IntEnum] | type[IntFlag]) -> str:
        known = self.values.setdefault(names.__name__, names)
        if known is not names:
            raise ValueError(f"two kinds of values are called {names.__name__}")
        return link(names.__name__)


def values_line(names: type[IntEnum] | type[IntFlag]) -> str:
    """Write down an enum or flags: what it is, and its values."""
    text = escaped(" ".join((names.__doc__ or "").split()))
    if issubclass(names, IntFlag):
        values = ", ".join(f"{member.value:#x} `{member.name}`" for member in names)
        return f"{text}\n\nBits: {values}"
    return f"{text}\n\n" + ", ".join(f"{member.value} `{member.name}`" for member in names)


def body_size(schema: Construct) -> str:
    """Say how long a body is, as far as that is always the same."""
    if isinstance(schema, Record) and not schema.members:
        return "empty"
    size = _size(schema)
    if size is None:
        return "varies"
    return f"{size} + {'what pointers name' if _has_pointer(schema) else ''}".removesuffix(" + ")


def escaped(text: str) -> str:
    """Text that Markdown would take for something else, made safe for a table; names from C as code."""
    parts = re.split(r"(`[^`]*`|\b[A-Z][A-Z0-9]+_[A-Z0-9_*]*|\b[a-z_]+_\*)", text.replace("|", "\\|"))
    for at, part in enumerate(parts):
        if at % 2:
            parts[at] = f"`{part.strip('`')}`"
        else:
            parts[at] = part.replace("<", "&lt;").replace(">", "&gt;").replace("*", "\\*")
    return "".join(parts)


def link(heading: str) -> str:
    """A link to a heading of the same page, by GitHub's rule for its anchor."""
    return f"[{heading}](#{anchor(heading)})"


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _integer(schema: FormatField) -> str:
    letter = schema.fmtstr[-1]
    name = _LETTERS[letter.upper()]
    name = name if letter.isupper() else f"i{name[1:]}"
    return f"{name} big-endian" if schema.fmtstr[0] == ">" and name[1:] != "8" else name


def _condition(on: str, case: Case, *, first: bool) -> str:
    if case.equal is not None:
        return f"if `{on}` is {' or '.join(map(_value, case.equal))}"
    if case.bit is not None:
        return f"if `{on}` has {_value(case.bit)}"
    if case.no_bit is not None:
        return f"if `{on}` has no {_value(case.no_bit)}"
    return "always" if first else "otherwise"


def _value(number: int) -> str:
    return f"`{number.name}`" if isinstance(number, IntEnum | IntFlag) else str(number)


def _size(schema: Construct) -> int | None:
    """Bytes in its place, without what pointers name; None if that depends on contents."""
    try:
        size: int = schema.sizeof()
    except ConstructError:
        return None
    return size


def _has_pointer(schema: Construct) -> bool:
    if isinstance(schema, Record):
        return any(_has_pointer(member) for _, member in schema.members)
    return isinstance(schema, Pointer)
