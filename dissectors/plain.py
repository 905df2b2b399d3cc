"""Values of messages as they are shown: for JSON, or with the length in place of bulk."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from construct import Construct

from dissectors.fields import Pointer, Record, Switch
from dissectors.fields.arrays import ListOf


class Length(NamedTuple):
    """What stands for bulk where only its length is wanted."""

    size: int  # bytes


def without_bulk(schema: Construct, value: Any) -> Any:
    """Put a `Length` in the place of bulk in what `schema` parsed to; all else, names included, stays."""
    if isinstance(value, bytes):
        return Length(len(value)) if getattr(schema, "bulk", False) else value
    if isinstance(value, list):
        item = schema.subcon if isinstance(schema, ListOf) else None
        return [without_bulk(item, each) for each in value]
    if isinstance(value, Mapping):
        members = _members(schema)
        return {name: without_bulk(members.get(name), each) for name, each in value.items()}
    return value


def plain(schema: Construct, value: Any, *, bulk: bool) -> Any:
    """Convert what `schema` parsed to; the slow and general way, beside the code that `dissectors.compiler` makes.

    Args:
        schema: Says which bytes are bulk.
        value: As `dissectors.fields.read` returns it.
        bulk: Show bulk in hexadecimal instead of by its length.
    """
    if isinstance(value, bytes):
        return len(value) if getattr(schema, "bulk", False) and not bulk else value.hex()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, list):
        item = schema.subcon if isinstance(schema, ListOf) else None
        return [plain(item, each, bulk=bulk) for each in value]
    if isinstance(value, Mapping):
        members = _members(schema)
        return {name: plain(members.get(name), each, bulk=bulk) for name, each in value.items()}
    return value


def _members(schema: Construct) -> dict[str, Construct]:
    """What the fields of a dict are made of."""
    if isinstance(schema, Record):
        return {name: _target(member) for name, member in schema.members}
    if isinstance(schema, Switch):
        return {case.name: _target(case.schema) for case in schema.cases}
    return {}


def _target(schema: Construct) -> Construct:
    return schema.schema if isinstance(schema, Pointer) else schema
