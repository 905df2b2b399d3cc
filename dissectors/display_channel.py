"""Display channel (type 2): surfaces, drawing, caches, video streams. Source: spice-common spice.proto, DisplayChannel.

What the messages consist of is in `dissectors.geometry`, `dissectors.image`, `dissectors.draw` and `dissectors.stream`.
All drawing happens in the order of the messages.
"""

from enum import IntEnum, IntFlag
from typing import Final

from construct import Construct

from dissectors import migrate_data
from dissectors.common import WaitForChannel
from dissectors.draw import (
    AlphaBlend,
    Blackness,
    Blend,
    Composite,
    Copy,
    Fill,
    Invers,
    Opaque,
    Rop3,
    Stroke,
    Text,
    Transparent,
    Whiteness,
)
from dissectors.fields import (
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    BulkRest,
    Choice,
    Count,
    Flags,
    Items,
    Record,
)
from dissectors.geometry import DisplayBase, Point
from dissectors.message import MessageSpec, table
from dissectors.stream import (
    StreamActivateReport,
    StreamClip,
    StreamCreate,
    StreamData,
    StreamDataSized,
    StreamDestroy,
    StreamReport,
    VideoCodecType,
)


class ResourceType(IntEnum):
    """SPICE_RES_TYPE_*: the cache that a resource is in."""

    INVALID = 0
    PIXMAP = 1


class ImageCompression(IntEnum):
    """SPICE_IMAGE_COMPRESSION_*: how the server compresses images; the AUTO ones choose for each image."""

    INVALID = 0
    OFF = 1
    AUTO_GLZ = 2
    AUTO_LZ = 3
    QUIC = 4
    GLZ = 5
    LZ = 6
    LZ4 = 7


class SurfaceFlags(IntFlag):
    """SPICE_SURFACE_FLAGS_*: whether the surface is the screen, and whether it shows video only."""

    PRIMARY = 1
    STREAMING_MODE = 2


class GlScanoutFlags(IntFlag):
    """SPICE_GL_SCANOUT_FLAGS_*: whether the first row of the buffer is the top of the screen."""

    Y0TOP = 1


# By calling IntEnum: names of the protocol that begin with a digit are members by index, SurfaceFmt["32_xRGB"].
SurfaceFmt = IntEnum(
    "SurfaceFmt",
    {
        "INVALID": 0,
        "1_A": 1,
        "8_A": 8,
        "16_555": 16,
        "32_xRGB": 32,
        "16_565": 80,
        "32_ARGB": 96,
    },
)
SurfaceFmt.__doc__ = "SPICE_SURFACE_FMT_*: bits of a pixel, and what they stand for."

# Source: spice.proto, ResourceID
ResourceId: Final = Record("type" / Choice(U8, ResourceType), "id" / U64 * "ImageDescriptor.id")

# Source: spice.proto, Head
Head: Final = Record(
    "monitor_id" / U32,
    "surface_id" / U32 * "the surface that the monitor shows",
    "width" / U32 * "pixels",
    "height" / U32 * "pixels",
    "x" / U32 * "pixels, on the surface",
    "y" / U32 * "pixels, on the surface",
    "flags" / U32 * "0; spice.proto has no names for bits",
)


def _draw(data: Construct) -> Record:
    """Lay a drawing message out: where on which surface, then what. Source: spice.proto, draw_*."""
    return Record("base" / DisplayBase, "data" / data)


SERVER_MESSAGES: Final = table(
    migrate_data.from_server(migrate_data.DisplayState),
    MessageSpec(
        101,
        "SPICE_MSG_DISPLAY_MODE",
        "The screen's size and depth, from before there were surfaces.",
        Record("x_res" / U32 * "pixels", "y_res" / U32 * "pixels", "bits" / U32 * "bits of a pixel"),
        obsolete=True,
    ),
    MessageSpec(
        102,
        "SPICE_MSG_DISPLAY_MARK",
        "The primary surface is complete: show it.",
    ),
    MessageSpec(
        103,
        "SPICE_MSG_DISPLAY_RESET",
        "Forget the screen and the caches, from before there were surfaces.",
        obsolete=True,
    ),
    MessageSpec(
        104,
        "SPICE_MSG_DISPLAY_COPY_BITS",
        "Moves a rectangle of a surface to another place on it: scrolling.",
        Record(
            "base" / DisplayBase, "src_pos" / Point * "top left of the source; its size is that of the box"
        ),
    ),
    MessageSpec(
        105,
        "SPICE_MSG_DISPLAY_INVAL_LIST",
        "Images that the client has to drop from its cache.",
        Record("count" / Count(U16, "resources"), "resources" / Items("count", ResourceId, limit=2**16 - 1)),
    ),
    MessageSpec(
        106,
        "SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS",
        "Empty the image cache, once the channels named here have handled the messages with the given serials.",
        Record(
            "wait_count" / Count(U8, "wait_list"),
            "wait_list" / Items("wait_count", WaitForChannel, limit=2**8 - 1),
        ),
    ),
    MessageSpec(
        107,
        "SPICE_MSG_DISPLAY_INVAL_PALETTE",
        "Drop one palette from the cache.",
        Record("id" / U64 * "Palette.unique"),
    ),
    MessageSpec(
        108,
        "SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES",
        "Empty the palette cache.",
    ),
    MessageSpec(
        122,
        "SPICE_MSG_DISPLAY_STREAM_CREATE",
        "A part of a surface becomes a video stream.",
        StreamCreate,
    ),
    MessageSpec(
        123,
        "SPICE_MSG_DISPLAY_STREAM_DATA",
        "A frame of a video stream, of the stream's size.",
        StreamData,
    ),
    MessageSpec(
        124,
        "SPICE_MSG_DISPLAY_STREAM_CLIP",
        "The part of a video stream that can be seen has changed.",
        StreamClip,
    ),
    MessageSpec(
        125,
        "SPICE_MSG_DISPLAY_STREAM_DESTROY",
        "A video stream has ended.",
        StreamDestroy,
    ),
    MessageSpec(
        126,
        "SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL",
        "All video streams have ended.",
    ),
    MessageSpec(
        302,
        "SPICE_MSG_DISPLAY_DRAW_FILL",
        "Fills the box with a colour or a pattern.",
        _draw(Fill),
    ),
    MessageSpec(
        303,
        "SPICE_MSG_DISPLAY_DRAW_OPAQUE",
        "Combines an image with a brush and draws the result.",
        _draw(Opaque),
    ),
    MessageSpec(
        304,
        "SPICE_MSG_DISPLAY_DRAW_COPY",
        "Draws an image, or a part of one: by far the most bytes of a session.",
        _draw(Copy),
    ),
    MessageSpec(
        305,
        "SPICE_MSG_DISPLAY_DRAW_BLEND",
        "Combines an image with what is on the surface.",
        _draw(Blend),
    ),
    MessageSpec(
        306,
        "SPICE_MSG_DISPLAY_DRAW_BLACKNESS",
        "Fills the box with zeros.",
        _draw(Blackness),
    ),
    MessageSpec(
        307,
        "SPICE_MSG_DISPLAY_DRAW_WHITENESS",
        "Fills the box with ones.",
        _draw(Whiteness),
    ),
    MessageSpec(
        308,
        "SPICE_MSG_DISPLAY_DRAW_INVERS",
        "Inverts what is on the surface.",
        _draw(Invers),
    ),
    MessageSpec(
        309,
        "SPICE_MSG_DISPLAY_DRAW_ROP3",
        "Combines an image, a brush and what is on the surface by any ternary operation.",
        _draw(Rop3),
    ),
    MessageSpec(
        310,
        "SPICE_MSG_DISPLAY_DRAW_STROKE",
        "Draws lines and curves along a path.",
        _draw(Stroke),
    ),
    MessageSpec(
        311,
        "SPICE_MSG_DISPLAY_DRAW_TEXT",
        "Draws glyphs, which come as small rasters.",
        _draw(Text),
    ),
    MessageSpec(
        312,
        "SPICE_MSG_DISPLAY_DRAW_TRANSPARENT",
        "Draws those pixels of an image that do not have the transparent colour.",
        _draw(Transparent),
    ),
    MessageSpec(
        313,
        "SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND",
        "Blends an image over the surface by its alpha channel and one alpha for all of it.",
        _draw(AlphaBlend),
    ),
    MessageSpec(
        314,
        "SPICE_MSG_DISPLAY_SURFACE_CREATE",
        "Makes a surface: the screen (id 0) or something to draw on unseen.",
        Record(
            "surface_id" / U32,
            "width" / U32 * "pixels",
            "height" / U32 * "pixels",
            "format" / Choice(U32, SurfaceFmt),
            "flags" / Flags(U32, SurfaceFlags),
        ),
    ),
    MessageSpec(
        315,
        "SPICE_MSG_DISPLAY_SURFACE_DESTROY",
        "The surface is gone.",
        Record("surface_id" / U32),
    ),
    MessageSpec(
        316,
        "SPICE_MSG_DISPLAY_STREAM_DATA_SIZED",
        "A frame of a video stream that has another size or place than the stream.",
        StreamDataSized,
    ),
    MessageSpec(
        317,
        "SPICE_MSG_DISPLAY_MONITORS_CONFIG",
        "Which part of which surface each monitor of this display shows.",
        Record(
            "count" / Count(U16, "heads"),
            "max_allowed" / U16 * "monitors that the display can have",
            "heads" / Items("count", Head, limit=2**16 - 1),
        ),
    ),
    MessageSpec(
        318,
        "SPICE_MSG_DISPLAY_DRAW_COMPOSITE",
        "Composes an image, through a mask if there is one, with the surface as XRender does.",
        _draw(Composite),
    ),
    MessageSpec(
        319,
        "SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT",
        "Asks the client to report how well it keeps up with a video stream.",
        StreamActivateReport,
    ),
    MessageSpec(
        320,
        "SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX",
        "The screen is a buffer of the graphics card, whose descriptor follows the message on the unix socket.",
        # drm_dma_buf_fd comes first in spice.proto and has no bytes in the body (spice-server red-stream.cpp,
        # red_stream_send_msgfd())
        Record(
            "width" / U32 * "pixels",
            "height" / U32 * "pixels",
            "stride" / U32 * "bytes",
            "drm_fourcc_format" / U32 * "four letters, of Linux drm_fourcc.h",
            "flags" / Flags(U32, GlScanoutFlags),
        ),
    ),
    MessageSpec(
        321,
        "SPICE_MSG_DISPLAY_GL_DRAW",
        "A part of the scanout buffer has changed: show it, and answer GL_DRAW_DONE.",
        Record(
            "x" / U32 * "pixels",
            "y" / U32 * "pixels",
            "w" / U32 * "pixels",
            "h" / U32 * "pixels",
        ),
    ),
    MessageSpec(
        322,
        "SPICE_MSG_DISPLAY_QUALITY_INDICATOR",
        "Reserved for additions to the server; a plain spice-server does not send it.",
        Record("data" / BulkRest),
    ),
)

CLIENT_MESSAGES: Final = table(
    migrate_data.from_client(migrate_data.DisplayState),
    MessageSpec(
        101,
        "SPICE_MSGC_DISPLAY_INIT",
        "Opens the channel: the caches that the client has, and how large they are.",
        Record(
            "pixmap_cache_id" / U8 * "displays with the same id share the cache",
            "pixmap_cache_size" / I64 * "pixels",
            "glz_dictionary_id" / U8 * "displays with the same id share the GLZ dictionary",
            "glz_dictionary_window_size" / I32 * "pixels",
        ),
    ),
    MessageSpec(
        102,
        "SPICE_MSGC_DISPLAY_STREAM_REPORT",
        "How well the client keeps up with a video stream.",
        StreamReport,
    ),
    MessageSpec(
        103,
        "SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION",
        "Asks for another compression of images.",
        Record("image_compression" / Choice(U8, ImageCompression)),
    ),
    MessageSpec(
        104,
        "SPICE_MSGC_DISPLAY_GL_DRAW_DONE",
        "The client has shown what GL_DRAW named.",
    ),
    MessageSpec(
        105,
        "SPICE_MSGC_DISPLAY_PREFERRED_VIDEO_CODEC_TYPE",
        "The video codecs that the client would like, best first.",
        Record(
            "num_of_codecs" / Count(U8, "codecs"),
            "codecs" / Items("num_of_codecs", Choice(U8, VideoCodecType), limit=2**8 - 1),
        ),
    ),
)
