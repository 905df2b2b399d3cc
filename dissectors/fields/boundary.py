"""Bytes to values and back: the boundary to construct, and the laying out of what pointers name."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeAlias

from construct import Construct, ConstructError, Renamed, ValidationError

from dissectors.errors import DissectionError

# ruff: noqa: SLF001 - construct is extended by calling the _parse and _build of others

Data: TypeAlias = bytes | bytearray | memoryview

# A body built with an offset of somebody's choice is filled up with zeros to there, so the choice has a limit.
MAX_BUILT_OFFSET: Final = 2**27

MAX_ITEMS: Final = 2**16
"""List items that are decoded of one message, or of one thing that a pointer names; lists may lie in lists.

An item of 8 bytes takes some 200 decoded, so the announced size of a message is no bound for what it costs.
"""

GAPS: Final = "gaps"
"""Field of a message whose pointers leave bytes out that nothing names: [[offset, bytes], ...]."""


@dataclass(slots=True)
class Target:
    """What a pointer names and somebody still has to read or to write.

    Attributes:
        schema: Of the bytes it names.
        offset: From body start; when building, None for "wherever there is room".
        context: The record that the pointer is a field of: counts may stand there.
        path: construct's path, for errors.
        value: To build.
        at: Where the offset itself stands, when building.
        holder: Where the value goes, when parsing, and under which name.
        end: Where it ends, once it is read.
    """

    schema: Construct
    offset: int | None
    context: Any
    path: str
    value: Any = None
    at: int = 0
    holder: dict[str, Any] | None = None
    name: str = ""
    end: int = 0

    def settle(self, holder: dict[str, Any], name: str) -> None:
        """Say where the value belongs."""
        self.holder, self.name = holder, name
        holder[name] = None


class Body(io.BytesIO):
    """A message on its way in or out, with the pointers that were met and not followed yet."""

    def __init__(self, data: Data = b"") -> None:
        super().__init__(data)
        self.targets: list[Target] = []
        self._items_left = MAX_ITEMS

    def begin(self, target: Target) -> None:
        """Go to what a pointer names."""
        self.seek(target.offset or 0)
        self._items_left = MAX_ITEMS

    def take_items(self, count: int, path: str) -> None:
        """Count the items of a list before they are read.

        Raises:
            ValidationError: There are too many.
        """
        self._items_left -= count
        if self._items_left < 0:
            raise ValidationError(f"more than {MAX_ITEMS} items are not decoded", path=path)

    def left(self) -> int:
        """Bytes from here to the end."""
        return len(self.getbuffer()) - self.tell()


def _one_line(error: ConstructError) -> str:
    """Say what construct says, on one line: "wait_list -> 3: stream read less than ..."."""
    path = error.path or ""  # of the errors that construct raises outside of any field
    text = str(error).partition("\n")[2] if path else str(error)
    # The head of a path is only "(parsing)" or "(building)"; a field with a description is named twice.
    where = " -> ".join(name for name, _ in groupby(path.split(" -> ")[1:]))
    return " ".join(f"{where}: {text}".removeprefix(": ").split())


def read(schema: Construct, data: Data) -> tuple[Any, int]:
    """Parse the start of `data`.

    Returns:
        The value, and where the last byte that belongs to it ends, what pointers name included.

    Raises:
        DissectionError: The bytes do not fit the schema.
    """
    body = Body(data)
    try:
        value = schema._parsereport(body, {}, "(parsing)")
        fixed_end = end = body.tell()
        in_order = True
        for target in body.targets:  # which grows as targets with pointers of their own are read
            in_order = _follow(body, target, end) and in_order
            end = max(end, target.end)
    except ConstructError as error:
        raise DissectionError(_one_line(error)) from error
    if not in_order and (gaps := _gaps(body, fixed_end)):
        value[GAPS] = gaps
    return value, end


def _follow(body: Body, target: Target, end: int) -> bool:
    """Read what a pointer names; return whether it lies where it would be built, at `end`."""
    offset, holder = target.offset, target.holder
    assert offset is not None and holder is not None  # noqa: S101, PT018 - records and switches settle what they parse
    body.begin(target)
    holder[target.name] = target.schema._parsereport(body, target.context, target.path)
    target.end = body.tell()
    if offset != end:
        holder[f"{target.name}_offset"] = offset
    return offset == end


def _gaps(body: Body, fixed_end: int) -> list[list[Any]]:
    """Find the bytes between the targets that no pointer names, unless they are zero, as built gaps are."""
    data, end, gaps = body.getvalue(), fixed_end, []
    for target in sorted(body.targets, key=lambda target: target.offset or 0):
        start = target.offset or 0
        if start > end and any(data[end:start]):
            gaps.append([end, data[end:start]])
        end = max(end, target.end)
    return gaps


def write(schema: Construct, value: Any) -> bytes:
    """Build bytes from a value.

    Raises:
        DissectionError: The value does not fit the schema.
    """
    body = Body()
    gaps: list[list[Any]] = []
    if isinstance(value, Mapping) and GAPS in value:
        gaps = value[GAPS]
        value = {name: each for name, each in value.items() if name != GAPS}
    try:
        schema._build(value, body, {}, "(building)")
        for target in body.targets:
            _lay_out(body, target)
        for offset, data in gaps:
            _fill(body, offset, data)
    except ConstructError as error:
        raise DissectionError(_one_line(error)) from error
    except DissectionError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        # construct hands a value of the wrong kind on until something in Python objects to it
        raise DissectionError(f"a field has a value of the wrong kind: {error}") from error
    return body.getvalue()


def _lay_out(body: Body, target: Target) -> None:
    end = body.seek(0, io.SEEK_END)
    offset = end if target.offset is None else target.offset
    if not 0 < offset <= MAX_BUILT_OFFSET and target.offset is not None:
        raise ValidationError(f"an offset of {offset} cannot be built", path=target.path)
    body.seek(target.at)
    body.write(offset.to_bytes(4, "little"))
    if offset > end:
        body.seek(end)
        body.write(bytes(offset - end))  # what lies between, also before a target without bytes
    body.seek(offset)
    target.schema._build(target.value, body, target.context, target.path)


def _fill(body: Body, offset: int, data: Data) -> None:
    if not 0 <= offset <= body.seek(0, io.SEEK_END) - len(data):
        raise ValidationError("lie inside the body", path=f"(building) -> {GAPS}")
    body.seek(offset)
    body.write(data)


def unwrapped(subcon: Construct) -> Construct:
    """Take the name and the description off a field: `"x" / U32 * "pixels"` -> U32."""
    while isinstance(subcon, Renamed):
        subcon = subcon.subcon
    return subcon


def found(context: Any, name: str) -> Any:
    """Look up an earlier field of the same record; "descriptor.type" is one inside another.

    Raises:
        KeyError: There is no such field.
    """
    for part in name.split("."):
        if not isinstance(context, Mapping):
            raise KeyError(name)
        context = context[part]
    return context


def whole(stream: io.BytesIO) -> bytes:
    """Return the message that `stream` reads, from its first byte: what offset pointers count from. Not a copy."""
    return stream.getvalue()
