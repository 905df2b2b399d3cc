"""The kinds of channel a SPICE session has. Source: spice-protocol enums.h, SPICE_CHANNEL_*."""

from enum import IntEnum


class ChannelType(IntEnum):
    """`channel_type` of a link message, and of every message that names a channel."""

    MAIN = 1
    DISPLAY = 2
    INPUTS = 3
    CURSOR = 4
    PLAYBACK = 5
    RECORD = 6
    TUNNEL = 7  # obsolete: no message of it was ever defined, no server offers it
    SMARTCARD = 8
    USBREDIR = 9
    PORT = 10
    WEBDAV = 11


_NAMES = {int(member): member.name.lower() for member in ChannelType}


def channel_name(channel_type: int) -> str:
    """Name a channel type as people write it: "display"; one we do not know is "channel_42"."""
    return _NAMES.get(channel_type, f"channel_{channel_type}")
