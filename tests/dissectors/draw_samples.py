"""A message of every drawing operation, packed by hand."""

from typing import Any

from dissectors.draw import (
    AlphaFlags,
    BrushType,
    CompositeFlags,
    ImageScaleMode,
    LineFlags,
    PathFlags,
    Ropd,
    StringFlags,
)
from tests.dissectors.pictures import (
    AREA,
    BASE,
    CACHED,
    CLIP,
    NO_MASK,
    PALETTE,
    PLAIN,
    QUIC,
    SURFACE,
    Piece,
    base,
    bitmap,
    mask,
    pack,
    point,
)

PUT = Piece(pack("H", 8), {"rop_descriptor": Ropd.OP_PUT})
SOLID = Piece(b"\1" + pack("I", 0xFF8000), {"type": BrushType.SOLID, "u": {"color": 0xFF8000}})
NO_BRUSH = Piece(b"\0", {"type": BrushType.NONE, "u": None})
NEAREST = {"scale_mode": ImageScaleMode.NEAREST}


def pattern(offset: int, image: dict[str, Any], **more: Any) -> Piece:
    return Piece(
        b"\2" + pack("I", offset) + point(5, 6).wire,
        {"type": BrushType.PATTERN, "u": {"pattern": {"pat": image, **more, "pos": point(5, 6).fields}}},
    )


def drawing(data: dict[str, Any], on: Piece = BASE) -> dict[str, Any]:
    return {"base": on.fields, "data": data}


def _copy() -> tuple[bytes, dict[str, Any]]:
    """The image behind the fixed part."""
    wire = BASE.wire + pack("I", 57) + AREA.wire + PUT.wire + b"\1" + NO_MASK.wire + QUIC.wire
    data = {
        "src_bitmap": QUIC.fields,
        "src_area": AREA.fields,
        **PUT.fields,
        **NEAREST,
        "mask": NO_MASK.fields,
    }
    return wire, drawing(data)


def _fill_with_everything() -> tuple[bytes, dict[str, Any]]:
    """Pattern and mask have palettes: breadth first, that is images first."""
    on = base(CLIP)
    fixed = len(on.wire) + 13 + 2 + 13
    first, second = fixed, fixed + 44
    palettes = second + 44
    pat, bits = bitmap(palettes, PALETTE.fields), bitmap(palettes + 22, PALETTE.fields)
    brush, masked = pattern(first, pat.fields), mask(second, bits.fields)
    wire = on.wire + brush.wire + PUT.wire + masked.wire + pat.wire + bits.wire + PALETTE.wire * 2
    return wire, drawing({"brush": brush.fields, **PUT.fields, "mask": masked.fields}, on)


def _opaque() -> tuple[bytes, dict[str, Any]]:
    wire = BASE.wire + pack("I", 62) + AREA.wire + SOLID.wire + pack("H", 0x3FF) + b"\7" + NO_MASK.wire
    data = {
        "src_bitmap": SURFACE.fields,
        "src_area": AREA.fields,
        "brush": SOLID.fields,
        "rop_descriptor": 0x3FF,
        "scale_mode": 7,
        "mask": NO_MASK.fields,
    }
    return wire + SURFACE.wire, drawing(data)


def _rop3() -> tuple[bytes, dict[str, Any]]:
    masked = mask(57 + 18, PLAIN.fields)
    wire = BASE.wire + pack("I", 57) + AREA.wire + NO_BRUSH.wire + b"\xca\0" + masked.wire
    data = {
        "src_bitmap": CACHED.fields,
        "src_area": AREA.fields,
        "brush": NO_BRUSH.fields,
        "rop3": 0xCA,
        "scale_mode": ImageScaleMode.INTERPOLATE,
        "mask": masked.fields,
    }
    return wire + CACHED.wire + PLAIN.wire, drawing(data)


def _stroke() -> tuple[bytes, dict[str, Any]]:
    fixed = 21 + 4 + (1 + 1 + 4) + 5 + 4
    path = pack("I", 2) + pack("BI", 3, 2) + pack("4i", 16, -16, 2**31 - 1, 0) + pack("BI", 0x10, 0)
    wire = (
        BASE.wire + pack("I", fixed) + pack("BBI", 12, 3, fixed + len(path)) + SOLID.wire + pack("HH", 8, 0)
    )
    segments = [
        {
            "flags": PathFlags.BEGIN | PathFlags.END,
            "count": 2,
            "points": [{"x": 16, "y": -16}, {"x": 2**31 - 1, "y": 0}],
        },
        {"flags": PathFlags.BEZIER, "count": 0, "points": []},
    ]
    data = {
        "path": {"num_segments": 2, "segments": segments},
        "attr": {
            "flags": LineFlags.START_WITH_GAP | LineFlags.STYLED,
            "u1": {"style_nseg": 3},
            "u2": {"style": [16, 32, -48]},
        },
        "brush": SOLID.fields,
        "fore_mode": 8,
        "back_mode": 0,
    }
    return wire + path + pack("3i", 16, 32, -48), drawing(data)


def glyph(width: int, height: int, bits: bytes) -> Piece:
    return Piece(
        point(100, 50).wire + point(-1, -9).wire + pack("HH", width, height) + bits,
        {
            "render_pos": point(100, 50).fields,
            "glyph_origin": point(-1, -9).fields,
            "width": width,
            "height": height,
            "data": bits,
        },
    )


def text(flags: int, *glyphs: Piece, length: int | None = None) -> tuple[bytes, dict[str, Any]]:
    """A DRAW_TEXT with these glyphs."""
    fixed = 21 + 4 + 16 + 5 + 1 + 4
    count = len(glyphs) if length is None else length
    wire = BASE.wire + pack("I", fixed) + AREA.wire + SOLID.wire + NO_BRUSH.wire + pack("HH", 8, 4)
    wire += pack("HB", count, flags) + b"".join(each.wire for each in glyphs)
    u = {"glyphs": [each.fields for each in glyphs]} if flags & 7 else None
    data = {
        "str": {"length": count, "flags": flags, "u": u},
        "back_area": AREA.fields,
        "fore_brush": SOLID.fields,
        "back_brush": NO_BRUSH.fields,
        "fore_mode": 8,
        "back_mode": 4,
    }
    return wire, drawing(data)


def _transparent() -> tuple[bytes, dict[str, Any]]:
    wire = BASE.wire + pack("I", 49) + AREA.wire + pack("II", 0x7C1F, 0xFF00FF) + CACHED.wire
    data = {
        "src_bitmap": CACHED.fields,
        "src_area": AREA.fields,
        "src_color": 0x7C1F,
        "true_color": 0xFF00FF,
    }
    return wire, drawing(data)


def _alpha_blend() -> tuple[bytes, dict[str, Any]]:
    wire = BASE.wire + b"\3\xfe" + pack("I", 43) + AREA.wire + QUIC.wire
    data = {
        "alpha_flags": AlphaFlags.DEST_HAS_ALPHA | AlphaFlags.SRC_SURFACE_HAS_ALPHA,
        "alpha": 254,
        "src_bitmap": QUIC.fields,
        "src_area": AREA.fields,
    }
    return wire, drawing(data)


def _composite(flags: int) -> tuple[bytes, dict[str, Any]]:
    has_mask, has_src, has_mask_transform = (bool(flags & bit) for bit in (1 << 19, 1 << 20, 1 << 21))
    fixed = 21 + 8 + 4 * has_mask + 24 * has_src + 24 * has_mask_transform + 8
    matrix = {"t00": 65536, "t01": 0, "t02": 1, "t10": 2, "t11": 65536, "t12": 0xFFFF0000}
    wire = BASE.wire + pack("II", flags, fixed) + pack("I", fixed + len(QUIC.wire)) * has_mask
    wire += pack("6I", *matrix.values()) * (has_src + has_mask_transform) + pack("hhhh", -1, 2, -32768, 32767)
    data = {
        "flags": flags,
        "src_bitmap": QUIC.fields,
        "a": {"mask_bitmap": SURFACE.fields} if has_mask else None,
        "b": {"src_transform": matrix} if has_src else None,
        "c": {"mask_transform": matrix} if has_mask_transform else None,
        "src_origin": {"x": -1, "y": 2},
        "mask_origin": {"x": -32768, "y": 32767},
    }
    return wire + QUIC.wire + SURFACE.wire * has_mask, drawing(data)


_MASKED = drawing({"mask": mask(34, CACHED.fields).fields})
_MASKED_WIRE = BASE.wire + mask(34, CACHED.fields).wire + CACHED.wire
_EVERYTHING = CompositeFlags.HAS_MASK | CompositeFlags.HAS_SRC_TRANSFORM | CompositeFlags.HAS_MASK_TRANSFORM

# (message id, body, fields)
DRAWINGS: list[tuple[int, bytes, dict[str, Any]]] = [
    (
        302,
        BASE.wire + SOLID.wire + PUT.wire + NO_MASK.wire,
        drawing({"brush": SOLID.fields, **PUT.fields, "mask": NO_MASK.fields}),
    ),
    (302, *_fill_with_everything()),
    (303, *_opaque()),
    (304, *_copy()),
    (305, *_copy()),
    *[(id_, _MASKED_WIRE, _MASKED) for id_ in (306, 307, 308)],
    (309, *_rop3()),
    (310, *_stroke()),
    (311, *text(StringFlags.RASTER_A1, glyph(9, 2, b"abcd"), glyph(0, 65535, b""))),
    (311, *text(StringFlags.RASTER_A4 | StringFlags.RASTER_TOP_DOWN, glyph(3, 2, b"abcd"))),
    (311, *text(StringFlags.RASTER_A8, glyph(3, 2, b"abcdef"))),
    (312, *_transparent()),
    (313, *_alpha_blend()),
    (318, *_composite(CompositeFlags.OP0 | CompositeFlags.OP1)),
    (318, *_composite(_EVERYTHING)),
    (318, *_composite(CompositeFlags.HAS_MASK_TRANSFORM | CompositeFlags.DEST_OPAQUE)),
]
