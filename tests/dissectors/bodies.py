"""Hypothesis strategies made from the schemas themselves: fields that fit a message, whatever the message is."""

from typing import Any

from construct import Bytes, Construct, FormatField, Renamed
from hypothesis import settings
from hypothesis import strategies as st

from dissectors.common import _SubMessages
from dissectors.destination import Destination
from dissectors.fields import Choice, Count, CountedBytes, Flags, Items, OptionalRest, Record, Rest
from dissectors.message import MessageSpec
from dissectors.registry import find

unhurried = settings(deadline=None)  # a busy machine is not a failure

# Every letter but NUL, which ends a C string, and surrogates, which UTF-8 cannot write.
TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=40)
_LIMITS = {"B": 2**8, "H": 2**16, "I": 2**32, "L": 2**32, "Q": 2**64}


def _plain(schema: Construct) -> Construct:
    while isinstance(schema, Renamed):
        schema = schema.subcon
    return schema


def values(schema: Construct) -> st.SearchStrategy[Any]:
    """Anything that `schema` builds."""
    schema = _plain(schema)
    if isinstance(schema, FormatField):
        limit = _LIMITS[schema.fmtstr[-1]]
        return st.integers(0, limit - 1) | st.integers(0, 8) | st.just(limit - 1)
    if isinstance(schema, Choice | Flags):
        return values(schema.subcon)
    if isinstance(schema, CountedBytes) or schema in (Rest, OptionalRest):
        return st.binary(max_size=60)
    if isinstance(schema, Bytes):
        return st.binary(min_size=schema.length, max_size=schema.length)
    if isinstance(schema, Items):
        return st.lists(values(schema.subcon), max_size=8)
    if isinstance(schema, _SubMessages):
        return st.lists(st.tuples(st.integers(0, 2**16 - 1), st.binary(max_size=20)), max_size=5).map(_listed)
    if isinstance(schema, Destination):
        strings = {"host": TEXT, "cert_subject": st.none() | TEXT}
        return st.fixed_dictionaries({**_members(schema.fixed), **strings}).map(_without_numbers)
    assert isinstance(schema, Record), schema
    return st.fixed_dictionaries(_members(schema))


def _members(schema: Record) -> dict[str, st.SearchStrategy[Any]]:
    """Strategies by field; counts are left out, they follow from what is counted."""
    return {each.name: values(each) for each in schema.subcons if not isinstance(_plain(each), Count)}


def _without_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not name.endswith(("_size", "_data"))}


def _listed(messages: list[tuple[int, bytes]]) -> dict[str, Any]:
    offsets, data, start = [], b"", 2 + 4 * len(messages)
    for type_, body in messages:
        offsets.append(start + len(data))
        data += type_.to_bytes(2, "little") + len(body).to_bytes(4, "little") + body
    return {"sub_messages": offsets, "data": data}


def takes_the_rest(schema: Construct) -> bool:
    """Tell whether the last field swallows every byte, so that none can be trailing."""
    return (
        isinstance(schema, Record)
        and bool(schema.subcons)
        and _plain(schema.subcons[-1]) in (Rest, OptionalRest)
    )


def spec(name: str) -> MessageSpec:
    """The one message of this name."""
    ((_, _, found),) = find(name)
    return found
