"""The list of all messages, tests/data/messages.json, and how far a schema is from what is listed.

A layout in the list is a wire type ("u32"), or one of
    {"names", "wire", "kind"}    an enum or flags, whose names are under "names"
    {"struct"}                   whose fields are under "structs"
    {"array", "size"}            size: a number, the field that has it, "rest", or width and rows of an image
    {"pointer", "null"}          u32 offset; whether 0 is allowed
    {"switch", "match", "cases"} each with a name, a layout and the values or bits that it is for
and "fd", which has no bytes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from construct import Construct

from dissectors.channels import ChannelType
from dissectors.fields import (
    Choice,
    Count,
    CountedBytes,
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
from dissectors.side import Side

LISTED: Final[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data/messages.json").read_text())
Row = tuple[ChannelType | None, Side, dict[str, Any]]
_LETTERS: Final = {
    "u8": "B",
    "u16": "H",
    "u32": "L",
    "u64": "Q",
    "i8": "b",
    "i16": "h",
    "i32": "l",
    "i64": "q",
}


def listed_messages() -> list[Row]:
    """Every message of the list: its channel (None for common ones), its sender, what is said of it."""
    channels = [(None, LISTED["common"])] + [(ChannelType(each["id"]), each) for each in LISTED["channels"]]
    return [
        (channel, side, message)
        for channel, tables in channels
        for side in Side
        for message in tables[side.value]
    ]


def differences(listed: Any, schema: Construct, where: str) -> Iterator[str]:
    """Say where a schema is not what the list says; for a message or a struct, `listed` has its fields."""
    if isinstance(listed, list):
        yield from _fields(listed, schema, where)
    elif isinstance(listed, str):
        yield from _integer(listed, schema, where)
    elif "struct" in listed:
        yield from _fields(LISTED["structs"][listed["struct"]], schema, where)
    elif "names" in listed:
        yield from _named(listed, schema, where)
    elif "array" in listed:
        yield from _array(listed["array"], listed["size"], schema, where)
    elif "pointer" in listed:
        if not isinstance(schema, Pointer):
            yield f"{where}: is no pointer"
            return
        if schema.null != listed["null"]:
            yield f"{where}: null is {schema.null}, not {listed['null']}"
        yield from differences(listed["pointer"], schema.schema, where)
    else:
        yield from _switch(listed, schema, where)


def _fields(listed: list[list[Any]], schema: Construct, where: str) -> Iterator[str]:
    assert isinstance(schema, Record), f"{where}: {schema}"
    expected = {name: layout for name, layout in listed if layout != "fd"}
    members = dict(schema.members)
    if list(expected) != list(members):
        yield f"{where}: has the fields {', '.join(members)}"
    for name, layout in expected.items():
        if name in members:
            yield from differences(layout, members[name], f"{where}.{name}")


def _integer(wire: str, schema: Construct, where: str) -> Iterator[str]:
    """An integer may have names that spice.proto does not give it, or be a count."""
    plain = schema.subcon if isinstance(schema, Choice | Flags | Count) else schema
    if getattr(plain, "fmtstr", None) not in {f"<{_LETTERS[wire]}", f"<{_LETTERS[wire].replace('L', 'I')}"}:
        yield f"{where}: is {plain}, not {wire}"


def _named(listed: dict[str, Any], schema: Construct, where: str) -> Iterator[str]:
    if not isinstance(schema, {"enum": Choice, "flags": Flags}[listed["kind"]]):
        yield f"{where}: has no names"
        return
    yield from _integer(listed["wire"], schema, where)
    names = {name: member.value for name, member in schema.names.__members__.items()}
    expected = LISTED["names"][listed["names"]]
    if names != expected:
        odd = sorted({*names.items()} ^ {*expected.items()}, key=str)
        yield f"{where}: names differ from {listed['names']}: {odd}"


def _array(element: Any, size: Any, schema: Construct, where: str) -> Iterator[str]:
    bytes_of = {CountedBytes: "count", RestBytes: None, ImageBytes: None, FixedBytes: "size"}
    kind = next((kind for kind in bytes_of if isinstance(schema, kind)), None)
    items = isinstance(schema, Items | ItemsToEnd | FixedItems)
    if kind is None and not items:
        yield f"{where}: is {schema}, no array"
        return
    if isinstance(size, dict):
        same = isinstance(schema, ImageBytes) and (schema.bits_per_pixel, schema.width, schema.rows) == (
            size["bits_per_pixel"],
            size["width"],
            size["rows"],
        )
    elif size == "rest":
        same = isinstance(schema, RestBytes | ItemsToEnd)
    elif isinstance(size, int):
        same = size == (schema.count if isinstance(schema, FixedItems) else getattr(schema, "size", None))
    else:
        same = isinstance(schema, CountedBytes | Items) and schema.count.rpartition(".")[2] == size
    if not same:
        yield f"{where}: has not the size {size}"
    if items:
        yield from differences(element, schema.subcon, f"{where}[]")
    elif element != "u8":
        yield f"{where}: is bytes, not {element}"


def _switch(listed: dict[str, Any], schema: Construct, where: str) -> Iterator[str]:
    if not isinstance(schema, Switch) or schema.on != listed["switch"]:
        yield f"{where}: is no switch on {listed['switch']}"
        return
    names = [case.name for case in schema.cases]
    if names != [case["name"] for case in listed["cases"]]:
        yield f"{where}: has the cases {', '.join(names)}"
        return
    for case, expected in zip(schema.cases, listed["cases"], strict=True):
        if listed["match"] == "equal":
            when: Any = None if case.equal is None else sorted(case.equal)
            same = when == (None if "default" in expected else sorted(expected["when"]))
        else:
            bits = [each for each in expected.get("when", []) if isinstance(each, int)]
            clear = [each[0] for each in expected.get("when", []) if isinstance(each, list)]
            same = (case.bit or 0) == sum(bits) and (case.no_bit or 0) == sum(clear)
        if not same:
            yield f"{where}.{case.name}: is there when {case.equal or case.bit or case.no_bit}, not {expected}"
        yield from differences(expected["type"], case.schema, f"{where}.{case.name}")


def least_bytes(schema: Construct) -> int:
    """Fewest bytes that a body of this schema has, without what pointers name."""
    if isinstance(schema, Record):
        return sum(least_bytes(member) for _, member in schema.members)
    if isinstance(schema, Switch):
        always = any(case.equal is None and not case.bit and not case.no_bit for case in schema.cases)
        least = min(least_bytes(case.schema) for case in schema.cases)
        return least if always or _bit_either_way(schema) else 0
    if isinstance(schema, CountedBytes | ImageBytes | RestBytes | Items | ItemsToEnd):
        return 0
    size: int = schema.sizeof()
    return size


def _bit_either_way(schema: Switch) -> bool:
    bits = {case.bit for case in schema.cases}
    return any(case.no_bit in bits for case in schema.cases if case.no_bit)
