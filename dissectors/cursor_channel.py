"""Cursor channel (type 4): the pointer's shape and, in server mouse mode, its place. The client only listens.

Source: spice-common spice.proto, CursorChannel.
"""

from enum import IntEnum, IntFlag
from typing import Final

from dissectors.fields import U8, U16, U64, BulkRest, Case, Choice, Flags, Record, Switch
from dissectors.geometry import Point16
from dissectors.message import MessageSpec, table


class CursorType(IntEnum):
    """SPICE_CURSOR_TYPE_*: the pixel format of a shape."""

    ALPHA = 0
    MONO = 1
    COLOR4 = 2
    COLOR8 = 3
    COLOR16 = 4
    COLOR24 = 5
    COLOR32 = 6


class CursorFlags(IntFlag):
    """SPICE_CURSOR_FLAGS_*: whether there is a shape, and whether the client keeps it or has it already."""

    NONE = 1
    CACHE_ME = 2
    FROM_CACHE = 4


# Source: spice.proto, CursorHeader
CursorHeader: Final = Record(
    "unique" / U64 * "key in the client's cursor cache",
    "type" / Choice(U8, CursorType),
    "width" / U16 * "pixels",
    "height" / U16 * "pixels",
    "hot_spot_x" / U16 * "pixels, the point that points",
    "hot_spot_y" / U16 * "pixels, the point that points",
)

# Source: spice.proto, Cursor
Cursor: Final = Record(
    "flags" / Flags(U16, CursorFlags),
    "u" / Switch("flags", Case("header", CursorHeader, no_bit=CursorFlags.NONE)),
    "data"
    / BulkRest
    * "pixels, then for all types but ALPHA a mask of one bit a pixel; empty from the cache",
)

SERVER_MESSAGES: Final = table(
    MessageSpec(
        101,
        "SPICE_MSG_CURSOR_INIT",
        "Opens the channel: the pointer as it is now, and an empty cursor cache.",
        Record(
            "position" / Point16,
            "trail_length" / U16 * "shapes that follow the pointer",
            "trail_frequency" / U16 * "milliseconds between them",
            "visible" / U8 * "0 or 1",
            "cursor" / Cursor,
        ),
    ),
    MessageSpec(
        102,
        "SPICE_MSG_CURSOR_RESET",
        "Hide the pointer and empty the cursor cache.",
    ),
    MessageSpec(
        103,
        "SPICE_MSG_CURSOR_SET",
        "Gives the pointer another shape.",
        Record("position" / Point16, "visible" / U8 * "0 or 1", "cursor" / Cursor),
    ),
    MessageSpec(
        104,
        "SPICE_MSG_CURSOR_MOVE",
        "Moves the pointer and shows it (server mouse mode).",
        Record("position" / Point16),
    ),
    MessageSpec(
        105,
        "SPICE_MSG_CURSOR_HIDE",
        "Hides the pointer.",
    ),
    MessageSpec(
        106,
        "SPICE_MSG_CURSOR_TRAIL",
        "Changes the trail of the pointer.",
        Record(
            "length" / U16 * "shapes that follow the pointer", "frequency" / U16 * "milliseconds between them"
        ),
    ),
    MessageSpec(
        107,
        "SPICE_MSG_CURSOR_INVAL_ONE",
        "Drop one shape from the cursor cache.",
        Record("id" / U64 * "CursorHeader.unique"),
    ),
    MessageSpec(
        108,
        "SPICE_MSG_CURSOR_INVAL_ALL",
        "Empty the cursor cache.",
    ),
)

CLIENT_MESSAGES: Final = table()
