"""What every channel's schemas are made of, and the one boundary where construct's errors become ours.

The rules that hold for all of them:

* A parsed value is plain Python: dict, list, int, bytes, str or None. An int that has a name is an IntEnum or an
  IntFlag member, which compares, prints and serialises as the int it is.
* What we do not know is kept: an unknown enum value or flag bit parses to the bare number and builds back.
* A count, a length or an offset is held against the bytes that are there before anything is allocated.
* Building is strict: a missing or misspelt field, or a count that does not fit its list, is an error. A count may be
  left out, then it is computed.

Everything is little-endian and unaligned, nothing is padded (spice-common, spice.proto and its code generator).
"""

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others

import io
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from itertools import groupby
from typing import Any, Final, TypeAlias

from construct import (
    Adapter,
    Construct,
    ConstructError,
    Default,
    FormatField,
    GreedyBytes,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    StreamError,
    Struct,
    Subconstruct,
    ValidationError,
)

from dissectors.errors import DissectionError

__all__ = [
    "U8",
    "U16",
    "U32",
    "U64",
    "Choice",
    "Count",
    "CountedBytes",
    "Data",
    "Flags",
    "Items",
    "OptionalRest",
    "Record",
    "Rest",
    "pointed",
    "read",
    "whole",
    "write",
]

Data: TypeAlias = bytes | bytearray | memoryview

U8: Final[FormatField] = Int8ul
U16: Final[FormatField] = Int16ul
U32: Final[FormatField] = Int32ul
U64: Final[FormatField] = Int64ul

Rest: Final[Construct] = GreedyBytes
OptionalRest: Final[Construct] = Default(GreedyBytes, b"")


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
        The value and how many bytes it took.

    Raises:
        DissectionError: The bytes do not fit the schema.
    """
    stream = io.BytesIO(data)
    try:
        value = schema.parse_stream(stream)
    except ConstructError as error:
        raise DissectionError(_one_line(error)) from error
    return value, stream.tell()


def write(schema: Construct, value: Any) -> bytes:
    """Build bytes from a value.

    Raises:
        DissectionError: The value does not fit the schema.
    """
    try:
        built: bytes = schema.build(value)
    except ConstructError as error:
        raise DissectionError(_one_line(error)) from error
    except DissectionError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        # construct hands a value of the wrong kind on until something in Python objects to it
        raise DissectionError(f"a field has a value of the wrong kind: {error}") from error
    return built


def whole(stream: io.BytesIO) -> bytes:
    """Return the message that `stream` reads, from its first byte: what offset pointers count from. Not a copy."""
    return stream.getvalue()


def _left(stream: io.BytesIO) -> int:
    return len(stream.getbuffer()) - stream.tell()


def pointed(body: bytes, offset: int, size: int, name: str, path: str) -> bytes | None:
    """Return the `size` bytes that an offset pointer names; None for the null pointer, whatever its size.

    Source of the rule: the generated demarshallers take an offset below the body's length with all its bytes inside.

    Args:
        body: The message from its first byte.
        offset: In bytes from there; 0 is the null pointer.
        size: In bytes.
        name: The pointer's field, for the error.
        path: construct's path, for the error.

    Raises:
        StreamError: The pointer leads out of the body (construct's error: for use inside a schema).
    """
    if offset == 0:
        return None
    if offset >= len(body) or size > len(body) - offset:
        raise StreamError(f"{name} names {size} bytes at {offset} of a body of {len(body)}", path=path)
    return body[offset : offset + size]


class Record(Struct):
    """A struct that parses to a plain dict and, when built, takes exactly its own fields."""

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> dict[str, Any]:
        container = super()._parse(stream, context, path)
        return {subcon.name: container[subcon.name] for subcon in self.subcons}

    def _build(self, obj: Any, stream: io.BytesIO, context: Any, path: str) -> Any:
        if not isinstance(obj, Mapping):
            raise ValidationError(f"wants a mapping of its fields, not {type(obj).__name__}", path=path)
        if unknown := obj.keys() - {subcon.name for subcon in self.subcons}:
            raise ValidationError(f"has no field {', '.join(sorted(map(repr, unknown)))}", path=path)
        missing = [s.name for s in self.subcons if not s.flagbuildnone and obj.get(s.name) is None]
        if missing:
            raise ValidationError(f"wants a value for {', '.join(missing)}", path=path)
        return super()._build(obj, stream, context, path)


class Choice(Adapter):
    """An integer with names: a member of `names`, or the bare number where there is no such member."""

    def __init__(self, subcon: Construct, names: type[IntEnum]) -> None:
        super().__init__(subcon)
        self._members = {int(member): member for member in names}

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return self._members.get(obj, obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return obj


class Flags(Adapter):
    """Bits with names: a value of `names`, or the bare number where a bit has no name.

    Not `names(number)` for any number: Python keeps every combination it ever made, and a peer may send 2**32.
    """

    def __init__(self, subcon: Construct, names: type[IntFlag]) -> None:
        super().__init__(subcon)
        self._names = names
        self._unknown = ~sum(names)

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return obj if obj & self._unknown else self._names(obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return obj


class Count(Subconstruct):
    """The number of items (or bytes) of the field `of`, which comes later in the same struct."""

    def __init__(self, subcon: Construct, of: str) -> None:
        super().__init__(subcon)
        self.flagbuildnone = True
        self._of = of

    def _build(self, obj: int | None, stream: io.BytesIO, context: Any, path: str) -> int:
        counted = context[self._of]
        count = len(_as_bytes(counted) if isinstance(counted, str) else counted)
        if obj is not None and obj != count:
            raise ValidationError(
                f"is {obj}, but {self._of} has {count}; leave it out to have it counted", path=path
            )
        self.subcon._build(count, stream, context, path)
        return count


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))


class CountedBytes(Construct):
    """As many bytes as the earlier field `count` says. Builds from bytes, or from text as UTF-8."""

    def __init__(self, count: str) -> None:
        super().__init__()
        self._count = count

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> bytes:
        size, left = context[self._count], _left(stream)
        if size > left:
            raise StreamError(f"{self._count} is {size}, but only {left} bytes are left", path=path)
        return stream.read(size)

    def _build(self, obj: Any, stream: io.BytesIO, context: Any, path: str) -> bytes:
        data = _as_bytes(obj)
        stream.write(data)
        return data


class Items(Subconstruct):
    """As many `item`s as the earlier field `count` says.

    Args:
        count: The field that has the number.
        item: Schema of one; every one takes at least `least` bytes.
        limit: More than this many are not decoded, however long the message: an item costs far more time and memory
            decoded than on the wire.
        least: Fewest bytes of one item; needed where the item has no fixed size.
    """

    def __init__(self, count: str, item: Construct, *, limit: int, least: int | None = None) -> None:
        super().__init__(item)
        self._count, self._limit = count, limit
        self._least = item.sizeof() if least is None else least

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> list[Any]:
        count, left = context[self._count], _left(stream)
        if count * self._least > left:
            raise StreamError(
                f"{self._count} is {count}, at {self._least} bytes each, but only {left} bytes are left",
                path=path,
            )
        if count > self._limit:
            raise ValidationError(
                f"{self._count} is {count}; more than {self._limit} are not decoded", path=path
            )
        return [self.subcon._parsereport(stream, context, f"{path} -> {index}") for index in range(count)]

    def _build(self, obj: Any, stream: io.BytesIO, context: Any, path: str) -> list[Any]:
        return [
            self.subcon._build(item, stream, context, f"{path} -> {index}") for index, item in enumerate(obj)
        ]
