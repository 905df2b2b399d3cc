"""What the playback and the record channel have in common. Source: spice-common spice.proto, enums of sound."""

from enum import IntEnum
from typing import Final

from dissectors.fields import U8, U16, U32, BulkRest, Choice, Count, Items, OptionalBulkRest, Record


class AudioDataMode(IntEnum):
    """SPICE_AUDIO_DATA_MODE_*: how sound is encoded."""

    INVALID = 0
    RAW = 1
    CELT_0_5_1 = 2  # obsolete
    OPUS = 3


class AudioFormat(IntEnum):
    """SPICE_AUDIO_FMT_*: of a sample, once it is decoded."""

    INVALID = 0
    S16 = 1


Time: Final = U32 * "milliseconds of the multi-media clock (MAIN_MULTI_MEDIA_TIME)"

AudioData: Final = Record("time" / Time, "data" / BulkRest * "one packet, encoded as the last MODE says")
AudioMode: Final = Record(
    "time" / Time,
    "mode" / Choice(U16, AudioDataMode),
    "data" / OptionalBulkRest * "room for parameters of the codec; empty in practice",
)
Volume: Final = Record(
    "nchannels" / Count(U8, "volume"),
    "volume" / Items("nchannels", U16, limit=255) * "per channel, left first; 0 is silent, 65535 full",
)
Mute: Final = Record("mute" / U8 * "0 or 1")
