"""Message ids that the simulated peers send or look at. Source: spice-protocol enums.h, names without their prefix."""

from enum import IntEnum
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC
from dissectors.registry import message_name as registered_name
from dissectors.side import Side


class Display(IntEnum):
    """SPICE_MSG_DISPLAY_*."""

    MODE = 101
    MARK = 102
    RESET = 103
    COPY_BITS = 104
    INVAL_LIST = 105
    INVAL_ALL_PIXMAPS = 106
    INVAL_PALETTE = 107
    INVAL_ALL_PALETTES = 108
    STREAM_CREATE = 122
    STREAM_DATA = 123
    STREAM_CLIP = 124
    STREAM_DESTROY = 125
    STREAM_DESTROY_ALL = 126
    DRAW_FILL = 302
    DRAW_OPAQUE = 303
    DRAW_COPY = 304
    DRAW_BLEND = 305
    DRAW_BLACKNESS = 306
    DRAW_WHITENESS = 307
    DRAW_INVERS = 308
    DRAW_ROP3 = 309
    DRAW_STROKE = 310
    DRAW_TEXT = 311
    DRAW_TRANSPARENT = 312
    DRAW_ALPHA_BLEND = 313
    SURFACE_CREATE = 314
    SURFACE_DESTROY = 315
    STREAM_DATA_SIZED = 316
    MONITORS_CONFIG = 317
    DRAW_COMPOSITE = 318
    STREAM_ACTIVATE_REPORT = 319
    GL_SCANOUT_UNIX = 320
    GL_DRAW = 321


class DisplayC(IntEnum):
    """SPICE_MSGC_DISPLAY_*."""

    INIT = 101
    STREAM_REPORT = 102
    PREFERRED_COMPRESSION = 103
    GL_DRAW_DONE = 104
    PREFERRED_VIDEO_CODEC_TYPE = 105


class Inputs(IntEnum):
    """SPICE_MSG_INPUTS_*."""

    INIT = 101
    KEY_MODIFIERS = 102
    MOUSE_MOTION_ACK = 111


class InputsC(IntEnum):
    """SPICE_MSGC_INPUTS_*."""

    KEY_DOWN = 101
    KEY_UP = 102
    KEY_MODIFIERS = 103
    KEY_SCANCODE = 104
    MOUSE_MOTION = 111
    MOUSE_POSITION = 112
    MOUSE_PRESS = 113
    MOUSE_RELEASE = 114


class Cursor(IntEnum):
    """SPICE_MSG_CURSOR_*."""

    INIT = 101
    RESET = 102
    SET = 103
    MOVE = 104
    HIDE = 105
    TRAIL = 106
    INVAL_ONE = 107
    INVAL_ALL = 108


class Playback(IntEnum):
    """SPICE_MSG_PLAYBACK_*."""

    DATA = 101
    MODE = 102
    START = 103
    STOP = 104
    VOLUME = 105
    MUTE = 106
    LATENCY = 107


class Record(IntEnum):
    """SPICE_MSG_RECORD_*."""

    START = 101
    STOP = 102
    VOLUME = 103
    MUTE = 104


class RecordC(IntEnum):
    """SPICE_MSGC_RECORD_*."""

    DATA = 101
    MODE = 102
    START_MARK = 103


class Vmc(IntEnum):
    """SPICE_MSG_SPICEVMC_* and SPICE_MSG_PORT_*: the same numbers both ways, but for PORT_EVENT."""

    DATA = 101
    COMPRESSED_DATA = 102
    PORT_INIT = 201
    PORT_EVENT = 202


class VmcC(IntEnum):
    """SPICE_MSGC_SPICEVMC_* and SPICE_MSGC_PORT_*."""

    DATA = 101
    COMPRESSED_DATA = 102
    PORT_EVENT = 201


# Drawing messages open with DisplayBase, whose first field is the surface.
DRAWING: Final = frozenset({Display.COPY_BITS, *(kind for kind in Display if kind.name.startswith("DRAW_"))})

# What may come on a channel beside the common messages; also the names until every channel has its dissector.
KNOWN: Final[dict[tuple[int, Side], tuple[str, type[IntEnum]]]] = {
    (ChannelType.MAIN, Side.SERVER): ("SPICE_MSG_MAIN_", Main),
    (ChannelType.MAIN, Side.CLIENT): ("SPICE_MSGC_MAIN_", MainC),
    (ChannelType.DISPLAY, Side.SERVER): ("SPICE_MSG_DISPLAY_", Display),
    (ChannelType.DISPLAY, Side.CLIENT): ("SPICE_MSGC_DISPLAY_", DisplayC),
    (ChannelType.INPUTS, Side.SERVER): ("SPICE_MSG_INPUTS_", Inputs),
    (ChannelType.INPUTS, Side.CLIENT): ("SPICE_MSGC_INPUTS_", InputsC),
    (ChannelType.CURSOR, Side.SERVER): ("SPICE_MSG_CURSOR_", Cursor),
    (ChannelType.PLAYBACK, Side.SERVER): ("SPICE_MSG_PLAYBACK_", Playback),
    (ChannelType.RECORD, Side.SERVER): ("SPICE_MSG_RECORD_", Record),
    (ChannelType.RECORD, Side.CLIENT): ("SPICE_MSGC_RECORD_", RecordC),
    **{
        (kind, side): (prefix, table)
        for kind in (ChannelType.USBREDIR, ChannelType.PORT, ChannelType.WEBDAV)
        for side, prefix, table in (
            (Side.SERVER, "SPICE_MSG_SPICEVMC_", Vmc),
            (Side.CLIENT, "SPICE_MSGC_SPICEVMC_", VmcC),
        )
    },
}


def message_name(channel_type: int, side: Side, message_id: int) -> str:
    """C name of a message, or ``unknown_302``."""
    name = registered_name(channel_type, side, message_id)
    if name.startswith("unknown_") and (known := KNOWN.get((channel_type, side))):
        prefix, table = known
        try:
            member = table(message_id).name
        except ValueError:
            return name
        return prefix.replace("SPICEVMC_", "") + member if member.startswith("PORT_") else prefix + member
    return name
