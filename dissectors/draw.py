"""Operands of the drawing messages: brushes, masks, paths, glyphs. Source: spice-common spice.proto, DisplayChannel.

`dissectors.display_channel` says which message does what with them. A colour is 0x00RRGGBB, or has the 16 bits of the
surface's format.
"""

from enum import IntEnum, IntFlag
from typing import Final

from dissectors.fields import (
    I32,
    U8,
    U16,
    U32,
    Case,
    Choice,
    Count,
    Flags,
    ImageBytes,
    Items,
    Pointer,
    Record,
    Switch,
)
from dissectors.geometry import Point, Point16, Rect, Transform
from dissectors.image import Image, ImagePointer

# A guest's driver sends a curve as one segment. More than these are not decoded.
MAX_SEGMENTS: Final = 2**14
MAX_POINTS: Final = 2**16


class BrushType(IntEnum):
    """SPICE_BRUSH_TYPE_*: what an area is filled with."""

    NONE = 0
    SOLID = 1
    PATTERN = 2


class Ropd(IntFlag):
    """SPICE_ROPD_*: how source, brush and destination are combined."""

    INVERS_SRC = 1
    INVERS_BRUSH = 2
    INVERS_DEST = 4
    OP_PUT = 8
    OP_OR = 16
    OP_AND = 32
    OP_XOR = 64
    OP_BLACKNESS = 128
    OP_WHITENESS = 256
    OP_INVERS = 512
    INVERS_RES = 1024


class ImageScaleMode(IntEnum):
    """SPICE_IMAGE_SCALE_MODE_*: how a source of another size is fitted into the box."""

    INTERPOLATE = 0
    NEAREST = 1


class MaskFlags(IntFlag):
    """SPICE_MASK_FLAGS_*: whether to draw where the mask is clear instead of where it is set."""

    INVERS = 1


class PathFlags(IntFlag):
    """SPICE_PATH_*: where a path's segment begins and ends, and whether its points are those of Bezier curves."""

    BEGIN = 1
    END = 2
    CLOSE = 8
    BEZIER = 16


class LineFlags(IntFlag):
    """SPICE_LINE_FLAGS_*: whether a line is dashed, and whether it starts with a gap."""

    START_WITH_GAP = 4
    STYLED = 8


class StringFlags(IntFlag):
    """SPICE_STRING_FLAGS_*: bits a pixel of the glyphs, and the order of their rows."""

    RASTER_A1 = 1
    RASTER_A4 = 2
    RASTER_A8 = 4
    RASTER_TOP_DOWN = 8


class AlphaFlags(IntFlag):
    """SPICE_ALPHA_FLAGS_*: which surfaces of a blend have an alpha channel."""

    DEST_HAS_ALPHA = 1
    SRC_SURFACE_HAS_ALPHA = 2


class CompositeFlags(IntFlag):
    """SPICE_COMPOSITE_*: operator, filter and repeat numbers of XRender, bit by bit, and which operands are there."""

    OP0 = 1 << 0
    OP1 = 1 << 1
    OP2 = 1 << 2
    OP3 = 1 << 3
    OP4 = 1 << 4
    OP5 = 1 << 5
    OP6 = 1 << 6
    OP7 = 1 << 7
    SRC_FILTER0 = 1 << 8
    SRC_FILTER1 = 1 << 9
    SRC_FILTER2 = 1 << 10
    MASK_FILTER0 = 1 << 11
    MASK_FITLER1 = 1 << 12  # spelt so in spice.proto
    MASK_FILTER2 = 1 << 13
    SRC_REPEAT0 = 1 << 14
    SRC_REPEAT1 = 1 << 15
    MASK_REPEAT0 = 1 << 16
    MASK_REPEAT1 = 1 << 17
    COMPONENT_ALPHA = 1 << 18
    HAS_MASK = 1 << 19
    HAS_SRC_TRANSFORM = 1 << 20
    HAS_MASK_TRANSFORM = 1 << 21
    SOURCE_OPAQUE = 1 << 22
    MASK_OPAQUE = 1 << 23
    DEST_OPAQUE = 1 << 24


_RopDescriptor: Final = Flags(U16, Ropd)
_ScaleMode: Final = Choice(U8, ImageScaleMode)

# Source: spice.proto, Pattern
Pattern: Final = Record(
    "pat" / Pointer(Image, null=False),
    "pos" / Point * "where on the surface the pattern begins to repeat",
)

# Source: spice.proto, Brush
Brush: Final = Record(
    "type" / Choice(U8, BrushType),
    "u"
    / Switch(
        "type",
        Case("color", U32, equal=BrushType.SOLID),
        Case("pattern", Pattern, equal=BrushType.PATTERN),
    ),
)

# Source: spice.proto, QMask
QMask: Final = Record(
    "flags" / Flags(U8, MaskFlags),
    "pos" / Point * "of the mask, for the box's top left",
    "bitmap" / ImagePointer * "one bit a pixel; None = no mask",
)

# Source: spice.proto, Fill
Fill: Final = Record("brush" / Brush, "rop_descriptor" / _RopDescriptor, "mask" / QMask)

# Source: spice.proto, Opaque
Opaque: Final = Record(
    "src_bitmap" / ImagePointer,
    "src_area" / Rect * "of the image",
    "brush" / Brush,
    "rop_descriptor" / _RopDescriptor,
    "scale_mode" / _ScaleMode,
    "mask" / QMask,
)

# Source: spice.proto, Copy
Copy: Final = Record(
    "src_bitmap" / ImagePointer,
    "src_area" / Rect * "of the image",
    "rop_descriptor" / _RopDescriptor,
    "scale_mode" / _ScaleMode,
    "mask" / QMask,
)

# Source: spice.proto, Blend: a Copy (@ctype) under another name
Blend: Final = Copy

# Source: spice.proto, Blackness, Whiteness and Invers: three messages, one layout
Blackness: Final = Record("mask" / QMask)
Whiteness: Final = Blackness
Invers: Final = Blackness

# Source: spice.proto, Rop3
Rop3: Final = Record(
    "src_bitmap" / ImagePointer,
    "src_area" / Rect * "of the image",
    "brush" / Brush,
    "rop3" / U8 * "ternary raster operation of Windows GDI: the truth table of pattern, source, destination",
    "scale_mode" / _ScaleMode,
    "mask" / QMask,
)

# Source: spice.proto, PointFix
PointFix: Final = Record(
    "x" / I32 * "pixels, 28.4 fixed point",
    "y" / I32 * "pixels, 28.4 fixed point",
)

# Source: spice.proto, PathSegment
PathSegment: Final = Record(
    "flags" / Flags(U8, PathFlags),
    "count" / Count(U32, "points"),
    "points" / Items("count", PointFix, limit=MAX_POINTS),
)

# Source: spice.proto, Path. A segment without points takes 5 bytes: flags and count.
Path: Final = Record(
    "num_segments" / Count(U32, "segments"),
    "segments" / Items("num_segments", PathSegment, limit=MAX_SEGMENTS, least=5),
)

# Source: spice.proto, LineAttr
LineAttr: Final = Record(
    "flags" / Flags(U8, LineFlags),
    "u1" / Switch("flags", Case("style_nseg", Count(U8, "u2.style"), bit=LineFlags.STYLED)),
    "u2"
    / Switch(
        "flags", Case("style", Pointer(Items("u1.style_nseg", I32, limit=2**8 - 1)), bit=LineFlags.STYLED)
    )
    * "lengths of dashes and gaps in turn, 28.4 fixed point",
)

# Source: spice.proto, Stroke
Stroke: Final = Record(
    "path" / Pointer(Path, null=False),
    "attr" / LineAttr,
    "brush" / Brush,
    "fore_mode" / U16 * "ROPD bits, for the line",
    "back_mode" / U16 * "ROPD bits, for the gaps",
)


def _raster_glyph(bits: int) -> Record:
    return Record(
        "render_pos" / Point * "on the surface",
        "glyph_origin" / Point * "offset of the raster from render_pos",
        "width" / U16 * "pixels",
        "height" / U16 * "rows",
        "data" / ImageBytes(bits, width="width", rows="height") * f"{bits} bit of alpha a pixel",
    )


# Source: spice.proto, RasterGlyphA1, RasterGlyphA4, RasterGlyphA8
RasterGlyphA1: Final = _raster_glyph(1)
RasterGlyphA4: Final = _raster_glyph(4)
RasterGlyphA8: Final = _raster_glyph(8)


def _glyphs(glyph: Record) -> Items:
    return Items("length", glyph, limit=2**16 - 1, least=20)  # two Points, width, height


# Source: spice.proto, String
String: Final = Record(
    "length" / Count(U16, "u.glyphs"),
    "flags" / Flags(U8, StringFlags) * "one RASTER_A bit",
    "u"
    / Switch(
        "flags",
        Case("glyphs", _glyphs(RasterGlyphA1), bit=StringFlags.RASTER_A1),
        Case("glyphs", _glyphs(RasterGlyphA4), bit=StringFlags.RASTER_A4),
        Case("glyphs", _glyphs(RasterGlyphA8), bit=StringFlags.RASTER_A8),
    ),
)

# Source: spice.proto, Text
Text: Final = Record(
    "str" / Pointer(String, null=False),
    "back_area" / Rect * "filled with back_brush first; empty = nothing",
    "fore_brush" / Brush,
    "back_brush" / Brush,
    "fore_mode" / U16 * "ROPD bits",
    "back_mode" / U16 * "ROPD bits",
)

# Source: spice.proto, Transparent
Transparent: Final = Record(
    "src_bitmap" / ImagePointer,
    "src_area" / Rect * "of the image",
    "src_color" / U32 * "the transparent colour, in the image's format",
    "true_color" / U32 * "the transparent colour, 0x00RRGGBB",
)

# Source: spice.proto, AlphaBlend
AlphaBlend: Final = Record(
    "alpha_flags" / Flags(U8, AlphaFlags),
    "alpha" / U8 * "of the whole image: 0 = transparent, 255 = as it is",
    "src_bitmap" / ImagePointer,
    "src_area" / Rect * "of the image",
)

# Source: spice.proto, Composite
Composite: Final = Record(
    "flags" / Flags(U32, CompositeFlags),
    "src_bitmap" / ImagePointer,
    "a" / Switch("flags", Case("mask_bitmap", ImagePointer, bit=CompositeFlags.HAS_MASK)),
    "b" / Switch("flags", Case("src_transform", Transform, bit=CompositeFlags.HAS_SRC_TRANSFORM)),
    "c" / Switch("flags", Case("mask_transform", Transform, bit=CompositeFlags.HAS_MASK_TRANSFORM)),
    "src_origin" / Point16 * "of the source",
    "mask_origin" / Point16 * "of the mask",
)
