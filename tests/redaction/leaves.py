"""Every field of every message there is, by walking the schemas without any code of the redaction."""

from collections.abc import Iterator
from typing import NamedTuple

from construct import Construct

from dissectors.fields import (
    CountedBytes,
    FixedBytes,
    ImageBytes,
    Pointer,
    Record,
    RestBytes,
    Switch,
)
from dissectors.fields.arrays import ListOf
from dissectors.migrate_data import EitherItems
from dissectors.vd_agent import AGENT_VARIANTS
from tests.dissectors.damage import ALL_SPECS

BYTES = (CountedBytes, FixedBytes, RestBytes, ImageBytes)
# Redacted by the phase of the link, not by the table: tests/redaction/test_link.py.
LINK = ("link-", "headers-")


# The agent's layouts as the decoder has them: ALL_SPECS makes its own.
SPECS = {
    **{
        message: spec
        for message, spec in ALL_SPECS.items()
        if not message.startswith((*LINK, "vd_agent-0", "vd_agent-1"))
    },
    **{
        f"vd_agent-{selection:d}{grab_serial:d}-{spec.name}": spec
        for (selection, grab_serial), layouts in AGENT_VARIANTS.items()
        for spec in layouts.values()
    },
}


class Leaf(NamedTuple):
    """A field that is no record, list or switch."""

    message: str
    path: str  # "data.src_bitmap.u.quic.data"
    record: Record  # that it is a member of
    name: str  # in the record; "u.color" for a case of a switch
    schema: Construct


def leaves() -> Iterator[Leaf]:
    """All of them, of all messages on and inside channels."""
    for message, spec in SPECS.items():
        yield from _record(message, "", spec.schema)


def _record(message: str, path: str, record: Record) -> Iterator[Leaf]:
    for name, member in record.members:
        yield from _field(message, f"{path}.{name}".lstrip("."), record, name, member)


def _field(message: str, path: str, record: Record, name: str, schema: Construct) -> Iterator[Leaf]:
    if isinstance(schema, Pointer):
        schema = schema.schema
    if isinstance(schema, Record):
        yield Leaf(message, path, record, name, schema)
        yield from _record(message, path, schema)
    elif isinstance(schema, Switch):
        for case in schema.cases:
            yield from _field(message, f"{path}.{case.name}", record, f"{name}.{case.name}", case.schema)
    elif isinstance(schema, ListOf):
        yield Leaf(message, path, record, name, schema)
        if isinstance(schema.subcon, Record):
            yield from _record(message, f"{path}[]", schema.subcon)
    elif isinstance(schema, EitherItems):
        for kind in schema.kinds:
            yield from _record(message, f"{path}[]", kind.subcon)
    else:
        yield Leaf(message, path, record, name, schema)
