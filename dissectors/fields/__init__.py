"""What every channel's schemas are made of, and the one boundary where construct's errors become ours.

The rules that hold for all of them:

* A parsed value is plain Python: dict, list, int, bytes, str or None. An int that has a name is an IntEnum or an
  IntFlag member, which compares, prints and serialises as the int it is.
* What we do not know is kept: an unknown enum value or flag bit parses to the bare number and builds back.
* A count, a length or an offset is held against the bytes that are there before anything is allocated.
* Building is strict: a missing or misspelt field, or a count that does not fit its list, is an error. A count or an
  offset may be left out, then it is computed.
* A field may refer to an earlier one of the same record, by its name or, one level down, as "descriptor.type".

Everything is little-endian and unaligned, nothing is padded (spice-common, spice.proto and its code generator).

Every block parses and builds by construct's own methods, which `read` and `write` use; `dissectors.compiler` makes
faster code out of the same blocks for reading alone. A new block needs a row in both.
"""

from dissectors.fields.arrays import (
    Count,
    CountedBytes,
    CountedText,
    FixedBytes,
    FixedItems,
    ImageBytes,
    Items,
    ItemsToEnd,
    RestBytes,
)
from dissectors.fields.boundary import Data, read, whole, write
from dissectors.fields.records import Record
from dissectors.fields.references import Case, Pointer, Switch
from dissectors.fields.scalars import I8, I16, I32, I64, U8, U16, U32, U64, Choice, Flags

__all__ = [
    "I8",
    "I16",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
    "BulkRest",
    "Case",
    "Choice",
    "Count",
    "CountedBytes",
    "CountedText",
    "Data",
    "FixedBytes",
    "FixedItems",
    "Flags",
    "ImageBytes",
    "Items",
    "ItemsToEnd",
    "OptionalBulkRest",
    "OptionalRest",
    "Pointer",
    "Record",
    "Rest",
    "RestBytes",
    "Switch",
    "read",
    "whole",
    "write",
]

Rest = RestBytes()
OptionalRest = RestBytes(optional=True)
BulkRest = RestBytes(bulk=True)
OptionalBulkRest = RestBytes(bulk=True, optional=True)
