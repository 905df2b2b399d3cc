"""From a schema to Python that reads the same bytes ten to thirty times as fast, with the same checks.

construct walks a tree of objects for every message: 20 to 200 microseconds. The code made here reads neighbouring
integers with one `struct` call and makes the dicts directly. The schemas stay the one source of truth: what this
module cannot say in code, it does not compile, and whatever the code stumbles over is read once more by construct,
which then names the fault or, for a layout that is legal and rare, returns the value. So an answer of the code is
construct's answer, or there is none; tests hold that against every schema.

construct's own `compile()` is no way out: it drops the checks of sizes against what is there.

Two styles come out of a schema. VALUES is what `dissectors.fields.read` returns. JSON is the same for people and
programs outside of Python: plain numbers for names, hexadecimal for bytes, the length in place of bulk.
"""

import struct
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from construct import Construct, FormatField, Pass

from dissectors.fields import (
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
from dissectors.fields.arrays import as_text
from dissectors.fields.boundary import MAX_ITEMS

# ruff: noqa: SLF001 - the functions made here are private to the module, not to one of its classes

Reader: TypeAlias = Callable[[bytes], tuple[Any, int]]
"""Body -> value and where it ends. Raises one of UNFIT where construct has to have a look."""


class Style(Enum):
    """What becomes of values that JSON has no word for."""

    VALUES = "values"  # IntEnum, IntFlag and bytes
    JSON = "json"  # plain int; bytes in hexadecimal; of bulk the length
    JSON_BULK = "json with bulk"  # as JSON, and bulk in hexadecimal too


class Unfit(Exception):  # noqa: N818 - not an error yet: construct will say what it is
    """The code cannot read these bytes."""


UNFIT: Final = (Unfit, struct.error, IndexError, TypeError, KeyError)
"""What a compiled reader raises: `Unfit`, or whatever Python said first about bytes that are not there."""


class NotCompilable(Exception):  # noqa: N818 - a property of a schema
    """The schema has a part that only construct can read."""


def compile_reader(schema: Construct, style: Style = Style.VALUES) -> Reader:
    """Make a reader for the whole of a message.

    Raises:
        NotCompilable: The schema has a block that is not one of `dissectors.fields`.
    """
    return _Program(style).reader(schema)


class _Scope:
    """The fields of one record, by name, as far as they have been read."""

    def __init__(self) -> None:
        self._fields: dict[str, _Value] = {}

    def add(self, name: str, value: "_Value") -> None:
        """Note a field."""
        self._fields[name] = value

    def number(self, name: str) -> str:
        """An expression for the integer that the field `name` has; "a.b" is the field b of the record or case a."""
        head, _, rest = name.partition(".")
        value = self._fields.get(head)
        if value is None:
            raise NotCompilable(f"{name} is not in the same record")
        if rest and value.scope is not None:
            return value.scope.number(rest)
        if rest:
            return f"{value.expression}[{rest!r}]"
        if value.number is None:
            raise NotCompilable(f"{name} is not an integer")
        return value.number


class _Given(_Scope):
    """The record around a pointer, as its target sees it: every number asked for becomes a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[str, str] = {}

    def number(self, name: str) -> str:
        """Name of the parameter."""
        return self.parameters.setdefault(name, f"given{len(self.parameters)}")


class _Value(NamedTuple):
    expression: str  # its variables are assigned at the next flush
    number: str | None = None  # a variable with the plain integer, if it is one
    scope: _Scope | None = None  # of a record, for "descriptor.type"


class _Program:
    """Source text in the making, and what it refers to."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.names: dict[str, Any] = {"Unfit": Unfit, "as_text": as_text, "json_text": _json_text}
        self.lines: list[str] = []
        self._functions: dict[int, tuple[str, list[str]]] = {}  # by the id of a schema
        self._numbering = count()

    def reader(self, schema: Construct) -> Reader:
        """Compile `schema` and everything that its pointers name."""
        main, _ = self.function(schema)
        self.lines += [
            "def reader(b):",
            "    n = len(b)",
            "    later = []",
            f"    value, end = {main}(b, 0, n, later)",
            "    for holder, name, target, offset, given in later:",
            "        if offset != end or offset >= n: raise Unfit",  # any other layout is for construct
            "        holder[name], end = target(b, offset, n, later, *given)",
            "    return value, end",
        ]
        exec(compile("\n".join(self.lines), "<compiled schema>", "exec"), self.names)  # noqa: S102 - made of schemas only
        made: Reader = self.names["reader"]
        return made

    def function(self, schema: Construct) -> tuple[str, list[str]]:
        """The function that reads `schema`: its name, and what numbers of the record around it it wants."""
        if id(schema) not in self._functions:
            name, given, body = self.fresh("read"), _Given(), _Body(self)
            value = body.value(schema, given)
            body.flush()
            parameters = "".join(f", {each}" for each in given.parameters.values())
            self.lines += [
                f"def {name}(b, p, n, later{parameters}):",
                *([f"    items = {MAX_ITEMS}"] if body.counts else []),
                *body.lines,
                f"    return {value.expression}, p",
            ]
            self._functions[id(schema)] = name, list(given.parameters)
        return self._functions[id(schema)]

    def fresh(self, prefix: str) -> str:
        """A name that nobody has."""
        return f"{prefix}{next(self._numbering)}"

    def constant(self, value: Any, prefix: str) -> str:
        """A name for something that the code refers to."""
        name = self.fresh(prefix)
        self.names[name] = value
        return name


class _Body:
    """The body of one function: it reads from `b`, of which there are `n` bytes, at `p`.

    Each method that is in _METHODS takes one kind of schema, emits the lines that read it, and returns the
    expression for its value. Integers are put off, so that neighbours are unpacked together, also over the borders
    of records: whoever needs them, or `p`, calls flush() before.
    """

    def __init__(self, program: _Program, indent: str = "    ") -> None:
        self.program = program
        self.lines: list[str] = []
        self.counts = False  # whether there are lists, whose items are counted
        self._indent = indent
        self.pending: list[tuple[str, str]] = []  # integers to be unpacked: variable, letter of struct
        self._after: list[str] = []  # what to do once they are

    def emit(self, *lines: str) -> None:
        """Add lines at the present depth."""
        self.lines += [self._indent + line for line in lines]

    def _include(self, inner: "_Body") -> None:
        """Add the lines of a branch or a loop."""
        self.lines += inner.lines
        self.counts = self.counts or inner.counts

    def fresh(self) -> str:
        """A new variable."""
        return self.program.fresh("v")

    def flush(self) -> None:
        """Unpack what was put off."""
        if self.pending:
            variables = "".join(f"{variable}, " for variable, _ in self.pending)
            packed = struct.Struct("<" + "".join(letter for _, letter in self.pending))
            unpack = self.program.constant(packed.unpack_from, "unpack")
            self.emit(f"{variables}= {unpack}(b, p)", f"p += {packed.size}")
        self.emit(*self._after)
        self.pending, self._after = [], []

    def value(self, schema: Construct, scope: _Scope) -> _Value:
        """Read `schema`, whatever it is."""
        method = _METHODS.get(type(schema))
        if method is None:
            raise NotCompilable(f"{type(schema).__name__} is read by construct only")
        made: _Value = method(self, schema, scope)
        return made

    def _integer(self, schema: FormatField, _scope: _Scope) -> _Value:
        variable = self.fresh()
        self.pending.append((variable, schema.fmtstr[-1]))
        return _Value(variable, variable)

    def _choice(self, schema: Choice, scope: _Scope) -> _Value:
        plain = self.value(schema.subcon, scope)
        if self.program.style is not Style.VALUES:
            return plain
        get = self.program.constant(schema.members.get, "member")
        return _Value(f"{get}({plain.number}, {plain.number})", plain.number)

    def _flags(self, schema: Flags, scope: _Scope) -> _Value:
        plain = self.value(schema.subcon, scope)
        if self.program.style is not Style.VALUES:
            return plain
        return _Value(f"{self.program.constant(schema.named, 'flags')}({plain.number})", plain.number)

    def _count(self, schema: Count, scope: _Scope) -> _Value:
        return self.value(schema.subcon, scope)

    def _pass(self, _schema: Construct, _scope: _Scope) -> _Value:
        return _Value("None")

    def _record(self, schema: Record, _scope: _Scope) -> _Value:
        scope, pairs, pointers = _Scope(), [], []
        for name, member in schema.members:
            if isinstance(member, Pointer):
                pointers.append(self._pointer(member, scope, name))
                value = _Value("None")
            else:
                value = self.value(member, scope)
            scope.add(name, value)
            pairs.append(f"{name!r}: {value.expression}")
        literal = "{" + ", ".join(pairs) + "}"
        return _Value(self._holding(literal, pointers), scope=scope)

    def _pointer(self, schema: Pointer, scope: _Scope, name: str) -> str:
        """Put off reading what a pointer names; return the variable of the entry that still wants a holder."""
        function, wanted = self.program.function(schema.schema)
        given = "".join(f"{scope.number(each)}, " for each in wanted)
        offset, entry = self.fresh(), self.fresh()
        self.pending.append((offset, "I"))
        self._after += [
            f"{entry} = None",
            f"if {offset}:",
            f"    {entry} = [None, {name!r}, {function}, {offset}, ({given})]",
            f"    later.append({entry})",
        ]
        if not schema.null:
            self._after.append("else: raise Unfit")
        return entry

    def _holding(self, literal: str, pointers: list[str]) -> str:
        """Tell pointers the dict that their targets go into."""
        if not pointers:
            return literal
        self.flush()
        holder = self.fresh()
        self.emit(f"{holder} = {literal}", *(f"if {entry}: {entry}[0] = {holder}" for entry in pointers))
        return holder

    def _switch(self, schema: Switch, scope: _Scope) -> _Value:
        on, variable, word = scope.number(schema.on), self.fresh(), "if"
        self.flush()
        for case in schema.cases:
            if case.equal is not None:
                condition = f"{on} in {tuple(map(int, case.equal))}"
            elif case.bit is not None:
                condition = f"{on} & {int(case.bit)}"
            else:
                condition = f"not {on} & {int(case.no_bit or 0)}"  # always so for a default
            self.emit(f"{word} {condition}:")
            word = "elif"
            inner = _Body(self.program, self._indent + "    ")
            if isinstance(case.schema, Pointer):
                pointers, value = [inner._pointer(case.schema, scope, case.name)], "None"
            else:
                pointers, value = [], inner.value(case.schema, scope).expression
            holder = inner._holding(f"{{{case.name!r}: {value}}}", pointers)
            inner.flush()
            inner.emit(f"{variable} = {holder}")
            self._include(inner)
        self.emit("else:", f"    {variable} = None")
        return _Value(variable)

    def _bytes(self, size: str, *, bulk: bool) -> _Value:
        """Take as many bytes as the expression `size` says."""
        self.flush()
        variable, end, style = self.fresh(), self.fresh(), self.program.style
        self.emit(f"{end} = p + {size}", f"if {end} > n: raise Unfit")
        if bulk and style is Style.JSON:
            self.emit(f"{variable} = {end} - p")
        else:
            self.emit(f"{variable} = b[p:{end}]" + (".hex()" if style is not Style.VALUES else ""))
        self.emit(f"p = {end}")
        return _Value(variable)

    def _counted_bytes(self, schema: CountedBytes, scope: _Scope) -> _Value:
        return self._bytes(scope.number(schema.count), bulk=schema.bulk)

    def _fixed_bytes(self, schema: FixedBytes, _scope: _Scope) -> _Value:
        return self._bytes(str(schema.size), bulk=schema.bulk)

    def _rest_bytes(self, schema: RestBytes, _scope: _Scope) -> _Value:
        return self._bytes("n - p", bulk=schema.bulk)

    def _image_bytes(self, schema: ImageBytes, scope: _Scope) -> _Value:
        width, rows = scope.number(schema.width), scope.number(schema.rows)
        return self._bytes(f"({schema.bits_per_pixel} * {width} + 7) // 8 * {rows}", bulk=True)

    def _counted_text(self, schema: CountedText, scope: _Scope) -> _Value:
        self.flush()
        variable, end = self.fresh(), self.fresh()
        read = "as_text" if self.program.style is Style.VALUES else "json_text"
        self.emit(
            f"{end} = p + {scope.number(schema.count)}",
            f"if {end} > n: raise Unfit",
            f"{variable} = {read}(b[p:{end}], nul={schema.nul})",
            f"p = {end}",
        )
        return _Value(variable)

    def _items(self, schema: Items, scope: _Scope) -> _Value:
        number = scope.number(schema.count)
        self.flush()
        self.emit(f"if {number} > {schema.limit} or {number} * {schema.least} > n - p: raise Unfit")
        return self._list(schema.subcon, number)

    def _items_to_end(self, schema: ItemsToEnd, _scope: _Scope) -> _Value:
        number, rest = self.fresh(), self.fresh()
        self.flush()
        self.emit(
            f"{number}, {rest} = divmod(n - p, {schema.size})",
            f"if {rest} or {number} > {schema.limit}: raise Unfit",
        )
        return self._list(schema.subcon, number)

    def _fixed_items(self, schema: FixedItems, _scope: _Scope) -> _Value:
        self.flush()
        return self._list(schema.subcon, str(schema.count))

    def _list(self, item: Construct, number: str) -> _Value:
        self.counts = True
        self.emit(f"items -= {number}", "if items < 0: raise Unfit")
        variable, inner = self.fresh(), _Body(self.program, self._indent + "    ")
        value = inner.value(item, _Scope()).expression
        if inner.lines or inner._after:
            inner.flush()
            inner.emit(f"{variable}.append({value})")
            self.emit(f"{variable} = []", f"for _ in range({number}):")
            self._include(inner)
        else:  # nothing but integers
            packed = struct.Struct("<" + "".join(letter for _, letter in inner.pending))
            unpack = self.program.constant(packed.iter_unpack, "unpack")
            names, end = "".join(f"{name}, " for name, _ in inner.pending), self.fresh()
            self.emit(
                f"{end} = p + {packed.size} * {number}",
                f"if {end} > n: raise Unfit",
                f"{variable} = [{value} for {names} in {unpack}(b[p:{end}])]",
                f"p = {end}",
            )
        return _Value(variable)


def _json_text(raw: bytes, *, nul: bool) -> str:
    text = as_text(raw, nul=nul)
    return text if isinstance(text, str) else text.hex()


_METHODS: Final[Mapping[type, Callable[[_Body, Any, _Scope], _Value]]] = {
    FormatField: _Body._integer,
    Choice: _Body._choice,
    Flags: _Body._flags,
    Count: _Body._count,
    Record: _Body._record,
    Switch: _Body._switch,
    CountedBytes: _Body._counted_bytes,
    FixedBytes: _Body._fixed_bytes,
    RestBytes: _Body._rest_bytes,
    ImageBytes: _Body._image_bytes,
    CountedText: _Body._counted_text,
    Items: _Body._items,
    ItemsToEnd: _Body._items_to_end,
    FixedItems: _Body._fixed_items,
    type(Pass): _Body._pass,
}
