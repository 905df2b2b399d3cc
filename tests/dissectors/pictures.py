"""Pieces of display messages as they are on the wire, packed by hand, each beside the fields it has to read as."""

import struct
from typing import Any, NamedTuple

from dissectors.draw import MaskFlags
from dissectors.geometry import ClipType
from dissectors.image import BitmapFlags, BitmapFmt, ImageFlags, ImageType


class Piece(NamedTuple):
    """Bytes, and what they say."""

    wire: bytes
    fields: dict[str, Any]


def pack(layout: str, *values: Any) -> bytes:
    """Little-endian, no padding."""
    return struct.pack("<" + layout, *values)


def point(x: int, y: int) -> Piece:
    return Piece(pack("ii", x, y), {"x": x, "y": y})


def rect(top: int, left: int, bottom: int, right: int) -> Piece:
    return Piece(
        pack("iiii", top, left, bottom, right), {"top": top, "left": left, "bottom": bottom, "right": right}
    )


BOX = rect(-1, 2, 480, 2**31 - 1)
AREA = rect(0, 0, 10, 32)
NO_CLIP = Piece(b"\0", {"type": ClipType.NONE, "u": None})
CLIP = Piece(
    b"\1" + pack("I", 2) + rect(0, 1, 2, 3).wire + rect(4, 5, 6, -7).wire,
    {
        "type": ClipType.RECTS,
        "u": {"rects": {"num_rects": 2, "rects": [rect(0, 1, 2, 3).fields, rect(4, 5, 6, -7).fields]}},
    },
)


def base(clip: Piece = NO_CLIP, surface: int = 7) -> Piece:
    """A DisplayBase: 21 bytes, or 57 with CLIP."""
    return Piece(
        pack("I", surface) + BOX.wire + clip.wire,
        {"surface_id": surface, "box": BOX.fields, "clip": clip.fields},
    )


BASE = base()


def mask(offset: int, bitmap: dict[str, Any] | None) -> Piece:
    """A QMask: 13 bytes."""
    return Piece(
        b"\1" + point(3, -4).wire + pack("I", offset),
        {"flags": MaskFlags.INVERS, "pos": point(3, -4).fields, "bitmap": bitmap},
    )


NO_MASK = mask(0, None)


def image(type_: int, data: bytes, u: dict[str, Any] | None, width: int = 32, height: int = 10) -> Piece:
    """An Image: 18 bytes of descriptor, then its data."""
    return Piece(
        pack("QBBII", 2**63 + 5, type_, 5, width, height) + data,
        {
            "descriptor": {
                "id": 2**63 + 5,
                "type": type_,
                "flags": ImageFlags.CACHE_ME | ImageFlags.CACHE_REPLACE_ME,
                "width": width,
                "height": height,
            },
            "u": u,
        },
    )


PALETTE = Piece(
    pack("QH3I", 77, 3, 0, 0xFFFFFF, 0x123456), {"unique": 77, "num_ents": 3, "ents": [0, 0xFFFFFF, 0x123456]}
)
CACHED = image(ImageType.FROM_CACHE, b"", None)
SURFACE = image(ImageType.SURFACE, pack("I", 9), {"surface": {"surface_id": 9}})
QUIC = image(ImageType.QUIC, pack("I", 5) + b"QUIC\0", {"quic": {"data_size": 5, "data": b"QUIC\0"}})


def bitmap(palette_at: int, palette: dict[str, Any] | None, **more: Any) -> Piece:
    """A bitmap of 8 bits a pixel, 3 by 2 in rows of 4 bytes: 44 bytes."""
    return image(
        ImageType.BITMAP,
        pack("BBIIII", 5, 4, 3, 2, 4, palette_at) + b"abc.def.",
        {
            "bitmap": {
                "format": BitmapFmt["8BIT"],
                "flags": BitmapFlags.TOP_DOWN,
                "x": 3,
                "y": 2,
                "stride": 4,
                "pal": {"palette": palette, **more},
                "data": b"abc.def.",
            }
        },
        3,
        2,
    )


PLAIN = bitmap(0, None)
