"""Hypothesis strategies made from the schemas themselves: fields that fit a message, whatever the message is."""

from functools import cache
from typing import Any

from construct import Construct, FormatField
from hypothesis import settings
from hypothesis import strategies as st

from dissectors.common import _SubMessages
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
from dissectors.fields.boundary import found
from dissectors.message import MessageSpec
from dissectors.migrate_data import EitherItems
from dissectors.registry import find

unhurried = settings(deadline=None)  # a busy machine is not a failure

# Every letter but NUL, which ends a C string, and surrogates, which UTF-8 cannot write.
TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=40)
_BITS = {"B": 8, "H": 16, "I": 32, "L": 32, "Q": 64}
_MOST_PIXELS = 12  # a side of a made-up image


def _integers(schema: FormatField) -> st.SearchStrategy[int]:
    letter = schema.fmtstr[-1]
    bits = _BITS[letter.upper()]
    least, most = (0, 2**bits - 1) if letter.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(least, most) | st.integers(0, 8) | st.sampled_from((least, most))


def _named(schema: Choice | Flags) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(map(int, schema.names))) | _integers(schema.subcon)


@cache  # a strategy costs more to make than to draw from
def values(schema: Construct, *, empty: bool = True) -> st.SearchStrategy[Any]:
    """Anything that `schema` builds; `empty` whether it may take no bytes at all."""
    least = 0 if empty else 1
    if isinstance(schema, FormatField):
        return _integers(schema)
    if isinstance(schema, Choice | Flags):
        return _named(schema)
    if isinstance(schema, Count):
        return st.none()  # it follows from what is counted
    if isinstance(schema, CountedText):
        return TEXT if schema.nul else TEXT.filter(lambda text: len(text) >= least)
    if isinstance(schema, CountedBytes | RestBytes):
        return st.binary(min_size=least, max_size=60)
    if isinstance(schema, FixedBytes):
        return st.binary(min_size=schema.size, max_size=schema.size)
    if isinstance(schema, Items | ItemsToEnd):
        return st.lists(values(schema.subcon), min_size=least, max_size=8)
    if isinstance(schema, FixedItems):
        return st.lists(values(schema.subcon), min_size=schema.count, max_size=schema.count)
    if isinstance(schema, Pointer):
        target = values(schema.schema, empty=False)
        return st.none() | target if schema.null else target
    if isinstance(schema, EitherItems):
        return st.one_of([values(kind, empty=empty) for kind in schema.kinds])
    if isinstance(schema, _SubMessages):
        return st.lists(st.tuples(st.integers(0, 2**16 - 1), st.binary(max_size=20)), max_size=5).map(_listed)
    assert isinstance(schema, Record), schema
    return _records(schema)


@st.composite
def _records(draw: st.DrawFn, schema: Record) -> dict[str, Any]:
    """Fields in wire order, since some depend on earlier ones."""
    fields: dict[str, Any] = {}
    sides = {side for size in _images(schema) for side in (size.width, size.rows)}
    for name, member in schema.members:
        if name in sides:
            fields[name] = draw(st.integers(0, _MOST_PIXELS))
        elif isinstance(member, Switch):
            fields[name] = _case(draw, member, fields)
        elif isinstance(member, ImageBytes):
            fields[name] = _pixels(draw, member, fields)
        else:
            fields[name] = draw(values(member))
    return {
        name: value for name, value in fields.items() if not isinstance(dict(schema.members)[name], Count)
    }


def _images(schema: Record) -> list[ImageBytes]:
    return [member for _, member in schema.members if isinstance(member, ImageBytes)]


def _pixels(draw: st.DrawFn, schema: ImageBytes, fields: dict[str, Any]) -> bytes:
    size = (schema.bits_per_pixel * found(fields, schema.width) + 7) // 8 * found(fields, schema.rows)
    return draw(st.binary(min_size=size, max_size=size))


def _case(draw: st.DrawFn, schema: Switch, fields: dict[str, Any]) -> dict[str, Any] | None:
    value = found(fields, schema.on)
    for case in schema.cases:
        if case.fits(value):
            return {case.name: draw(values(case.schema))}
    return None


def has_all_of(found: Any, fields: Any) -> bool:
    """Tell whether every value of `fields` is in `found`, which has the counts as well."""
    if isinstance(fields, dict):
        return isinstance(found, dict) and all(has_all_of(found[name], fields[name]) for name in fields)
    if isinstance(fields, list):
        return len(found) == len(fields) and all(map(has_all_of, found, fields))
    return fields is None or bool(found == fields)


def _listed(messages: list[tuple[int, bytes]]) -> dict[str, Any]:
    offsets, data, start = [], b"", 2 + 4 * len(messages)
    for type_, body in messages:
        offsets.append(start + len(data))
        data += type_.to_bytes(2, "little") + len(body).to_bytes(4, "little") + body
    return {"sub_messages": offsets, "data": data}


def takes_the_rest(schema: Construct) -> bool:
    """Tell whether the last field swallows every byte, so that none can be trailing."""
    if isinstance(schema, Pointer):
        return takes_the_rest(schema.schema)
    if isinstance(schema, Switch):
        return any(takes_the_rest(case.schema) for case in schema.cases)
    if isinstance(schema, Record):
        return any(takes_the_rest(member) for _, member in schema.members)
    return isinstance(schema, RestBytes | ItemsToEnd | EitherItems)


def spec(name: str) -> MessageSpec:
    """The one message of this name."""
    ((_, _, found),) = find(name)
    return found
