"""Integers, and integers with names."""

from enum import IntEnum, IntFlag
from typing import Any, Final

from construct import (
    Adapter,
    Construct,
    FormatField,
    Int8sl,
    Int8ul,
    Int16sl,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
)

# ruff: noqa: ARG002 - construct is extended by overriding its methods

U8: Final[FormatField] = Int8ul
U16: Final[FormatField] = Int16ul
U32: Final[FormatField] = Int32ul
U64: Final[FormatField] = Int64ul
I8: Final[FormatField] = Int8sl
I16: Final[FormatField] = Int16sl
I32: Final[FormatField] = Int32sl
I64: Final[FormatField] = Int64sl

# A peer may send every combination of the bits we know; each takes some 100 bytes.
_FLAGS_REMEMBERED: Final = 1024


class Choice(Adapter):
    """An integer with names: a member of `names`, or the bare number where there is no such member."""

    def __init__(self, subcon: Construct, names: type[IntEnum]) -> None:
        super().__init__(subcon)
        self.names = names
        self.members: dict[int, int] = {int(member): member for member in names}

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return self.members.get(obj, obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return obj


class Flags(Adapter):
    """Bits with names: a value of `names`, or the bare number where a bit has no name.

    Not `names(number)` for any number: Python keeps every combination it ever made, and a peer may send 2**32.
    """

    def __init__(self, subcon: Construct, names: type[IntFlag]) -> None:
        super().__init__(subcon)
        self.names = names
        self._unknown = ~sum(names)
        self._made: dict[int, int] = {}

    def named(self, number: int) -> int:
        """Give the number its names, if all of its bits have one."""
        made = self._made.get(number)
        if made is None:
            made = number if number & self._unknown else self.names(number)
            if len(self._made) < _FLAGS_REMEMBERED:
                self._made[number] = made
        return made

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return self.named(obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return obj
