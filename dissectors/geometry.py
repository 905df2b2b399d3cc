"""Points, rectangles and clips: what drawing, streams and cursors share. Source: spice-common spice.proto.

Coordinates are pixels of a surface, (0, 0) at its top left, unless a field says otherwise.
"""

from enum import IntEnum
from typing import Final

from dissectors.fields import I16, I32, U8, U32, Case, Choice, Count, Items, Record, Switch

# A clip comes from the guest's driver; the most complex window shapes have some thousand rectangles.
MAX_RECTS: Final = 2**16


class ClipType(IntEnum):
    """SPICE_CLIP_TYPE_*: whether drawing stays inside a list of rectangles."""

    NONE = 0
    RECTS = 1


# Source: spice.proto, Point and Point16
Point: Final = Record("x" / I32 * "pixels", "y" / I32 * "pixels")
Point16: Final = Record("x" / I16 * "pixels", "y" / I16 * "pixels")

# Source: spice.proto, Rect. Right and bottom are the first pixel outside (spice-common common/rect.h).
Rect: Final = Record(
    "top" / I32 * "pixels",
    "left" / I32 * "pixels",
    "bottom" / I32 * "pixels, the first row outside",
    "right" / I32 * "pixels, the first column outside",
)

# Source: spice.proto, Transform. Each number is signed 16.16 fixed point in a u32 (spice-server red-parse-qxl.cpp copies
# the QXLTransform of the guest, a pixman matrix without its last row).
Transform: Final = Record(
    "t00" / U32 * "16.16 fixed point",
    "t01" / U32 * "16.16 fixed point",
    "t02" / U32 * "16.16 fixed point, pixels",
    "t10" / U32 * "16.16 fixed point",
    "t11" / U32 * "16.16 fixed point",
    "t12" / U32 * "16.16 fixed point, pixels",
)

# Source: spice.proto, ClipRects
ClipRects: Final = Record(
    "num_rects" / Count(U32, "rects"), "rects" / Items("num_rects", Rect, limit=MAX_RECTS)
)

# Source: spice.proto, Clip
Clip: Final = Record(
    "type" / Choice(U8, ClipType),
    "u" / Switch("type", Case("rects", ClipRects, equal=ClipType.RECTS)) * "the visible part; None = all",
)

# Source: spice.proto, DisplayBase
DisplayBase: Final = Record(
    "surface_id" / U32 * "the surface that is drawn on",
    "box" / Rect * "what is drawn on",
    "clip" / Clip,
)
