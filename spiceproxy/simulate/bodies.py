"""Bodies of display, inputs, cursor, sound and device messages, packed by hand. Source: spice-common spice.proto.

Main, common and link bodies come from `dissectors`; these follow when their channels have schemas.
"""

import struct
from typing import Final

_ROPD_OP_PUT: Final = 8
_SURFACE_FMT_32_XRGB: Final = 32
_SURFACE_FLAGS_PRIMARY: Final = 1
_BITMAP_FMT_32BIT: Final = 8
_BITMAP_FLAGS_TOP_DOWN: Final = 4
_IMAGE_TYPE_BITMAP: Final = 0
_CURSOR_FLAGS_NONE: Final = 1
_NO_MASK: Final = struct.pack("<BiiI", 0, 0, 0, 0)  # QMask: flags, position, bitmap pointer

SURFACE_ID = struct.Struct(
    "<I"
)  # leads SURFACE_CREATE, SURFACE_DESTROY and the base of every drawing message
DISPLAY_INIT = struct.Struct(
    "<BqBi"
)  # pixmap cache id, its size in pixels, GLZ dictionary id, its window in pixels
SURFACE_CREATE = struct.Struct("<IIIII")  # id, width, height, format, flags
MOUSE_MOTION = struct.Struct("<iiH")  # dx, dy, buttons
MOUSE_POSITION = struct.Struct("<IIHB")  # x, y, buttons, display
POINT16 = struct.Struct("<hh")


def display_init(
    *, cache_id: int = 1, cache_pixels: int = 20971520, glz_id: int = 1, glz_pixels: int = 6290432
) -> bytes:
    """SPICE_MSGC_DISPLAY_INIT with the sizes that spice-gtk 0.42 announces."""
    return DISPLAY_INIT.pack(cache_id, cache_pixels, glz_id, glz_pixels)


def surface_create(surface_id: int, width: int, height: int, *, primary: bool) -> bytes:
    """SPICE_MSG_DISPLAY_SURFACE_CREATE of 32 bit pixels."""
    return SURFACE_CREATE.pack(
        surface_id, width, height, _SURFACE_FMT_32_XRGB, _SURFACE_FLAGS_PRIMARY if primary else 0
    )


def monitors_config(surface_id: int, width: int, height: int) -> bytes:
    """SPICE_MSG_DISPLAY_MONITORS_CONFIG of one head that shows all of a surface."""
    return struct.pack("<HH7I", 1, 1, 0, surface_id, width, height, 0, 0, 0)


def _base(surface_id: int, left: int, top: int, width: int, height: int) -> bytes:
    """DisplayBase without clipping; a Rect is top, left, bottom, right."""
    return struct.pack("<IiiiiB", surface_id, top, left, top + height, left + width, 0)


def draw_fill(surface_id: int, left: int, top: int, width: int, height: int, colour: int) -> bytes:
    """SPICE_MSG_DISPLAY_DRAW_FILL with a solid brush; `colour` is 0xRRGGBB."""
    brush = struct.pack("<BI", 1, colour)
    return _base(surface_id, left, top, width, height) + brush + struct.pack("<H", _ROPD_OP_PUT) + _NO_MASK


def draw_copy(
    surface_id: int, left: int, top: int, width: int, height: int, *, image_id: int, pixels: bytes
) -> bytes:
    """SPICE_MSG_DISPLAY_DRAW_COPY of an uncompressed image, `pixels` being width * height * 4 bytes of BGRX."""
    if len(pixels) != width * height * 4:
        raise ValueError(f"{len(pixels)} bytes are not {width}x{height} pixels of 4 bytes")
    base = _base(surface_id, left, top, width, height)
    fixed = 36  # pointer 4, source Rect 16, rop 2, scale mode 1, mask 13
    area = struct.pack("<iiii", 0, 0, height, width)
    copy = struct.pack("<I", len(base) + fixed) + area + struct.pack("<HB", _ROPD_OP_PUT, 0) + _NO_MASK
    descriptor = struct.pack("<QBBII", image_id, _IMAGE_TYPE_BITMAP, 0, width, height)
    bitmap = struct.pack("<BBIIII", _BITMAP_FMT_32BIT, _BITMAP_FLAGS_TOP_DOWN, width, height, width * 4, 0)
    return base + copy + descriptor + bitmap + pixels


def cursor_init(x: int, y: int) -> bytes:
    """SPICE_MSG_CURSOR_INIT of a visible pointer without a shape of its own."""
    return POINT16.pack(x, y) + struct.pack("<HHBH", 0, 0, 1, _CURSOR_FLAGS_NONE)


def cursor_move(x: int, y: int) -> bytes:
    """SPICE_MSG_CURSOR_MOVE."""
    return POINT16.pack(x, y)


def port_init(name: str, *, opened: bool = False) -> bytes:
    """SPICE_MSG_PORT_INIT: size of the name with its NUL, offset of the name, and whether the guest has it open."""
    data = name.encode() + b"\0"
    return struct.pack("<IIB", len(data), 9, opened) + data


def usbredir_hello(version: str) -> bytes:
    """The 80 bytes that open a usbredir stream: type hello, length 68, id 0, version text, capabilities."""
    return struct.pack("<III64sI", 0, 68, 0, version.encode(), 0xF7)


def playback_mode(time_ms: int) -> bytes:
    """SPICE_MSG_PLAYBACK_MODE: Opus."""
    return struct.pack("<IH", time_ms, 3)


def volume(left: int, right: int) -> bytes:
    """SPICE_MSG_PLAYBACK_VOLUME and SPICE_MSG_RECORD_VOLUME of two channels, 0..65535."""
    return struct.pack("<BHH", 2, left, right)
