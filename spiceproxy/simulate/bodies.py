"""Bodies of display, inputs, cursor, sound and device messages, with what the simulated peers have to say in them."""

from typing import Any, Final

from dissectors.cursor_channel import CursorFlags
from dissectors.display_channel import SurfaceFlags, SurfaceFmt
from dissectors.draw import BrushType, ImageScaleMode, Ropd
from dissectors.fields import write
from dissectors.geometry import ClipType
from dissectors.image import BitmapFlags, BitmapFmt, ImageType
from dissectors.registry import build_named
from dissectors.sound import AudioDataMode
from dissectors.usbredir import HEADER_32, HELLO_SIZE, USBREDIR_PACKETS
from dissectors.usbredir_names import UsbredirCap, UsbredirType

_NO_MASK: Final = {"flags": 0, "pos": {"x": 0, "y": 0}}
_USBREDIR_CAPS: Final = sum(UsbredirCap) & ~UsbredirCap.DEVICE_DISCONNECT_ACK


def display_init(
    *, cache_id: int = 1, cache_pixels: int = 20971520, glz_id: int = 1, glz_pixels: int = 6290432
) -> bytes:
    """SPICE_MSGC_DISPLAY_INIT with the sizes that spice-gtk 0.42 announces."""
    return build_named(
        "SPICE_MSGC_DISPLAY_INIT",
        pixmap_cache_id=cache_id,
        pixmap_cache_size=cache_pixels,
        glz_dictionary_id=glz_id,
        glz_dictionary_window_size=glz_pixels,
    )


def surface_create(surface_id: int, width: int, height: int, *, primary: bool) -> bytes:
    """SPICE_MSG_DISPLAY_SURFACE_CREATE of 32 bit pixels."""
    return build_named(
        "SPICE_MSG_DISPLAY_SURFACE_CREATE",
        surface_id=surface_id,
        width=width,
        height=height,
        format=SurfaceFmt["32_xRGB"],
        flags=SurfaceFlags.PRIMARY if primary else 0,
    )


def monitors_config(surface_id: int, width: int, height: int) -> bytes:
    """SPICE_MSG_DISPLAY_MONITORS_CONFIG of one head that shows all of a surface."""
    head = {
        "monitor_id": 0,
        "surface_id": surface_id,
        "width": width,
        "height": height,
        "x": 0,
        "y": 0,
        "flags": 0,
    }
    return build_named("SPICE_MSG_DISPLAY_MONITORS_CONFIG", max_allowed=1, heads=[head])


def _rect(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"top": top, "left": left, "bottom": top + height, "right": left + width}


def _base(surface_id: int, box: dict[str, int]) -> dict[str, Any]:
    """DisplayBase without clipping."""
    return {"surface_id": surface_id, "box": box, "clip": {"type": ClipType.NONE, "u": None}}


def draw_fill(surface_id: int, left: int, top: int, width: int, height: int, colour: int) -> bytes:
    """SPICE_MSG_DISPLAY_DRAW_FILL with a solid brush; `colour` is 0xRRGGBB."""
    return build_named(
        "SPICE_MSG_DISPLAY_DRAW_FILL",
        base=_base(surface_id, _rect(left, top, width, height)),
        data={
            "brush": {"type": BrushType.SOLID, "u": {"color": colour}},
            "rop_descriptor": Ropd.OP_PUT,
            "mask": _NO_MASK,
        },
    )


def draw_copy(
    surface_id: int, left: int, top: int, width: int, height: int, *, image_id: int, pixels: bytes
) -> bytes:
    """SPICE_MSG_DISPLAY_DRAW_COPY of an uncompressed image, `pixels` being width * height * 4 bytes of BGRX."""
    if len(pixels) != width * height * 4:
        raise ValueError(f"{len(pixels)} bytes are not {width}x{height} pixels of 4 bytes")
    bitmap = {
        "format": BitmapFmt["32BIT"],
        "flags": BitmapFlags.TOP_DOWN,
        "x": width,
        "y": height,
        "stride": width * 4,
        "pal": {"palette": None},
        "data": pixels,
    }
    descriptor = {"id": image_id, "type": ImageType.BITMAP, "flags": 0, "width": width, "height": height}
    return build_named(
        "SPICE_MSG_DISPLAY_DRAW_COPY",
        base=_base(surface_id, _rect(left, top, width, height)),
        data={
            "src_bitmap": {"descriptor": descriptor, "u": {"bitmap": bitmap}},
            "src_area": _rect(0, 0, width, height),
            "rop_descriptor": Ropd.OP_PUT,
            "scale_mode": ImageScaleMode.INTERPOLATE,
            "mask": _NO_MASK,
        },
    )


def cursor_init(x: int, y: int) -> bytes:
    """SPICE_MSG_CURSOR_INIT of a visible pointer without a shape of its own."""
    return build_named(
        "SPICE_MSG_CURSOR_INIT",
        position={"x": x, "y": y},
        trail_length=0,
        trail_frequency=0,
        visible=1,
        cursor={"flags": CursorFlags.NONE, "u": None, "data": b""},
    )


def cursor_move(x: int, y: int) -> bytes:
    """SPICE_MSG_CURSOR_MOVE."""
    return build_named("SPICE_MSG_CURSOR_MOVE", position={"x": x, "y": y})


def mouse_motion(dx: int, dy: int) -> bytes:
    """SPICE_MSGC_INPUTS_MOUSE_MOTION with no button down."""
    return build_named("SPICE_MSGC_INPUTS_MOUSE_MOTION", dx=dx, dy=dy, buttons_state=0)


def port_init(name: str, *, opened: bool = False) -> bytes:
    """SPICE_MSG_PORT_INIT: the name, and whether the guest has the port open."""
    return build_named("SPICE_MSG_PORT_INIT", name=name, opened=int(opened))


def usbredir_hello(version: str) -> bytes:
    """The 80 bytes that open a usbredir stream: a header with id 0, version text, capabilities."""
    fields = {
        "version": version.encode()[:HELLO_SIZE].ljust(HELLO_SIZE, b"\0"),
        "capabilities": [_USBREDIR_CAPS],
    }
    hello = USBREDIR_PACKETS[UsbredirType.HELLO].build(fields)
    return write(HEADER_32.schema, {"type": UsbredirType.HELLO, "length": len(hello), "id": 0}) + hello


def playback_mode(time_ms: int) -> bytes:
    """SPICE_MSG_PLAYBACK_MODE: Opus."""
    return build_named("SPICE_MSG_PLAYBACK_MODE", time=time_ms, mode=AudioDataMode.OPUS)


def volume(left: int, right: int) -> bytes:
    """SPICE_MSG_PLAYBACK_VOLUME and SPICE_MSG_RECORD_VOLUME of two channels, 0..65535."""
    return build_named("SPICE_MSG_PLAYBACK_VOLUME", volume=[left, right])
