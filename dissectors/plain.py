"""Values of messages as JSON has them: plain numbers, text, hexadecimal for bytes, the length in place of bulk."""

from collections.abc import Mapping
from typing import Any

from construct import Construct

from dissectors.fields import Pointer, Record, Switch
from dissectors.fields.arrays import ListOf


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
